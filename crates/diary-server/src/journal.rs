//! The seam between sessions and the engine: commit, read from a seq, watch the head.
//!
//! Sessions know nothing of day files. An engine behind this seam may be another one day: a replicated
//! log, where entries of other servers fall between those of one append and an outcome can be unknown;
//! [`Part`] has room for that.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use diary_proto::block::{Gap, Walker};
use diary_proto::{Author, Code, Date, DayStart, Key, Producer, Refusal, Time, Which};
use diary_store::scan::Seqs;
use diary_store::{Derived, Fresh, Range, Reader};
use jiff::tz::TimeZone;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::limits::{
    GAPS_TOLD, PAGE_BYTES, RECENT_MAX_BATCHES, RECENT_MAX_BYTES, SEARCH_STEP_BYTES, SEARCHES_MAX,
    UNACKED_MAX_BYTES,
};
use crate::needle::{GAP_WORDS, Needle};

/// Entries that one session appends together: what one read of its socket brought. No allocation per
/// entry, and one message answers them all.
#[derive(Debug)]
pub struct Appends {
    /// Who writes them.
    pub author: Arc<Author>,
    /// Their keys, if they have any.
    pub keys: Option<Keys>,
    /// All texts, one behind the other.
    texts: String,
    /// Where each text ends.
    ends: Vec<u32>,
    /// What each text says of itself; empty if none does.
    own: Vec<Own>,
    /// Places of entries that cannot be stored, and why; their texts are empty.
    refused: Vec<(usize, Refusal)>,
}

/// Less than most lines have.
const USUAL_LINE_BYTES: usize = 64;

/// What an entry says of itself.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// When it was, if that is not now.
    pub at: Option<Time>,
    /// Who wrote it, if that is not the session's author.
    pub author: Option<Arc<Author>>,
}

/// The keys of consecutive appends of one producer.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    /// Whose.
    pub producer: Producer,
    /// The first one's counter.
    pub first_counter: u64,
    /// They may have been sent before.
    pub retry: bool,
}

impl Appends {
    /// No entries yet.
    pub fn new(author: Arc<Author>, keys: Option<Keys>) -> Self {
        Self { author, keys, texts: String::new(), ends: Vec::new(), own: Vec::new(), refused: Vec::new() }
    }

    /// The same, with room for what one read of so many bytes brings.
    pub(crate) fn with_room(author: Arc<Author>, bytes: usize) -> Self {
        let mut appends = Self::new(author, None);
        appends.texts.reserve(bytes);
        appends.ends.reserve(bytes / USUAL_LINE_BYTES);
        appends
    }

    /// Adds a text that was checked. All texts together stay below 4 GiB: they came in one read.
    pub fn push(&mut self, text: &str) {
        self.texts.push_str(text);
        self.ends.push(u32::try_from(self.texts.len()).expect("what one read brings is far below 4 GiB"));
    }

    /// Says something of the text that was added last. Those before it say nothing, if nothing was said of them.
    pub fn set_own(&mut self, own: Own) {
        self.own.resize_with(self.ends.len() - 1, Own::default);
        self.own.push(own);
    }

    /// Adds a place for an entry that cannot be stored, so that it is answered in its order.
    pub fn push_refused(&mut self, refusal: Refusal) {
        self.refused.push((self.count(), refusal));
        self.push("");
    }

    /// How many entries.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all texts and their places, and of what stands for those that cannot be stored.
    pub fn bytes(&self) -> usize {
        self.texts.len()
            + self.ends.len() * size_of::<u32>()
            + self.own.len() * size_of::<Own>()
            + self.refused.len() * size_of::<(usize, Refusal)>()
    }

    /// Why the entry at `place` cannot be stored, if it cannot.
    pub(crate) fn refused(&self, place: usize) -> Option<&Refusal> {
        let found = self.refused.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        Some(&self.refused[found].1)
    }

    /// The text at `place`, from 0.
    pub(crate) fn text(&self, place: usize) -> &str {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.texts[start as usize..self.ends[place] as usize]
    }

    /// What the text at `place` says of itself.
    pub(crate) fn own(&self, place: usize) -> Option<&Own> {
        self.own.get(place)
    }

