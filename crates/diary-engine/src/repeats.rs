//! Comparing entries that were sent again with what the journal has, on a thread of its own: to read an entry takes
//! the disk, and whoever waits for the writer must not wait for that.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;

use diary_proto::Time;
use diary_proto::entry::{SealedLine, StoredLine};
use diary_store::{Range, Reader, archive};

use crate::limits::PAGE_BYTES;
use crate::work::{RepeatedRun, Verdict, Work};

/// What is read of a place that was found by bisection; it doubles with every page that follows.
const FIRST_PAGE_BYTES: usize = 8 * 1024;

/// The thread that compares.
#[derive(Debug)]
pub(crate) struct Repeats {
    /// Unbounded, because every message holds a permit of a bounded budget.
    queue: mpsc::Sender<Work>,
    thread: thread::JoinHandle<()>,
}

impl Repeats {
    /// Starts the thread. It ends once it has answered everything and its handle is gone.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub(crate) fn start(reader: Reader) -> io::Result<Self> {
        let (queue, works) = mpsc::channel();
        let thread =
            thread::Builder::new().name("repeats".to_owned()).spawn(move || serve(&reader, works))?;
        Ok(Self { queue, thread })
    }

    /// Compares and answers `work`, whose entries are all settled.
    pub(crate) fn push(&self, work: Work) {
        // It fails only if the thread is gone. Dropping the work tells its sender that the outcome is unknown.
        let _ = self.queue.send(work);
    }

    /// Waits until everything is answered.
    pub(crate) fn finish(self) {
        drop(self.queue);
        let _ = self.thread.join();
    }
}

fn serve(reader: &Reader, works: mpsc::Receiver<Work>) {
    for work in works {
        // Without this, a panic would leave all later retries without an answer.
        if catch_unwind(AssertUnwindSafe(|| answer(reader, work))).is_err() {
            tracing::error!(
                "comparing retried entries panicked; their sender is told that the outcome is unknown"
            );
        }
    }
}

fn answer(reader: &Reader, mut work: Work) {
    let verdicts = compare(reader, &work);
    work.resolve(verdicts);
    work.answer();
}

/// A verdict for each repeated entry of `work`, in their order.
fn compare(reader: &Reader, work: &Work) -> Vec<Verdict> {
    let mut total = 0;
    let mut runs: Vec<(RepeatedRun, usize)> = Vec::new();
    for run in work.repeated() {
        runs.push((run, total));
        total += run.count as usize;
    }
    // Whatever order a client sends them in, every day file is read forward.
    runs.sort_unstable_by_key(|(run, _)| run.first_seq);
    let mut verdicts = vec![Verdict::Unreadable; total];
    let mut stored = Ascending::new(reader);
    for (run, at) in runs {
        for (seq, i) in (run.first_seq..).zip(0..run.count as usize) {
            let text = work.appends.text(run.place + i);
            match stored.find(seq, |line| verdict(line, text)) {
                Ok(found) => verdicts[at + i] = found.flatten().unwrap_or(Verdict::Gone),
                Err(error) => {
                    // The rest would only wait for the same disk.
                    tracing::error!(%error, "entry {seq} cannot be read to compare it with its retry");
                    return verdicts;
                }
            }
        }
    }
    verdicts
}

/// Compares `text` with a stored line. `None`: the line's checksum is valid, its time is not.
fn verdict(line: &StoredLine<'_>, text: &str) -> Option<Verdict> {
    let time = Time::parse(line.time.as_bytes())?;
    Some(if line.unescaped() == text { Verdict::Same(time) } else { Verdict::Other })
}

/// Reads entries in the order of their seqs: on from where it is while the next one is near, by bisection where not.
struct Ascending<'a> {
    journal: &'a Reader,
    place: Option<Place>,
    page: Vec<u8>,
}

struct Place {
    /// Reads the journal, or one of its archives.
    reader: Reader,
    /// Goes on behind the page.
    range: Range,
    next_page_bytes: usize,
    /// What of the page is passed.
    at: usize,
    /// The seq of the page's last line.
    last: u64,
}

impl<'a> Ascending<'a> {
    fn new(journal: &'a Reader) -> Self {
        Self { journal, place: None, page: Vec::new() }
    }

    /// What `look` makes of the line of `seq`, which is larger than the one before; `None` if it is gone or damaged.
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
        Ok(StoredLine::parse(line).ok().filter(|line| line.seq == seq).as_ref().map(look))
    }

    /// Moves to the line of `seq`, and returns whether it is there. Without a place, the range has ended before it.
    fn walk_to(&mut self, seq: u64, mut place: Place) -> io::Result<bool> {
        loop {
            while let Some(length) = memchr::memchr(b'\n', &self.page[place.at..]) {
                let line = SealedLine::check(&self.page[place.at..place.at + length]);
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
            place.last = lines.find_map(|line| Some(SealedLine::check(line)?.seq)).unwrap_or(place.last);
            place.at = 0;
            place.next_page_bytes = (bytes * 2).min(PAGE_BYTES);
        }
    }

    /// The place of `seq`, which may be archived. `None` if nothing can be there.
    fn bisect(&mut self, seq: u64) -> io::Result<Option<Place>> {
        self.page.clear();
        let reader = if seq < self.journal.first()? {
            archive::reader_of(self.journal, seq)?
        } else {
            Some(self.journal.clone())
        };
        let Some(reader) = reader else { return Ok(None) };
        let range = reader.from(seq)?;
        Ok(Some(Place { reader, range, next_page_bytes: FIRST_PAGE_BYTES, at: 0, last: 0 }))
    }
}

#[cfg(test)]
mod tests;
