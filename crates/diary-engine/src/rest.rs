//! A writer that has nothing to do needs no thread: it rests here, and the next message gives it one.

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use diary_store::Derived;
use tokio::sync::mpsc;

use crate::shared::Command;
use crate::writer::Writer;

/// Where a writer rests.
pub(crate) struct Rest(Mutex<State>);

enum State {
    /// A thread runs the writer, or did until it ended.
    Away,
    Resting(Box<Writer>),
    /// A thread is about to fetch it.
    Called(Box<Writer>),
}

impl Rest {
    /// A place for a writer that runs.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Away)))
    }

    /// Runs the writer on a thread if it rests. To be called after each message to it.
    pub(crate) fn wake(self: &Arc<Self>) {
        let Some(writer) = self.borrow() else { return };
        let mut state = self.lock();
        *state = State::Called(writer);
        let rest = Arc::clone(self);
        let run = move || {
            if let Some(writer) = rest.fetch() {
                writer.run(&rest);
            }
        };
        if let Err(error) = thread::Builder::new().name("writer".to_owned()).spawn(run)
            && let State::Called(mut writer) = mem::replace(&mut *state, State::Away)
        {
            tracing::error!(%error, "there is no thread for a writer; what it was to write is refused");
            match writer.refuse_waiting() {
                None => *state = State::Resting(writer),
                Some(stopped) => {
                    writer.end();
                    let _ = stopped.send(());
                }
            }
        }
    }

    /// Leaves a writer here that has nothing to do. Gives it back if that is not so.
    pub(crate) fn put(&self, mut writer: Box<Writer>) -> Result<(), Box<Writer>> {
        // Locked first: a message that comes behind this look finds the writer here.
        let mut state = self.lock();
        if writer.has_work() {
            return Err(writer);
        }
        writer.settle_down();
        *state = State::Resting(writer);
        Ok(())
    }

    /// Gives the derived state to the writer, which needs no thread of its own for that. Not while it is locked: it takes
    /// as long as there are entries with own times, and sessions wake the writer meanwhile.
    pub(crate) fn know(self: &Arc<Self>, derived: Derived, queue: &mpsc::UnboundedSender<Command>) {
        let Some(mut writer) = self.borrow() else {
            // An error means that the writer has stopped already.
            let _ = queue.send(Command::Derived(derived));
            return;
        };
        writer.know_derived(derived);
        let mut state = self.lock();
        let has_work = writer.has_work();
        *state = State::Resting(writer);
        drop(state);
        if has_work {
            self.wake();
        }
    }

    /// The writer, if it rests. Nobody wakes it until it is back.
    fn borrow(&self) -> Option<Box<Writer>> {
        let mut state = self.lock();
        if !matches!(*state, State::Resting(_)) {
            return None;
        }
        match mem::replace(&mut *state, State::Away) {
            State::Resting(writer) => Some(writer),
            State::Away | State::Called(_) => None,
        }
    }

    fn fetch(&self) -> Option<Box<Writer>> {
        match mem::replace(&mut *self.lock(), State::Away) {
            State::Called(writer) => Some(writer),
            State::Away | State::Resting(_) => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resting = matches!(*self.lock(), State::Resting(_));
        f.debug_struct("Rest").field("resting", &resting).finish()
    }
}
