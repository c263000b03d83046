//! The handle to a journal.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use diary_proto::block::Gap;
use diary_proto::{Date, DayStart, Time, Which};
use diary_store::Reader;
use diary_store::scan::Seqs;
use jiff::tz::TimeZone;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::appends::Appends;
use crate::limits::{GAPS_TOLD, PAGE_BYTES, SEARCH_STEP_BYTES, SEARCHES_MAX};
use crate::needle::{GAP_WORDS, Needle};
use crate::outcome::Receipt;
use crate::reading::{Cursor, Page, Reading};
use crate::recent::{Recent, Recently};
use crate::writer::Command;

/// How far the journal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The newest committed seq.
    pub head: u64,
    /// What is derived from the day files is loaded; until then, appends with keys and readings by day wait.
    pub derived: bool,
}

/// What does not change.
#[derive(Debug)]
pub struct About {
    /// The journal's name.
    pub name: String,
    /// Its random id.
    pub id: u64,
    /// The server's time zone.
    pub zone: TimeZone,
    /// Its name, for people.
    pub zone_name: String,
    /// When its days begin.
    pub day_start: DayStart,
}

/// What the writer and all handles share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// Unbounded, because every message holds a permit of a bounded budget.
    pub(crate) queue: mpsc::UnboundedSender<Command>,
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) recent: Arc<Recent>,
    /// Cancelled when the disk has failed, or the writer panicked.
    pub(crate) failed: CancellationToken,
}

/// A handle to a journal. Cheap to clone. Its writer ends when all handles are gone, or with [`stop`](Self::stop).
#[derive(Debug, Clone)]
pub struct Journal {
    shared: Shared,
    reader: Reader,
    searches: Arc<Semaphore>,
    about: Arc<About>,
    /// First seqs of gaps that have been told.
    told: Arc<Mutex<HashSet<u64>>>,
}

impl Journal {
    pub(crate) fn new(shared: Shared, reader: Reader, about: About) -> Self {
        let searches = Arc::new(Semaphore::new(SEARCHES_MAX));
        Self { shared, reader, searches, about: Arc::new(about), told: Arc::default() }
    }

    pub(crate) fn queue(&self) -> mpsc::UnboundedSender<Command> {
        self.shared.queue.clone()
    }

    /// What does not change.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The newest committed seq.
    pub fn head(&self) -> u64 {
        self.shared.progress.borrow().head
    }

    /// The current day.
    pub fn today(&self) -> Date {
        self.about.day_start.day_of(Time::now(&self.about.zone))
    }

