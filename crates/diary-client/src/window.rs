//! The unacked entries, in order, with the counters of their keys.

use std::collections::VecDeque;
use std::time::SystemTime;

use diary_proto::limits::AUTHOR_MAX_BYTES;
use diary_proto::message::{APPEND_MAX_ENTRIES, Append, NewText, RELATED_MAX_ENTRIES, Run, Texts};
use diary_proto::{Code, Refusal};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::append::{Ack, NewEntry, NotAcked, Place};
use crate::error::Error;

/// Text bytes in one append frame: small enough that the first text does not wait long for the rest, large
/// enough that the cost of a frame is negligible.
const APPEND_MAX_BYTES: usize = 256 * 1024;

/// Bytes of each text in a frame besides the text itself: its length, and its optional time, author and number of the
/// entry that it belongs to.
const TEXT_HEAD_BYTES: usize = 4 + 1 + 8 + 2 + 2 + AUTHOR_MAX_BYTES + 8;
const _: () = assert!(APPEND_MAX_BYTES / TEXT_HEAD_BYTES <= RELATED_MAX_ENTRIES);

/// An entry written more recently than this counts as written now, since entry times are read by the minute.
const WRITTEN_NOW_MICROS: i64 = 60 * 1_000_000;

/// An unacked entry.
pub(crate) struct Open {
    pub(crate) entry: NewEntry,
    /// Place among the producer's keys; `None` for the next one.
    pub(crate) place: Option<Place>,
    pub(crate) reply: oneshot::Sender<Result<Ack, Error>>,
    /// Room in the window, released when the entry is settled.
    #[expect(dead_code, reason = "it is held, not read")]
    pub(crate) room: OwnedSemaphorePermit,
}

/// Slot of one counter. Counters ascend and may have gaps.
struct Slot {
    counter: u64,
    /// Whether it may be stored: it was sent, and no server has since said that it is not.
    sent: bool,
    state: SlotState,
}

enum SlotState {
    /// Not answered on this connection.
    Waiting(Open),
    /// Refused in a way that another connection may accept.
    Postponed(Open),
    /// Acked, or refused for good.
    Settled,
}

/// Unacked entries by counter.
pub(crate) struct Window {
    slots: VecDeque<Slot>,
    /// Index of the next slot to consider on this connection. Those before it were sent, unless they are
    /// settled.
    cursor: usize,
    next_counter: u64,
    /// Entries sent on this connection and not answered.
    waiting: usize,
}

/// An answer for an entry that does not wait for one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotWaiting {
    counter: u64,
}

impl From<NotWaiting> for Error {
    fn from(error: NotWaiting) -> Self {
        Self::protocol(format!("answer to counter {}, which is not waiting", error.counter))
    }
}

impl Window {
    /// Creates a window. Its first entry gets the counter 1, unless it has a place of its own.
    pub(crate) fn new() -> Self {
        Self { slots: VecDeque::new(), cursor: 0, next_counter: 1, waiting: 0 }
    }

    /// Returns whether every entry is acked or refused for good.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns the number of entries sent on this connection and not answered.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Queues an entry. It is refused if its counter is not above all earlier ones.
    pub(crate) fn push(&mut self, open: Open) {
        let Place { counter, sent } = open.place.unwrap_or(Place { counter: self.next_counter, sent: false });
        if counter < self.next_counter {
            let why = format!("the counter {counter} was used before; the next one is {}", self.next_counter);
            // A dropped receiver does not want the answer.
            let _ = open.reply.send(Err(Error::Refused(Refusal::new(Code::BadArgument, why))));
            return;
        }
        self.next_counter = counter.saturating_add(1);
        self.slots.push_back(Slot { counter, sent, state: SlotState::Waiting(open) });
    }

    /// Starts a new connection: every entry is sent again, with the same counter.
    pub(crate) fn restart(&mut self) {
        (self.cursor, self.waiting) = (0, 0);
        for slot in &mut self.slots {
            slot.state = match std::mem::replace(&mut slot.state, SlotState::Settled) {
                SlotState::Postponed(open) => SlotState::Waiting(open),
                other => other,
            };
        }
    }

