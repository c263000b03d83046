//! Every bound of the protocol, unit last in the name.

/// Longest text of one entry. A page of prose is about 4 KiB; past this size a file is meant.
pub const TEXT_MAX_BYTES: usize = 64 * 1024;

/// Longest author name: it stands on every line.
pub const AUTHOR_MAX_BYTES: usize = 64;

/// The name of a journal, which is the name of a folder.
pub const JOURNAL_NAME_MAX_BYTES: usize = 64;

/// Longest stored line, line feed included: a text in which every byte is escaped (four for one)
/// takes 256 KiB, and the fields around it stay far below the rest.
pub const STORED_LINE_MAX_BYTES: usize = 320 * 1024;

/// Longest frame, type and body: bounds what a reader must hold before it can act.
pub const FRAME_MAX_BYTES: usize = 1024 * 1024;

/// Longest secret in a Hello; its hash is the producer's public name.
pub const SECRET_MAX_BYTES: usize = 64;

/// Shortest secret in a Hello: below this it could be guessed.
pub const SECRET_MIN_BYTES: usize = 16;

/// Longest PROXY header. Addresses take 232 bytes at most; a host name and what is known of a certificate fit behind
/// them.
pub const PROXY_HEADER_MAX_BYTES: usize = 1024;

/// The protocol version of both modes.
pub const VERSION: u8 = 1;
