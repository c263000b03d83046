//! What a delivery takes, and the outcomes that it reports.

use std::fmt;
use std::time::Duration;

use diary_client::{Ack, Address, Error as ClientError, Refusal, Secret, Welcome};

use crate::error::Error;
use crate::outbox::Outbox;
use crate::record::KeptEntry;

/// How long a connected server may answer nothing before it is reported. Most acks take milliseconds.
pub(crate) const SILENT_AFTER: Duration = Duration::from_secs(2);

/// Source of the entries' keys, which decides what survives the process.
pub enum Keys {
    /// A new secret. Nothing is kept: what is not acked at the end is returned to the caller.
    Fresh,
    /// A new secret. Each entry is in the outbox from before it is sent until it is acked. What earlier runs left
    /// there is sent first.
    Kept(Outbox),
    /// A secret that anyone with the same entries can derive again, so that they are stored once however often they
    /// are delivered. Nothing is kept.
    Derived(Secret),
}

/// What became of an entry or of the connection. `T` is the caller's tag for an entry.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome<T> {
    /// The server was reached for the first time.
    Arrived(Box<Welcome>),
    /// An entry is in the diary.
    Acked {
        /// The caller's tag.
        tag: T,
        /// Its seq and time in the diary.
        ack: Ack,
    },
    /// The server refuses an entry for good; retrying does not help.
    Refused {
        /// The caller's tag.
        tag: T,
        /// Reason.
        refusal: Refusal,
        /// Its id in the outbox, where it waits for a person to decide. `None` if it is not kept.
        id: Option<String>,
    },
    /// Nothing can be sent for now. The delivery keeps trying until it is [stopped](crate::Delivery::stop).
    Held(Held),
    /// The cause of an earlier [`Held`](Self::Held) is gone.
    Resumed(Held),
    /// All entries that earlier runs left have been handled, and these are in the diary now.
    CaughtUp {
        /// Number of entries.
        entries: usize,
    },
    /// The server refuses an entry that an earlier run left. It waits for a person to decide.
    LeftRefused {
        /// Its id in the outbox.
        id: String,
        /// The entry.
        kept: Box<KeptEntry>,
        /// Reason.
        refusal: Refusal,
    },
    /// A file that an earlier run left is unusable.
    Trouble(Error),
    /// After [`crate::Delivery::stop`]: an entry without an ack.
    Left {
        /// The caller's tag.
        tag: T,
        /// Its text.
        text: String,
        /// Whether it was sent, so it may be in the diary.
        sent: bool,
        /// Its id in the outbox, from which the next delivery sends it. `None` if it is not kept.
        id: Option<String>,
    },
}

/// Why nothing is sent.
#[derive(Debug, Clone)]
pub enum Held {
    /// There is no connection, and attempts to connect fail.
    Away(ClientError),
    /// The server is connected, but has answered nothing for two seconds.
    Silent(Address),
    /// The server is out of room. The client keeps retrying.
    Full(Refusal),
    /// Nothing more can be sent: the error [is final](ClientError::is_final), for example because the server has a
    /// different journal now.
    Ended(ClientError),
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(error) | Self::Ended(error) => error.fmt(f),
            Self::Silent(address) => {
                write!(f, "{address} has acked nothing for {} s", SILENT_AFTER.as_secs())
            }
            Self::Full(refusal) => refusal.fmt(f),
        }
    }
}
