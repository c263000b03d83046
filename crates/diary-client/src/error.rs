//! What can go wrong, for a program ([`ErrorKind`]) and for people (one sentence).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use diary_proto::Refusal;

use crate::address::{Address, BadAddress};

/// What went wrong. Cheap to clone: one lost connection is told to many.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A word that is no address.
    #[error(transparent)]
    BadAddress(#[from] BadAddress),
    /// The connection was refused, or there is no such Unix socket.
    #[error("no server is listening on {0}")]
    NothingListens(Address),
    /// The host has no address.
    #[error("cannot resolve {address}: {source}")]
    UnknownHost {
        /// What was asked for.
        address: Address,
        /// What the resolver said.
        source: Arc<io::Error>,
    },
    /// The connection could not be made for another reason.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// What was asked for.
        address: Address,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// No connection, greeting and welcome in time.
    #[error("no answer from {address} within {} s", limit.as_secs_f32())]
    Silent {
        /// What was asked for.
        address: Address,
        /// How long it had.
        limit: Duration,
    },
    /// The connection was made, but no greeting or no welcome came in time: the server hangs, or it is another kind of
    /// server, which waits for its client.
    #[error("{address} accepted the connection but did not answer within {} s", limit.as_secs_f32())]
    NoWelcome {
        /// What was asked for.
        address: Address,
        /// How long it had, for the connection too.
        limit: Duration,
    },
    /// The server speaks another protocol.
    #[error("{address} is not a diary server{}", hint(*looks_like, says))]
    NotADiary {
        /// What was asked for.
        address: Address,
        /// Its first line or the start of it, safe for any terminal; empty if it sent none.
        says: String,
        /// The protocol that it seems to speak, such as `HTTP` or `Redis`.
        looks_like: Option<&'static str>,
    },
    /// The server does not take this connection, or no longer.
    #[error("the server refused the connection: {0}")]
    TurnedAway(Refusal),
    /// The server took leave.
    #[error("the server closed the connection: {0}")]
    Bye(String),
    /// The connection broke.
    #[error("disconnected: {0}")]
    Broken(Arc<io::Error>),
    /// The server said something that the protocol does not allow here.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// The server now serves another journal than the one that this client wrote to or read.
    #[error("the server has a different journal now: {0}")]
    OtherJournal(String),
    /// The server restored its journal from an older copy: it lacks an entry that was seen, or has another one there.
    #[error("the diary was restored from an older copy: {0}")]
    Restored(String),
    /// An entry or a request was refused.
    #[error("{0}")]
    Refused(Refusal),
    /// The client was closed, given up or dropped.
    #[error("the client is closed")]
    Closed,
    /// The system gave no random bytes for the secret.
    #[error("no random bytes for a secret: {0}")]
    NoSecret(String),
}

/// What a program can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No connection could be made: try later, or elsewhere.
    Unreachable,
    /// A connection was lost: the client reconnects by itself.
    Lost,
    /// This entry or request will not be taken, however often it is tried.
    Refused,
    /// It is not the same journal any more: nothing more can be done with this client.
    OtherJournal,
    /// The journal was restored from an older copy: what was to be read may not be there any more.
    Restored,
    /// It was used wrongly or is closed.
    Usage,
}

impl Error {
    /// What a program can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NothingListens(_)
            | Self::UnknownHost { .. }
            | Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::NoWelcome { .. }
            | Self::NotADiary { .. }
            | Self::TurnedAway(_) => ErrorKind::Unreachable,
            Self::Bye(_) | Self::Broken(_) | Self::Protocol(_) => ErrorKind::Lost,
            Self::Refused(_) => ErrorKind::Refused,
            Self::OtherJournal(_) => ErrorKind::OtherJournal,
            Self::Restored(_) => ErrorKind::Restored,
            Self::BadAddress(_) | Self::Closed | Self::NoSecret(_) => ErrorKind::Usage,
        }
    }

    pub(crate) fn broken(source: io::Error) -> Self {
        Self::Broken(Arc::new(source))
    }

    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }
}

fn hint(looks_like: Option<&str>, says: &str) -> String {
    match looks_like {
        Some(protocol) => format!(" (it looks like {protocol})"),
        None if says.is_empty() => String::new(),
        None => format!(" (it says \"{says}\")"),
    }
}
