//! How long a reading waits for a connection that was lost, and what is said meanwhile.

use std::time::Duration;

use diary_client::{Error, State};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::term::output::say;

/// How long attempts to reconnect may fail: a server that is restarted is back by then.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// How often to look while a connection is lost.
const LOOK_EVERY: Duration = Duration::from_millis(200);

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

    /// Waits until [`look`](Self::look) may find something new.
    ///
    /// Cancel safe.
    pub(crate) async fn wait(&mut self) {
        let changed = match self.said_lost {
            true => timeout(LOOK_EVERY, self.state.changed()).await.unwrap_or(Ok(())),
            false => self.state.changed().await,
        };
        if changed.is_err() {
            // The reader has ended; whoever waits for it learns why.
            std::future::pending::<()>().await;
        }
    }

    /// Says what changed. Gives the reason if reconnecting has failed for too long, for an answer that was asked for
    /// then; a reading without an end is waited for as long as it takes.
    pub(crate) fn look(&mut self, asked: Option<Instant>) -> Option<Error> {
        let error = self.state.borrow_and_update().error().cloned();
        if self.said_lost != error.is_some() {
            self.said_lost = error.is_some();
            match &error {
                Some(error) => say(format_args!("{error}; trying to connect again")),
                None => say(format_args!("connected again")),
            }
        }
        let error = error?;
        let trouble = *self.trouble.get_or_insert_with(Instant::now);
        asked.filter(|asked| trouble.max(*asked).elapsed() >= GIVE_UP_AFTER).map(|_| error)
    }
}
