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

/// A place in the journal, and how far the reading goes. Only the engine that made it can read from it.
#[derive(Debug)]
pub struct Cursor {
    pub(crate) range: Range,
    /// Finds gaps among the lines that are read; not in use where the cursor is not dense.
    pub(crate) walker: Walker,
    /// A search notes gaps in their places.
    pub(crate) notes_gaps: bool,
    /// It has no end: every page reaches as far as the head does by then.
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

    /// Whether every entry between the first and the last belongs to it. Where not, notes among the lines say what is
    /// damaged or missing ([`Gap::of_note`]).
    pub fn is_dense(&self) -> bool {
        self.range.is_dense()
    }

    /// Lets a search note what is damaged or missing among the lines that it passes over.
    pub fn check_lines(&mut self) {
        self.notes_gaps = self.is_dense();
    }

    /// Checks the next lines, and adds what is damaged or missing before the last one that is valid.
    pub(crate) fn check(&mut self, lines: &[u8], gaps: &mut Vec<Gap>) {
        if self.is_dense() {
            self.walker.pass(lines, |_| true, |step| gaps.extend(gap_of(step)));
        } else {
            let notes = lines.split(|&b| b == b'\n').filter(|line| is_note(line));
            gaps.extend(notes.filter_map(Gap::of_note));
        }
    }

    /// The end is reached: adds what is missing before it.
    pub(crate) fn check_end(&mut self, gaps: &mut Vec<Gap>) {
        if self.is_dense() {
            gaps.extend(self.walker.finish(self.range.last));
        }
    }

    /// Moves on behind the entry `last` without a check.
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

/// Which entries need no check when they are read from memory: damage is told once, by whoever reads it first.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Entries behind this one were written by this process.
    head_at_open: u64,
    /// All entries of the journal before this one have been checked. Those who read all of it move this on, and after
    /// the first of them it costs nothing.
    before: AtomicU64,
}

impl Checked {
    pub(crate) fn new(first: u64, head: u64) -> Self {
        Self { head_at_open: head, before: AtomicU64::new(first) }
    }

    /// Whether `lines`, which should begin with the entry `next`, need none; the seq of the last one then.
    pub(crate) fn has(&self, next: u64, lines: &[u8]) -> Option<u64> {
        let last = lines.strip_suffix(b"\n")?.rsplit(|&b| b == b'\n').next()?;
        let last = SealedLine::check(last)?.seq;
        (next > self.head_at_open || last < self.before.load(Ordering::Relaxed)).then_some(last)
    }

    /// The entries from `first` to the one before `next` have been checked.
    pub(crate) fn add(&self, first: u64, next: u64) {
        if first <= self.before.load(Ordering::Relaxed) {
            self.before.fetch_max(next, Ordering::Relaxed);
        }
    }
}

/// Some lines, and the cursor behind them.
#[derive(Debug)]
pub struct Page {
    /// Whole stored lines. There may be none before the end, too.
    pub lines: Bytes,
    /// Where to go on.
    pub cursor: Cursor,
    /// It reaches the end, which for a cursor that follows is the present head.
    pub ended: bool,
    /// What is damaged or missing among the lines, except of a search that does not check them.
    pub gaps: Vec<Gap>,
}

/// Something that is being read. Cancel safe. Dropping it cancels: queued work never starts, running work finishes its step
/// and is discarded.
#[derive(Debug)]
pub struct Reading<T>(AbortOnDropHandle<io::Result<T>>);

impl<T: Send + 'static> Reading<T> {
    /// Runs `work` on a thread for blocking work.
    pub(crate) fn blocking(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Self {
        Self(AbortOnDropHandle::new(tokio::task::spawn_blocking(work)))
    }

    /// Waits for something first.
    pub(crate) fn after(work: impl Future<Output = io::Result<T>> + Send + 'static) -> Self {
        Self(AbortOnDropHandle::new(tokio::spawn(work)))
    }
}

impl<T> Future for Reading<T> {
    type Output = Result<T, ReadError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // It is cancelled only with the runtime.
        let read = std::task::ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(read.map_err(io::Error::other).and_then(|read| read).map_err(ReadError))
    }
}
