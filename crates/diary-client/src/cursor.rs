//! Position of a reading: what was delivered, and what to request next. Does no I/O.

mod gather;

use std::collections::VecDeque;

use diary_proto::block::{Gap, Walker};
use diary_proto::entry::{StoredLine, is_note};
use diary_proto::message::{ClientMessage, ServerMessage};
use diary_proto::{Code, Filter, Relation, Scope, Seal, Which};

use crate::connection::lost_by;
use crate::error::Error;
use crate::seen::Seen;
pub(crate) use gather::Gather;

/// Id of a reading's first request. Its connection serves no other reading.
const REQUEST: u32 = 1;

/// The request of a reading.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Select(Filter),
    Follow(Option<u64>),
    Thread(u64),
    Versions(u64),
}

/// Position of a reading.
pub(crate) struct Cursor {
    id: u32,
    ask: Ask,
    /// Set once an answer has begun.
    range: Option<Range>,
    seen: Seen,
}

/// Entries still to come. The range stays the same across reconnects.
pub(crate) struct Range {
    /// Position of the first of them.
    walker: Walker,
    last: u64,
    /// Whether every seq in between is part of the range, oldest first.
    dense: bool,
    /// Whether the newest entry comes first.
    reverse: bool,
    /// Number of entries still wanted.
    left: u64,
    /// In a thread, entries are in no order of seqs.
    thread: Option<InThread>,
    /// Entries come as people see them.
    shown: bool,
    /// Line of the newest correction of the entry that should come next.
    newest: Option<Vec<u8>>,
}

/// Position in a thread. The order of the entries up to a seq stays the same, whatever answers come later.
#[derive(Default)]
struct InThread {
    /// Number of entries that were met.
    met: u64,
    /// The same on the present connection, which begins anew.
    now: u64,
}

/// Effect of a message on the reading.
pub(crate) enum Taken {
    /// More may come.
    More,
    /// The reading is complete.
    Done,
    /// The request can never be served.
    Failed(Error),
}

impl Cursor {
    pub(crate) fn new(ask: Ask, seen: Seen) -> Self {
        Self { id: REQUEST, ask, range: None, seen }
    }

    /// Creates one cursor per request. They are answered in turn over one connection.
    pub(crate) fn in_turn(asks: impl IntoIterator<Item = Ask>, seen: &Seen) -> VecDeque<Self> {
        (REQUEST..).zip(asks).map(|(id, ask)| Self { id, ..Self::new(ask, seen.clone()) }).collect()
    }

    /// Handles a new connection, to a journal that ends with `head`. If the journal `was_restored` since the
    /// connection before, a follow goes on after `head`.
    ///
    /// # Errors
    /// [`Error::Restored`] if the entries still to be read may no longer exist.
    pub(crate) fn connected(
        &mut self,
        seen: &Seen,
        head: u64,
        was_restored: bool,
        gathered: &mut impl Gather,
    ) -> Result<(), Error> {
        self.seen = seen.clone();
        if let Some(range) = &mut self.range {
            range.newest = None;
            if let Some(thread) = &mut range.thread {
                thread.now = 0;
            }
        }
        if !was_restored {
            return Ok(());
        }
        match &mut self.ask {
            Ask::Follow(from) => {
                let has_begun = self.range.take().is_some();
                *from = (*from).filter(|&from| !has_begun && from <= head).or(Some(head + 1));
                gathered.take_restored(head);
            }
            Ask::Select(_) | Ask::Thread(_) | Ask::Versions(_) if self.range.is_some() => {
                let what = "the entries that were read are not those of before";
                return Err(Error::Restored(what.to_owned()));
            }
            Ask::Select(_) | Ask::Thread(_) | Ask::Versions(_) => {}
        }
        Ok(())
    }

    /// Returns the request for a new connection; `None` if nothing is missing.
    pub(crate) fn request(&self) -> Option<ClientMessage> {
        let id = self.id;
        if self.is_complete() {
            return None;
        }
        Some(match &self.ask {
            Ask::Follow(from) => {
                let next = self.range.as_ref().map(|range| range.walker.next_seq());
                ClientMessage::Follow { id, from: next.or(*from) }
            }
            Ask::Thread(seq) => ClientMessage::Thread { id, seq: *seq },
            Ask::Versions(seq) => ClientMessage::Versions { id, seq: *seq },
            Ask::Select(filter) if filter.takes_all_of_its_scope() => {
                ClientMessage::History { id, scope: self.rest(filter.scope) }
            }
            Ask::Select(filter) => {
                let scope = self.rest(filter.scope);
                ClientMessage::Search { id, filter: Filter { scope, ..filter.clone() } }
            }
        })
    }

