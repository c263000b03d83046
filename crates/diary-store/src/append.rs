//! The one place that writes entries: a batch is one write and one fdatasync.

mod batch;

use std::io;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use diary_proto::entry::NewLine;
use diary_proto::limits::STORED_LINE_MAX_BYTES;
use diary_proto::{Author, Date, DayStart, Key, OwnTime, Relation, Time};

use crate::derive::Derived;
use crate::disk::{DiskFile, How, OpenError};
use crate::format::BATCH_MAX_BYTES;
use crate::format::day_file::{After, Header, name};
use crate::format::head::Head;
use crate::quarantine;
use crate::tables::cache::{self, Snapshot};
use crate::tables::keys::{Judgement, KeyTable};
use crate::view::{Fresh, Shared};
use batch::{Batch, Behind, Clock, clamp};

/// The largest batch that is handed on as it was committed: whoever follows reads a larger one from disk.
const FRESH_MAX_BYTES: usize = 128 * 1024;

/// An entry on its way into the journal.
#[derive(Debug, Clone, Copy)]
pub struct NewEntry<'a> {
    /// Who writes it.
    pub author: &'a Author,
    /// What, already checked: within its limit, without NUL.
    pub text: &'a str,
    /// The writer's name for it, and whether it may have been sent before.
    pub key: Option<(Key, bool)>,
    /// When it was, if that is not now.
    pub at: Option<Time>,
    /// What it is to an earlier entry, which is there.
    pub relation: Option<Relation>,
}

/// What became of an entry that was to join the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staged {
    /// It is in the batch and gets this seq.
    New(u64),
    /// The journal or the batch has an entry with this key. Whether its text is the same is not looked at: that
    /// would take a read of the disk for each key.
    Known {
        /// The entry's seq; past the head if it is in the batch.
        seq: u64,
    },
    /// Whether its key was written can no longer be told, or not yet: the keys are not loaded.
    Stale,
    /// The batch is full: commit it, then stage this one again.
    Full,
}

/// What a commit made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The first seq of the batch.
    pub first_seq: u64,
    /// How many entries; 0 if nothing new was staged.
    pub count: u64,
    /// When, by the clock. Where that is behind the journal, the lines' time is a later one.
    pub time: Time,
}

/// Why a batch was not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// There is no room, or no descriptor for a new file. Nothing of the batch is stored, and later ones may be.
    #[error("the disk is full: {0}")]
    Full(io::Error),
    /// The disk failed. Whether the batch is stored cannot be known before a restart; this appender
    /// writes nothing more.
    #[error("the disk failed: {0}")]
    Failed(io::Error),
}

/// Writes the journal. There is one per journal, and it holds the folder's lock.
pub struct Appender {
    shared: Arc<Shared>,
    file: Option<Box<dyn DiskFile>>,
    head: Head,
    /// The head before the last batch.
    before: Head,
    /// The newest file does not end in a line feed: damage stands before what is appended.
    line_feed_first: bool,
    /// Not loaded yet.
    keys: Option<KeyTable>,
    /// Bytes of entries since the cache was last written.
    uncached_bytes: u64,
    /// How many bytes the last cache has.
    cached_bytes: u64,
    batch: Batch,
    /// Nothing was committed since it was opened, with its head written down.
    unchanged: bool,
    failed: bool,
    day_start: DayStart,
    /// The log says that the clock is so far behind the journal.
    clock_told: Behind,
    _lock: Box<dyn Send + Sync>,
}

impl Appender {
    pub(crate) fn new(
        shared: Arc<Shared>,
        file: Option<Box<dyn DiskFile>>,
        line_feed_first: bool,
        head_is_noted: bool,
        lock: Box<dyn Send + Sync>,
    ) -> Self {
        let head = shared.view().head;
        let batch = Batch::default();
        Self {
            shared,
            file,
            head,
            before: head,
            line_feed_first,
            keys: None,
            uncached_bytes: 0,
            cached_bytes: 0,
            batch,
            unchanged: head_is_noted,
            failed: false,
            day_start: DayStart::default(),
            clock_told: Behind::default(),
            _lock: lock,
        }
    }