    /// Returns the next frame to send on this connection, if any.
    pub(crate) fn next_append(&mut self) -> Option<Append> {
        let is_waiting = |slot: &Slot| matches!(slot.state, SlotState::Waiting(_));
        let first = self.cursor + self.slots.range(self.cursor..).position(is_waiting)?;
        let Slot { counter: first_counter, sent: retry, .. } = self.slots[first];
        let mut bytes = 0;
        let entries: Vec<&NewEntry> = self
            .slots
            .range(first..)
            .zip(first_counter..)
            .take(APPEND_MAX_ENTRIES)
            .map_while(|(slot, counter)| match &slot.state {
                // New entries and retries do not share a frame, since `retry` applies to all of it.
                SlotState::Waiting(open) if slot.counter == counter && slot.sent == retry => {
                    bytes += TEXT_HEAD_BYTES + open.entry.text.len();
                    (bytes <= APPEND_MAX_BYTES).then_some(&open.entry)
                }
                _ => None,
            })
            .collect();
        let count = entries.len();
        let append = Append { first_counter, retry, texts: texts_of(&entries, now()) };
        self.cursor = first + count;
        self.waiting += count;
        self.slots.range_mut(first..self.cursor).for_each(|slot| slot.sent = true);
        Some(append)
    }

    /// Settles a run of committed entries.
    pub(crate) fn ack(&mut self, run: Run) -> Result<(), NotWaiting> {
        let Run { first_counter, count, first_seq, time } = run;
        self.answer(first_counter, count, |offset, slot, open| {
            // A dropped receiver does not want the answer.
            let _ = open.reply.send(Ok(Ack { seq: first_seq.saturating_add(offset), time }));
            slot.state = SlotState::Settled;
        })
    }

    /// Settles entries that are refused, however often they are sent.
    pub(crate) fn refuse(&mut self, first: u64, count: u32, refusal: &Refusal) -> Result<(), NotWaiting> {
        self.answer(first, count, |_, slot, open| {
            let _ = open.reply.send(Err(Error::Refused(refusal.clone())));
            slot.state = SlotState::Settled;
        })
    }

    /// Postpones entries to the next connection; `stored` says whether they may already be stored.
    pub(crate) fn postpone(&mut self, first: u64, count: u32, stored: bool) -> Result<(), NotWaiting> {
        self.answer(first, count, |_, slot, open| {
            slot.sent = stored;
            slot.state = SlotState::Postponed(open);
        })
    }

    fn answer(
        &mut self,
        first: u64,
        count: u32,
        mut settle: impl FnMut(u64, &mut Slot, Open),
    ) -> Result<(), NotWaiting> {
        let at = self.slots.binary_search_by_key(&first, |slot| slot.counter);
        let at = at.map_err(|_| NotWaiting { counter: first })?;
        for offset in 0..u64::from(count) {
            let counter = first.saturating_add(offset);
            let index = at + usize::try_from(offset).unwrap_or(usize::MAX);
            let slot =
                self.slots.get_mut(index).filter(|slot| index < self.cursor && slot.counter == counter);
            let Some(slot) = slot else {
                self.pop_settled();
                return Err(NotWaiting { counter });
            };
            match std::mem::replace(&mut slot.state, SlotState::Settled) {
                SlotState::Waiting(open) => settle(offset, slot, open),
                other => {
                    slot.state = other;
                    self.pop_settled();
                    return Err(NotWaiting { counter });
                }
            }
            self.waiting -= 1;
        }
        self.pop_settled();
        Ok(())
    }

    fn pop_settled(&mut self) {
        while self.slots.pop_front_if(|slot| matches!(slot.state, SlotState::Settled)).is_some() {
            self.cursor = self.cursor.saturating_sub(1);
        }
    }

    /// Fails every entry with `error`.
    pub(crate) fn fail(&mut self, error: &Error) {
        for (_, open) in self.drain() {
            let _ = open.reply.send(Err(error.clone()));
        }
    }

    /// Takes the unacked entries, in order.
    pub(crate) fn give_up(&mut self) -> Vec<NotAcked> {
        let open = self.drain().into_iter();
        open.map(|(Place { counter, sent }, open)| NotAcked { counter, text: open.entry.text, sent })
            .collect()
    }

    /// Takes every open entry, with its counter and whether it may be stored.
    fn drain(&mut self) -> Vec<(Place, Open)> {
        let open = std::mem::take(&mut self.slots).into_iter().filter_map(|slot| match slot.state {
            SlotState::Waiting(open) | SlotState::Postponed(open) => {
                Some((Place { counter: slot.counter, sent: slot.sent }, open))
            }
            SlotState::Settled => None,
        });
        open.collect()
    }
}

/// Returns the current time. Never panics, wherever the clock is.
fn now() -> Timestamp {
    Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::MAX)
}

