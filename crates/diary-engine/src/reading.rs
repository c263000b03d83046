//! Reading from a cursor, page by page.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use diary_proto::block::{Gap, Step, Walker};
use diary_proto::entry::{SealedLine, is_note};
use diary_store::Range;
use tokio_util::task::AbortOnDropHandle;

use crate::recent::Recently;

/// Entries could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the disk could not be read: {0}")]
pub struct ReadError(io::Error);

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        error.0
    }
}

/// A place in the journal, and how far reading goes. Only the engine that made it can read from it.
#[derive(Debug)]
pub struct Cursor {
    pub(crate) range: Range,
    /// Finds gaps among the lines that are read. Unused if the cursor is not dense.
    pub(crate) walker: Walker,
    /// A search checks lines and puts notes in the place of gaps.
    pub(crate) notes_gaps: bool,
    /// The cursor has no end: every page reaches up to the head of that moment.
    pub(crate) follows: Option<Recently>,
}

impl Cursor {
    pub(crate) fn new(range: Range, follows: Option<Recently>) -> Self {
        let walker = Walker::new(range.first);
        Self { range, walker, notes_gaps: false, follows }
    }

    /// The seq of the first entry.
    pub fn first(&self) -> u64 {
        self.range.first
    }

    /// The seq of the last entry so far; below [`first`](Self::first) if there is none.
    pub fn last(&self) -> u64 {
        self.range.last
    }

    /// Whether every entry between the first and the last belongs to it. If not, notes among the lines tell the gaps
    /// ([`Gap::of_note`]).
    pub fn is_dense(&self) -> bool {
        self.range.is_dense()
    }

    /// Makes a search check the lines that it passes over, and put notes in the place of gaps.
    pub fn check_lines(&mut self) {
        self.notes_gaps = self.is_dense();
    }

    /// Checks the next lines and adds the gaps before the last valid one.
    pub(crate) fn check(&mut self, lines: &[u8], gaps: &mut Vec<Gap>) {
        if self.is_dense() {
            self.walker.pass(lines, |_| true, |step| gaps.extend(gap_of(step)));
        } else {
            let notes = lines.split(|&b| b == b'\n').filter(|line| is_note(line));
            gaps.extend(notes.filter_map(Gap::of_note));
        }
    }

    /// At the end of the range: adds the gap before it, if there is one.
    pub(crate) fn check_end(&mut self, gaps: &mut Vec<Gap>) {
        if self.is_dense() {
            gaps.extend(self.walker.finish(self.range.last));
        }
    }

    /// Moves past the entry `last` without a check.
    pub(crate) fn pass_over(&mut self, last: u64) {
        self.walker = Walker::new(last + 1);
    }
}

fn gap_of<L>(step: Step<L>) -> Option<Gap> {
    match step {
        Step::Gap(gap) => Some(gap),
        Step::Entry(_) => None,
    }
}

/// Which entries need no check when they are read from memory. The log tells damage once, so the first reader of a page
/// checks it for all.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Entries after this one were written by this process.
    head_at_open: u64,
    /// All entries of the journal before this one were checked. Whoever reads from the start moves it on, so reading
    /// everything costs the check once.
    before: AtomicU64,
}

impl Checked {
    pub(crate) fn new(first: u64, head: u64) -> Self {
        Self { head_at_open: head, before: AtomicU64::new(first) }
    }

    /// The seq of the last of `lines`, which should begin with the entry `next`, if they need no check.
    pub(crate) fn has(&self, next: u64, lines: &[u8]) -> Option<u64> {
        let last = lines.strip_suffix(b"\n")?.rsplit(|&b| b == b'\n').next()?;
        let last = SealedLine::check(last)?.seq;
        (next > self.head_at_open || last < self.before.load(Ordering::Relaxed)).then_some(last)
    }

    /// Notes that the entries from `first` up to, but not including, `next` were checked.
    pub(crate) fn add(&self, first: u64, next: u64) {
        if first <= self.before.load(Ordering::Relaxed) {
            self.before.fetch_max(next, Ordering::Relaxed);
        }
    }
}

/// Some lines, and the cursor after them.
#[derive(Debug)]
pub struct Page {
    /// Whole stored lines. Empty does not mean the end: see [`ended`](Self::ended).
    pub lines: Bytes,
    /// Where to go on.
    pub cursor: Cursor,
    /// The end is reached. For a cursor that follows it is the present head.
    pub ended: bool,
    /// What is damaged or missing among the lines. A search tells it only if it checks lines.
    pub gaps: Vec<Gap>,
    /// The next line has so many bytes, more than the page may have, and the cursor is before it.
    pub needs_bytes: Option<usize>,
}

impl Page {
    pub(crate) fn too_long(cursor: Cursor, needs_bytes: usize) -> Self {
        let (lines, gaps) = (Bytes::new(), Vec::new());
        Self { lines, cursor, ended: false, gaps, needs_bytes: Some(needs_bytes) }
    }
}

/// The pending result of a reading. Cancel safe; dropping it cancels: queued work never starts, running work finishes its
/// step and is discarded.
#[derive(Debug)]
pub struct Reading<T>(AbortOnDropHandle<io::Result<T>>);

impl<T: Send + 'static> Reading<T> {
    /// Runs `work` on a thread of the blocking pool.
    pub(crate) fn blocking(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Self {
        Self(AbortOnDropHandle::new(tokio::task::spawn_blocking(work)))
    }

    /// Runs `work`, which may wait before it reads.
    pub(crate) fn after(work: impl Future<Output = io::Result<T>> + Send + 'static) -> Self {
        Self(AbortOnDropHandle::new(tokio::spawn(work)))
    }
}

impl<T> Future for Reading<T> {
    type Output = Result<T, ReadError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A join error means a panic, or the end of the runtime.
        let read = std::task::ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(read.map_err(io::Error::other).and_then(|read| read).map_err(ReadError))
    }
}