    /// Gives back the room of the last batch: nothing comes for a while.
    pub fn rest(&mut self) {
        if self.batch.count == 0 {
            self.batch = Batch::default();
        }
    }

    /// Lets days begin at another time than midnight. Those that have begun keep their files and entries.
    pub fn start_days_at(&mut self, day_start: DayStart) {
        self.day_start = day_start;
    }

    /// Puts an entry into the batch. `now` counts for the first of a batch.
    pub fn stage(&mut self, now: Time, entry: NewEntry<'_>) -> Staged {
        let clock = *self.batch.clock.get_or_insert_with(|| clamp(now, self.head.time));
        if self.clock_told < clock.behind {
            self.clock_told = clock.behind;
            tell_clock(now, &clock);
        }
        if let Some(staged) = entry.key.and_then(|(key, retry)| self.judge(key, retry)) {
            return staged;
        }
        if self.batch.count == 0 {
            // What the last batch left there.
            self.batch.bytes.clear();
        }
        let seq = self.head.seq + 1 + u64::from(self.batch.count);
        let before = self.batch.bytes.len();
        if before == 0 {
            self.begin_file(clock);
        }
        let own = entry.at.or(clock.own).map(|at| OwnTime::new(at, self.day_start));
        let line = NewLine {
            seq,
            time: &clock.written,
            own,
            day: self.batch.day,
            relation: entry.relation,
            author: entry.author,
            text: entry.text,
            index: self.batch.count,
            key: entry.key.map(|(key, _)| key),
        };
        let crc = line.write(&mut self.batch.bytes, self.shared.seal);
        if self.batch.bytes.len() > BATCH_MAX_BYTES && self.batch.count > 0 {
            self.batch.bytes.truncate(before);
            return Staged::Full;
        }
        self.batch.count += 1;
        self.batch.last_crc = crc;
        let day = own.map(|own| own.day).or(self.batch.elsewhere);
        self.batch.own_days.extend(day.map(|day| (seq, day)));
        self.batch.related.extend(entry.relation.map(|relation| (seq, relation)));
        if let (Some((key, _)), Some(keys)) = (entry.key, &mut self.keys) {
            keys.insert(key, seq);
            if self.batch.producers.last() != Some(&key.producer) {
                self.batch.producers.push(key.producer);
            }
        }
        Staged::New(seq)
    }

    /// What becomes of an entry with this key without being written; `None` if it is a new one.
    pub fn judge(&self, key: Key, retry: bool) -> Option<Staged> {
        let Some(keys) = &self.keys else { return Some(Staged::Stale) };
        match keys.judge(key, retry) {
            Judgement::New => None,
            Judgement::Known(seq) => Some(Staged::Known { seq }),
            Judgement::Stale => Some(Staged::Stale),
        }
    }

    /// Writes and syncs the batch; only then is any of it in the journal. An empty batch costs nothing.
    ///
    /// # Errors
    /// [`CommitError`]. The batch is given up in any case.
    pub fn commit(&mut self, now: Time) -> Result<Committed, CommitError> {
        let mut batch = mem::take(&mut self.batch);
        let clock = batch.clock.unwrap_or_else(|| clamp(now, self.head.time));
        let committed =
            Committed { first_seq: self.head.seq + 1, count: u64::from(batch.count), time: clock.told() };
        let result = match (batch.count, self.failed) {
            (_, true) => Err(failed("it failed before")),
            (0, _) => Ok(()),
            _ => {
                self.unchanged = false;
                self.write(&batch, clock.time)
            }
        };
        if let Err(error) = &result {
            self.failed |= matches!(error, CommitError::Failed(_));
            batch.bytes.clear();
            if let Some(keys) = &mut self.keys {
                batch.producers.iter().for_each(|&producer| keys.take_back(producer, committed.first_seq));
            }
        }
        self.batch = batch.emptied();
        result.map(|()| committed)
    }

    /// Whether an entry of any length could be written now. What it tries is seen in no file.
    ///
    /// # Errors
    /// [`CommitError`]. Unlike a commit that failed, this is no reason to stop: no entry is in doubt.
    pub fn try_room(&self) -> Result<(), CommitError> {
        if self.failed {
            return Err(failed("it failed before"));
        }
        let tried = self.shared.disk.try_room(&self.shared.dir, STORED_LINE_MAX_BYTES);
        tried.map_err(|error| give_up(error, || Ok(())))
    }

