//! How long a reading waits for a connection that was lost, and what is said meanwhile.

use std::time::Duration;

use diary_client::{Error, State};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::term::output::say;

/// How long attempts to reconnect may fail: a server that is restarted is back by then.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// Watches the connections of a reader.
pub(crate) struct Patience {
    state: watch::Receiver<State>,
    /// It was said that a connection is lost, and not yet that it is back.
    said_lost: bool,
    /// Since when connections are lost without an entry in between, however often they came back.
    trouble: Option<Instant>,
}

impl Patience {
    pub(crate) fn of(state: watch::Receiver<State>) -> Self {
        Self { state, said_lost: false, trouble: None }
    }

    /// An entry came.
    pub(crate) fn progress(&mut self) {
        self.trouble = None;
    }

    /// Says when connections are lost and back, and ends with the reason if reconnecting fails for too long while an
    /// answer is waited for that was asked for at `asked`. Without that it never ends.
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
                // The reader has ended; whoever waits for it learns why.
                return std::future::pending().await;
            }
        }
    }
}
