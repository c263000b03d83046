//! Errors, for programs ([`ErrorKind`]) and for people (one sentence).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use diary_proto::{Code, Refusal};

use crate::address::{Address, BadAddress};
use crate::tls::Fingerprint;

/// An error of the client. Cheap to clone, since one lost connection is reported to many.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a valid address.
    #[error(transparent)]
    BadAddress(#[from] BadAddress),
    /// The connection was refused, or the Unix socket does not exist.
    #[error("no server is listening on {0}")]
    NothingListens(Address),
    /// The host name does not resolve.
    #[error("cannot resolve {address}: {source}")]
    UnknownHost {
        /// Address that was tried.
        address: Address,
        /// Error of the resolver.
        source: Arc<io::Error>,
    },
    /// The connection failed for another reason.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// Address that was tried.
        address: Address,
        /// Error of the system.
        source: Arc<io::Error>,
    },
    /// No connection was made in time.
    #[error("no answer from {address} within {} s", limit.as_secs_f32())]
    Silent {
        /// Address that was tried.
        address: Address,
        /// Time limit.
        limit: Duration,
    },
    /// The connection was made, but no greeting or welcome came in time: the server hangs, or it is a server of
    /// another kind that waits for its client.
    #[error("{address} accepted the connection but did not answer within {} s", limit.as_secs_f32())]
    NoWelcome {
        /// Address that was tried.
        address: Address,
        /// Time limit, including that for the connection.
        limit: Duration,
    },
    /// The server speaks another protocol.
    #[error("{address} is not a diary server{}", hint(*looks_like, says))]
    NotADiary {
        /// Address that was tried.
        address: Address,
        /// Its first line or the start of it, safe for any terminal; empty if it sent nothing.
        says: String,
        /// Protocol that it seems to speak, such as `HTTP` or `Redis`.
        looks_like: Option<&'static str>,
    },
    /// The TLS handshake failed.
    #[error("no TLS connection to {address}: {why}")]
    Tls {
        /// Address that was tried.
        address: Address,
        /// Reason.
        why: String,
    },
    /// The server has another key than the pinned one. Nothing was sent to it.
    #[error(
        "the key of {address} is not the expected one: expected {expected}, found {found}; nothing was sent"
    )]
    ChangedKey {
        /// Address that was tried.
        address: Address,
        /// The pinned fingerprint.
        expected: Fingerprint,
        /// The fingerprint of the key that the server has.
        found: Fingerprint,
    },
    /// No key is pinned, and this system does not trust the server's certificate. Nothing was sent to it.
    #[error("this system does not trust the certificate of {address}: {why}; its fingerprint is {found}")]
    Untrusted {
        /// Address that was tried.
        address: Address,
        /// The fingerprint of the key that the server has.
        found: Fingerprint,
        /// Reason.
        why: String,
    },
    /// A token would have been sent in the clear. Nothing was sent.
    #[error("the token was not sent: the connection to {0} is not encrypted")]
    PlainToken(Address),
    /// The server refuses this connection, or ended it with an error.
    #[error("the server refused the connection: {0}")]
    TurnedAway(Refusal),
    /// The server closed the connection.
    #[error("the server closed the connection: {0}")]
    Bye(String),
    /// The connection broke.
    #[error("disconnected: {0}")]
    Broken(Arc<io::Error>),
    /// The server sent a message that the protocol does not allow here.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// The server now serves another journal than the one this client wrote to or read.
    #[error("the server has a different journal now: {0}")]
    OtherJournal(String),
    /// The server's journal was restored from an older copy: an entry that was seen is missing or differs.
    #[error("the diary was restored from an older copy: {0}")]
    Restored(String),
    /// The server refused an entry or a request.
    #[error("{0}")]
    Refused(Refusal),
    /// The client was closed, given up or dropped.
    #[error("the client is closed")]
    Closed,
    /// The system provided no random bytes for the secret.
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
    /// The entry or request is refused, however often it is tried.
    Refused,
    /// The journal is another one: this client is of no more use.
    OtherJournal,
    /// The journal was restored from an older copy: the entries to be read may no longer exist.
    Restored,
    /// The client was misused or is closed.
    Usage,
}

impl Error {
    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TurnedAway(refusal)
                if matches!(refusal.code, Code::NoJournal | Code::BadToken | Code::NotPermitted) =>
            {
                ErrorKind::Refused
            }
            Self::NothingListens(_)
            | Self::UnknownHost { .. }
            | Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::NoWelcome { .. }
            | Self::NotADiary { .. }
            | Self::Tls { .. }
            | Self::TurnedAway(_) => ErrorKind::Unreachable,
            Self::Bye(_) | Self::Broken(_) | Self::Protocol(_) => ErrorKind::Lost,
            Self::Refused(_) | Self::ChangedKey { .. } | Self::Untrusted { .. } | Self::PlainToken(_) => {
                ErrorKind::Refused
            }
            Self::OtherJournal(_) => ErrorKind::OtherJournal,
            Self::Restored(_) => ErrorKind::Restored,
            Self::BadAddress(_) | Self::Closed | Self::NoSecret(_) => ErrorKind::Usage,
        }
    }

    /// Returns whether reconnecting is pointless: someone has to change something first.
    pub fn is_final(&self) -> bool {
        match self {
            Self::TurnedAway(refusal) => matches!(refusal.code, Code::BadToken | Code::NotPermitted),
            Self::ChangedKey { .. }
            | Self::Untrusted { .. }
            | Self::PlainToken(_)
            | Self::OtherJournal(_) => true,
            _ => false,
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
