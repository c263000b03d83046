//! What became of appended entries.

use std::pin::Pin;
use std::task::{Context, Poll};

use diary_proto::{Code, Refusal, Time};
use tokio::sync::oneshot;

/// What became of [`Appends`](crate::Appends), in their order. The counts add up to all of them.
pub type Outcome = Vec<Part>;

/// What became of some consecutive entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Committed, with consecutive seqs.
    Acked {
        /// How many.
        count: u32,
        /// The first one's seq.
        first_seq: u64,
        /// When.
        time: Time,
    },
    /// Not stored, or it is unknown whether they are; the code says which.
    Refused {
        /// How many.
        count: u32,
        /// Why.
        refusal: Refusal,
    },
    /// One entry, not stored because its key was used for another text.
    Conflict {
        /// The seq of the entry with the other text.
        seq: u64,
    },
}

// An outcome may have as many parts as entries.
const PART_MAX_BYTES: usize = 40;
const _: () = assert!(size_of::<Part>() <= PART_MAX_BYTES);

impl Part {
    /// The number of entries.
    pub fn count(&self) -> u32 {
        match self {
            Part::Acked { count, .. } | Part::Refused { count, .. } => *count,
            Part::Conflict { .. } => 1,
        }
    }

    /// The refusal for a [`Conflict`](Self::Conflict). It is made when it is sent, so that an outcome with many of them
    /// stays small.
    pub fn conflict(seq: u64) -> Refusal {
        Refusal::new(Code::Conflict, format!("this key was used for another text, which is entry {seq}"))
    }
}

/// The outcome of `count` entries that are all refused.
pub(crate) fn refused(count: u32, refusal: Refusal) -> Outcome {
    if count == 0 { Vec::new() } else { vec![Part::Refused { count, refusal }] }
}

/// The pending outcome of appends that were handed to the writer.
///
/// A future that yields the outcome once. Cancel safe: dropping it loses the answer, never the entries.
#[derive(Debug)]
pub struct Receipt {
    outcome: oneshot::Receiver<Outcome>,
    count: u32,
}

impl Receipt {
    pub(crate) fn new(outcome: oneshot::Receiver<Outcome>, count: u32) -> Self {
        Self { outcome, count }
    }

    /// The outcome, if it is known.
    pub fn try_outcome(&mut self) -> Option<Outcome> {
        match self.outcome.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(self.unknown()),
        }
    }

    /// The engine panicked, so nobody can tell what was written.
    fn unknown(&self) -> Outcome {
        let message = "the server failed while this was written; it may or may not be stored";
        refused(self.count, Refusal::new(Code::UnknownOutcome, message))
    }
}

impl Future for Receipt {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let outcome = std::task::ready!(Pin::new(&mut self.outcome).poll(context));
        Poll::Ready(outcome.unwrap_or_else(|_| self.unknown()))
    }
}
