//! How long a server that is away is waited for, and what is said meanwhile.

use std::time::Duration;

use diary_client::{Client, Error, State};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::term::ui::Ui;

/// How long attempts to reconnect may fail when nothing is left to do but wait for acks: a server that is
/// restarted is back by then.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// The same while input waits that has no room: more of it may come, so it is worth more patience.
const GIVE_UP_FULL_AFTER: Duration = Duration::from_secs(30);

/// How long a server that is there may answer nothing before a person is told. Most acks take milliseconds.
pub(crate) const TELL_SILENCE_AFTER: Duration = Duration::from_secs(2);

/// How often to look while a connection is lost.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What a lost connection holds up.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HeldUp {
    /// Nothing that could not wait: more input is to come, and there is room for it.
    Nothing,
    /// Input, which has no room.
    Input,
    /// The end: all input was taken at this moment, and only answers are missing.
    End(Instant),
}

/// Watches the client's connections.
pub(crate) struct Patience {
    state: watch::Receiver<State>,
    /// It was said that a connection is lost, and not yet that it is back.
    said_lost: bool,
    /// A connection that was lost is back, and nobody has asked yet.
    is_back: bool,
    /// Since when connections are lost without an ack in between, however often they came back.
    trouble: Option<Instant>,
    ui: Ui,
}

impl Patience {
    pub(crate) fn new(client: &Client) -> Self {
        Self::of(client.state())
    }

    pub(crate) fn of(state: watch::Receiver<State>) -> Self {
        Self { state, said_lost: false, is_back: false, trouble: None, ui: Ui::default() }
    }

    /// The same, which speaks there.
    pub(crate) fn with(self, ui: Ui) -> Self {
        Self { ui, ..self }
    }

    /// The person has been told already that there is no connection.
    pub(crate) fn told_lost(&mut self) {
        self.said_lost = true;
    }

    /// An ack or an entry came.
    pub(crate) fn progress(&mut self) {
        self.trouble = None;
    }

    /// Whether a connection that was lost is back since this was last asked.
    pub(crate) fn is_back(&mut self) -> bool {
        std::mem::take(&mut self.is_back)
    }

    /// Waits until [`look`](Self::look) may find something new.
    ///
    /// Cancellation safe.
    pub(crate) async fn wait(&mut self) {
        let changed = match self.said_lost {
            true => timeout(LOOK_EVERY, self.state.changed()).await.unwrap_or(Ok(())),
            false => self.state.changed().await,
        };
        if changed.is_err() {
            // The client has ended; whoever waits for its answers learns why.
            std::future::pending::<()>().await;
        }
    }

    /// [`look`](Self::look) will say something.
    pub(crate) fn has_news(&self) -> bool {
        self.said_lost != self.state.borrow().error().is_some()
    }

    /// Says what changed. If reconnecting has failed for too long, gives the reason.
    pub(crate) fn look(&mut self, held_up: HeldUp) -> Option<Error> {
        let error = self.state.borrow_and_update().error().cloned();
        if self.said_lost != error.is_some() {
            self.said_lost = error.is_some();
            self.is_back = !self.said_lost;
            match &error {
                Some(error) => self.ui.say(format_args!("{error}; trying to connect again")),
                None => self.ui.say(format_args!("connected again")),
            }
        }
        let error = error?;
        let trouble = *self.trouble.get_or_insert_with(Instant::now);
        let hopeless = match held_up {
            HeldUp::Nothing => false,
            HeldUp::Input => trouble.elapsed() >= GIVE_UP_FULL_AFTER,
            HeldUp::End(since) => trouble.max(since).elapsed() >= GIVE_UP_AFTER,
        };
        hopeless.then_some(error)
    }
}

/// Watches whether a server that is there answers what it was sent.
#[derive(Default)]
pub(crate) struct Silence {
    /// Since when something waits without any answer.
    since: Option<Instant>,
    is_told: bool,
}

impl Silence {
    /// Whether something waits for an answer. To be called whenever that may have changed.
    pub(crate) fn watch(&mut self, is_waiting: bool) {
        match is_waiting {
            true => _ = self.since.get_or_insert_with(Instant::now),
            false => *self = Self::default(),
        }
    }

    /// An answer came. Whether the person had been told that none does.
    pub(crate) fn answered(&mut self) -> bool {
        std::mem::take(self).is_told
    }

    /// When the person is to be told, unless they were.
    pub(crate) fn tell_at(&self) -> Option<Instant> {
        self.since.filter(|_| !self.is_told).map(|since| since + TELL_SILENCE_AFTER)
    }

    pub(crate) fn told(&mut self) {
        self.is_told = true;
    }

    pub(crate) fn is_told(&self) -> bool {
        self.is_told
    }
}

/// Waits for a moment, if there is one.
///
/// Cancellation safe.
pub(crate) async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