    /// Knows what is derived from here on. No append with a key has been taken before.
    pub fn set_derived(&mut self, derived: Derived) {
        self.keys = Some(derived.keys);
        self.uncached_bytes += derived.uncached_bytes;
        self.cached_bytes = derived.cached_bytes;
        if let Some((own_days, related)) = derived.seen {
            self.shared.publish_derived(own_days, related, derived.seq);
        }
    }

    /// The batch that was committed last, until another entry is staged; not if it was a large one.
    pub fn fresh(&self) -> Option<Fresh> {
        let lines = &self.batch.bytes;
        let fits = (1..=FRESH_MAX_BYTES).contains(&lines.len()) && self.batch.count == 0;
        fits.then(|| Fresh { before: self.before, after: self.head, lines: Bytes::copy_from_slice(lines) })
    }

    /// What to write as the cache, when it is time to.
    pub fn snapshot(&mut self) -> Option<Snapshot> {
        if self.uncached_bytes < cache::EVERY_BYTES.max(self.cached_bytes) {
            return None;
        }
        self.snapshot_now()
    }

    fn snapshot_now(&mut self) -> Option<Snapshot> {
        // Where keys could not be read, the next start must try again.
        let keys = self.keys.as_ref().filter(|keys| !keys.is_unknown())?;
        self.uncached_bytes = 0;
        let Shared { disk, dir, id, .. } = &*self.shared;
        let own_days = self.shared.view().own_days;
        let related = &self.shared.related();
        let snapshot = Snapshot::new(Arc::clone(disk), dir.clone(), *id, self.head, own_days, keys, related);
        self.cached_bytes = snapshot.bytes();
        Some(snapshot)
    }

    /// Writes the cache, and then the head, as evidence for the next start. A clean stop ends with this.
    ///
    /// # Errors
    /// Those of writing a file. The journal is none the worse for it.
    pub fn stop(mut self) -> io::Result<()> {
        if self.failed || (self.unchanged && self.uncached_bytes == 0) {
            return Ok(());
        }
        let cached = self.snapshot_now().map_or(Ok(()), Snapshot::write);
        self.shared.write_head(&self.head).and(cached)
    }

    /// Stops, and does something else before the folder's lock is given back.
    ///
    /// # Errors
    /// Those of what is done.
    pub(crate) fn stop_but_hold<T>(
        mut self,
        then: impl FnOnce() -> Result<T, OpenError>,
    ) -> Result<T, OpenError> {
        if let Some(Err(error)) = self.snapshot_now().map(Snapshot::write) {
            tracing::warn!(%error, "the cache could not be written; the next start reads more day files");
        }
        then()
    }

    /// What stands in a batch before its first line: the header of a new day's file, or a line feed
    /// that keeps damage apart.
    fn begin_file(&mut self, clock: Clock) {
        let (day, date) = (self.day_start.day_of(clock.time), self.date_for(clock.time));
        self.batch.day = (day != clock.time.date()).then_some(day);
        self.batch.elsewhere = (day != date).then_some(day);
        if self.head.file == Some(date) {
            if self.line_feed_first {
                self.batch.bytes.push(b'\n');
            }
            return;
        }
        let after = self.head.file.map(|date| After { date, seq: self.head.seq, crc: self.head.crc });
        let header = Header { date, id: self.shared.id, first: self.head.seq + 1, after };
        header.write(&mut self.batch.bytes);
    }

    /// The date of a batch's file; it never goes back, whatever the clock or the zone do. The day of the entries may.
    fn date_for(&self, time: Time) -> Date {
        let date = self.day_start.day_of(time);
        self.head.file.map_or(date, |newest| newest.max(date))
    }

