//! How the program ends, for scripts.

/// All was done.
pub(crate) const DONE: u8 = 0;
/// Nothing was found.
pub(crate) const NOTHING_FOUND: u8 = 1;
/// The arguments, the input or the output cannot be used.
pub(crate) const USAGE: u8 = 2;
/// The server cannot be reached.
pub(crate) const UNREACHABLE: u8 = 3;
/// Something was refused; the rest was done.
pub(crate) const REFUSED: u8 = 4;
/// Some entries were not acked.
pub(crate) const NOT_ACKED: u8 = 5;
/// Damaged or missing entries were met.
pub(crate) const DAMAGE: u8 = 6;
/// Ctrl-C, as shells count it, when nothing was left unacked.
pub(crate) const INTERRUPTED: u8 = 130;