    /// The key at `place`.
    pub(crate) fn key(&self, place: usize) -> Option<(Key, bool)> {
        self.keys.map(|keys| {
            let key = Key { producer: keys.producer, counter: keys.first_counter + place as u64 };
            (key, keys.retry)
        })
    }
}

/// What became of [`Appends`], in their order; the counts add up to all of them.
pub type Outcome = Vec<Part>;

/// What became of some consecutive entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// They are committed, with consecutive seqs.
    Acked {
        /// How many.
        count: u32,
        /// The first one's seq.
        first_seq: u64,
        /// When.
        time: Time,
    },
    /// They are not stored, or it is unknown whether they are, as the code says.
    Refused {
        /// How many.
        count: u32,
        /// Why.
        refusal: Refusal,
    },
}

/// How far the journal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The newest committed seq.
    pub head: u64,
    /// What is derived from the day files is loaded; until then, appends with keys and readings by day wait.
    pub derived: bool,
}

/// What the writer is asked.
#[derive(Debug)]
pub(crate) enum Command {
    Append(Appends, OwnedSemaphorePermit, oneshot::Sender<Outcome>),
    /// What is derived from the journal, once it is loaded.
    Derived(Derived),
    /// Commit what came before, write the head down, end.
    Stop(oneshot::Sender<()>),
}

impl Command {
    /// Answers that the writer has stopped.
    pub(crate) fn refuse_stopped(self) {
        if let Command::Append(appends, _, reply) = self {
            let refusal = Refusal::new(Code::Stopping, "the server has stopped; this is not stored");
            let count = u32::try_from(appends.count()).unwrap_or(u32::MAX);
            // Whoever asked may be gone.
            let _ = reply.send(vec![Part::Refused { count, refusal }]);
        }
    }
}

/// What a session waits for. It ends with who waits: what has not begun never does, and a thread that is at work ends
/// with the piece that it is at.
pub(crate) type Asked<T> = AbortOnDropHandle<io::Result<T>>;

/// Work on a thread for blocking work.
fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Asked<T> {
    AbortOnDropHandle::new(tokio::task::spawn_blocking(work))
}

/// Work that waits for something else first.
fn later<T: Send + 'static>(work: impl Future<Output = io::Result<T>> + Send + 'static) -> Asked<T> {
    AbortOnDropHandle::new(tokio::spawn(work))
}

/// A handle to the journal. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Journal {
    queue: mpsc::Sender<Command>,
    progress: watch::Receiver<Progress>,
    reader: Reader,
    room: Arc<Semaphore>,
    searches: Arc<Semaphore>,
    about: Arc<About>,
    recent: Arc<Recent>,
    failed: CancellationToken,
    /// First seqs of gaps that have been told.
    told: Arc<Mutex<HashSet<u64>>>,
}

/// The newest batches, kept while anybody follows: all who are up to date read the same bytes, and none of
/// them asks the disk.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    followers: AtomicUsize,
    batches: Mutex<VecDeque<Fresh>>,
}

impl Recent {
    /// Adds the batch that was just committed, if there is anybody to read it.
    pub(crate) fn push(&self, fresh: impl FnOnce() -> Option<Fresh>) {
        if self.followers.load(Ordering::Relaxed) == 0 {
            return;
        }
        let fresh = fresh();
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        batches.extend(fresh);
        let mut bytes: usize = batches.iter().map(|batch| batch.lines.len()).sum();
        while bytes > RECENT_MAX_BYTES || batches.len() > RECENT_MAX_BATCHES {
            bytes -= batches.pop_front().map_or(0, |batch| batch.lines.len());
        }
    }
}

/// One follower's way to the newest batches.
#[derive(Debug)]
pub(crate) struct Recently(Arc<Recent>);

impl Recently {
    /// The batch that begins where `range` goes on, if it is one of them; the range is behind it then.
    pub(crate) fn next(&self, range: &mut Range) -> Option<Bytes> {
        let batches = self.0.batches.lock().unwrap_or_else(PoisonError::into_inner);
        batches.iter().rev().find(|fresh| range.take(fresh)).map(|fresh| fresh.lines.clone())
    }
}