    /// Returns the part of a scope still to come. The range of the first answer is kept.
    fn rest(&self, scope: Scope) -> Scope {
        let Some(range) = &self.range else { return scope };
        let which = match scope.which {
            // Entries of some days need not be contiguous, so request all; those delivered are skipped.
            Which::Days(..) if !range.dense => scope.which,
            _ => Which::From(range.walker.next_seq()),
        };
        // With the oldest first, the range begins with the first entry wanted.
        let newest = scope.newest.map(|_| range.left).filter(|_| scope.reverse);
        Scope { which, up_to: Some(range.last), newest, ..scope }
    }

    /// Handles a message; its entries go to `gathered`. An error ends the connection, not the reading.
    pub(crate) fn take_in(
        &mut self,
        message: ServerMessage,
        gathered: &mut impl Gather,
    ) -> Result<Taken, Error> {
        match message {
            // End of the request before, which was complete without it.
            ServerMessage::End { id } if id < self.id => {}
            ServerMessage::Answer { id, first, last, dense, shown } if id == self.id => {
                self.begin(first, last, dense, shown)?;
            }
            ServerMessage::Block { id, lines } if id == self.id => {
                let range =
                    self.range.as_mut().ok_or_else(|| Error::protocol("a block before its answer"))?;
                if !range.dense {
                    gathered.take_hits(range, &lines, &self.seen);
                } else {
                    gathered.take_block(range, lines, &self.seen);
                    // The end message adds nothing.
                    if self.is_complete() {
                        return Ok(Taken::Done);
                    }
                }
            }
            ServerMessage::End { id } if id == self.id => return self.end(gathered),
            ServerMessage::Error { id, fatal, refusal } if id == self.id => {
                let passing = matches!(refusal.code, Code::Stopping | Code::Busy | Code::DiskFailed);
                if fatal || passing {
                    return Err(lost_by(refusal));
                }
                return Ok(Taken::Failed(Error::Refused(refusal)));
            }
            ServerMessage::Error { refusal, .. } => return Err(lost_by(refusal)),
            ServerMessage::Bye { reason } => return Err(Error::Bye(reason)),
            _ => return Err(Error::protocol("unexpected answer")),
        }
        Ok(Taken::More)
    }

    fn begin(&mut self, first: u64, last: u64, dense: bool, shown: bool) -> Result<(), Error> {
        let (may_be_dense, must_be, scope) = match &self.ask {
            Ask::Follow(_) => (true, true, None),
            Ask::Thread(_) | Ask::Versions(_) => (false, false, None),
            Ask::Select(Filter { scope, .. }) if scope.reverse => (false, false, Some(scope)),
            Ask::Select(filter) => {
                let (plain, scope) = (filter.takes_all_of_its_scope(), &filter.scope);
                let by_seq = !matches!(scope.which, Which::Days(..)) && scope.newest.is_none();
                (plain, plain && by_seq, Some(scope))
            }
        };
        if (dense && !may_be_dense) || (!dense && must_be) {
            return Err(Error::protocol("wrong kind of range"));
        }
        let seal = self.seen.seal().ok_or_else(|| Error::protocol("an answer before its welcome"))?;
        let reverse = scope.is_some_and(|scope| scope.reverse);
        let left = scope.and_then(|scope| scope.newest).unwrap_or(u64::MAX);
        let thread = matches!(self.ask, Ask::Thread(_) | Ask::Versions(_)).then(InThread::default);
        let new = || Range {
            walker: Walker::new(first, seal),
            last,
            dense,
            reverse,
            left,
            thread,
            shown,
            newest: None,
        };
        let is_asked = scope.map_or(matches!(self.ask, Ask::Thread(_)), |scope| scope.shown);
        let range = self.range.get_or_insert_with(new);
        (range.dense, range.shown) = (dense, shown && is_asked);
        Ok(())
    }

    fn end(&mut self, gathered: &mut impl Gather) -> Result<Taken, Error> {
        let range = self.range.as_mut().ok_or_else(|| Error::protocol("an end before its answer"))?;
        if matches!(self.ask, Ask::Follow(_)) {
            // A follow has no end; the next connection resumes it.
            return Err(Error::protocol("it ended a follow"));
        }
        if range.dense {
            range.pass_held(u64::MAX, gathered);
            range.walker.finish(range.last).into_iter().for_each(|gap| gathered.take_gap(gap));
        }
        Ok(Taken::Done)
    }

    /// Returns whether every entry of the range was met.
    fn is_complete(&self) -> bool {
        self.range.as_ref().is_some_and(|range| range.walker.next_seq() > range.last)
    }
}

impl Range {
    /// Returns the part of a gap that lies in the range.
    fn clip(last: u64, gap: Gap) -> Option<Gap> {
        (gap.first <= last).then(|| Gap { first: gap.first, last: gap.last.min(last) })
    }
}

