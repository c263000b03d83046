//! How long a reading waits for a lost connection, and what it reports meanwhile.

use std::time::Duration;

use diary_client::{Error, State};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::term::output::say;

/// How long attempts to reconnect may fail. A server that restarts is back by then.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// Watches the connection of a reader.
pub(crate) struct Patience {
    state: watch::Receiver<State>,
    /// Whether a lost connection was reported, and its return was not yet.
    said_lost: bool,
    /// When the connection was lost; only an entry ends the trouble, however often the connection comes back.
    trouble: Option<Instant>,
}

impl Patience {
    pub(crate) fn of(state: watch::Receiver<State>) -> Self {
        Self { state, said_lost: false, trouble: None }
    }

    /// Ends the trouble: an entry arrived.
    pub(crate) fn progress(&mut self) {
        self.trouble = None;
    }

    /// Reports when the connection is lost and back. Returns the error if reconnecting fails for too long after the
    /// answer was `asked` for; without that, never returns.
    ///
    /// Cancel safe.
    pub(crate) async fn given_up(&mut self, asked: Option<Instant>) -> Error {
        loop {
            let error = self.state.borrow_and_update().error().cloned();
            if self.said_lost != error.is_some() {
                self.said_lost = error.is_some();
                match &error {
                    Some(error) => say(format_args!("{error}; reconnecting")),
                    None => say(format_args!("reconnected")),
                }
            }
            let trouble = error.as_ref().map(|_| *self.trouble.get_or_insert_with(Instant::now));
            let changed = match (error, trouble.zip(asked)) {
                (Some(error), Some((trouble, asked))) => {
                    let changed = timeout_at(trouble.max(asked) + GIVE_UP_AFTER, self.state.changed()).await;
                    let Ok(changed) = changed else { return error };
                    changed
                }
                _ => self.state.changed().await,
            };
            if changed.is_err() {
                // The reader has ended; its caller learns why.
                return std::future::pending().await;
            }
        }
    }
}
