//! Reading from a cursor, page by page.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use diary_proto::Seal;
use diary_proto::block::{Gap, Walker};
use diary_proto::entry::SealedLine;
use diary_store::Range;
use tokio_util::task::AbortOnDropHandle;

use crate::auditor::Auditor;
use crate::earlier::Unfit;
use crate::recent::Recently;

/// Entries could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk failed, or the program.
    #[error("the disk could not be read: {0}")]
    Disk(#[from] io::Error),
    /// They are not there.
    #[error("{}", .0.refusal())]
    Missing(Unfit),
    /// What would tell which they are has been forgotten.
    #[error("it is no longer known what answers an entry that is so old")]
    Forgotten,
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Disk(error) => error,
            other => io::Error::other(other),
        }
    }
}

/// A place in the journal, and how far reading goes. Only the engine that made it can read from it.
#[derive(Debug)]
pub struct Cursor {
    /// What the journal's lines are sealed with.
    pub(crate) seal: Seal,
    pub(crate) range: Range,
    /// The seq of the entry that comes next, if the cursor is dense.
    pub(crate) next: u64,
    /// A search checks lines and puts notes in the place of gaps.
    pub(crate) walker: Option<Walker>,
    /// The cursor has no end: every page reaches up to the head of that moment.
    pub(crate) follows: Option<Recently>,
    /// A search goes from the end to the beginning.
    pub(crate) reverse: bool,
    /// Hits that are still wanted, from the end on.
    pub(crate) left: u64,
    /// Only the newest hits are wanted, and where they begin is not known yet: what has not been looked at for that.
    pub(crate) unsought: Option<Range>,
    /// Lines come as people see them, as of this head.
    pub(crate) shown: Option<u64>,
}

impl Cursor {
    pub(crate) fn new(seal: Seal, range: Range, follows: Option<Recently>) -> Self {
        let (next, walker, unsought) = (range.first, None, None);
        Self { seal, range, next, walker, follows, reverse: false, left: u64::MAX, unsought, shown: None }
    }

    /// The same for only the newest hits of a search, or with the newest first.
    pub(crate) fn in_scope(mut self, newest: Option<u64>, reverse: bool) -> Self {
        (self.reverse, self.left) = (reverse, newest.unwrap_or(u64::MAX));
        self.unsought = newest.filter(|_| !reverse).map(|_| self.range.clone());
        self
    }

    /// The same as people see it: the newest correction of an entry, as of `head`, comes right before that.
    pub(crate) fn shown_as_of(self, head: u64) -> Self {
        Self { shown: Some(head), ..self }
    }

    /// Whether [`Journal::seek`](crate::Journal::seek) has to find its first entry.
    pub fn is_unsought(&self) -> bool {
        self.unsought.is_some()
    }

    /// The seq of the first entry.
    pub fn first(&self) -> u64 {
        self.range.first
    }

    /// The seq of the last entry so far; below [`first`](Self::first) if there is none.
    pub fn last(&self) -> u64 {
        self.range.last
    }

    /// Whether its lines come as people see them.
    pub fn is_shown(&self) -> bool {
        self.shown.is_some()
    }

    /// Whether every entry between the first and the last belongs to it. If not, notes among the lines tell the gaps
    /// ([`Gap::of_note`]).
    pub fn is_dense(&self) -> bool {
        self.range.is_dense()
    }

    /// Makes a search check the lines that it passes over, and put notes in the place of gaps.
    pub fn check_lines(&mut self) {
        self.walker = self.is_dense().then(|| Walker::new(self.first(), self.seal));
    }

    /// Moves past `lines`, or past everything if there are none, and tells `auditor` what was read.
    pub(crate) fn pass(&mut self, lines: &[u8], auditor: &Auditor) {
        // Where the last line is damaged, the one before it speaks for it.
        let mut backwards = lines.rsplit(|&b| b == b'\n').skip(1);
        let last = if lines.is_empty() {
            Some(self.range.last)
        } else {
            backwards.find_map(|line| SealedLine::check(line, self.seal).map(|line| line.seq))
        };
        if self.is_dense()
            && let Some(last) = last
        {
            auditor.read(self.next, last);
            self.next = self.next.max(last + 1);
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
    /// What notes among the lines say is damaged or missing. A search has such notes only if it checks lines.
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
pub struct Reading<T>(AbortOnDropHandle<Result<T, ReadError>>);

impl<T: Send + 'static> Reading<T> {
    /// Runs `work` on a thread of the blocking pool.
    pub(crate) fn blocking(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Self {
        Self(AbortOnDropHandle::new(tokio::task::spawn_blocking(|| Ok(work()?))))
    }

    /// Runs `work`, which may wait before it reads.
    pub(crate) fn after(work: impl Future<Output = Result<T, ReadError>> + Send + 'static) -> Self {
        Self(AbortOnDropHandle::new(tokio::spawn(work)))
    }
}

impl<T> Future for Reading<T> {
    type Output = Result<T, ReadError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A join error means a panic, or the end of the runtime.
        let read = std::task::ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(read.map_err(|error| ReadError::Disk(io::Error::other(error))).and_then(|read| read))
    }
}