/// An item of a range that is not dense.
enum Hit<'a> {
    /// With the line of its newest correction.
    Entry(StoredLine<'a>, Option<Vec<u8>>),
    /// A correction in its own place, which people do not see.
    Unseen,
    /// Gap noted by the server.
    Gap(Gap),
    /// A line that cannot be read.
    Damaged,
}

impl Range {
    /// Visits the hits in `lines`, skipping what was met before.
    fn hits<'a>(&mut self, lines: &'a [u8], mut visit: impl FnMut(Hit<'a>)) {
        let seal = self.walker.seal();
        for line in lines.split_inclusive(|&b| b == b'\n').filter_map(|line| line.strip_suffix(b"\n")) {
            let next = self.walker.next_seq();
            let (hit, seqs) = if is_note(line, seal) {
                // A note by the server on what it found damaged or missing between hits.
                let gap = Gap::of_note(line, seal).map(|gap| Gap { first: gap.first.max(next), ..gap });
                let gap = gap.filter(|gap| gap.last >= next).and_then(|gap| Self::clip(self.last, gap));
                let Some(gap) = gap else { continue };
                (Hit::Gap(gap), gap)
            } else {
                let parsed = StoredLine::parse(line, seal);
                if parsed.is_ok_and(|parsed| self.holds(&parsed, line)) {
                    continue;
                }
                // If it is of another, that one is damaged.
                let newest = self
                    .newest
                    .take()
                    .filter(|newest| parsed.is_ok_and(|line| corrects(newest, &line, seal)));
                match parsed {
                    Ok(line) if !(next..=self.last).contains(&line.seq) => continue,
                    Ok(line) if self.shown && is_correction(&line) => {
                        (Hit::Unseen, Gap { first: line.seq, last: line.seq })
                    }
                    Ok(line) => (Hit::Entry(line, newest), Gap { first: line.seq, last: line.seq }),
                    Err(_) => (Hit::Damaged, Gap { first: next, last: next - 1 }),
                }
            };
            if self.pass(&hit, seqs) {
                visit(hit);
            }
        }
    }

    /// Whether some of these lines may be corrections, which are not seen in their own place.
    fn may_be_corrected(&self, lines: &[u8]) -> bool {
        self.shown && (self.newest.is_some() || memchr::memmem::find(lines, b" corrects=").is_some())
    }

    /// Keeps the newest correction of the entry that comes next. False if the line is none: only a copy comes before what it
    /// corrects.
    fn holds(&mut self, line: &StoredLine<'_>, bytes: &[u8]) -> bool {
        let is_copy = self.shown
            && is_correction(line)
            && line.relation.is_some_and(|relation| relation.seq() >= self.walker.next_seq());
        if is_copy {
            self.newest = Some(bytes.to_vec());
        }
        is_copy
    }

    /// Passes a held correction that the entry `seq` shows to be in its own place: what it corrects is damaged.
    fn pass_held(&mut self, seq: u64, gathered: &mut impl Gather) {
        let (seal, last) = (self.walker.seal(), self.last);
        let Some(held) = self.newest.take() else { return };
        let Ok(held) = StoredLine::parse(&held, seal) else { return };
        if held.seq < seq && held.seq <= last {
            self.walker.finish(held.seq - 1).into_iter().for_each(|gap| gathered.take_gap(gap));
            self.walker = Walker::new(held.seq + 1, seal);
        }
    }

    /// Goes on behind a hit, and all that is before it in the range's order. False if it was met before.
    fn pass(&mut self, hit: &Hit<'_>, Gap { first, last }: Gap) -> bool {
        if let Some(thread) = &mut self.thread {
            thread.now += 1;
            let is_new = thread.now > thread.met;
            thread.met = thread.met.max(thread.now);
            return is_new;
        }
        match hit {
            Hit::Damaged => return true,
            Hit::Entry(..) => self.left = self.left.saturating_sub(1),
            Hit::Gap(_) | Hit::Unseen => {}
        }
        match self.reverse {
            true => self.last = first.saturating_sub(1),
            false => self.walker = Walker::new(last.saturating_add(1), self.walker.seal()),
        }
        true
    }
}

/// Whether the line `newest` corrects this entry.
fn corrects(newest: &[u8], entry: &StoredLine<'_>, seal: Seal) -> bool {
    let newest = StoredLine::parse(newest, seal);
    newest.is_ok_and(|newest| newest.relation == Some(Relation::Corrects(entry.seq)))
}

fn is_correction(line: &StoredLine<'_>) -> bool {
    line.relation.is_some_and(Relation::is_correction)
}

#[cfg(test)]
mod tests;
