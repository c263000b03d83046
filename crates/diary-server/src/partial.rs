//! The memory of messages that have begun to arrive, of all sessions together. Past its bound, the
//! session that has been waiting the longest for the rest of one is told and closed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::limits::PARTIAL_FREE_BYTES;

/// All partial messages.
#[derive(Debug)]
pub(crate) struct Partials {
    max_bytes: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    next_ticket: u64,
    /// In the order in which they began.
    slots: BTreeMap<u64, (usize, CancellationToken)>,
}

/// One session's partial message; none, or a small one, costs nothing.
#[derive(Debug)]
pub(crate) struct Partial {
    all: Arc<Partials>,
    slot: Option<(u64, CancellationToken)>,
}

impl Partials {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn remove(&mut self, ticket: u64) {
        if let Some((bytes, _)) = self.slots.remove(&ticket) {
            self.bytes -= bytes;
        }
    }
}

impl Partial {
    pub(crate) fn new(all: Arc<Partials>) -> Self {
        Self { all, slot: None }
    }

    /// Says how many bytes are held now. `renewed`: a message was completed, so what is held began later.
    pub(crate) fn set(&mut self, bytes: usize, renewed: bool) {
        if bytes <= PARTIAL_FREE_BYTES {
            return self.clear();
        }
        if renewed {
            self.clear();
        }
        let mut held = self.all.held();
        let (ticket, token) = self.slot.get_or_insert_with(|| {
            held.next_ticket += 1;
            (held.next_ticket, CancellationToken::new())
        });
        held.remove(*ticket);
        held.bytes += bytes;
        held.slots.insert(*ticket, (bytes, token.clone()));
        while held.bytes > self.all.max_bytes
            && let Some((_, (bytes, longest_waiting))) = held.slots.pop_first()
        {
            held.bytes -= bytes;
            longest_waiting.cancel();
        }
    }

    /// Completes when this session is the one that has to go. Cancellation safe.
    pub(crate) async fn evicted(&self) {
        match &self.slot {
            Some((_, token)) => token.cancelled().await,
            None => std::future::pending().await,
        }
    }

    fn clear(&mut self) {
        if let Some((ticket, _)) = self.slot.take() {
            self.all.held().remove(ticket);
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_evicted(partial: &Partial) -> bool {
        partial.slot.as_ref().is_some_and(|(_, token)| token.is_cancelled())
    }

    #[test]
    fn the_longest_waiting_goes_first() {
        let all = Arc::new(Partials::new(10_000));
        let mut partials: Vec<Partial> = (0..3).map(|_| Partial::new(Arc::clone(&all))).collect();
        for partial in &mut partials {
            partial.set(3_000, false);
        }
        partials[0].set(3_000, true);
        partials[2].set(6_000, false);
        assert_eq!(partials.iter().map(is_evicted).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(all.held().bytes, 9_000);
        drop(partials);
        let held = all.held();
        assert_eq!((held.bytes, held.slots.len()), (0, 0));
    }

    #[test]
    fn small_ones_cost_nothing() {
        let all = Arc::new(Partials::new(10_000));
        let mut partial = Partial::new(Arc::clone(&all));
        partial.set(PARTIAL_FREE_BYTES, false);
        assert_eq!(all.held().slots.len(), 0);
    }
}
