//! Tests of a reading's position.

use super::*;
use crate::event::{Block, Event};
use diary_proto::Seal;
use diary_proto::block::Step;
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
        NewLine::new(seq, time, &author, "t").write(&mut lines, seal);
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
    ServerMessage::Answer { id: 1, first, last, dense, shown: true }
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
        let show = |Scope { which, up_to, newest, reverse, shown: _ }: Scope| {
            let bound =
                |word, bound: Option<u64>| bound.map_or_else(String::new, |bound| format!(" {word} {bound}"));
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
    test.check([answer(1, 30, false), ServerMessage::Block { id: 1, lines: lines.into() }], "4 damaged 1 …");
}

/// As when a server serves files that others put into its directory.
#[test]
fn lines_of_another_journal_are_no_entries() {
    let other = Seal::of_journal(JOURNAL + 1);
    let mut test = Test::of(Which::All);
    test.check([answer(1, 4, true), block([1]), block_of(other, [2, 3]), block([4])], "1 gap 2..3 4 done");
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
    let refused =
        |code, fatal| ServerMessage::Error { id: 1, fatal, refusal: diary_proto::Refusal::new(code, "why") };
    for (messages, expected) in [
        (vec![block([1])], " lost: the server broke the protocol: a block before its answer"),
        (vec![END], " lost: the server broke the protocol: an end before its answer"),
        (vec![answer(1, 2, false)], " lost: the server broke the protocol: wrong kind of range"),
        (vec![ServerMessage::End { id: 2 }], " lost: the server broke the protocol: unexpected answer"),
        (vec![ServerMessage::Acks(Vec::new())], " lost: the server broke the protocol: unexpected answer"),
        (vec![refused(Code::Unreadable, false)], " failed unreadable: why"),
        (vec![refused(Code::Stopping, false)], " lost: the server refused the connection: stopping: why"),
    ] {
        Test::of(Which::All).check(messages, expected);
    }
}

#[test]
fn a_thread_that_breaks_goes_on_behind_what_was_read_whatever_is_answered_meanwhile() {
    let mut test = Test::new(Ask::Thread(3));
    test.asks("Thread { id: 1, seq: 3 }");
    test.check([answer(3, 9, false), block([3, 5]), gaps(&[(8, 8)])], "3 5 gap 8..8 …");
    let seen = test.0.seen.clone();
    test.0.connected(&seen, 12, false, &mut Vec::<Event>::new()).unwrap();
    test.asks("Thread { id: 1, seq: 3 }");
    // 10 to 12 have come: they are no part of what was asked for.
    test.check([answer(3, 12, false), block([3, 11, 5, 10])], " …");
    test.check([gaps(&[(8, 8)]), block([6, 4, 12])], "6 4 …");
    test.check([END], " done");
}

#[test]
fn a_thread_of_a_journal_that_was_restored_is_another() {
    let mut test = Test::new(Ask::Thread(3));
    test.check([answer(3, 9, false), block([3])], "3 …");
    let seen = test.0.seen.clone();
    assert!(test.0.connected(&seen, 4, true, &mut Vec::<Event>::new()).is_err());
}

/// Returns a block with these entries; some correct another one.
fn corrected(entries: &[(u64, Option<u64>)]) -> ServerMessage {
    let author = Author::new("anna").unwrap();
    let mut lines = Vec::new();
    for &(seq, corrects) in entries {
        let (time, text) = (b"2026-11-21T08:15:02.123456+08:00", format!("t{seq}"));
        let relation = corrects.map(Relation::Corrects);
        NewLine { relation, ..NewLine::new(seq, time, &author, &text) }.write(&mut lines, seal());
    }
    ServerMessage::Block { id: 1, lines: lines.into() }
}

/// Returns what a reading shows, as `SEQ TEXT`, or `SEQ NEW<OLD`.
fn shown(cursor: &mut Cursor, messages: impl IntoIterator<Item = ServerMessage>) -> Vec<String> {
    let mut events = Vec::<Event>::new();
    for message in messages {
        assert!(cursor.take_in(message, &mut events).is_ok());
    }
    let show = |event: &Event| match event {
        Event::Entry(stored) => {
            let old = stored.correction.as_ref().map(|correction| format!("<{}", correction.original));
            assert!(stored.left.ends_with(&stored.entry.text), "{stored:?}");
            format!("{} {}{}", stored.entry.seq, stored.entry.text, old.unwrap_or_default())
        }
        Event::Gap(gap) => format!("gap {}..{}", gap.first, gap.last),
        other => format!("{other:?}"),
    };
    events.iter().map(show).collect()
}

fn as_seen(scope: Scope) -> Cursor {
    Test::of(scope.shown()).0
}

