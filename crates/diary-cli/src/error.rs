//! Exit codes, and the program's error type.

use diary_client::{Code, Error, ErrorKind};

use crate::config::token_file;
use crate::query;
use crate::term::output::Unwritable;
use crate::term::whole;

/// Exit codes, for scripts.
pub(crate) mod exit {
    /// Success.
    pub(crate) const DONE: u8 = 0;
    /// Nothing was found.
    pub(crate) const NOTHING_FOUND: u8 = 1;
    /// The arguments, the configuration, the input or the output is unusable.
    pub(crate) const USAGE: u8 = 2;
    /// The server cannot be reached.
    pub(crate) const UNREACHABLE: u8 = 3;
    /// Something was refused; the rest was done.
    pub(crate) const REFUSED: u8 = 4;
    /// Some entries were not acked.
    pub(crate) const NOT_ACKED: u8 = 5;
    /// Damaged or missing entries were found.
    pub(crate) const DAMAGE: u8 = 6;
    /// Ctrl-C, with nothing left unacked: 128 plus the signal's number.
    pub(crate) const INTERRUPTED: u8 = 130;
}

/// Why the program does not exit with [`exit::DONE`]. `main` prints it once.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Wrong arguments, or a request for help. Printed by clap.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    /// The configuration, the input or the output is unusable.
    #[error("{0}")]
    Usage(String),
    /// The query is not understood.
    #[error(transparent)]
    Query(#[from] query::QueryError),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] whole::FileError),
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] Unwritable),
    /// The connection failed, or the server refused the request.
    #[error("{}", unreachable_sentence(.0))]
    Client(#[from] Error),
    /// A reading ended with an error.
    #[error("{0}")]
    Reading(Error),
    /// The connection was lost during a reading and did not come back.
    #[error("{}; the answer is not complete", unreachable_sentence(.0))]
    Incomplete(Error),
    /// The server cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// Nothing matches the request.
    #[error("{0}")]
    NothingFound(String),
    /// The request conflicts with what exists.
    #[error("{0}")]
    Refused(String),
    /// Entries were not acked.
    #[error("{0}")]
    NotAcked(String),
    /// Ctrl-C, with nothing left unacked.
    #[error("{0}")]
    Interrupted(String),
    /// The outbox is unusable, or has no such entry.
    #[error(transparent)]
    Outbox(#[from] diary_outbox::Error),
    /// The command ended before it did anything; the string says so.
    #[error("{0}: {1}")]
    Nothing(&'static str, Box<Self>),
    /// Everything was printed; only the exit code is left.
    #[error("exit code {0}")]
    Told(u8),
}

impl CliError {
    /// Returns an error that carries only an exit code; everything was printed.
    ///
    /// # Errors
    /// Every code but [`exit::DONE`].
    pub(crate) fn told(code: u8) -> Result<(), Self> {
        if code == exit::DONE { Ok(()) } else { Err(Self::Told(code)) }
    }

    /// Adds that a writing command has done nothing yet.
    pub(crate) fn before_anything(self, was_done: &'static str) -> Self {
        match self {
            Self::Told(_) => self,
            Self::Incomplete(error) => Self::Nothing(was_done, Box::new(error.into())),
            error => Self::Nothing(was_done, Box::new(error)),
        }
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Arguments(error) if !error.use_stderr() => exit::DONE,
            Self::Arguments(_) | Self::Usage(_) | Self::Query(_) => exit::USAGE,
            Self::File(_) | Self::Output(_) | Self::Outbox(_) => exit::USAGE,
            Self::Client(error) => match error.kind() {
                ErrorKind::Refused | ErrorKind::OtherJournal => exit::REFUSED,
                _ => exit::UNREACHABLE,
            },
            Self::Reading(error) => match error.kind() {
                ErrorKind::Unreachable | ErrorKind::Lost => exit::UNREACHABLE,
                _ => exit::REFUSED,
            },
            Self::Incomplete(_) | Self::Unreachable(_) => exit::UNREACHABLE,
            Self::NothingFound(_) => exit::NOTHING_FOUND,
            Self::Refused(_) => exit::REFUSED,
            Self::NotAcked(_) => exit::NOT_ACKED,
            Self::Interrupted(_) => exit::INTERRUPTED,
            Self::Nothing(_, error) => error.code(),
            Self::Told(code) => *code,
        }
    }
}

/// Returns an error that ends a command as a sentence, with advice.
pub(crate) fn unreachable_sentence(error: &Error) -> String {
    match advice(error) {
        Some(advice) => format!("{error}; {advice}"),
        None => error.to_string(),
    }
}

/// Returns advice for an error, unless its own sentence has it.
pub(crate) fn advice(error: &Error) -> Option<&'static str> {
    match error {
        Error::NothingListens(_) => Some("start one with diary-server"),
        Error::UnknownHost { .. } => Some("check its spelling and the network"),
        Error::Unreachable { .. } | Error::Silent { .. } => {
            Some("check the address, the network and the firewall")
        }
        Error::NotADiary { looks_like: Some("TLS"), .. } => {
            Some("if it is one, write tls: before the address")
        }
        Error::NoWelcome { .. } | Error::NotADiary { .. } => Some("check the port (default 8888)"),
        Error::Bye(_) | Error::Broken(_) => Some("try again when the server is back"),
        Error::Protocol(_) => Some("use a client of the server's version"),
        Error::OtherJournal(_) => Some("check the address"),
        Error::Tls { .. } => Some("check the address; that of a port without TLS has no tls:"),
        Error::ChangedKey { .. } => Some(
            "someone may be in between; if the server has a new key, compare its fingerprint and run diary login again",
        ),
        Error::Untrusted { .. } => Some("run diary login for this address"),
        Error::PlainToken(_) => Some("use a tls: address of this server"),
        Error::TurnedAway(refusal) => match refusal.code {
            Code::Tls => Some("write tls: before the address"),
            Code::BadToken if token_file().is_some() => Some("the token is that of DIARY_TOKEN_FILE"),
            Code::BadToken => Some("diary login and diary logout change what is kept"),
            _ => None,
        },
        _ => None,
    }
}
