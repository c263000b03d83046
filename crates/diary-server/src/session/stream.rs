//! Entries on their way to one client: the answer to a history or a search, or a follow.
//!
//! A stream pulls: it reads the next page when its session has room for it. So a slow client costs
//! nothing and loses nothing.

use std::sync::Arc;

use bytes::Bytes;
use diary_engine::limits::PAGE_BYTES;
use diary_engine::{Cursor, Journal, Needle, Page, Progress, ReadError, Reading, Searcher};
use diary_proto::block::Walker;
use diary_proto::relation::Levels;
use diary_proto::{Filter, Scope};
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::budget::Reservation;
use crate::context::Context;
use crate::front::{Kind, Walk};
use crate::limits::{ANSWERS_FREE_BYTES, PAGES_IN_A_ROW_MAX};

/// A stream of entries.
pub(crate) struct Stream {
    journal: Arc<Journal>,
    pub(crate) id: u32,
    pub(crate) kind: Kind,
    pub(crate) walk: Walk,
    /// What a search looks for, and whose turns it takes.
    search: Option<(Arc<Needle>, Searcher)>,
    /// A search notes what is damaged or missing.
    checks: bool,
    /// Wakes a follow when the head moves.
    progress: Option<watch::Receiver<Progress>>,
    state: State,
    /// Pages that were had without waiting, since others had their turn.
    pages_in_a_row: u32,
}

/// What was read, and the memory that it takes, until it is in an account. None if it is little.
type Reserved<T> = (T, Option<Reservation>);

enum State {
    /// Where the entries begin.
    Finding(Reading<Cursor>),
    Reading(Reading<Reserved<Page>>),
    /// The next line is longer than what could be reserved at once.
    Reserving(BoxFuture<'static, Reservation>, Cursor, usize),
    /// There is more to read.
    More(Cursor),
    /// A page has been given out, and it was the last for now.
    Ending(Cursor),
    /// All has been given out; a follow waits for more.
    CaughtUp(Cursor),
    /// It failed, or is complete.
    Over,
}

/// What a stream gives out.
#[derive(Debug)]
pub(crate) enum Piece {
    /// The first entry is found.
    Begin { first: u64, last: u64, dense: bool, shown: bool },
    /// Whole stored lines.
    Lines(Reserved<Bytes>),
    /// Everything up to this seq has been given out. The end, except of a follow.
    CaughtUp { last: u64 },
}

impl Stream {
    /// All of a scope that is [plain](Scope::is_plain).
    pub(crate) fn history(journal: &Arc<Journal>, id: u32, scope: Scope) -> Self {
        let mut stream = Self::new(journal, id, Kind::History, journal.find(scope));
        stream.walk.shown = scope.shown;
        stream
    }

    /// With `checks`, what is damaged or missing is noted among the hits.
    pub(crate) fn search(
        journal: &Arc<Journal>,
        searcher: Searcher,
        id: u32,
        filter: &Filter,
        checks: bool,
    ) -> Self {
        let search = Some((Arc::new(Needle::new(filter, journal.seal())), searcher));
        let mut stream = Self::new(journal, id, Kind::Search, journal.find(filter.scope));
        (stream.checks, stream.search, stream.walk.shown) = (checks, search, filter.scope.shown);
        stream
    }

    /// An entry with all that answers it.
    pub(crate) fn thread(journal: &Arc<Journal>, id: u32, seq: u64) -> Self {
        let mut stream = Self::new(journal, id, Kind::Thread, journal.thread(seq));
        (stream.walk.shown, stream.walk.levels) = (true, Some(Levels::default()));
        stream
    }

    /// An entry and all its corrections.
    pub(crate) fn versions(journal: &Arc<Journal>, id: u32, seq: u64) -> Self {
        Self::new(journal, id, Kind::Search, journal.versions(seq))
    }

    pub(crate) fn follow(journal: &Arc<Journal>, id: u32, from: u64) -> Self {
        let mut stream = Self::new(journal, id, Kind::Follow, journal.follow(from));
        stream.progress = Some(journal.watch());
        stream.walk.walker = Some(Walker::new(from, journal.seal()));
        stream
    }

    fn new(journal: &Arc<Journal>, id: u32, kind: Kind, finding: Reading<Cursor>) -> Self {
        Self {
            journal: Arc::clone(journal),
            id,
            kind,
            walk: Walk::of(journal.seal()),
            search: None,
            checks: false,
            progress: None,
            state: State::Finding(finding),
            pages_in_a_row: 0,
        }
    }

