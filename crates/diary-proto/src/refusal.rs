//! Why something was not taken: a code for programs and a sentence for people.

use std::borrow::Cow;
use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// The word after `error` in line mode, and the code of an error frame.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code, in the order of the protocol's table.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The word that travels.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $word,)* }
            }

            /// The code for a word that travelled, if it is one of ours.
            pub fn from_word(word: &str) -> Option<Code> {
                match word { $($word => Some(Code::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// A line, text, name or secret is over its limit.
    TooLong = "too-long",
    /// Not valid UTF-8.
    Utf8 = "utf8",
    /// A NUL byte inside a text.
    Nul = "nul",
    /// An entry without text.
    Empty = "empty",
    /// A `/word` that is no command.
    UnknownCommand = "unknown-command",
    /// A date, number, range or name that cannot be read.
    BadArgument = "bad-argument",
    /// An HTTP request on the diary's port.
    Http = "http",
    /// A TLS hello on the diary's port.
    Tls = "tls",
    /// A PROXY header where none is taken, or none where one has to come first.
    Proxy = "proxy",
    /// An entry names an earlier one that is not there.
    NoEntry = "no-entry",
    /// A frame that cannot be read: its length, type or body.
    BadFrame = "bad-frame",
    /// A frame that needs a Hello before it, a second Hello, or none in time.
    Hello = "hello",
    /// A protocol version that this server does not speak.
    Version = "version",
    /// The server has no journal of this name, or not at this address.
    NoJournal = "no-journal",
    /// The client has no right to this; logging in with a token may give it.
    NotPermitted = "not-permitted",
    /// The token is unknown, removed or expired.
    BadToken = "bad-token",
    /// The client resumes a journal that this one is not.
    OtherJournal = "other-journal",
    /// The client resumes this journal, which does not have the entry that it saw last.
    Restored = "restored",
    /// The same key came with another text, or naming another entry.
    Conflict = "conflict",
    /// The server can no longer tell whether this key was stored.
    StaleKey = "stale-key",
    /// No room on the disk; nothing was stored.
    DiskFull = "disk-full",
    /// The server's clock says a time that cannot be written; nothing was stored.
    BadClock = "bad-clock",
    /// The disk failed while this was written: it may or may not be stored.
    UnknownOutcome = "unknown-outcome",
    /// The disk failed before this was written: it is not stored.
    DiskFailed = "disk-failed",
    /// Stored bytes could not be read.
    Unreadable = "unreadable",
    /// Too many connections or open journals, no thread to write with, or others wait for memory that this one holds.
    Busy = "busy",
    /// The server stops; this was not done.
    Stopping = "stopping",
    /// Not allowed from here or in this way.
    Denied = "denied",
}

impl Code {
    /// Whether the same server may take the same entry later; in frame mode, on a new connection. Nothing was stored.
    pub fn is_for_now(self) -> bool {
        matches!(self, Code::DiskFull | Code::BadClock)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why something was not taken. Displays as `CODE: what, and the limit or the way out`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people: one line, no control characters.
    pub message: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with its sentence. Whatever a client sent must be escaped before it gets in here.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }
}