impl Drop for Recently {
    fn drop(&mut self) {
        if self.0.followers.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.batches.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
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

impl Journal {
    pub(crate) fn new(
        queue: mpsc::Sender<Command>,
        progress: watch::Receiver<Progress>,
        reader: Reader,
        about: About,
        recent: Arc<Recent>,
        failed: CancellationToken,
    ) -> Self {
        let room = Arc::new(Semaphore::new(UNACKED_MAX_BYTES));
        let searches = Arc::new(Semaphore::new(SEARCHES_MAX));
        let (about, told) = (Arc::new(about), Arc::default());
        Self { queue, progress, reader, room, searches, about, recent, failed, told }
    }

    /// What does not change.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The newest committed seq.
    pub fn head(&self) -> u64 {
        self.progress.borrow().head
    }

    /// To be woken when the head moves.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Completes when the disk has failed, or the writer broke down: the head stays where it is. Nobody who
    /// waits for this is woken by each commit. Cancellation safe.
    pub(crate) async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// The batches that were just committed, for one who follows.
    pub(crate) fn recent(&self) -> Recently {
        self.recent.followers.fetch_add(1, Ordering::Relaxed);
        Recently(Arc::clone(&self.recent))
    }

    /// Room for appends, in bytes, of all sessions together.
    pub(crate) fn room(&self) -> &Arc<Semaphore> {
        &self.room
    }

    /// Whether appends with keys can be judged, and the days of own times are known.
    pub(crate) fn knows_derived(&self) -> bool {
        self.progress.borrow().derived
    }

    /// Completes when [`knows_derived`](Self::knows_derived), or it never will. Cancellation safe.
    pub(crate) async fn derived_known(&self) {
        // An error says that the writer is gone, which whoever appends next is told.
        let _ = self.watch().wait_for(|progress| progress.derived).await;
    }

    /// Hands appends to the writer, which owns them from here on: they are committed even if nobody
    /// waits for the outcome. The answer fails only if the writer broke down; whether they are stored is
    /// unknown then.
    pub(crate) fn append(&self, appends: Appends, room: OwnedSemaphorePermit) -> oneshot::Receiver<Outcome> {
        let (reply, outcome) = oneshot::channel();
        // The queue has a place for everything that has room, so this fails only once the writer is gone.
        if let Err(refused) = self.queue.try_send(Command::Append(appends, room, reply)) {
            refused.into_inner().refuse_stopped();
        }
        outcome
    }

    /// Ends the writer after everything that was handed to it. Not cancellation safe: the answer is lost.
    pub(crate) async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.queue.send(Command::Stop(done)).await.is_ok() {
            let _ = stopped.await;
        }
    }

    /// The server's current day.
    pub(crate) fn today(&self) -> Date {
        self.about.day_start.day_of(Time::now(&self.about.zone))
    }

    /// Finds a range, on a thread for blocking work; one of days once the days of own times are known.
    pub(crate) fn range(&self, which: Which) -> Asked<Range> {
        let (reader, today) = (self.reader.clone(), self.today());
        let find = move || reader.range(which, today);
        if !matches!(which, Which::Days(..)) || self.knows_derived() {
            return blocking(find);
        }
        let journal = self.clone();
        later(async move {
            journal.derived_known().await;
            blocking(find).await.map_err(io::Error::other)?
        })
    }

    /// Reads a range's next lines, if they can be had without waiting for the disk; none at its end.
    pub(crate) fn page_now(&self, range: &mut Range, extend: bool) -> Option<Bytes> {
        if extend {
            self.reader.extend(range);
        }
        self.reader.next_page_now(range, PAGE_BYTES).map(Bytes::from)
    }

    /// Reads a range's next lines, on a thread for blocking work. With `extend`, to the present head.
    pub(crate) fn page(&self, mut range: Range, extend: bool) -> Asked<Page> {
        let reader = self.reader.clone();
        blocking(move || {
            if extend {
                reader.extend(&mut range);
            }
            let lines = reader.next_page(&mut range, PAGE_BYTES)?;
            let (ended, lines) = (lines.is_none(), lines.unwrap_or_default().into());
            Ok(Page { ended, lines, range, walker: None, gaps: Vec::new() })
        })
    }

    /// Looks for what a filter takes in a range's next lines, on a thread for blocking work, when a search may have
    /// one. With a `walker`, what is damaged or missing is noted among them.
    pub(crate) fn search(
        &self,
        mut range: Range,
        needle: Arc<Needle>,
        mut walker: Option<Walker>,
    ) -> Asked<Page> {
        let (reader, places) = (self.reader.clone(), Arc::clone(&self.searches));
        let look = move || {
            let (mut page, mut lines, mut gaps, mut seen) = (Vec::new(), Vec::new(), Vec::new(), 0);
            let mut ended = false;
            while !ended && lines.len() < PAGE_BYTES && seen < SEARCH_STEP_BYTES {
                ended = !reader.next_page_into(&mut range, PAGE_BYTES, &mut page)?;
                seen += page.len();
                match &mut walker {
                    _ if ended => {}
                    _ if !range.is_dense() => needle.find_lines_among_notes(&page, &mut lines, &mut gaps),
                    Some(walker) => needle.find_lines_and_gaps(&page, walker, &mut lines, &mut gaps),
                    None => needle.find_lines(&page, &mut lines),
                }
            }
            if ended && let Some(gap) = walker.as_mut().and_then(|walker| walker.finish(range.last)) {
                gap.write_note(GAP_WORDS, &mut lines);
                gaps.push(gap);
            }
            Ok(Page { lines: lines.into(), range, ended, walker, gaps })
        };
        later(async move {
            let place = places.acquire_owned().await.map_err(io::Error::other)?;
            let look = move || {
                // The thread's, not who asked's: who is gone leaves it at work.
                let _place = place;
                look()
            };
            blocking(look).await.map_err(io::Error::other)?
        })
    }

    /// Whether this journal has, at `seq`, the line with this checksum.
    pub(crate) fn has(&self, seq: u64, crc: u32) -> Asked<bool> {
        let reader = self.reader.clone();
        blocking(move || {
            // What is archived or damaged cannot be held against it any more; the id has been.
            Ok(seq < reader.first()?
                || reader.line(seq, |line| line.crc == crc)?.unwrap_or(seq <= reader.head().seq))
        })
    }

    /// Says in the log where entries are damaged or missing; once for each place.
    pub(crate) fn tell_gaps(&self, gaps: &mut Vec<Gap>) {
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

    /// The left part of an entry, with a line feed, as it is stored.
    pub(crate) fn left(&self, seq: u64) -> Asked<Option<Vec<u8>>> {
        let reader = self.reader.clone();
        blocking(move || reader.line(seq, |line| [line.left.as_bytes(), b"\n"].concat()))
    }
}

/// Some lines of a range, and the range behind them.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) lines: Bytes,
    pub(crate) range: Range,
    pub(crate) ended: bool,
    /// Where a search that checks all lines goes on with that.
    pub(crate) walker: Option<Walker>,
    /// What it noted.
    pub(crate) gaps: Vec<Gap>,
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use diary_proto::Filter;
    use diary_store::sim::SimDisk;

    use super::*;

    /// A journal of no entries, and who says how far it is.
    fn journal() -> (Journal, watch::Sender<Progress>) {
        let opened = diary_store::open(Arc::new(SimDisk::new()), Path::new("/diary")).unwrap();
        let (progress, watched) = watch::channel(Progress { head: 0, derived: false });
        let about = About {
            name: "diary".to_owned(),
            id: 1,
            zone: TimeZone::UTC,
            zone_name: "UTC".to_owned(),
            day_start: DayStart::default(),
        };
        let (recent, failed) = (Arc::default(), CancellationToken::new());
        let journal = Journal::new(mpsc::channel(1).0, watched, opened.reader, about, recent, failed);
        (journal, progress)
    }

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
    async fn a_search_that_waits_ends_with_who_asked() {
        let (journal, _progress) = journal();
        let searches = Arc::clone(&journal.searches);
        let every_place = searches.try_acquire_many(u32::try_from(SEARCHES_MAX).unwrap()).unwrap();
        let range = journal.range(Which::All).await.unwrap().unwrap();
        let needle = Arc::new(Needle::new(&Filter::of_text("a".to_owned())));
        let search = journal.search(range, needle, None);
        tokio::task::yield_now().await;
        drop((search, journal));
        alone(&searches).await;
        drop(every_place);
    }
}
