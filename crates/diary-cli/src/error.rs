//! How the program ends.

use diary_client::Error;

/// Exit codes, for scripts.
pub(crate) mod exit {
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
}

/// What failed, why, and what to do about it, for an error that ends what was asked for.
pub(crate) fn unreachable_sentence(error: &Error) -> String {
    let advice = match error {
        Error::NothingListens(_) => "start one with diary-server",
        Error::UnknownHost { .. } => "check its spelling and the network",
        Error::Unreachable { .. } => "check the address, the network and the firewall",
        Error::Silent { .. } | Error::NoWelcome { .. } | Error::NotADiary { .. } => {
            &doctor_advice(error).unwrap_or_default()
        }
        Error::Bye(_) | Error::Broken(_) => "try again once the server is back",
        Error::Protocol(_) => "use a diary of the server's version",
        Error::OtherJournal(_) => "check that the address is the one of before",
        Error::NoSecret(_) => "try again",
        // These say it themselves, or there is nothing to do.
        _ => return error.to_string(),
    };
    format!("{error}; {advice}")
}

/// The command that finds out more about where no diary answers.
pub(crate) fn doctor_advice(error: &Error) -> Option<String> {
    match error {
        Error::Silent { address, .. }
        | Error::NoWelcome { address, .. }
        | Error::NotADiary { address, .. } => Some(format!("diary doctor --server {address} tells more")),
        _ => None,
    }
}
