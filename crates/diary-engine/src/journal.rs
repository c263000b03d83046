//! The handle to a journal.

use std::sync::Arc;

use bytes::Bytes;
use diary_proto::block::Gap;
use diary_proto::{Date, DayStart, JournalName, Refusal, Scope, Seal, Time, Which};
use diary_store::Reader;
use jiff::tz::TimeZone;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use crate::appends::Appends;
use crate::auditor::Auditor;
use crate::common::Common;
use crate::earlier::{Found, look_up, meant};
use crate::limits::{AUDIT_STOP_MAX, LOOK_UPS_MAX, SHOWN_WAIT_MAX};
use crate::needle::Needle;
use crate::outcome::Receipt;
use crate::reading::{Cursor, Page, ReadError, Reading};
use crate::recent::Recently;
use crate::search::{scan, scan_back, seek};
use crate::shared::{Command, Progress, Shared};
use crate::shown::{self, Marks, first_of_newest};
use crate::turns::Searcher;
use crate::work::disk_failed;

/// What does not change while a journal is open.
#[derive(Debug)]
pub struct About {
    /// The journal's name.
    pub name: JournalName,
    /// Its random id.
    pub id: u64,
    /// The server's time zone.
    pub zone: TimeZone,
    /// The zone's name, for people.
    pub zone_name: String,
    /// When its days begin.
    pub day_start: DayStart,
}

/// A handle to a journal. Cheap to clone. The writer ends with [`stop`](Self::stop), or when all handles are dropped.
#[derive(Debug, Clone)]
pub struct Journal {
    shared: Shared,
    reader: Reader,
    common: Common,
    about: Arc<About>,
    auditor: Auditor,
}

impl Journal {
    pub(crate) fn new(shared: Shared, reader: Reader, about: About, common: &Common) -> Self {
        Self {
            shared,
            auditor: Auditor::new(reader.clone(), Arc::clone(&common.audits)),
            reader,
            common: common.clone(),
            about: Arc::new(about),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    #[cfg(test)]
    pub(crate) fn common(&self) -> &Common {
        &self.common
    }

    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// What does not change while the journal is open.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// What its lines are sealed with.
    pub fn seal(&self) -> Seal {
        self.reader.seal()
    }

    /// The newest committed seq.
    pub fn head(&self) -> u64 {
        self.shared.progress.borrow().head
    }

    /// The current day.
    pub fn today(&self) -> Date {
        self.about.day_start.day_of(Time::now(&self.about.zone))
    }

    /// Watches the head.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.shared.progress.clone()
    }

    /// Whether the writer has the derived state: keys can be judged.
    pub fn knows_derived(&self) -> bool {
        self.shared.progress.borrow().derived
    }

    /// Completes when [`knows_derived`](Self::knows_derived), or it never will. Cancel safe.
    pub async fn derived_known(&self) {
        // An error means that the writer is gone. The next append is answered accordingly.
        let _ = self.watch().wait_for(|progress| progress.derived).await;
    }

    /// Completes when readers see the derived state: the days of own times, and what entries are to earlier ones. Cancel
    /// safe.
    pub async fn derived_seen(&self) {
        // There always is a sender: this handle has one.
        let _ = self.shared.seen.subscribe().wait_for(|seen| *seen).await;
    }

    /// Hands appends to the writer, which owns them from here on and commits them even if nobody waits for the outcome.
    /// `permit` is their share of the caller's budget. It is held as long as they are in memory.
    pub fn append(&self, mut appends: Appends, permit: OwnedSemaphorePermit) -> Receipt {
        appends.shrink();
        let (reply, outcome) = oneshot::channel();
        let receipt = Receipt::new(outcome, appends.count_u32());
        self.shared.send(Command::Append(appends, permit, reply));
        receipt
    }

    /// Whether an append would be taken now: the refusal that it would get, if not. The writer tries it, after everything
    /// that was handed to it before; those who ask meanwhile share one trial. Cancel safe.
    pub fn check(&self) -> impl Future<Output = Result<(), Refusal>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        self.shared.send(Command::Check(reply));
        // An error means that the disk has failed meanwhile, or the writer has panicked.
        async { answer.await.unwrap_or_else(|_| Err(disk_failed())) }
    }

