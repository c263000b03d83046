//! What all sessions share: the journal, and the budgets of the whole server.

use std::sync::Arc;

use diary_engine::Journal;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::budget::{Budget, Uncounted};
use crate::limits::{ANSWERS_FREE_BYTES, INPUT_FREE_BYTES, Limits};

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) journal: Journal,
    pub(crate) limits: Limits,
    /// Appends that are not committed.
    pub(crate) unacked: Arc<Semaphore>,
    /// Input that is not appended.
    pub(crate) input: Arc<Budget>,
    /// Answers that are not sent, and outcomes that are not told.
    pub(crate) answers: Arc<Budget>,
    /// What sessions hold beside these.
    pub(crate) uncounted: Arc<Uncounted>,
    /// Much memory is free again.
    pub(crate) freed: Arc<Notify>,
    /// The server stops: take nothing more, answer what was taken.
    pub(crate) stop: CancellationToken,
}

impl Context {
    pub(crate) fn new(journal: Journal, limits: Limits) -> Arc<Self> {
        let freed = Arc::new(Notify::new());
        Arc::new(Self {
            journal,
            unacked: Arc::new(Semaphore::new(limits.unacked_bytes)),
            input: Budget::new(limits.input_bytes, INPUT_FREE_BYTES, limits.patience, &freed),
            answers: Budget::new(limits.answers_bytes, ANSWERS_FREE_BYTES, limits.patience, &freed),
            uncounted: Uncounted::new(&freed),
            freed,
            stop: CancellationToken::new(),
            limits,
        })
    }
}
