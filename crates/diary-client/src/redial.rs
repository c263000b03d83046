//! Reconnecting with growing pauses.

use std::time::Duration;

use diary_proto::Refusal;
use diary_proto::message::Welcome;
use tokio::time::{Instant, sleep};

use crate::connection::{Connection, Connector};
use crate::error::Error;
use crate::seen::Seen;
use crate::state::Link;

/// First pause before a retry. A server that restarts is back within a few of these.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Longest pause. A server that is back after an hour is noticed within seconds.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Reconnects forever.
pub(crate) struct Redial {
    connector: Connector,
    link: Link,
    /// Connection made earlier, used first.
    first: Option<Connection>,
    /// Next pause, before jitter; `None` before the first attempt.
    pause: Option<Duration>,
    connected_at: Instant,
}

impl Redial {
    pub(crate) fn new(connector: Connector, link: Link) -> Self {
        let connector = Connector { probes: false, ..connector };
        Self { connector, link, first: None, pause: None, connected_at: Instant::now() }
    }

    /// Uses `first` as the first connection.
    pub(crate) fn with_first(self, first: Option<Connection>) -> Self {
        Self { first, ..self }
    }

    /// Returns what its connections have seen until now.
    pub(crate) fn seen(&self) -> Seen {
        self.connector.seen.now()
    }

    /// Records a lost connection: the next one is made after a pause. The pauses start over if the connection
    /// lasted. If it broke at once they do not, so that a server in trouble is not retried in a tight loop.
    pub(crate) fn lost(&mut self, error: &Error) {
        tracing::debug!(%error, "the connection is lost");
        self.link.lost(error);
        // `connected_at` is of the last connection, so check it on a loss only, not on a failed attempt.
        if self.connected_at.elapsed() > PAUSE_MAX {
            self.pause = None;
        }
        self.pause.get_or_insert(PAUSE_MIN);
    }

    /// Records that there is no next connection.
    pub(crate) fn ended(&mut self, error: &Error) {
        self.link.ended(error);
    }

    /// Records that the server has no room: reconnect after a pause, without reporting the connection as lost.
    pub(crate) fn full(&mut self, refusal: &Refusal) {
        tracing::debug!(%refusal, "the server has no room");
        self.link.full(refusal);
        self.pause.get_or_insert(PAUSE_MIN);
    }

    /// Records that the connection was useful (an ack, an entry), so the next pause is the shortest again.
    pub(crate) fn useful(&mut self) {
        self.pause = None;
        self.link.has_room();
    }

    /// Returns the next connection, however long it takes. Calls `welcomed` before the state is updated. An
    /// error [is final](Error::is_final).
    ///
    /// Cancel safe: a cancelled attempt does not count.
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
                Err(error) if error.is_final() => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "no connection");
                    self.link.lost(&error);
                    self.pause.get_or_insert(PAUSE_MIN);
                }
            }
        }
    }
}

/// Returns half of the pause up to all of it, so that the clients of a restarting server do not reconnect at
/// the same moment.
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
