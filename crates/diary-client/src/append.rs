//! What is appended, under whose keys, and what comes of it.

use bytes::Bytes;
use diary_proto::entry::Author;
use diary_proto::limits::{SECRET_MAX_BYTES, SECRET_MIN_BYTES};
use diary_proto::{Code, Refusal, Time};

use crate::error::Error;

/// Bytes of a secret that the client makes for itself.
const SECRET_BYTES: usize = 32;

/// What the keys of a writer come from. Only who has it can use or repeat them; the [`Producer`] in the keys tells
/// readers nothing of it.
///
/// Whoever uses a secret again says with each entry which [`Place`] it takes among the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret(Bytes);

impl Secret {
    /// A new one.
    ///
    /// # Errors
    /// [`Error::NoSecret`] if the system gives no random bytes.
    pub fn random() -> Result<Self, Error> {
        let mut secret = vec![0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(|error| Error::NoSecret(error.to_string()))?;
        Ok(Self(secret.into()))
    }

    /// One of 16 to 64 bytes.
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

    /// Its bytes, to be kept where nobody else reads them.
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
    /// The counter in its key, from 1. Counters ascend; some may be left out.
    pub counter: u64,
    /// It may have been sent before, maybe by another process: then it goes out as a retry.
    pub sent: bool,
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// The text.
    pub text: String,
    /// When it was, if that is not now: the entry is of that day then.
    pub at: Option<Time>,
    /// When it was written down, if that is known: that counts as [`at`](Self::at), if nothing else does and the
    /// entry goes out more than a minute later.
    pub written: Option<Time>,
    /// Who wrote it, if that is not the [client's author](crate::Options::author).
    pub author: Option<Author>,
}

impl<T: Into<String>> From<T> for NewEntry {
    fn from(text: T) -> Self {
        Self { text: text.into(), at: None, written: None, author: None }
    }
}

/// An entry is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Its number.
    pub seq: u64,
    /// When it was committed.
    pub time: Time,
}

/// An entry that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAcked {
    /// The counter in its key.
    pub counter: u64,
    /// What was to be written.
    pub text: String,
    /// It was sent, now or [before](Place::sent), so it may be in the diary all the same.
    pub sent: bool,
}
