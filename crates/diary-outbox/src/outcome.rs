//! What a delivery is given, and what it tells.

use std::fmt;
use std::time::Duration;

use diary_client::{Ack, Address, Error as ClientError, Refusal, Secret, Welcome};

use crate::error::Error;
use crate::outbox::Outbox;
use crate::record::KeptEntry;

/// How long a server that is there may answer nothing before that is told. Most acks take milliseconds.
pub(crate) const SILENT_AFTER: Duration = Duration::from_secs(2);

/// What the keys of a delivery's entries come from, and what outlives its process.
pub enum Keys {
    /// A new secret. Nothing is kept: what is not acked in the end is given back.
    Fresh,
    /// A new secret. An entry is in the outbox before it is sent, until it is acked; what earlier runs left there goes
    /// out first.
    Kept(Outbox),
    /// A secret that whoever has the same entries can make again, so that they are stored once however often they are
    /// delivered. Nothing is kept.
    Derived(Secret),
}

/// What came of entries, or of the way to the server. `T` is what the caller knows an entry by.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome<T> {
    /// The server is there for the first time.
    Arrived(Box<Welcome>),
    /// An entry is in the diary.
    Acked {
        /// Which.
        tag: T,
        /// Its seq and time there.
        ack: Ack,
    },
    /// An entry is not taken, however often it is sent.
    Refused {
        /// Which.
        tag: T,
        /// Why.
        refusal: Refusal,
        /// What it is called in the outbox, where it waits for a person's choice. `None`: it is not kept.
        id: Option<String>,
    },
    /// Nothing goes out for now. The delivery goes on by itself until it is [stopped](crate::Delivery::stop).
    Held(Held),
    /// What held it up is over.
    Resumed(Held),
    /// So many entries that earlier runs left are in the diary now.
    CaughtUp {
        /// How many.
        entries: usize,
    },
    /// An entry that an earlier run left is not taken. It waits for a person's choice.
    LeftRefused {
        /// What it is called in the outbox.
        id: String,
        /// What it is.
        kept: Box<KeptEntry>,
        /// Why.
        refusal: Refusal,
    },
    /// A file that an earlier run left cannot be used.
    Trouble(Error),
    /// After [`crate::Delivery::stop`]: an entry that is not acked.
    Left {
        /// Which.
        tag: T,
        /// Its text.
        text: String,
        /// It was sent, so it may be in the diary.
        sent: bool,
        /// What it is called in the outbox, from where the next delivery sends it. `None`: it is not kept.
        id: Option<String>,
    },
}

/// Why nothing goes out.
#[derive(Debug, Clone)]
pub enum Held {
    /// There is no connection, and attempts fail.
    Away(ClientError),
    /// The server is there, and has answered nothing for two seconds.
    Silent(Address),
    /// The server has no room. It is asked again.
    Full(Refusal),
    /// Nothing more can be sent: the server has a different journal now.
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
