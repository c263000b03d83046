//! Reading from a cursor, page by page.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use diary_proto::block::{Gap, Walker};
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
    /// Checks the lines that a search passes over.
    pub(crate) walker: Option<Walker>,
    /// It has no end: every page reaches as far as the head does by then.
    pub(crate) follows: Option<Recently>,
}

impl Cursor {
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
        self.walker = self.is_dense().then(|| Walker::new(self.first()));
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
    /// What a search that checks lines has noted.
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
