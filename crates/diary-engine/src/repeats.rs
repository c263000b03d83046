//! Comparing retried entries with what the journal has.
//!
//! This reads the disk, so it runs on its own thread: nobody else's ack waits for one sender's retries.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use diary_proto::entry::{SealedLine, StoredLine};
use diary_proto::{Relation, Time};
use diary_store::{Range, Reader};
use tokio::sync::Semaphore;

use crate::earlier::Unfit;
use crate::limits::PAGE_BYTES;
use crate::work::{RepeatedRun, Verdict, Work};

/// First read after a bisection. It doubles with every page that is read on.
const FIRST_PAGE_BYTES: usize = 8 * 1024;

/// The thread that compares.
#[derive(Debug)]
pub(crate) struct Repeats {
    /// Unbounded, because every message holds a permit of a bounded budget.
    queue: mpsc::Sender<Work>,
    /// Memory of what waits here, in bytes. Past it, the senders' own budget has to do.
    budget: Arc<Semaphore>,
    /// What is queued or being compared.
    pending: Arc<AtomicUsize>,
    thread: thread::JoinHandle<()>,
}

impl Repeats {
    /// Starts the thread. It ends when this is dropped and everything is answered.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub(crate) fn start(reader: Reader, budget: Arc<Semaphore>) -> io::Result<Self> {
        let (queue, works) = mpsc::channel();
        let pending = Arc::<AtomicUsize>::default();
        let left = Arc::clone(&pending);
        let compare = move || serve(&reader, works, &left);
        let thread = thread::Builder::new().name("repeats".to_owned()).spawn(compare)?;
        Ok(Self { queue, budget, pending, thread })
    }

    /// Queues `work`, whose entries are all settled, to be compared and answered.
    pub(crate) fn push(&self, mut work: Work) {
        work.move_to(&self.budget);
        self.pending.fetch_add(1, Ordering::Relaxed);
        // An error means that the thread is gone. Dropping the work answers that the outcome is unknown.
        let _ = self.queue.send(work);
    }

    /// Whether everything is answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.load(Ordering::Relaxed) == 0
    }

    /// Waits until everything is answered.
    pub(crate) fn finish(self) {
        drop(self.queue);
        let _ = self.thread.join();
    }
}

fn serve(reader: &Reader, works: mpsc::Receiver<Work>, pending: &AtomicUsize) {
    for work in works {
        // A panic must not leave later retries without an answer.
        if catch_unwind(AssertUnwindSafe(|| answer(reader, work))).is_err() {
            tracing::error!(
                "comparing retried entries panicked; their sender is told that the outcome is unknown"
            );
        }
        pending.fetch_sub(1, Ordering::Relaxed);
    }
}

fn answer(reader: &Reader, mut work: Work) {
    let verdicts = compare(reader, &work);
    work.resolve(verdicts);
    work.answer();
}

/// A verdict for each repeated entry of `work`, in order.
fn compare(reader: &Reader, work: &Work) -> Vec<Verdict> {
    let mut total = 0;
    let mut runs: Vec<(RepeatedRun, usize)> = Vec::new();
    for run in work.repeated() {
        runs.push((run, total));
        total += run.count as usize;
    }
    // Day files are read forward, whatever order a client sends the entries in.
    runs.sort_unstable_by_key(|(run, _)| run.first_seq);
    let mut verdicts = vec![Verdict::Unreadable; total];
    let mut stored = Ascending::new(reader);
    for (run, at) in runs {
        for (seq, i) in (run.first_seq..).zip(0..run.count as usize) {
            let (text, own) = (work.appends.text(run.place + i), work.appends.own(run.place + i));
            let has_own_time = own.is_some_and(|own| own.at.is_some());
            let related = work.appends.related(run.place + i);
            match stored.find(seq, |line| verdict(line, text, related, has_own_time)) {
                Ok(found) => verdicts[at + i] = found.flatten().unwrap_or(Verdict::Gone),
                Err(error) => {
                    // The rest would wait for the same disk.
                    tracing::error!(%error, "entry {seq} cannot be read to compare it with its retry");
                    return verdicts;
                }
            }
        }
    }
    verdicts
}