/// Encodes the texts, with what they say of themselves only if at least one entry says something.
fn texts_of(entries: &[&NewEntry], now: Timestamp) -> Texts {
    let at = |entry: &NewEntry| {
        entry
            .at
            .or(entry.written.filter(|written| now.as_microsecond() - written.micros > WRITTEN_NOW_MICROS))
    };
    if entries.iter().all(|entry| at(entry).is_none() && entry.author.is_none() && entry.relation().is_none())
    {
        return Texts::new(entries.iter().map(|entry| entry.text.as_str()));
    }
    Texts::own(entries.iter().map(|entry| NewText {
        text: entry.text.as_bytes(),
        at: at(entry),
        author: entry.author.as_ref().map_or(&[], |author| author.as_str().as_bytes()),
        answers: entry.answers,
        corrects: entry.corrects,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use diary_proto::Time;
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    const TIME: Time = Time { micros: 0, offset_minutes: 0 };

    struct Test {
        window: Window,
        replies: Vec<oneshot::Receiver<Result<Ack, Error>>>,
    }

    impl Test {
        fn new(texts: &[&str]) -> Self {
            let mut test = Self { window: Window::new(), replies: Vec::new() };
            test.push(texts);
            test
        }

        fn push(&mut self, texts: &[&str]) {
            for text in texts {
                let (reply, answer) = oneshot::channel();
                let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
                self.window.push(Open { entry: (*text).into(), place: None, reply, room });
                self.replies.push(answer);
            }
        }

        fn push_at(&mut self, counter: u64, sent: bool, text: &str) {
            let (reply, answer) = oneshot::channel();
            let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
            self.window.push(Open { entry: text.into(), place: Some(Place { counter, sent }), reply, room });
            self.replies.push(answer);
        }

        /// Returns the next frame: `counter: texts`, with a `+` for a retry.
        fn frame(&mut self) -> String {
            let Some(append) = self.window.next_append() else { return "-".into() };
            let texts: Vec<_> =
                append.texts.iter().map(|new| String::from_utf8_lossy(new.text).into_owned()).collect();
            format!("{}{}: {}", append.first_counter, if append.retry { "+" } else { "" }, texts.join(" "))
        }

        fn ack(&mut self, first_counter: u64, count: u32, first_seq: u64) -> Result<(), NotWaiting> {
            self.window.ack(Run { first_counter, count, first_seq, time: TIME })
        }

        /// Returns each entry's answer.
        fn told(&mut self) -> String {
            let told = self.replies.iter_mut().map(|reply| match reply.try_recv() {
                Ok(Ok(ack)) => ack.seq.to_string(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "-".into(),
            });
            told.collect::<Vec<_>>().join(" ")
        }
    }

    #[test]
    fn what_waits_goes_out_together_and_is_acked_in_any_runs() {
        let mut test = Test::new(&["a", "b", "c"]);
        assert_eq!(test.frame(), "1: a b c");
        assert_eq!(test.frame(), "-");
        test.push(&["d"]);
        assert_eq!(test.frame(), "4: d");
        test.ack(3, 2, 12).unwrap();
        test.ack(1, 2, 10).unwrap();
        assert_eq!(test.told(), "10 11 12 13");
        assert!(test.window.is_empty());
    }

    #[test]
    fn what_waited_long_says_when_it_was_written() {
        let time = |seconds: i64| Time { micros: seconds * 1_000_000, offset_minutes: 0 };
        let entry = |at: Option<i64>, written: Option<i64>| NewEntry {
            at: at.map(time),
            written: written.map(time),
            ..NewEntry::from("text")
        };
        let sent = |entries: &[NewEntry]| {
            let now = Timestamp::from_second(1000).unwrap();
            let texts = texts_of(&entries.iter().collect::<Vec<_>>(), now);
            let at: Vec<_> = texts.iter().map(|new| new.at.map(|at| at.micros / 1_000_000)).collect();
            (texts.are_own(), at)
        };
        assert_eq!(sent(&[entry(None, None), entry(None, Some(940))]), (false, vec![None, None]));
        assert_eq!(sent(&[entry(None, Some(939)), entry(None, Some(999))]), (true, vec![Some(939), None]));
        assert_eq!(sent(&[entry(Some(5), Some(939))]), (true, vec![Some(5)]));
    }

    #[test]
    fn a_new_connection_gets_the_same_counters_and_only_what_was_sent_is_a_retry() {
        let mut test = Test::new(&["a", "b", "c"]);
        assert_eq!(test.frame(), "1: a b c");
        test.ack(2, 1, 7).unwrap();
        test.push(&["d"]);
        test.window.restart();
        assert_eq!([test.frame(), test.frame(), test.frame(), test.frame()], ["1+: a", "3+: c", "4: d", "-"]);
        test.ack(1, 1, 7).unwrap();
        test.ack(3, 2, 8).unwrap();
        assert_eq!(test.told(), "7 7 8 9");
    }

    #[test]
    fn a_refusal_ends_an_entry_and_a_postponed_one_waits_for_the_next_connection() {
        let mut test = Test::new(&["a", "b", "c"]);
        test.frame();
        test.window.refuse(2, 1, &Refusal::new(Code::DiskFull, "no room")).unwrap();
        test.window.postpone(1, 1, true).unwrap();
        assert_eq!(test.window.waiting(), 1);
        assert_eq!(test.frame(), "-", "not again on this connection");
        test.ack(3, 1, 5).unwrap();
        assert_eq!(test.told(), "- disk-full: no room 5");
        test.window.restart();
        assert_eq!(test.frame(), "1+: a");
        test.ack(1, 1, 6).unwrap();
        assert!(test.window.is_empty());
    }

    #[test]
    fn an_answer_for_what_does_not_wait_is_an_error() {
        let mut test = Test::new(&["a", "b"]);
        assert_eq!(test.ack(1, 1, 1), Err(NotWaiting { counter: 1 }), "never sent");
        test.frame();
        assert_eq!(test.ack(0, 1, 1), Err(NotWaiting { counter: 0 }));
        assert_eq!(test.ack(2, u32::MAX, 1), Err(NotWaiting { counter: 3 }));
        assert_eq!(test.ack(2, 1, 1), Err(NotWaiting { counter: 2 }), "twice");
        assert_eq!(test.ack(u64::MAX, 2, 1), Err(NotWaiting { counter: u64::MAX }));
        test.window.postpone(1, 1, true).unwrap();
        assert_eq!(test.ack(1, 1, 1), Err(NotWaiting { counter: 1 }), "postponed");
    }

    #[test]
    fn a_frame_is_bounded() {
        let large = "x".repeat(60_000);
        let mut test = Test::new(&[large.as_str(); 9]);
        let counts: Vec<_> = std::iter::from_fn(|| test.window.next_append())
            .map(|append| (append.first_counter, append.texts.iter().count()))
            .collect();
        assert_eq!(counts, [(1, 4), (5, 4), (9, 1)]);
    }

    #[test]
    fn what_may_have_been_sent_before_is_a_retry_from_the_first_time_on() {
        let mut test = Test::new(&[]);
        test.push_at(7, true, "a");
        assert_eq!([test.frame(), test.frame()], ["7+: a", "-"]);
        test.push_at(8, true, "b");
        test.push(&["c", "d"]);
        assert_eq!([test.frame(), test.frame(), test.frame()], ["8+: b", "9: c d", "-"]);
        test.push(&["e"]);
        let open: Vec<_> = test.window.give_up().into_iter().map(|open| (open.counter, open.sent)).collect();
        assert_eq!(open, [(7, true), (8, true), (9, true), (10, true), (11, false)]);
    }

    #[test]
    fn counters_may_leave_some_out_and_never_go_back() {
        let mut test = Test::new(&["a"]);
        for (counter, text) in [(5, "e"), (6, "f"), (9, "i"), (6, "again")] {
            test.push_at(counter, false, text);
        }
        assert_eq!([test.frame(), test.frame(), test.frame(), test.frame()], ["1: a", "5: e f", "9: i", "-"]);
        assert_eq!(test.ack(2, 1, 1), Err(NotWaiting { counter: 2 }), "left out");
        test.ack(9, 1, 12).unwrap();
        assert_eq!(test.ack(6, 2, 11), Err(NotWaiting { counter: 7 }), "a run has no hole");
        test.window.restart();
        assert_eq!([test.frame(), test.frame(), test.frame()], ["1+: a", "5+: e", "-"]);
        test.ack(1, 1, 9).unwrap();
        test.ack(5, 1, 10).unwrap();
        let refused = "bad-argument: the counter 6 was used before; the next one is 10";
        assert_eq!(test.told(), format!("9 10 11 12 {refused}"));
        assert!(test.window.is_empty());
    }

    #[test]
    fn what_a_server_says_it_has_not_stored_is_no_retry() {
        let mut test = Test::new(&["a", "b"]);
        test.frame();
        test.window.postpone(1, 1, false).unwrap();
        test.window.postpone(2, 1, true).unwrap();
        test.window.restart();
        assert_eq!([test.frame(), test.frame(), test.frame()], ["1: a", "2+: b", "-"]);
    }

    #[test]
    fn giving_up_names_what_is_not_acked() {
        let mut test = Test::new(&["a", "b"]);
        test.frame();
        test.ack(1, 1, 1).unwrap();
        test.push(&["c"]);
        let open: Vec<_> = test.window.give_up().into_iter().map(|open| (open.text, open.sent)).collect();
        assert_eq!(open, [("b".to_owned(), true), ("c".to_owned(), false)]);
        assert!(test.window.is_empty());
    }
}
