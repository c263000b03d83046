//! Signals that ask the program to end.

use std::future::poll_fn;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signal handlers, active as long as this lives.
pub(crate) struct Signals(Vec<Signal>);

impl Signals {
    /// Handles the signals that end a conversation: SIGINT, SIGTERM, and SIGHUP when the terminal is closed. Needs
    /// a Tokio runtime.
    pub(crate) fn at_a_terminal() -> Self {
        Self::of(&[SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()])
    }

    /// Handles these signals. One without a handler ends the program, as it does by default.
    pub(crate) fn of(kinds: &[SignalKind]) -> Self {
        Self(kinds.iter().filter_map(|kind| signal(*kind).ok()).collect())
    }

    /// Waits for any of them.
    ///
    /// Cancel safe.
    pub(crate) async fn any(&mut self) {
        poll_fn(|context| {
            let came = self.0.iter_mut().any(|signal| signal.poll_recv(context) == Poll::Ready(Some(())));
            if came { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