    /// To be woken when the head moves.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.shared.progress.clone()
    }

    /// Completes when the disk has failed, or the writer panicked: the head stays where it is. Whoever waits for this is
    /// not woken by commits. Cancel safe.
    pub async fn failed(&self) {
        self.shared.failed.cancelled().await;
    }

    /// Whether the disk has failed, or the writer panicked.
    pub fn has_failed(&self) -> bool {
        self.shared.failed.is_cancelled()
    }

    /// Whether appends with keys can be judged, and the days of own times are known.
    pub fn knows_derived(&self) -> bool {
        self.shared.progress.borrow().derived
    }

    /// Completes when [`knows_derived`](Self::knows_derived), or it never will. Cancel safe.
    pub async fn derived_known(&self) {
        // An error says that the writer is gone, which whoever appends next is told.
        let _ = self.watch().wait_for(|progress| progress.derived).await;
    }

    /// Hands appends to the writer, which owns them from here on: they are committed even if nobody waits for the
    /// outcome. `permit` is what they take of the caller's budget, and is held as long as they are in memory.
    pub fn append(&self, mut appends: Appends, permit: OwnedSemaphorePermit) -> Receipt {
        appends.shrink();
        let (reply, outcome) = oneshot::channel();
        let receipt = Receipt::new(outcome, appends.count());
        if let Err(refused) = self.shared.queue.send(Command::Append(appends, permit, reply)) {
            refused.0.refuse_stopped();
        }
        receipt
    }

    /// Ends the writer after everything that was handed to it. Not cancel safe: the end is then not noticed.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.shared.queue.send(Command::Stop(done)).is_ok() {
            // An error says that it has stopped already.
            let _ = stopped.await;
        }
    }

    /// Finds entries. Those of days wait until the days of own times are known.
    pub fn find(&self, which: Which) -> Reading<Cursor> {
        let (reader, today) = (self.reader.clone(), self.today());
        let find = move || Ok(Cursor { range: reader.range(which, today)?, walker: None, follows: None });
        if !matches!(which, Which::Days(..)) || self.knows_derived() {
            return Reading::blocking(find);
        }
        let journal = self.clone();
        Reading::after(async move {
            journal.derived_known().await;
            Ok(Reading::blocking(find).await?)
        })
    }

    /// Finds the entries from `seq` on, those to come included.
    pub fn follow(&self, seq: u64) -> Reading<Cursor> {
        let (reader, recent) = (self.reader.clone(), Recently::new(&self.shared.recent));
        Reading::blocking(move || {
            Ok(Cursor { range: reader.from(seq)?, walker: None, follows: Some(recent) })
        })
    }

    /// The next lines, if they are in memory; none at the end. The cursor stays where it was if not.
    pub fn try_page(&self, cursor: &mut Cursor) -> Option<Bytes> {
        if let Some(recent) = &cursor.follows {
            if let Some(lines) = recent.next(&mut cursor.range) {
                return Some(lines);
            }
            self.reader.extend(&mut cursor.range);
        }
        self.reader.next_page_now(&mut cursor.range, PAGE_BYTES).map(Bytes::from)
    }

    /// Reads the next lines, `max_bytes` or one longer line at the most.
    pub fn page(&self, mut cursor: Cursor, max_bytes: usize) -> Reading<Page> {
        let reader = self.reader.clone();
        Reading::blocking(move || {
            if cursor.follows.is_some() {
                reader.extend(&mut cursor.range);
            }
            let lines = reader.next_page(&mut cursor.range, max_bytes)?;
            let (ended, lines) = (lines.is_none(), lines.unwrap_or_default().into());
            Ok(Page { lines, cursor, ended, gaps: Vec::new() })
        })
    }

    /// Looks through the next lines for what `needle` takes. Only so many searches do that at once.
    pub fn search(&self, mut cursor: Cursor, needle: Arc<Needle>) -> Reading<Page> {
        let (reader, permits) = (self.reader.clone(), Arc::clone(&self.searches));
        let look = move || {
            let (mut page, mut lines, mut gaps, mut seen) = (Vec::new(), Vec::new(), Vec::new(), 0);
            let mut ended = false;
            while !ended && lines.len() < PAGE_BYTES && seen < SEARCH_STEP_BYTES {
                ended = !reader.next_page_into(&mut cursor.range, PAGE_BYTES, &mut page)?;
                seen += page.len();
                match &mut cursor.walker {
                    _ if ended => {}
                    _ if !cursor.range.is_dense() => {
                        needle.find_lines_among_notes(&page, &mut lines, &mut gaps);
                    }
                    Some(walker) => needle.find_lines_and_gaps(&page, walker, &mut lines, &mut gaps),
                    None => needle.find_lines(&page, &mut lines),
                }
            }
            let last = cursor.last();
            if ended && let Some(gap) = cursor.walker.as_mut().and_then(|walker| walker.finish(last)) {
                gap.write_note(GAP_WORDS, &mut lines);
                gaps.push(gap);
            }
            Ok(Page { lines: lines.into(), cursor, ended, gaps })
        };
        Reading::after(async move {
            let permit = permits.acquire_owned().await.map_err(std::io::Error::other)?;
            let look = move || {
                // Held by the worker, so that dropping the caller does not free the slot.
                let _permit = permit;
                look()
            };
            Ok(Reading::blocking(look).await?)
        })
    }

    /// Whether this journal has, at `seq`, the line with this checksum. What is archived or damaged cannot be held
    /// against it.
    pub fn has(&self, seq: u64, crc: u32) -> Reading<bool> {
        let reader = self.reader.clone();
        Reading::blocking(move || {
            Ok(seq < reader.first()?
                || reader.line(seq, |line| line.crc == crc)?.unwrap_or(seq <= reader.head().seq))
        })
    }

    /// The left part of an entry, with a line feed, as it is stored.
    pub fn left(&self, seq: u64) -> Reading<Option<Vec<u8>>> {
        let reader = self.reader.clone();
        Reading::blocking(move || reader.line(seq, |line| [line.left.as_bytes(), b"\n"].concat()))
    }

    /// Says in the log where entries are damaged or missing; once for each place.
    pub fn tell_gaps(&self, gaps: &mut Vec<Gap>) {
        for gap in gaps.drain(..) {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.len() >= GAPS_TOLD || !told.insert(gap.first) {
                continue;
            }
            let reader = self.reader.clone();
            tokio::task::spawn_blocking(move || {
                let Gap { first, last } = gap;
                let what = Seqs(first, last);
                match reader.locate(first) {
                    Ok(Some((file, Some(line)))) => {
                        tracing::error!("{file}.log line {line}: {what} damaged or missing");
                    }
                    Ok(Some((file, None))) => {
                        tracing::error!("{file}.log, behind its last line: {what} damaged or missing");
                    }
                    Ok(None) => tracing::error!("{what} missing, and so are all day files"),
                    Err(error) => tracing::error!("{what} missing: their day file cannot be read: {error}"),
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use diary_proto::Filter;

    use super::*;
    use crate::sim::{self, SimDisk};

    /// Waits until only one holds it.
    async fn alone<T>(shared: &Arc<T>) {
        let alone = async {
            while Arc::strong_count(shared) > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), alone).await.expect("somebody keeps it");
    }

    #[tokio::test]
    async fn a_search_that_waits_is_cancelled_by_dropping_it() {
        let (journal, _writer) = sim::journal(&SimDisk::new());
        let searches = Arc::clone(&journal.searches);
        let every_permit = searches.try_acquire_many(u32::try_from(SEARCHES_MAX).unwrap()).unwrap();
        let cursor = journal.find(Which::All).await.unwrap();
        let needle = Arc::new(Needle::new(&Filter::of_text("a".to_owned())));
        let search = journal.search(cursor, needle);
        tokio::task::yield_now().await;
        drop((search, journal));
        alone(&searches).await;
        drop(every_permit);
    }
}