#[test]
fn a_correction_is_shown_in_the_place_of_its_entry() {
    let mut cursor = as_seen(Which::All.into());
    let messages = [
        answer(1, 9, true),
        corrected(&[(9, Some(1)), (1, None), (2, None), (4, Some(1)), (5, None)]),
        // A copy, and its entry behind it in another block.
        corrected(&[(8, Some(6))]),
        corrected(&[(6, None), (8, Some(6)), (9, Some(1))]),
    ];
    let expected = ["1 t9<t1", "2 t2", "gap 3..3", "5 t5", "6 t8<t6", "gap 7..7"];
    assert_eq!(shown(&mut cursor, messages), expected);
    assert!(cursor.request().is_none(), "the corrections were met, so nothing is missing");

    // Whoever asks for what is stored sees that.
    let mut cursor = Test::of(Which::All).0;
    let stored = shown(&mut cursor, [answer(1, 2, true), corrected(&[(1, None), (2, Some(1))])]);
    assert_eq!(stored, ["1 t1", "2 t2"]);

    // So does who asks a server that does not know yet.
    let mut cursor = as_seen(Which::All.into());
    let raw = ServerMessage::Answer { id: 1, first: 1, last: 2, dense: true, shown: false };
    assert_eq!(shown(&mut cursor, [raw, corrected(&[(1, None), (2, Some(1))])]), ["1 t1", "2 t2"]);
}

#[test]
fn a_correction_that_was_cut_off_from_its_entry_comes_again() {
    let mut cursor = as_seen(Which::All.into());
    let first = shown(&mut cursor, [answer(1, 4, true), corrected(&[(1, None), (4, Some(2))])]);
    assert_eq!(first, ["1 t1"]);
    let seen = cursor.seen.clone();
    cursor.connected(&seen, 9, false, &mut Vec::<Event>::new()).unwrap();
    let Some(ClientMessage::History { scope, .. }) = cursor.request() else { panic!("it goes on") };
    assert_eq!(scope, Scope { up_to: Some(4), ..Which::From(2).into() }.shown());
    // Meanwhile it was corrected again.
    let rest = [answer(2, 4, true), corrected(&[(5, Some(2)), (2, None), (3, None), (4, Some(2))])];
    assert_eq!(shown(&mut cursor, rest), ["2 t5<t2", "3 t3"]);
}

#[test]
fn a_damaged_copy_leaves_the_old_text() {
    let mut cursor = as_seen(Which::All.into());
    let ServerMessage::Block { lines, .. } = corrected(&[(3, Some(1)), (1, None), (2, None), (3, Some(1))])
    else {
        panic!("a block")
    };
    let mut lines = lines.to_vec();
    lines[5] = b'x';
    let block = ServerMessage::Block { id: 1, lines: lines.into() };
    assert_eq!(shown(&mut cursor, [answer(1, 3, true), block]), ["1 t1", "2 t2"]);
}

#[test]
fn a_correction_behind_its_damaged_entry_is_nobody_elses() {
    let own_place = |last| {
        let mut cursor = as_seen(Which::All.into());
        let damaged = &corrected(&[(1, None)]);
        let ServerMessage::Block { lines, .. } = damaged else { panic!("a block") };
        let mut lines = lines.to_vec();
        lines[5] = b'x';
        let block = ServerMessage::Block { id: 1, lines: lines.into() };
        let rest = corrected(&[(2, Some(1)), (3, None)][..if last { 1 } else { 2 }]);
        shown(&mut cursor, [answer(1, if last { 2 } else { 3 }, true), block, rest, END])
    };
    assert_eq!(own_place(false), ["gap 1..1", "3 t3"]);
    assert_eq!(own_place(true), ["gap 1..1"]);
}

#[test]
fn hits_of_a_search_come_with_their_corrections_in_either_order() {
    let filter = |reverse| Filter {
        scope: Scope { reverse, newest: Some(3), ..Which::All.into() }.shown(),
        contains: vec!["t".to_owned()],
        ..Filter::default()
    };
    let mut cursor = Cursor::new(Ask::Select(filter(false)), Seen::of(Some(JOURNAL)));
    let messages =
        [answer(1, 9, false), corrected(&[(9, Some(2)), (2, None), (8, Some(5)), (5, None), (7, None)])];
    assert_eq!(shown(&mut cursor, messages), ["2 t9<t2", "5 t8<t5", "7 t7"]);
    let mut cursor = Cursor::new(Ask::Select(filter(true)), Seen::of(Some(JOURNAL)));
    let messages = [answer(1, 9, false), corrected(&[(7, None), (8, Some(5)), (5, None)])];
    assert_eq!(shown(&mut cursor, messages), ["7 t7", "5 t8<t5"]);
    let Some(ClientMessage::Search { filter, .. }) = cursor.request() else { panic!("it goes on") };
    assert_eq!((filter.scope.up_to, filter.scope.newest), (Some(4), Some(1)));
}
