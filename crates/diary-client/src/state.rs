//! Connection state of a client or reader.

use diary_proto::Refusal;
use tokio::sync::watch;

use crate::error::Error;

/// State of the connection for a [`Client`](crate::Client)'s appends, or of those for a
/// [`Reader`](crate::Reader)'s readings.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Number of connections being re-established.
    down: usize,
    error: Option<Error>,
    full: Option<Refusal>,
}

impl State {
    /// Returns why the reachable server takes no entries for now: it has no room. The client keeps retrying.
    pub fn full(&self) -> Option<&Refusal> {
        self.full.as_ref()
    }

    /// Returns whether every connection is established.
    pub fn is_connected(&self) -> bool {
        self.down == 0
    }

    /// Returns why a connection is being re-established, from the latest attempt.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref().filter(|_| self.down > 0)
    }
}

/// One connection's share of the [`State`].
#[derive(Debug)]
pub(crate) struct Link {
    state: watch::Sender<State>,
    down: bool,
}

impl Link {
    pub(crate) fn new(state: watch::Sender<State>) -> Self {
        Self { state, down: false }
    }

    /// Records that the connection was lost, or that a new attempt failed.
    pub(crate) fn lost(&mut self, error: &Error) {
        let fresh = !std::mem::replace(&mut self.down, true);
        self.state.send_modify(|state| {
            state.down += usize::from(fresh);
            state.error = Some(error.clone());
        });
    }

    /// Records that the connection is lost for good.
    pub(crate) fn ended(&mut self, error: &Error) {
        self.lost(error);
        self.down = false;
    }

    /// Records that entries were refused for now.
    pub(crate) fn full(&mut self, refusal: &Refusal) {
        self.state.send_modify(|state| state.full = Some(refusal.clone()));
    }

    /// Records an answer other than such a refusal.
    pub(crate) fn has_room(&mut self) {
        self.state.send_if_modified(|state| state.full.take().is_some());
    }

    /// Records that the connection is established, or no longer wanted.
    pub(crate) fn restored(&mut self) {
        if std::mem::take(&mut self.down) {
            self.state.send_modify(|state| state.down -= 1);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.restored();
    }
}
