//! What was refused, in the log: messages of peers that are not told so, and connections.

use std::fmt::{Display, Write};
use std::future::pending;

use diary_proto::Refusal;
use diary_proto::escape::escape;
use tokio::time::{Instant, sleep_until};

use crate::limits::{REFUSAL_SHOWN_MAX_BYTES, REFUSALS_PAUSE};

/// Tells the log what was refused. A flood is one line, and then a line with a count each [`REFUSALS_PAUSE`].
#[derive(Debug)]
pub(crate) struct RefusalLog {
    /// A connection's peer, or the address of a listener.
    of: String,
    /// What became of what was refused.
    what: &'static str,
    /// Until when refusals are only counted.
    silent_until: Option<Instant>,
    untold: u64,
}

impl RefusalLog {
    /// For messages of a peer, or of a listener for datagrams.
    pub(crate) fn new(of: String) -> Self {
        Self::telling(of, "not stored")
    }

    /// For the connections of a listener.
    pub(crate) fn of_connections(listener: String) -> Self {
        Self::telling(listener, "turned away")
    }

    fn telling(of: String, what: &'static str) -> Self {
        Self { of, what, silent_until: None, untold: 0 }
    }

    /// `count` of them were refused. `from`: who sent them, if it is not the one whose log this is.
    pub(crate) fn tell(&mut self, from: Option<&dyn Display>, refusal: &Refusal, count: u64) {
        let now = Instant::now();
        if self.silent_until.is_some_and(|until| now < until) {
            self.untold += count;
            return;
        }
        self.tell_untold();
        self.silent_until = Some(now + REFUSALS_PAUSE);
        let peer = from.unwrap_or(&self.of);
        tracing::warn!(%peer, %refusal, count, "{}", self.what);
    }

    pub(crate) fn tell_untold(&mut self) {
        match std::mem::take(&mut self.untold) {
            0 => {}
            count => tracing::warn!(of = self.of, count, "more were {}", self.what),
        }
    }

    /// Waits until [`tell_untold`](Self::tell_untold) is due. Cancel safe.
    pub(crate) async fn due(&self) {
        match self.silent_until {
            Some(until) if self.untold > 0 => sleep_until(until).await,
            _ => pending().await,
        }
    }
}

impl Drop for RefusalLog {
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
    use super::*;
    use diary_proto::Code;

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
