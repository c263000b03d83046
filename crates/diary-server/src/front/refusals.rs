//! What was refused, in the log: messages of peers that are not told so, and connections.

use std::collections::HashMap;
use std::fmt::{Display, Write};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diary_proto::escape::escape;
use diary_proto::{Code, Refusal};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::guard::AUDIT;
use crate::limits::{REFUSAL_SHOWN_MAX_BYTES, REFUSALS_PAUSE, REFUSALS_TOLD_MAX};
use crate::peer::network_of;

/// Tells the log what a listener refused. Each address is named once in a [`REFUSALS_PAUSE`]; the rest of a flood is a line
/// with a count. Clones are handles of the same log.
#[derive(Debug, Clone)]
pub(crate) struct RefusalLog(Arc<Log>);

#[derive(Debug)]
struct Log {
    listener: String,
    /// What became of what was refused.
    what: &'static str,
    state: Mutex<State>,
    /// Something is untold.
    counted: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Until when what an address sends is only counted. A Unix socket has none.
    told: HashMap<Option<IpAddr>, Instant>,
    untold: u64,
    /// When that is to be told.
    due: Option<Instant>,
}

impl RefusalLog {
    /// For messages that are not stored.
    pub(crate) fn new(listener: String) -> Self {
        Self::telling(listener, "not stored")
    }

    /// For connections.
    pub(crate) fn of_connections(listener: String) -> Self {
        Self::telling(listener, "turned away")
    }

    fn telling(listener: String, what: &'static str) -> Self {
        Self(Arc::new(Log { listener, what, state: Mutex::default(), counted: Notify::new() }))
    }

    /// `count` of them were refused, which came from `peer` at this address.
    pub(crate) fn tell(&self, ip: Option<IpAddr>, peer: &dyn Display, refusal: &Refusal, count: u64) {
        let (mut state, now) = (self.0.state(), Instant::now());
        state.told.retain(|_, until| now < *until);
        let ip = ip.map(network_of);
        if state.told.contains_key(&ip) || state.told.len() >= REFUSALS_TOLD_MAX {
            state.untold += count;
            state.due.get_or_insert(now + REFUSALS_PAUSE);
            return self.0.counted.notify_one();
        }
        state.told.insert(ip, now + REFUSALS_PAUSE);
        if refusal.code == Code::NotPermitted {
            tracing::warn!(target: AUDIT, %peer, %refusal, count, "{}", self.0.what);
        } else {
            tracing::warn!(%peer, %refusal, count, "{}", self.0.what);
        }
    }

    /// Waits until something is to be told that was only counted, and tells it. Cancel safe.
    pub(crate) async fn tell_counted(&self) {
        let due = loop {
            let due = self.0.state().due;
            match due {
                Some(due) => break due,
                None => self.0.counted.notified().await,
            }
        };
        sleep_until(due).await;
        self.0.tell_untold();
    }
}

impl Log {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_untold(&self) {
        let mut state = self.state();
        state.due = None;
        match std::mem::take(&mut state.untold) {
            0 => {}
            count => tracing::warn!(of = self.listener, count, "more were {}", self.what),
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.tell_untold();
    }
}

/// `refusal`, and how the text begins that it is about. Safe for a terminal.
pub(crate) fn quoting(refusal: &Refusal, text: &[u8]) -> Refusal {
    let shown = &text[..text.len().min(REFUSAL_SHOWN_MAX_BYTES)];
    let more = if shown.len() < text.len() { "…" } else { "" };
    Refusal::new(refusal.code, format!("{}: \"{}{more}\"", refusal.message, escaped(shown)))
}

/// Escaped as a text is, and what is not UTF-8 in hex.
fn escaped(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        out.push_str(&escape(chunk.valid()));
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::Ipv4Addr;

    use super::*;
    use diary_proto::Code;
    use tokio::time::sleep;
    use tracing::subscriber::DefaultGuard;

    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<u8>>>);

    impl Told {
        /// Takes what is logged on this thread, until the guard is dropped.
        fn new() -> (Self, DefaultGuard) {
            let log = Self::default();
            let to = log.clone();
            let subscriber =
                tracing_subscriber::fmt().with_writer(move || to.clone()).with_ansi(false).finish();
            (log, tracing::subscriber::set_default(subscriber))
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a peer sends on for days is no reason not to tell of what was refused before.
    #[tokio::test(start_paused = true)]
    async fn each_address_is_named_and_a_flood_is_counted() {
        let (told, _guard) = Told::new();
        let log = RefusalLog::new("quiet:listener".to_owned());
        let telling = log.clone();
        let telling = tokio::spawn(async move {
            loop {
                telling.tell_counted().await;
            }
        });
        let refusal = Refusal::new(Code::Nul, "no");
        let tell = |ip: Option<u32>, count| {
            let peer = ip.map_or("unix".to_owned(), |ip| format!("peer {ip}"));
            log.tell(ip.map(|ip| Ipv4Addr::from_bits(ip).into()), &peer, &refusal, count);
        };
        (0..5).for_each(|_| tell(Some(1), 1));
        tell(None, 3);
        (2..1000).for_each(|ip| tell(Some(ip), 1));
        assert_eq!(told.text().lines().count(), REFUSALS_TOLD_MAX, "{}", told.text());
        assert!(told.text().contains("unix") && told.text().contains("count=3"), "{}", told.text());
        sleep(REFUSALS_PAUSE * 2).await;
        let text = told.text();
        let more = text.lines().nth(REFUSALS_TOLD_MAX).unwrap();
        let counted = 4 + 998 - (REFUSALS_TOLD_MAX - 2);
        assert!(more.contains("quiet:listener") && more.ends_with(&format!("count={counted}")), "{more}");
        // And what is left in the end.
        (0..3).for_each(|_| tell(Some(1), 1));
        telling.abort();
        let _ = telling.await;
        drop(log);
        assert!(told.text().ends_with("count=2\n"), "{}", told.text());
    }

    #[test]
    fn a_text_is_quoted_safely_and_in_brief() {
        let quoted = |text: &[u8]| quoting(&Refusal::new(Code::Nul, "no"), text).message.into_owned();
        assert_eq!(quoted(b"a\0\x1b[31m\xe4b\n\\"), r#"no: "a\x00\x1b[31m\xe4b\n\\""#);
        assert_eq!(quoted("今天".as_bytes()), r#"no: "今天""#);
        let long = "x".repeat(REFUSAL_SHOWN_MAX_BYTES);
        assert_eq!(quoted(long.as_bytes()), format!("no: \"{long}\""));
        assert_eq!(quoted(format!("{long}y").as_bytes()), format!("no: \"{long}…\""));
    }
}