    /// What comes next. Cancel safe: what was read stays in the stream until it is given out.
    ///
    /// # Errors
    /// Those of reading the disk; the stream is over then.
    pub(crate) async fn next(&mut self, context: &Context) -> Result<Piece, ReadError> {
        loop {
            match &mut self.state {
                State::Finding(finding) => {
                    let found = finding.await;
                    self.state = State::Over;
                    if let Some(begin) = self.begin(found?) {
                        return Ok(begin);
                    }
                }
                State::Reading(reading) => {
                    let read = reading.await;
                    self.state = State::Over;
                    let (page, reserved) = read?;
                    self.walk.gaps.extend(page.gaps);
                    self.state = match page.needs_bytes {
                        Some(bytes) => {
                            let reserving = Arc::clone(&context.answers).reserve(bytes, None);
                            State::Reserving(Box::pin(reserving), page.cursor, bytes)
                        }
                        None if page.ended => State::Ending(page.cursor),
                        None => State::More(page.cursor),
                    };
                    if !page.lines.is_empty() {
                        return Ok(Piece::Lines((page.lines, reserved)));
                    }
                }
                State::Reserving(reserving, ..) => {
                    let reserved = Some(reserving.await);
                    if let State::Reserving(_, cursor, bytes) =
                        std::mem::replace(&mut self.state, State::Over)
                    {
                        let reserve = move || (bytes, reserved);
                        self.state = State::Reading(self.begin_page(cursor, reserve));
                    }
                }
                State::CaughtUp(cursor) => {
                    let last = cursor.last();
                    let Some(progress) = &mut self.progress else { return std::future::pending().await };
                    if progress.wait_for(|progress| progress.head > last).await.is_err() {
                        // The writer is gone: nothing more will come.
                        return std::future::pending().await;
                    }
                    if let Some(lines) = self.read_on(context) {
                        return Ok(Piece::Lines((lines, None)));
                    }
                }
                State::More(_) => {
                    // Yield: this loop may never pend.
                    self.pages_in_a_row += 1;
                    if self.pages_in_a_row.is_multiple_of(PAGES_IN_A_ROW_MAX) {
                        tokio::task::yield_now().await;
                    }
                    if let Some(lines) = self.read_on(context) {
                        return Ok(Piece::Lines((lines, None)));
                    }
                }
                State::Ending(cursor) => {
                    let last = cursor.last();
                    self.state = State::CaughtUp(self.take_cursor());
                    return Ok(Piece::CaughtUp { last });
                }
                State::Over => return std::future::pending().await,
            }
        }
    }

    fn begin(&mut self, mut cursor: Cursor) -> Option<Piece> {
        if let Some((needle, searcher)) = self.search.as_ref().filter(|_| cursor.is_unsought()) {
            self.state = State::Finding(self.journal.seek(cursor, Arc::clone(needle), searcher));
            return None;
        }
        let (first, last, dense) = (cursor.first(), cursor.last(), cursor.is_dense());
        if self.kind == Kind::History && dense {
            self.walk.walker = Some(Walker::new(first, self.walk.seal));
        }
        self.walk.shown &= cursor.is_shown() || self.kind == Kind::Thread;
        if self.checks {
            cursor.check_lines();
        }
        self.state = State::More(cursor);
        let dense = dense && self.kind == Kind::History;
        (self.kind != Kind::Follow).then_some(Piece::Begin { first, last, dense, shown: self.walk.shown })
    }

    /// Reads what is in memory, or begins to read what is on disk. While memory is short, it is little at a time.
    fn read_on(&mut self, context: &Context) -> Option<Bytes> {
        let mut cursor = self.take_cursor();
        let page_bytes = |has_room: bool| if has_room { PAGE_BYTES } else { ANSWERS_FREE_BYTES };
        if self.search.is_none() {
            let max_bytes = page_bytes(context.answers.has_room());
            if let Some(lines) = self.journal.try_page(&mut cursor, max_bytes) {
                let ended = lines.is_empty();
                self.state = if ended { State::Ending(cursor) } else { State::More(cursor) };
                return (!ended).then_some(lines);
            }
        }
        let answers = Arc::clone(&context.answers);
        let reserve = move || {
            let reserved = answers.try_reserve(PAGE_BYTES);
            (page_bytes(reserved.is_some()), reserved)
        };
        self.state = State::Reading(self.begin_page(cursor, reserve));
        None
    }

    fn begin_page(
        &self,
        cursor: Cursor,
        reserve: impl FnOnce() -> (usize, Option<Reservation>) + Send + 'static,
    ) -> Reading<Reserved<Page>> {
        match &self.search {
            Some((needle, searcher)) => self.journal.search(cursor, Arc::clone(needle), searcher, reserve),
            None => self.journal.page(cursor, reserve),
        }
    }

    /// Logs the gaps that were met.
    pub(crate) fn tell_gaps(&mut self) {
        self.journal.tell_gaps(&mut self.walk.gaps);
    }

    /// Whether it holds memory that was reserved for its next piece, or soon will.
    pub(crate) fn has_reserved(&self) -> bool {
        matches!(self.state, State::Reading(_) | State::Reserving(..))
    }

    /// Memory of what it looks for, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.search.as_ref().map_or(0, |(needle, _)| needle.held_bytes())
    }

    /// The cursor, which the next state gets.
    fn take_cursor(&mut self) -> Cursor {
        match std::mem::replace(&mut self.state, State::Over) {
            State::More(cursor) | State::Ending(cursor) | State::CaughtUp(cursor) => cursor,
            State::Finding(_) | State::Reading(_) | State::Reserving(..) | State::Over => {
                unreachable!("nothing has been read")
            }
        }
    }
}
