//! What the connections of a client have seen of its journal.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diary_proto::Seal;
use diary_proto::message::{Resume, Welcome};

use crate::error::Error;

/// The journal that a client met and the newest entry it saw there, shared by its connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    met: Arc<Mutex<Met>>,
    /// Value of [`Met::restored`] when this connection was made.
    restored: u32,
}

#[derive(Debug, Default)]
struct Met {
    /// Place sent in the next Hello; `None` until a welcome names the journal.
    place: Option<Resume>,
    welcome: Welcome,
    /// Number of times the journal was found restored from an older copy.
    restored: u32,
}

/// State known when a connection attempt began.
pub(crate) struct Before {
    head: u64,
    restored: u32,
}

impl Seen {
    /// Has seen no entry of `journal`, if that is known.
    #[cfg(test)]
    pub(crate) fn of(journal: Option<u64>) -> Self {
        Self::at(journal.map(|id| Resume { id, seq: 0, crc: 0 }))
    }

    /// Has seen everything up to `place`, if given.
    pub(crate) fn at(place: Option<Resume>) -> Self {
        let seen = Self::default();
        seen.lock().place = place;
        seen
    }

    /// Returns the place to name in the next Hello.
    pub(crate) fn place(&self) -> Option<Resume> {
        self.lock().place
    }

    /// Returns the seal of the journal's lines; `None` until a welcome names the journal.
    pub(crate) fn seal(&self) -> Option<Seal> {
        self.lock().place.map(|seen| Seal::of_journal(seen.id))
    }

    /// Returns the latest welcome; empty before the first one.
    pub(crate) fn welcome(&self) -> Welcome {
        self.lock().welcome.clone()
    }

    /// Returns a handle for a connection made now.
    pub(crate) fn now(&self) -> Self {
        Self { met: Arc::clone(&self.met), restored: self.lock().restored }
    }

    /// Returns whether the journal was restored between the two connections.
    pub(crate) fn is_before(&self, later: &Self) -> bool {
        self.restored != later.restored
    }

    /// Records a welcome. `before` was known when its connection was begun, so a lower head means that the
    /// journal was restored from an older copy.
    pub(crate) fn meet(&self, welcome: &Welcome, before: &Before) -> Result<(), Error> {
        let mut met = self.lock();
        let known = met.place.get_or_insert(Resume { id: welcome.journal_id, seq: 0, crc: 0 }).id;
        if known != welcome.journal_id {
            return Err(Error::OtherJournal(format!(
                "its id is {:016x}, not {known:016x}",
                welcome.journal_id
            )));
        }
        if welcome.head < before.head && met.restored == before.restored {
            met.restored += 1;
        }
        met.welcome = welcome.clone();
        Ok(())
    }

    /// Returns what is known now, when a connection is begun.
    pub(crate) fn before(&self) -> Before {
        let met = self.lock();
        Before { head: met.welcome.head, restored: met.restored }
    }

    /// Records that a valid line was read.
    pub(crate) fn saw(&self, seq: u64, crc: u32) {
        let mut met = self.lock();
        // Entries that an older connection still delivers are not in the restored journal.
        let is_now = self.restored == met.restored;
        if let Some(seen) = met.place.as_mut().filter(|seen| is_now && seen.seq < seq) {
            (seen.seq, seen.crc) = (seq, crc);
        }
    }

    /// Records that the journal lacks the entry at `place`.
    pub(crate) fn forget(&self, place: Option<Resume>) {
        let mut met = self.lock();
        // Another connection may have been told already.
        if met.place == place
            && let Some(seen) = &mut met.place
        {
            (seen.seq, seen.crc) = (0, 0);
            met.welcome.head = 0;
            met.restored += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Met> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
