//! What is kept from before goes out before anything else: what other runs left, and what the server had no room for.

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use diary_client::{Error, Refusal};
use tokio::time::Instant;

use super::{Renaming, Talk};
use crate::deliver::deliver_left;
use crate::outbox::count_in;

/// When it is tried again, if not all could be sent and no new connection comes before: a disk is not freed in a
/// second, and a person who frees it does not want to wait.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// What is kept from before is being sent.
type Sending = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

/// How far what is kept from before is out.
#[derive(Default)]
pub(super) struct CatchUp {
    sending: Option<Sending>,
    /// Nothing of it holds up what is typed.
    is_done: bool,
    /// Some of it is left, which was said; it is tried again then.
    again_at: Option<Instant>,
    full: Option<Full>,
}

/// The server has no room: what it refused, and all behind it, waits in its order.
struct Full {
    refusal: Refusal,
    /// Not all that was sent is answered yet.
    is_settling: bool,
    /// The conversation still holds what is to be sent again.
    is_held: bool,
    /// Where it waits.
    files: Vec<PathBuf>,
}

impl CatchUp {
    /// What is typed may be sent.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Why the server takes nothing.
    pub(super) fn full(&self) -> Option<&Refusal> {
        self.full.as_ref().map(|full| &full.refusal)
    }

    /// How many entries wait for room, besides those that the conversation holds.
    pub(super) fn set_aside(&self) -> usize {
        self.full.iter().flat_map(|full| &full.files).map(|file| count_in(file)).sum()
    }

    fn is_settling(&self) -> bool {
        self.full.as_ref().is_some_and(|full| full.is_settling)
    }

    fn is_held(&self) -> bool {
        self.full.as_ref().is_some_and(|full| full.is_held)
    }

    /// Completes when what is being sent is sent, or cannot be.
    ///
    /// Cancellation safe.
    pub(super) async fn sent(&mut self) -> Result<(), Error> {
        let Some(sending) = &mut self.sending else { return std::future::pending().await };
        let sent = sending.await;
        self.sending = None;
        sent
    }

    /// When the rest is to be tried again.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again_at
    }
}

impl Talk<'_> {
    /// Sends what is kept from before, before anything else.
    pub(super) fn catch_up(&mut self) {
        self.catch_up.again_at = None;
        let is_ready = self.is_connected() && !self.catch_up.is_held();
        if !is_ready {
            // A new connection begins it.
            return;
        }
        if self.catch_up.sending.is_none() {
            self.catch_up.is_done = false;
            let (outbox, server) = (self.agenda.outbox().clone(), self.place.config.server.clone());
            let ui = self.place.ui();
            let sending = async move { deliver_left(&outbox, &server, true, &ui).await };
            self.catch_up.sending = Some(Box::pin(sending));
        }
    }

    /// What was kept from before is sent, or cannot be.
    pub(super) fn caught_up(&mut self, sent: Result<(), Error>) {
        let Err(error) = sent else {
            self.catch_up = CatchUp { is_done: true, ..CatchUp::default() };
            return;
        };
        let is_known = self.catch_up.again_at.is_some() || self.catch_up.full.is_some();
        self.try_again();
        match &error {
            Error::Refused(refusal) if refusal.code.is_for_now() => {
                let full =
                    Full { refusal: refusal.clone(), is_settling: false, is_held: false, files: Vec::new() };
                self.catch_up.full.get_or_insert(full);
            }
            _ => self.catch_up.is_done = self.catch_up.full.is_none(),
        }
        if !is_known {
            self.say(format_args!("{error}; what is kept from before goes out another time"));
        }
    }

    /// Tries it again after a while.
    fn try_again(&mut self) {
        self.catch_up.again_at = Some(Instant::now() + TRY_AGAIN_AFTER);
    }

    /// The server had no room for an entry. What is behind it must not overtake it, so nothing more is sent.
    pub(super) fn stop_for_room(&mut self, refusal: Refusal) {
        if self.catch_up.full.is_none() {
            self.say(format_args!(
                "error {refusal}; it and all behind it is kept, and sent once the server takes it"
            ));
        }
        let files = self.catch_up.full.take().map(|full| full.files).unwrap_or_default();
        let full = Some(Full { refusal, is_settling: true, is_held: true, files });
        self.catch_up = CatchUp { full, ..CatchUp::default() };
    }

    /// Once all that was sent is answered, what had no room is left to be caught up with, under its own keys; what
    /// is typed from now on is kept behind it.
    pub(super) fn set_aside(&mut self) {
        if !self.catch_up.is_settling() || !self.open.is_empty() {
            return;
        }
        let first = self.unsent.front().map(|(sent, _)| sent.counter);
        let file = self.agenda.tray().path();
        let aside = self.agenda.set_aside(first, self.renaming.is_some());
        let Some(full) = &mut self.catch_up.full else { return };
        full.is_settling = false;
        match aside {
            Ok(()) => {
                full.files.extend(file);
                self.lost = 0;
                self.unsent.clear();
                self.renaming.get_or_insert(Renaming { name: None, connecting: None });
            }
            Err(why) => self.say(format_args!("{why}; what is typed goes out with the next run")),
        }
    }

    /// The conversation writes with another tray, and nobody holds what was set aside.
    pub(super) fn let_go(&mut self) {
        if let Some(full) = &mut self.catch_up.full {
            full.is_held = false;
            self.try_again();
        }
    }

    /// All was said, and the server has no room for it.
    pub(super) fn is_without_room(&self) -> bool {
        let is_waiting = self.catch_up.full.is_some() && !self.catch_up.is_held();
        let is_busy = self.catch_up.sending.is_some() || self.reading.is_some();
        self.agenda.ended().is_some() && is_waiting && !is_busy
    }
}
