//! Connecting again and again, with pauses that grow.

use std::time::Duration;

use diary_proto::Refusal;
use diary_proto::message::Welcome;
use tokio::time::{Instant, sleep};

use crate::connection::{Connection, Connector, Seen};
use crate::error::Error;
use crate::state::Link;

/// The first pause before a new attempt: a server that is restarted is back in a few of these.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest pause: a server that is back after an hour is noticed within seconds.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Makes a connection anew, for ever.
pub(crate) struct Redial {
    connector: Connector,
    link: Link,
    /// A connection that was made before.
    first: Option<Connection>,
    /// The next pause, before its random part; none before the first attempt.
    pause: Option<Duration>,
    connected_at: Instant,
}

impl Redial {
    pub(crate) fn new(connector: Connector, link: Link) -> Self {
        Self { connector, link, first: None, pause: None, connected_at: Instant::now() }
    }

    /// The same with the connection that comes first.
    pub(crate) fn with_first(self, first: Option<Connection>) -> Self {
        Self { first, ..self }
    }

    /// What its connections have seen, until now.
    pub(crate) fn seen(&self) -> Seen {
        self.connector.seen.now()
    }

    /// A connection is lost: the next one comes after a pause. One that lasted starts the pauses
    /// afresh; one that broke at once does not, so that a server in trouble is not asked in a tight
    /// loop.
    pub(crate) fn lost(&mut self, error: &Error) {
        tracing::debug!(%error, "the connection is lost");
        self.link.lost(error);
        // Measured from the last connection, so only a loss may ask, not a failed attempt.
        if self.connected_at.elapsed() > PAUSE_MAX {
            self.pause = None;
        }
        self.pause.get_or_insert(PAUSE_MIN);
    }

    /// There is no next connection.
    pub(crate) fn ended(&mut self, error: &Error) {
        self.link.ended(error);
    }

    /// The server has no room: the connection is to be made anew after a pause, and nobody is told that it is lost.
    pub(crate) fn full(&mut self, refusal: &Refusal) {
        tracing::debug!(%refusal, "the server has no room");
        self.link.full(refusal);
        self.pause.get_or_insert(PAUSE_MIN);
    }

    /// The connection was of use (an ack, an entry), so the next pause is the shortest again.
    pub(crate) fn useful(&mut self) {
        self.pause = None;
        self.link.has_room();
    }

    /// The next connection, however long it takes; `welcomed` is told of it before the state is. An error is final: it
    /// is another journal.
    ///
    /// Cancellation safe: an attempt that is cancelled is not counted.
    pub(crate) async fn connect(&mut self, welcomed: impl Fn(&Welcome)) -> Result<Connection, Error> {
        if let Some(first) = self.first.take() {
            self.connected_at = Instant::now();
            return Ok(first);
        }
        loop {
            if let Some(pause) = self.pause {
                sleep(with_jitter(pause)).await;
                self.pause = Some((pause * 2).min(PAUSE_MAX));
            }
            match self.connector.connect().await {
                Ok(connection) => {
                    self.connected_at = Instant::now();
                    welcomed(&connection.welcome);
                    self.link.restored();
                    return Ok(connection);
                }
                Err(error @ Error::OtherJournal(_)) => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "no connection");
                    self.link.lost(&error);
                    self.pause.get_or_insert(PAUSE_MIN);
                }
            }
        }
    }
}

/// Half of the pause to all of it, so that the clients of a server that restarts do not come back at the
/// same moment.
fn with_jitter(pause: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    pause.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_keeps_within_half_and_whole() {
        for _ in 0..100 {
            let pause = with_jitter(PAUSE_MIN);
            assert!(pause >= PAUSE_MIN / 2 && pause <= PAUSE_MIN, "{pause:?}");
        }
    }
}
