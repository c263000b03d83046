//! New entries, the secret behind their keys, and their acks.

use bytes::Bytes;
use diary_proto::entry::Author;
use diary_proto::limits::{SECRET_MAX_BYTES, SECRET_MIN_BYTES};
use diary_proto::{Code, Refusal, Relation, Time};

use crate::error::Error;

/// Length of a secret that the client creates.
const SECRET_BYTES: usize = 32;

/// The secret that a writer's keys are derived from. Only its owner can use or repeat those keys; the
/// [`Producer`](crate::Producer) in them tells readers nothing about it.
///
/// A secret that is used again needs a [`Place`] among the keys for each entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret(Bytes);

impl Secret {
    /// Creates a random secret.
    ///
    /// # Errors
    /// [`Error::NoSecret`] if the system provides no random bytes.
    pub fn random() -> Result<Self, Error> {
        let mut secret = vec![0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(|error| Error::NoSecret(error.to_string()))?;
        Ok(Self(secret.into()))
    }

    /// Creates a secret from 16 to 64 bytes.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is shorter or longer.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, Error> {
        let bytes = bytes.into();
        if (SECRET_MIN_BYTES..=SECRET_MAX_BYTES).contains(&bytes.len()) {
            return Ok(Self(bytes));
        }
        let message =
            format!("a secret has {SECRET_MIN_BYTES} to {SECRET_MAX_BYTES} bytes, not {}", bytes.len());
        Err(Error::Refused(Refusal::new(Code::BadArgument, message)))
    }

    /// Returns the secret's bytes. Keep them where nobody else can read them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn bytes(&self) -> Bytes {
        self.0.clone()
    }
}

/// An entry's place among the keys of a [`Secret`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Counter in the key, from 1. Counters ascend and may have gaps.
    pub counter: u64,
    /// Whether it may have been sent before, maybe by another process. It is then sent as a retry.
    pub sent: bool,
}

/// An entry to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// Text of the entry.
    pub text: String,
    /// Time of the entry, if not now. The entry then belongs to that day.
    pub at: Option<Time>,
    /// Time at which it was written down, if known. Sent as [`at`](Self::at) if that is unset and the entry
    /// goes out more than a minute later.
    pub written: Option<Time>,
    /// Author of the entry, if not the [client's author](crate::Options::author).
    pub author: Option<Author>,
    /// Number of the earlier entry that it answers, if it answers one. The server refuses it if there is none.
    pub answers: Option<u64>,
    /// Number of the earlier entry that it corrects, if it corrects one. It cannot do both.
    pub corrects: Option<u64>,
}

impl NewEntry {
    /// Returns what it is to an earlier entry.
    pub fn relation(&self) -> Option<Relation> {
        self.answers.map(Relation::Answers).or(self.corrects.map(Relation::Corrects))
    }
}

impl<T: Into<String>> From<T> for NewEntry {
    fn from(text: T) -> Self {
        Self { text: text.into(), at: None, written: None, author: None, answers: None, corrects: None }
    }
}

/// Confirmation that an entry is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Number of the entry.
    pub seq: u64,
    /// Time of the commit.
    pub time: Time,
}

/// An entry that was given up before its ack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAcked {
    /// Counter in its key.
    pub counter: u64,
    /// Text of the entry.
    pub text: String,
    /// Whether it was sent, now or [before](Place::sent). If so, it may be in the diary.
    pub sent: bool,
}
