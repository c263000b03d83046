//! What all sessions share: the journals, and the budgets of the whole server.

use std::sync::{Arc, OnceLock};

use diary_engine::{Journal, Journals};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::budget::{Budget, Uncounted};
use crate::guard::Guard;
use crate::limits::{ANSWERS_FREE_BYTES, APPEND_MIN_BYTES, INPUT_FREE_BYTES, Limits};

/// What is to be had at an address.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    /// The journal of those who name none.
    pub(crate) journal: Arc<Journal>,
    /// There is no other one.
    pub(crate) only: bool,
}

#[cfg(test)]
impl Offer {
    /// This journal, and all others.
    pub(crate) fn of(journal: &Arc<Journal>) -> Self {
        Self { journal: Arc::clone(journal), only: false }
    }
}

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) journals: Arc<Journals>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) limits: Limits,
    /// Where TLS is, in words; empty if it is nowhere.
    pub(crate) tls_at: OnceLock<String>,
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
    pub(crate) fn new(journals: Arc<Journals>, guard: Arc<Guard>, limits: Limits) -> Arc<Self> {
        let freed = Arc::new(Notify::new());
        Arc::new(Self {
            journals,
            guard,
            tls_at: OnceLock::new(),
            unacked: Arc::new(Semaphore::new(limits.unacked_bytes)),
            input: Budget::new(limits.input_bytes, INPUT_FREE_BYTES, limits.patience, &freed),
            answers: Budget::new(limits.answers_bytes, ANSWERS_FREE_BYTES, limits.patience, &freed),
            uncounted: Uncounted::new(&freed),
            freed,
            stop: CancellationToken::new(),
            limits,
        })
    }

    /// Where a token may travel, for whoever has come elsewhere.
    pub(crate) fn only_in_tls(&self) -> String {
        match self.tls_at.get() {
            Some(at) => format!("a token travels only in TLS, which is at {at}"),
            None => "a token travels only in TLS, and no address with TLS is known here".to_owned(),
        }
    }

    /// Waits for room in the budget for appends, in turn with all others. Cancel safe, but the turn is lost.
    pub(crate) async fn room_for_appends(&self, bytes: usize) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.unacked).acquire_many_owned(permits(bytes)).await;
        permit.expect("the semaphore is never closed")
    }

    /// The same, if there is room now.
    pub(crate) fn try_room_for_appends(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.unacked).try_acquire_many_owned(permits(bytes)).ok()
    }
}

/// What appends of so many bytes cost a budget.
pub(crate) fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes.max(APPEND_MIN_BYTES)).expect("appends are far below 4 GiB")
}
