//! Every bound of the file, unit last in the name, with its reason.

use diary_proto::limits::{AUTHOR_MAX_BYTES, JOURNAL_NAME_MAX_BYTES};

/// Tokens in one file. Each login is compared with all of them.
pub const TOKENS_MAX: usize = 10_000;

/// Journals, exact or by prefix, that one token names. More are better named by a prefix.
pub const JOURNALS_MAX: usize = 16;

/// Longest line, line feed excluded: a token's, or a comment.
pub const LINE_MAX_BYTES: usize = 2 * 1024;

/// Largest file: every token with the longest line, and comments.
pub const FILE_MAX_BYTES: usize = 32 * 1024 * 1024;

/// `read,append,redact,admin`.
const RIGHTS_MAX_BYTES: usize = 24;

/// A time with nanoseconds and the longest year.
const TIME_MAX_BYTES: usize = 40;

/// SHA-256 in hex.
const HASH_BYTES: usize = 64;

/// A `*` and a comma for each journal; five spaces.
const GRANT_MAX_BYTES: usize = AUTHOR_MAX_BYTES
    + RIGHTS_MAX_BYTES
    + JOURNALS_MAX * (JOURNAL_NAME_MAX_BYTES + 2)
    + 2 * TIME_MAX_BYTES
    + HASH_BYTES
    + 5;

const _: () = assert!(GRANT_MAX_BYTES <= LINE_MAX_BYTES, "a valid token can be written");
const _: () = assert!(TOKENS_MAX * (LINE_MAX_BYTES + 1) < FILE_MAX_BYTES, "all tokens can be written");