    fn write(&mut self, batch: &Batch, time: Time) -> Result<(), CommitError> {
        let date = self.date_for(time);
        let end = if self.head.file == Some(date) {
            let end = self.head.end;
            let file = self.file.as_deref().ok_or_else(|| failed("the day file is not open"))?;
            if file.size().map_err(CommitError::Failed)? != end {
                return Err(self.changed(date));
            }
            if let Err(error) = file.write_all_at(&batch.bytes, end) {
                return Err(give_up(error, || cut_back(file, end)));
            }
            file.sync_data().map_err(CommitError::Failed)?;
            // An ack means the file that people will look into: an editor may have put another in its place.
            if !file.is_at(&self.shared.dir.join(name(date))).map_err(CommitError::Failed)? {
                return Err(self.changed(date));
            }
            end
        } else {
            self.file = Some(self.write_new_file(date, &batch.bytes)?);
            0
        };
        self.line_feed_first = false;
        self.before = self.head;
        self.uncached_bytes += batch.bytes.len() as u64;
        self.head = Head {
            seq: self.head.seq + u64::from(batch.count),
            time: Some(time),
            crc: batch.last_crc,
            file: Some(date),
            end: end + batch.bytes.len() as u64,
        };
        // Required before anybody hears of the batch: the sync above has returned.
        self.shared.publish(self.head, &batch.own_days, &batch.related);
        Ok(())
    }

    /// Somebody else has been at the day file. What is committed is written down, so that the next start
    /// takes the loss of it for what it is.
    fn changed(&self, date: Date) -> CommitError {
        if let Err(error) = self.shared.write_head(&self.head) {
            tracing::error!(%error, "the head could not be written down");
        }
        let name = name(date);
        CommitError::Failed(io::Error::other(format!(
            "{name} was changed, moved or replaced while the server had it open; put it back as it was, or \
             start again: entries up to {} were committed, and what is missing of them will be told",
            self.head.seq
        )))
    }

    fn write_new_file(&self, date: Date, bytes: &[u8]) -> Result<Box<dyn DiskFile>, CommitError> {
        let disk = &*self.shared.disk;
        let path = self.shared.dir.join(name(date));
        let remove = || disk.remove(&path).and_then(|()| disk.sync_dir(&self.shared.dir));
        let file = match disk.open(&path, How::CreateNew) {
            // The journal has no file of that day.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                quarantine::move_stray(disk, &self.shared.dir, date)
                    .map_err(io::Error::from)
                    .and_then(|()| disk.open(&path, How::CreateNew))
            }
            opened => opened,
        };
        let file = file.map_err(|error| give_up(error, || Ok(())))?;
        if let Err(error) = file.write_all_at(bytes, 0) {
            return Err(give_up(error, remove));
        }
        file.sync_data().map_err(CommitError::Failed)?;
        disk.sync_dir(&self.shared.dir).map_err(CommitError::Failed)?;
        Ok(file)
    }
}

fn tell_clock(now: Time, clock: &Clock) {
    let way_out = match clock.behind {
        Behind::Far => {
            "; if the clock is right now, stop the server and run `diary-server archive`: it puts all entries so far \
             into an archive, which is not shown, and what follows has the right time again"
        }
        Behind::Little | Behind::Much => "",
    };
    tracing::warn!(
        "the clock says {now}, and the newest entry is of {}: entries get that time, and their own beside it{way_out}",
        clock.time
    );
}

/// A full disk is not a failed one, as long as the file can be brought back to what it was; that must
/// be durable before anybody is told that nothing was stored.
fn give_up(error: io::Error, undo: impl FnOnce() -> io::Result<()>) -> CommitError {
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    if !is_full && !is_out_of_descriptors(&error) {
        return CommitError::Failed(error);
    }
    match undo() {
        Ok(()) => CommitError::Full(error),
        Err(error) => CommitError::Failed(error),
    }
}

/// Whether a file could not be opened because this process or the system has too many of them. No other call fails so.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    let out = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE].map(rustix::io::Errno::raw_os_error);
    error.raw_os_error().is_some_and(|number| out.contains(&number))
}

fn cut_back(file: &dyn DiskFile, end: u64) -> io::Result<()> {
    file.set_len(end)?;
    file.sync_data()
}

fn failed(what: &'static str) -> CommitError {
    CommitError::Failed(io::Error::other(what))
}

#[cfg(test)]
mod tests;
