//! Position of a reading: what was delivered, and what to request next. Does no I/O.

use std::collections::VecDeque;

use bytes::Bytes;
use diary_proto::block::{Gap, Step, Walker};
use diary_proto::entry::{StoredLine, is_note};
use diary_proto::message::{ClientMessage, ServerMessage};
use diary_proto::{Code, Filter, Scope, Which};

use crate::connection::lost_by;
use crate::error::Error;
use crate::event::{Block, Event, Stored};
use crate::seen::Seen;

/// Id of a reading's first request. Its connection serves no other reading.
const REQUEST: u32 = 1;

/// The request of a reading.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Select(Filter),
    Follow(Option<u64>),
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
}

/// Collects what a reading delivers.
pub(crate) trait Gather: Default {
    /// Returns whether there is nothing to deliver.
    fn is_empty(&self) -> bool;

    /// Takes contiguous lines: missing entries become gaps.
    fn take_block(&mut self, range: &mut Range, lines: Bytes, seen: &Seen);

    /// Takes hits, in the range's order: an invalid line does not tell what is missing.
    fn take_hits(&mut self, range: &mut Range, lines: &[u8], seen: &Seen);

    /// Takes a gap of entries that did not come.
    fn take_gap(&mut self, gap: Gap);

    /// Records that the journal was restored from an older copy, and now ends with `head`.
    fn take_restored(&mut self, head: u64);
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
        if !was_restored {
            return Ok(());
        }
        match &mut self.ask {
            Ask::Follow(from) => {
                let has_begun = self.range.take().is_some();
                *from = (*from).filter(|&from| !has_begun && from <= head).or(Some(head + 1));
                gathered.take_restored(head);
            }
            Ask::Select(_) if self.range.is_some() => {
                let what = "the entries that were read are not those of before";
                return Err(Error::Restored(what.to_owned()));
            }
            Ask::Select(_) => {}
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
            ServerMessage::Answer { id, first, last, dense } if id == self.id => {
                self.begin(first, last, dense)?;
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

    fn begin(&mut self, first: u64, last: u64, dense: bool) -> Result<(), Error> {
        let (may_be_dense, must_be, scope) = match &self.ask {
            Ask::Follow(_) => (true, true, None),
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
        let new = || Range { walker: Walker::new(first, seal), last, dense, reverse, left };
        self.range.get_or_insert_with(new).dense = dense;
        Ok(())
    }

    fn end(&mut self, gathered: &mut impl Gather) -> Result<Taken, Error> {
        let range = self.range.as_mut().ok_or_else(|| Error::protocol("an end before its answer"))?;
        if matches!(self.ask, Ask::Follow(_)) {
            // A follow has no end; the next connection resumes it.
            return Err(Error::protocol("it ended a follow"));
        }
        if range.dense {
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
    Entry(StoredLine<'a>),
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
            if is_note(line, seal) {
                // A note by the server on what it found damaged or missing between hits.
                let gap = Gap::of_note(line, seal).map(|gap| Gap { first: gap.first.max(next), ..gap });
                let gap = gap.filter(|gap| gap.last >= next).and_then(|gap| Self::clip(self.last, gap));
                if let Some(gap) = gap {
                    self.pass(gap);
                    visit(Hit::Gap(gap));
                }
                continue;
            }
            match StoredLine::parse(line, seal) {
                Ok(line) if (next..=self.last).contains(&line.seq) => {
                    self.pass(Gap { first: line.seq, last: line.seq });
                    self.left = self.left.saturating_sub(1);
                    visit(Hit::Entry(line));
                }
                Ok(_) => {}
                Err(_) => visit(Hit::Damaged),
            }
        }
    }

    /// Marks these seqs as met, and those before them in the range's order.
    fn pass(&mut self, Gap { first, last }: Gap) {
        match self.reverse {
            true => self.last = first.saturating_sub(1),
            false => self.walker = Walker::new(last.saturating_add(1), self.walker.seal()),
        }
    }
}

impl Gather for Vec<Event> {
    fn is_empty(&self) -> bool {
        Vec::is_empty(self)
    }

    fn take_gap(&mut self, gap: Gap) {
        self.push(Event::Gap(gap));
    }

    fn take_restored(&mut self, head: u64) {
        self.push(Event::Restored { head });
    }

    fn take_block(&mut self, range: &mut Range, lines: Bytes, seen: &Seen) {
        let last = range.last;
        range.walker.walk(&lines, |step| match step {
            Step::Entry(line) if line.seq <= last => {
                seen.saw(line.seq, line.crc);
                let lost = Event::Gap(Gap { first: line.seq, last: line.seq });
                self.push(Stored::read(&line).map_or(lost, Event::Entry));
            }
            Step::Gap(gap) => self.extend(Range::clip(last, gap).map(Event::Gap)),
            // Entries committed after the first answer began are not part of the range.
            Step::Entry(_) => {}
        });
    }

    fn take_hits(&mut self, range: &mut Range, lines: &[u8], seen: &Seen) {
        let mut damaged = 0;
        range.hits(lines, |hit| match hit {
            Hit::Entry(line) => {
                seen.saw(line.seq, line.crc);
                match Stored::read(&line) {
                    Some(stored) => self.push(Event::Entry(stored)),
                    None => damaged += 1,
                }
            }
            Hit::Gap(gap) => self.take_gap(gap),
            Hit::Damaged => damaged += 1,
        });
        if damaged > 0 {
            self.push(Event::Damaged { lines: damaged });
        }
    }
}

impl Gather for Block {
    fn is_empty(&self) -> bool {
        self.entries == 0 && self.gaps.is_empty()
    }

    fn take_gap(&mut self, gap: Gap) {
        self.gaps.push(gap);
    }

    fn take_restored(&mut self, _head: u64) {
        unreachable!("nobody follows by the block");
    }

    fn take_block(&mut self, range: &mut Range, lines: Bytes, seen: &Seen) {
        let last = range.last;
        let mut newest = None;
        *self = Self { walker: Some(range.walker.clone()), last, ..Self::default() };
        range.walker.pass(
            &lines,
            |_| true,
            |step| match step {
                Step::Entry(line) if line.seq <= last => {
                    self.entries += 1;
                    newest = Some((line.seq, line.crc));
                }
                Step::Gap(gap) => self.gaps.extend(Range::clip(last, gap)),
                Step::Entry(_) => {}
            },
        );
        if let Some((seq, crc)) = newest {
            seen.saw(seq, crc);
        }
        self.lines = lines;
    }

    fn take_hits(&mut self, range: &mut Range, lines: &[u8], seen: &Seen) {
        let walker = Some(range.walker.clone());
        *self = Self { walker, last: range.last, is_sparse: true, ..Self::default() };
        range.hits(lines, |hit| match hit {
            Hit::Entry(line) => {
                self.entries += 1;
                seen.saw(line.seq, line.crc);
            }
            Hit::Gap(gap) => self.gaps.push(gap),
            Hit::Damaged => self.damaged += 1,
        });
        self.lines = Bytes::copy_from_slice(lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use diary_proto::Seal;
    use diary_proto::entry::{Author, NewLine};

    const JOURNAL: u64 = 1;

    fn seal() -> Seal {
        Seal::of_journal(JOURNAL)
    }

    fn block(seqs: impl IntoIterator<Item = u64>) -> ServerMessage {
        block_of(seal(), seqs)
    }

    fn block_of(seal: Seal, seqs: impl IntoIterator<Item = u64>) -> ServerMessage {
        let author = Author::new("anna").unwrap();
        let mut lines = Vec::new();
        for seq in seqs {
            let time = b"2026-11-21T08:15:02.123456+08:00";
            NewLine { seq, time, own: None, day: None, author: &author, text: "t", index: 0, key: None }
                .write(&mut lines, seal);
        }
        ServerMessage::Block { id: 1, lines: lines.into() }
    }

    /// Returns gap notes as a server writes them.
    fn gaps(gaps: &[(u64, u64)]) -> ServerMessage {
        let mut lines = Vec::new();
        gaps.iter().for_each(|&(first, last)| Gap { first, last }.write_note("lost", &mut lines, seal()));
        ServerMessage::Block { id: 1, lines: lines.into() }
    }

    fn answer(first: u64, last: u64, dense: bool) -> ServerMessage {
        ServerMessage::Answer { id: 1, first, last, dense }
    }

    const END: ServerMessage = ServerMessage::End { id: 1 };

    struct Test(Cursor);

    impl Test {
        fn new(ask: Ask) -> Self {
            Self(Cursor::new(ask, Seen::of(Some(JOURNAL))))
        }

        fn of(scope: impl Into<Scope>) -> Self {
            Self::new(Ask::Select(scope.into().into()))
        }

        /// Checks the outcome of some messages.
        fn check(&mut self, messages: impl IntoIterator<Item = ServerMessage>, expected: &str) {
            let (mut events, mut end) = (Vec::<Event>::new(), String::new());
            for message in messages {
                end = match self.0.take_in(message, &mut events) {
                    Ok(Taken::More) => " …".into(),
                    Ok(Taken::Done) => " done".into(),
                    Ok(Taken::Failed(error)) => format!(" failed {error}"),
                    Err(error) => format!(" lost: {error}"),
                };
            }
            let shown = events.iter().map(|event| match event {
                Event::Entry(stored) => stored.entry.seq.to_string(),
                Event::Gap(gap) => format!("gap {}..{}", gap.first, gap.last),
                Event::Damaged { lines } => format!("damaged {lines}"),
                Event::Restored { head } => format!("restored {head}"),
            });
            assert_eq!(shown.collect::<Vec<_>>().join(" ") + &end, expected);
        }

        fn asks(&self, expected: &str) {
            let show = |Scope { which, up_to, newest, reverse }: Scope| {
                let bound = |word, bound: Option<u64>| {
                    bound.map_or_else(String::new, |bound| format!(" {word} {bound}"))
                };
                let (up_to, newest) = (bound("up to", up_to), bound("newest", newest));
                format!("{which}{up_to}{newest}{}", if reverse { " reverse" } else { "" })
            };
            let request = self.0.request().map(|request| match request {
                ClientMessage::History { scope, .. } => format!("history {}", show(scope)),
                ClientMessage::Follow { from, .. } => format!("follow {from:?}"),
                ClientMessage::Search { filter, .. } => {
                    format!("search {} {:?}", show(filter.scope), filter.contains)
                }
                other => format!("{other:?}"),
            });
            assert_eq!(request.as_deref().unwrap_or("nothing"), expected);
        }
    }

    #[test]
    fn a_history_that_breaks_goes_on_where_it_was_and_keeps_its_end() {
        let mut test = Test::of(Which::Last(5));
        test.asks("history 5");
        test.check([answer(10, 14, true), block(10..=11)], "10 11 …");
        test.asks("history #12.. up to 14");
        test.check([answer(12, 20, true), block(12..=13)], "12 13 …");
        test.check([block(14..=17)], "14 done");
        test.asks("nothing");
    }

    #[test]
    fn gaps_at_the_end_are_told_once() {
        let mut test = Test::of(Which::All);
        test.check([answer(1, 5, true), block([2, 3]), END], "gap 1..1 2 3 gap 4..5 done");
        let mut test = Test::of(Which::All);
        test.check([answer(1, 5, true), block([2, 3])], "gap 1..1 2 3 …");
        test.check([answer(4, 9, true), block([8])], "gap 4..5 done");
        let mut test = Test::of(Which::From(9));
        test.check([answer(9, 3, true), END], " done");
    }

    #[test]
    fn a_follow_resumes_from_what_was_not_delivered() {
        let mut test = Test::new(Ask::Follow(None));
        test.asks("follow None");
        test.check([answer(7, u64::MAX, true)], " …");
        test.asks("follow Some(7)");
        test.check([block(7..=8)], "7 8 …");
        test.asks("follow Some(9)");
        test.check([answer(9, u64::MAX, true), block([10])], "gap 9..9 10 …");
        test.check([END], " lost: the server broke the protocol: it ended a follow");
    }

    #[test]
    fn a_search_leaves_out_what_was_delivered() {
        let mut test = Test::new(Ask::Select(Filter::of_text("t")));
        test.check([answer(1, 30, false), block([3, 7])], "3 7 …");
        test.asks("search #8.. up to 30 [\"t\"]");
        // A server that returns more than was requested does no harm.
        test.check([answer(1, 40, false), block([3, 7, 9, 31]), END], "9 done");
    }

    #[test]
    fn a_search_tells_what_its_server_notes_once() {
        let mut test = Test::new(Ask::Select(Filter::of_text("t")));
        test.check([answer(1, 30, false), block([3]), gaps(&[(5, 6)])], "3 gap 5..6 …");
        test.asks("search #7.. up to 30 [\"t\"]");
        let again = gaps(&[(2, 3), (5, 6), (7, 8), (25, 40), (50, 60)]);
        test.check([answer(5, 60, false), block([7]), again, END], "7 gap 8..8 gap 25..30 done");
    }

    #[test]
    fn the_newest_so_many_stay_the_same() {
        let newest = |newest, reverse| Filter {
            scope: Scope { newest: Some(newest), reverse, ..Which::All.into() },
            ..Filter::of_text("t")
        };
        let mut test = Test::new(Ask::Select(newest(4, false)));
        test.asks("search all newest 4 [\"t\"]");
        test.check([answer(12, 30, false), block([13, 17])], "13 17 …");
        test.asks("search #18.. up to 30 [\"t\"]");
        test.check([answer(18, 30, false), block([20, 30])], "20 30 …");
        test.asks("nothing");

        let mut test = Test::new(Ask::Select(newest(4, true)));
        test.asks("search all newest 4 reverse [\"t\"]");
        test.check([answer(1, 30, false), block([30]), block([20, 17])], "30 20 17 …");
        test.asks("search #1.. up to 16 newest 1 reverse [\"t\"]");
        test.check([answer(1, 16, false), block([18, 13]), END], "13 done");
    }

    #[test]
    fn a_history_of_the_newest_or_with_the_newest_first_is_not_dense() {
        let scope = |newest, reverse| Scope { newest, reverse, ..Which::All.into() };
        let mut test = Test::of(scope(Some(3), false));
        test.asks("history all newest 3");
        test.check([answer(4, 9, false), block([5])], "5 …");
        test.asks("history #6.. up to 9");
        test.check([answer(6, 9, true), block([6, 9])], "6 gap 7..8 9 done");
        let mut test = Test::of(scope(None, true));
        test.asks("history all reverse");
        test.check([answer(1, 9, false), block([9]), gaps(&[(5, 8)]), block([4])], "9 gap 5..8 4 …");
        test.asks("history #1.. up to 3 reverse");
        test.check([answer(1, 3, false), gaps(&[(3, 8)]), block([2, 1]), END], "gap 3..3 2 1 done");
        let wrong = " lost: the server broke the protocol: wrong kind of range";
        Test::of(scope(None, true)).check([answer(1, 9, true)], wrong);
    }

    #[test]
    fn a_damaged_hit_is_counted() {
        let ServerMessage::Block { lines, .. } = block([3, 4]) else { unreachable!() };
        let mut lines = lines.to_vec();
        lines[5] ^= 1;
        let mut test = Test::new(Ask::Select(Filter::of_text("t")));
        test.check(
            [answer(1, 30, false), ServerMessage::Block { id: 1, lines: lines.into() }],
            "4 damaged 1 …",
        );
    }

    /// As when a server serves files that others put into its directory.
    #[test]
    fn lines_of_another_journal_are_no_entries() {
        let other = Seal::of_journal(JOURNAL + 1);
        let mut test = Test::of(Which::All);
        test.check(
            [answer(1, 4, true), block([1]), block_of(other, [2, 3]), block([4])],
            "1 gap 2..3 4 done",
        );
        let mut test = Test::new(Ask::Select(Filter::of_text("t")));
        let mut note = Vec::new();
        Gap { first: 8, last: 9 }.write_note("lost", &mut note, other);
        let note = ServerMessage::Block { id: 1, lines: note.into() };
        test.check([answer(1, 30, false), block([3]), block_of(other, [4]), note], "3 damaged 1 damaged 1 …");

        let mut cursor = Cursor::new(Ask::Select(Filter::default()), Seen::of(Some(JOURNAL)));
        let mut gathered = Block::default();
        assert!(cursor.take_in(answer(1, 3, true), &mut gathered).is_ok());
        let (ServerMessage::Block { lines: own, .. }, ServerMessage::Block { lines: foreign, .. }) =
            (block([1, 3]), block_of(other, [2]))
        else {
            unreachable!()
        };
        let lines = [&own[..own.len() / 2], &foreign, &own[own.len() / 2..]].concat();
        let block = ServerMessage::Block { id: 1, lines: lines.into() };
        assert!(cursor.take_in(block, &mut gathered).is_ok());
        assert_eq!((gathered.entries, &gathered.gaps[..]), (2, &[Gap { first: 2, last: 2 }][..]));
        let mut seqs = Vec::new();
        gathered.for_each(|step| {
            if let Step::Entry(line) = step {
                seqs.push(line.seq);
            }
        });
        assert_eq!(seqs, [1, 3]);
    }

    #[test]
    fn what_a_server_must_not_say() {
        let refused = |code, fatal| ServerMessage::Error {
            id: 1,
            fatal,
            refusal: diary_proto::Refusal::new(code, "why"),
        };
        for (messages, expected) in [
            (vec![block([1])], " lost: the server broke the protocol: a block before its answer"),
            (vec![END], " lost: the server broke the protocol: an end before its answer"),
            (vec![answer(1, 2, false)], " lost: the server broke the protocol: wrong kind of range"),
            (vec![ServerMessage::End { id: 2 }], " lost: the server broke the protocol: unexpected answer"),
            (
                vec![ServerMessage::Acks(Vec::new())],
                " lost: the server broke the protocol: unexpected answer",
            ),
            (vec![refused(Code::Unreadable, false)], " failed unreadable: why"),
            (vec![refused(Code::Stopping, false)], " lost: the server refused the connection: stopping: why"),
        ] {
            Test::of(Which::All).check(messages, expected);
        }
    }
}