    /// Stops the writer, after everything that was handed to it is committed and answered. Dropping the future does not
    /// cancel the stop, only the wait.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        let stopping = self.shared.send(Command::Stop(done));
        // Meanwhile: the process may end with the stop.
        let _ = tokio::time::timeout(AUDIT_STOP_MAX, self.auditor.flush()).await;
        if stopping {
            // An error means that it has stopped already.
            let _ = stopped.await;
        }
    }

    /// Finds entries. A range of days waits until the derived state is loaded. So does one as people see it, but not for
    /// long: it then comes as it is [stored](Cursor::is_shown).
    pub fn find(&self, scope: impl Into<Scope>) -> Reading<Cursor> {
        let Scope { which, up_to, newest, reverse, shown } = scope.into();
        let (reader, today) = (self.reader.clone(), self.today());
        let find = move |shown: bool| {
            let shown = shown && reader.knows_corrections();
            let head = reader.head().seq;
            let which = match which {
                Which::Last(count) if shown => Which::From(first_of_newest(&reader, count, head)),
                which => which,
            };
            let mut range = reader.range(which, today)?;
            if shown && range.last > head {
                // Of one moment.
                let first = range.first;
                reader.narrow(&mut range, first, head)?;
            }
            if let Some(up_to) = up_to {
                let first = range.first;
                reader.narrow(&mut range, first, up_to)?;
            }
            let cursor = Cursor::new(reader.seal(), range, None).in_scope(newest, reverse);
            Ok(if shown { cursor.shown_as_of(head) } else { cursor })
        };
        let needs_derived = shown || matches!(which, Which::Days(..));
        if !needs_derived || *self.shared.seen.borrow() {
            return self.read(move || find(shown));
        }
        let (journal, is_days) = (self.clone(), matches!(which, Which::Days(..)));
        Reading::after(async move {
            let mut is_seen = true;
            if is_days {
                journal.derived_seen().await;
            } else {
                is_seen = tokio::time::timeout(SHOWN_WAIT_MAX, journal.derived_seen()).await.is_ok();
            }
            journal.read(move || find(shown && is_seen)).await
        })
    }

    /// Finds the entries from `seq` on, including those to come.
    pub fn follow(&self, seq: u64) -> Reading<Cursor> {
        let (reader, recent) = (self.reader.clone(), Recently::new(&self.shared.recent));
        self.read(move || Ok(Cursor::new(reader.seal(), reader.from(seq)?, Some(recent))))
    }

    /// At most `max_bytes` of the next lines if they are in memory, empty at the end. Otherwise `None`, and the cursor does
    /// not move.
    pub fn try_page(&self, cursor: &mut Cursor, max_bytes: usize) -> Option<Bytes> {
        if let Some(recent) = &cursor.follows {
            if let Some(lines) = recent.next(&mut cursor.range, max_bytes) {
                cursor.next = cursor.range.last + 1;
                return Some(lines);
            }
            self.reader.extend(&mut cursor.range);
        }
        let before = cursor.shown.map(|_| cursor.range.clone());
        let lines = self.reader.next_page_now(&mut cursor.range, max_bytes)?;
        if let Some(before) = before
            && Marks::of(&self.reader, cursor.shown, &lines).is_some_and(|marks| marks.has_corrected())
        {
            // It takes more readings.
            cursor.range = before;
            return None;
        }
        cursor.pass(&lines, &self.auditor);
        Some(lines.into())
    }

    /// Reads the next lines. `reserve` is called when it begins: it says how many bytes they may have at most, and what it
    /// returns beside that comes with the page. Where already the first line is longer, none are read, and the page says
    /// what it needs.
    pub fn page<R: Send + 'static>(
        &self,
        mut cursor: Cursor,
        reserve: impl FnOnce() -> (usize, R) + Send + 'static,
    ) -> Reading<(Page, R)> {
        let (reader, auditor) = (self.reader.clone(), self.auditor.clone());
        self.read(move || {
            let (max_bytes, reserved) = reserve();
            if cursor.follows.is_some() {
                reader.extend(&mut cursor.range);
            }
            let before = cursor.range.clone();
            let lines = shown::next_page(&reader, &mut cursor.range, cursor.shown, max_bytes)?;
            let (ended, lines) = (lines.is_none(), lines.unwrap_or_default());
            if lines.len() > max_bytes {
                cursor.range = before;
                return Ok((Page::too_long(cursor, lines.len()), reserved));
            }
            cursor.pass(&lines, &auditor);
            let gaps = if cursor.is_dense() { Vec::new() } else { gaps_noted(&lines, cursor.seal) };
            Ok((Page { lines: lines.into(), cursor, ended, gaps, needs_bytes: None }, reserved))
        })
    }

    /// Somebody who searches.
    pub fn searcher(&self) -> Searcher {
        self.common.turns.searcher()
    }

    /// Looks on, from the end backwards, for the first of the newest hits that are wanted, when it is the turn of `searcher`.
    /// To be repeated while the cursor [is unsought](Cursor::is_unsought).
    pub fn seek(&self, mut cursor: Cursor, needle: Arc<Needle>, searcher: &Searcher) -> Reading<Cursor> {
        let reader = self.reader.clone();
        in_turn(searcher, move || {
            seek(&reader, &needle, &mut cursor)?;
            Ok(cursor)
        })
    }

    /// Searches the next lines for what `needle` takes, when it is the turn of `searcher`:
    /// [`SEARCHES_MAX`](crate::limits::SEARCHES_MAX) searches run at
    /// once. `reserve` as for [`page`](Self::page). If the newest entries come first, so do the lines of a page.
    pub fn search<R: Send + 'static>(
        &self,
        cursor: Cursor,
        needle: Arc<Needle>,
        searcher: &Searcher,
        reserve: impl FnOnce() -> (usize, R) + Send + 'static,
    ) -> Reading<(Page, R)> {
        let (reader, auditor) = (self.reader.clone(), self.auditor.clone());
        in_turn(searcher, move || {
            let (max_bytes, reserved) = reserve();
            let page = match cursor.reverse {
                true => scan_back(&reader, &needle, cursor, max_bytes)?,
                false => scan(&reader, &auditor, &needle, cursor, max_bytes)?,
            };
            Ok((page, reserved))
        })
    }

    /// Whether this journal has, at `seq`, the line with this checksum. True if that entry is archived or damaged.
    pub fn has(&self, seq: u64, crc: u32) -> Reading<bool> {
        let reader = self.reader.clone();
        self.read(move || {
            Ok(seq < reader.first()?
                || reader.line(seq, |line| line.crc == crc)?.unwrap_or(seq <= reader.head().seq))
        })
    }

    /// Finds an entry with all that answers it now: each entry right behind the one that it answers, or behind the older
    /// answers to that. As people see it. Waits until the derived state is loaded.
    pub fn thread(&self, seq: u64) -> Reading<Cursor> {
        self.find_related(seq, |reader, seq| {
            let range = reader.thread(seq).ok_or(ReadError::Forgotten)?;
            Ok(Cursor::new(reader.seal(), range, None))
        })
    }

    /// Finds an entry and all its corrections, the oldest first. Waits until the derived state is loaded.
    pub fn versions(&self, seq: u64) -> Reading<Cursor> {
        self.find_related(seq, |reader, seq| Ok(Cursor::new(reader.seal(), reader.versions(seq), None)))
    }

    fn find_related(&self, seq: u64, find: fn(&Reader, u64) -> Result<Cursor, ReadError>) -> Reading<Cursor> {
        let journal = self.clone();
        Reading::after(async move {
            journal.derived_seen().await;
            let reader = journal.reader.clone();
            let look_up = move || {
                Ok(meant(&reader, seq)?.map_err(ReadError::Missing).and_then(|seq| find(&reader, seq)))
            };
            journal.read(look_up).await?
        })
    }

    /// Looks up entries that others name. In the same order.
    pub fn look_up(&self, seqs: Vec<u64>) -> Reading<Vec<Found>> {
        let journal = self.clone();
        Reading::after(async move {
            let mut found = Vec::new();
            for some in seqs.chunks(LOOK_UPS_MAX) {
                let (reader, some) = (journal.reader.clone(), some.to_vec());
                found.extend(journal.read(move || Ok(look_up(&reader, &some))).await?);
            }
            Ok(found)
        })
    }

    /// How many entries are before this one, corrections not counted.
    pub fn seen_before(&self, seq: u64) -> u64 {
        let before = seq.saturating_sub(1);
        before - self.reader.corrections_from(1, before)
    }

    /// Whether there is room for more corrections in what is kept of them in memory.
    pub fn takes_corrections(&self) -> bool {
        self.reader.takes_corrections()
    }

    /// The stored left part of an entry, with a line feed.
    pub fn left(&self, seq: u64) -> Reading<Option<Vec<u8>>> {
        let reader = self.reader.clone();
        self.read(move || reader.line(seq, |line| [line.left.as_bytes(), b"\n"].concat()))
    }

    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Reading<T> {
        self.common.read(work)
    }

    /// Logs where entries are damaged or missing, once for each place.
    pub fn tell_gaps(&self, gaps: &mut Vec<Gap>) {
        gaps.drain(..).for_each(|gap| self.auditor.tell(gap));
    }
}

/// Does `work` on a thread for searches when it is the turn of `searcher`.
fn in_turn<T: Send + 'static>(
    searcher: &Searcher,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Reading<T> {
    let searcher = searcher.clone();
    Reading::after(async move {
        let turn = searcher.turn().await;
        // The worker has the turn, so dropping the caller does not end it.
        Reading::blocking(move || turn.take(work)).await
    })
}

/// The gaps that notes among these lines tell.
fn gaps_noted(lines: &[u8], seal: Seal) -> Vec<Gap> {
    lines.split(|&b| b == b'\n').filter_map(|line| Gap::of_note(line, seal)).collect()
}

#[cfg(test)]
mod tests;
