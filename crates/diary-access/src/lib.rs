//! Who may do what in which journal: tokens with rights, kept in the file `access` in the server's data folder.
//!
//! ```text
//! # diary access 1: one token a line, made by `diary-server token add`; …
//! # name rights journals made expires sha256
//! anna read,append * 2026-11-27T10:00:00Z never 5f0c…
//! backup read work,work-* 2026-11-27T10:02:11Z 2027-02-01T00:00:00Z 91be…
//! ```
//!
//! Read it in this order:
//!
//! - `token`: the secret, and the hash that is kept of it;
//! - `rights` and `journals`: what a token may do, and where; `name`: who writes with it;
//! - `grant`: all of these, one line of the file; `expiry`: parses when a token expires;
//! - `access`: the text of the file;
//! - `file`: reads and changes the file;
//! - `last_use`: when each token was last used, in its own file.
//!
//! # No file, and no tokens
//!
//! If the file is missing ([`AccessFile::read`] returns `None`), tokens are not in use. If it exists without tokens,
//! nobody has access: removing the last token must not open the diary to everyone, so the file stays. To stop using
//! tokens, delete the file. Some editors briefly remove a file while they save it, so a running server should keep its
//! tokens when the file disappears, and stop asking for them only at its next start.

mod access;
mod expiry;
mod file;
mod grant;
mod journals;
mod last_use;
mod limits;
mod name;
mod rights;
mod token;

pub use access::{Access, BadAccess, ChangeError};
pub use expiry::{BadExpiry, parse_expiry};
pub use file::{AccessFile, Error, Stamp};
pub use grant::Grant;
pub use journals::{BadJournals, Journals};
pub use last_use::LastUse;
pub use limits::{FILE_MAX_BYTES, JOURNALS_MAX, LINE_MAX_BYTES, TOKENS_MAX};
pub use name::{BadName, Name};
pub use rights::{BadRights, Right, Rights};
pub use token::{BadToken, Token, TokenHash};

use diary_proto::escape::escape;

/// Most characters quoted of invalid input. The input may be a token in the wrong place, and errors are logged: 16
/// characters give away 50 of its 256 bits.
const QUOTED_MAX_CHARS: usize = 16;

/// Returns the start of invalid input, safe to print.
fn quoted(said: &str) -> String {
    let mut start: String = said.chars().take(QUOTED_MAX_CHARS).collect();
    if start.len() < said.len() {
        start.push('…');
    }
    escape(&start).into_owned()
}