/// Compares a text, and what it is to an earlier entry, with a stored line. `None` if the line's time cannot be read.
fn verdict(
    line: &StoredLine<'_>,
    text: &str,
    related: Option<(Relation, Option<Unfit>)>,
    has_own_time: bool,
) -> Option<Verdict> {
    // A time that its writer did not give is what the clock said at the commit, as its first ack.
    let clamped = line.own.filter(|_| !has_own_time).map(|own| own.at);
    let time = clamped.or_else(|| Time::parse(line.time.as_bytes()))?;
    let is_related = match (related, line.relation) {
        // Which entry was meant can no longer be told.
        (Some((relation, Some(_))), Some(stored)) => relation.to(0) == stored.to(0),
        (Some((relation, None)), stored) => Some(relation) == stored,
        (None, stored) => stored.is_none(),
        (Some(_), None) => false,
    };
    let is_same = line.unescaped() == text && is_related;
    Some(if is_same { Verdict::Same(time) } else { Verdict::Other })
}

/// Reads entries in ascending order. It reads on while the next entry is near and bisects where it is not.
struct Ascending<'a> {
    journal: &'a Reader,
    place: Option<Position>,
    page: Vec<u8>,
}

struct Position {
    /// Reads the journal, or one of its archives.
    reader: Reader,
    /// Goes on behind the page.
    range: Range,
    next_page_bytes: usize,
    /// Offset of the next line in the page.
    at: usize,
    /// The seq of the last valid line of the page.
    last: u64,
}

impl<'a> Ascending<'a> {
    fn new(journal: &'a Reader) -> Self {
        Self { journal, place: None, page: Vec::new() }
    }

    /// Applies `look` to the line of `seq`, which is above the previous one; `None` if the line is gone or damaged.
    fn find<T>(&mut self, seq: u64, look: impl FnOnce(&StoredLine<'_>) -> T) -> io::Result<Option<T>> {
        let found = match self.place.take().filter(|place| seq <= place.last + 1) {
            Some(place) => self.walk_to(seq, place)?,
            None => false,
        };
        if !found && self.place.is_none() {
            let Some(place) = self.bisect(seq)? else { return Ok(None) };
            self.walk_to(seq, place)?;
        }
        let rest = self.place.as_ref().map_or(&[][..], |place| &self.page[place.at..]);
        let line = rest.split(|&b| b == b'\n').next().unwrap_or_default();
        Ok(StoredLine::parse(line, self.journal.seal())
            .ok()
            .filter(|line| line.seq == seq)
            .as_ref()
            .map(look))
    }

    /// Moves to the line of `seq` and returns whether it is there. If the range ends before it, there is no place any more.
    fn walk_to(&mut self, seq: u64, mut place: Position) -> io::Result<bool> {
        let seal = self.journal.seal();
        loop {
            while let Some(length) = memchr::memchr(b'\n', &self.page[place.at..]) {
                let line = SealedLine::check(&self.page[place.at..place.at + length], seal);
                if let Some(line) = line.filter(|line| line.seq >= seq) {
                    let found = line.seq == seq;
                    self.place = Some(place);
                    return Ok(found);
                }
                place.at += length + 1;
            }
            let bytes = place.next_page_bytes;
            if !place.reader.next_page_into(&mut place.range, bytes, &mut self.page)? {
                return Ok(false);
            }
            let mut lines = self.page.split(|&b| b == b'\n').rev();
            place.last =
                lines.find_map(|line| Some(SealedLine::check(line, seal)?.seq)).unwrap_or(place.last);
            place.at = 0;
            place.next_page_bytes = (bytes * 2).min(PAGE_BYTES);
        }
    }

    /// The place of `seq`, which may be archived; `None` if its archive is gone.
    fn bisect(&mut self, seq: u64) -> io::Result<Option<Position>> {
        self.page.clear();
        let reader = if seq < self.journal.first()? {
            self.journal.archive_of(seq)?
        } else {
            Some(self.journal.clone())
        };
        let Some(reader) = reader else { return Ok(None) };
        let range = reader.from(seq)?;
        Ok(Some(Position { reader, range, next_page_bytes: FIRST_PAGE_BYTES, at: 0, last: 0 }))
    }
}

#[cfg(test)]
mod tests;
