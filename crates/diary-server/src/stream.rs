//! Entries on their way to one client: the answer to a history or a search, or a follow.
//!
//! A stream pulls: it reads the next page when its session has room for it. So a slow client costs
//! nothing and loses nothing.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use diary_proto::block::Walker;
use diary_proto::{Filter, Which};
use diary_store::Range;
use tokio::sync::watch;

use crate::front::{Kind, Walk};
use crate::journal::{Asked, Journal, Page, Progress, Recently};
use crate::limits::PAGES_IN_A_ROW_MAX;
use crate::needle::Needle;

/// A stream of entries.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) kind: Kind,
    pub(crate) walk: Walk,
    needle: Option<Arc<Needle>>,
    /// Checks the lines that a search passes over.
    check: Option<Walker>,
    /// Whether it does.
    checks: bool,
    live: Option<Live>,
    state: State,
    /// Pages that were had without waiting, since others had their turn.
    pages_in_a_row: u32,
}

/// What a follow goes on with once it is up to date.
#[derive(Debug)]
struct Live {
    progress: watch::Receiver<Progress>,
    recent: Recently,
}

#[derive(Debug)]
enum State {
    Finding(Asked<Range>),
    Reading(Asked<Page>),
    /// There is more to read.
    More(Range),
    /// A page has been given out, and it was the last for now.
    Ending(Range),
    /// All has been given out; a follow waits for more.
    CaughtUp(Range),
    /// It failed, or is complete.
    Over,
}

/// What a stream gives out.
#[derive(Debug)]
pub(crate) enum Piece {
    /// The range is found.
    Begin { first: u64, last: u64, dense: bool },
    /// Whole stored lines.
    Lines(Bytes),
    /// Everything up to this seq has been given out. The end, except of a follow.
    CaughtUp { last: u64 },
}

impl Stream {
    pub(crate) fn history(journal: &Journal, id: u32, which: Which) -> Self {
        Self::new(id, Kind::History, None, State::Finding(journal.range(which)))
    }

    /// With `checks`, what is damaged or missing is noted among the hits.
    pub(crate) fn search(journal: &Journal, id: u32, filter: &Filter, checks: bool) -> Self {
        let finding = State::Finding(journal.range(filter.which));
        Self { checks, ..Self::new(id, Kind::Search, Some(Arc::new(Needle::new(filter))), finding) }
    }

    pub(crate) fn follow(journal: &Journal, id: u32, from: u64) -> Self {
        let live = Some(Live { progress: journal.watch(), recent: journal.recent() });
        let state = State::Finding(journal.range(Which::From(from)));
        let mut stream = Self { live, ..Self::new(id, Kind::Follow, None, state) };
        stream.walk.walker = Some(Walker::new(from));
        stream
    }

    fn new(id: u32, kind: Kind, needle: Option<Arc<Needle>>, state: State) -> Self {
        Self {
            id,
            kind,
            walk: Walk { walker: None, count: 0, gaps: Vec::new() },
            needle,
            check: None,
            checks: false,
            live: None,
            state,
            pages_in_a_row: 0,
        }
    }

    /// What comes next. Cancellation safe: nothing is lost if it is dropped before it completes.
    ///
    /// # Errors
    /// Those of reading the disk; the stream is over then.
    pub(crate) async fn next(&mut self, journal: &Journal) -> io::Result<Piece> {
        loop {
            match &mut self.state {
                State::Finding(finding) => {
                    let found = joined(finding.await);
                    self.state = State::Over;
                    let range = found?;
                    let (first, last, dense) = (range.first, range.last, range.is_dense());
                    self.state = State::More(range);
                    if self.kind == Kind::History && dense {
                        self.walk.walker = Some(Walker::new(first));
                    }
                    self.check = (self.checks && dense).then(|| Walker::new(first));
                    if self.kind != Kind::Follow {
                        let dense = dense && self.kind == Kind::History;
                        return Ok(Piece::Begin { first, last, dense });
                    }
                }
                State::Reading(reading) => {
                    let read = joined(reading.await);
                    self.state = State::Over;
                    let page = read?;
                    self.check = page.walker;
                    self.walk.gaps.extend(page.gaps);
                    self.state = if page.ended { State::Ending(page.range) } else { State::More(page.range) };
                    if !page.lines.is_empty() {
                        return Ok(Piece::Lines(page.lines));
                    }
                }
                State::CaughtUp(range) => {
                    let last = range.last;
                    let Some(live) = &mut self.live else { return std::future::pending().await };
                    if live.progress.wait_for(|progress| progress.head > last).await.is_err() {
                        // The writer is gone: nothing more will come.
                        return std::future::pending().await;
                    }
                    if let Some(lines) = live.recent.next(range) {
                        return Ok(Piece::Lines(lines));
                    }
                    self.state = State::More(range.clone());
                }
                State::More(range) => {
                    // What needs no waiting would never let go of the thread. Nothing may be waited for once
                    // the range has moved.
                    self.pages_in_a_row += 1;
                    if self.pages_in_a_row.is_multiple_of(PAGES_IN_A_ROW_MAX) {
                        tokio::task::yield_now().await;
                    }
                    if self.needle.is_none()
                        && let Some(lines) = journal.page_now(range, self.kind == Kind::Follow)
                    {
                        if lines.is_empty() {
                            self.state = State::Ending(range.clone());
                            continue;
                        }
                        return Ok(Piece::Lines(lines));
                    }
                    let range = range.clone();
                    self.state = State::Reading(match &self.needle {
                        Some(needle) => journal.search(range, Arc::clone(needle), self.check.take()),
                        None => journal.page(range, self.kind == Kind::Follow),
                    });
                }
                State::Ending(range) => {
                    let last = range.last;
                    self.state = State::CaughtUp(range.clone());
                    return Ok(Piece::CaughtUp { last });
                }
                State::Over => return std::future::pending().await,
            }
        }
    }
}

/// A task for blocking work neither panics nor is it aborted, except when the runtime ends.
fn joined<T>(result: Result<io::Result<T>, tokio::task::JoinError>) -> io::Result<T> {
    result.unwrap_or_else(|error| Err(io::Error::other(error)))
}
