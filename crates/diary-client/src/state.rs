//! Whether a client or a reader has its connections.

use diary_proto::Refusal;
use tokio::sync::watch;

use crate::error::Error;

/// Whether the connection of a [`Client`](crate::Client)'s appends stands, or those of a [`Reader`](crate::Reader)'s
/// readings.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// How many connections are being made anew.
    down: usize,
    error: Option<Error>,
    full: Option<Refusal>,
}

impl State {
    /// Why the server takes no entries for now, though it is there: it has no room. It is asked again all the while.
    pub fn full(&self) -> Option<&Refusal> {
        self.full.as_ref()
    }

    /// Every connection stands.
    pub fn is_connected(&self) -> bool {
        self.down == 0
    }

    /// Why one is being made anew, as the newest attempt says.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref().filter(|_| self.down > 0)
    }
}

/// One connection's part in the [`State`].
#[derive(Debug)]
pub(crate) struct Link {
    state: watch::Sender<State>,
    down: bool,
}

impl Link {
    pub(crate) fn new(state: watch::Sender<State>) -> Self {
        Self { state, down: false }
    }

    /// The connection is lost, or an attempt at a new one failed.
    pub(crate) fn lost(&mut self, error: &Error) {
        let fresh = !std::mem::replace(&mut self.down, true);
        self.state.send_modify(|state| {
            state.down += usize::from(fresh);
            state.error = Some(error.clone());
        });
    }

    /// It is lost for good.
    pub(crate) fn ended(&mut self, error: &Error) {
        self.lost(error);
        self.down = false;
    }

    /// Entries were refused for now.
    pub(crate) fn full(&mut self, refusal: &Refusal) {
        self.state.send_modify(|state| state.full = Some(refusal.clone()));
    }

    /// An answer came that is no such refusal.
    pub(crate) fn has_room(&mut self) {
        self.state.send_if_modified(|state| state.full.take().is_some());
    }

    /// The connection stands, or is no longer wanted.
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
