//! The entries that are not acked yet: in order, with their keys' counters.

use std::collections::VecDeque;
use std::time::SystemTime;

use diary_proto::Refusal;
use diary_proto::limits::AUTHOR_MAX_BYTES;
use diary_proto::message::{APPEND_MAX_ENTRIES, Append, NewText, Run, Texts};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::client::{Ack, NewEntry, NotAcked};
use crate::error::Error;

/// Texts in one append frame: small enough that the first of them does not wait long for the rest, large
/// enough that a frame's own cost is nothing.
const APPEND_MAX_BYTES: usize = 256 * 1024;

/// What each text takes in a frame besides its bytes: its length, and what it may say of itself.
const TEXT_HEAD_BYTES: usize = 4 + 1 + 8 + 2 + 2 + AUTHOR_MAX_BYTES;

/// What was written down less long ago is of now: the times of entries are read by the minute.
const WRITTEN_NOW_MICROS: i64 = 60 * 1_000_000;

/// An entry that is not acked.
pub(crate) struct Open {
    pub(crate) entry: NewEntry,
    pub(crate) reply: oneshot::Sender<Result<Ack, Error>>,
    /// Its room in the window, given back when it is settled.
    #[expect(dead_code, reason = "it is held, not read")]
    pub(crate) room: OwnedSemaphorePermit,
}

/// One counter's place.
enum Slot {
    /// Not answered on this connection.
    Waiting(Open),
    /// Answered with a refusal that another connection may take back.
    Postponed(Open),
    /// Acked or refused for good.
    Settled,
}

/// The entries that are not acked, by counter.
///
/// `front ≤ cursor ≤ end` and `front ≤ unsent`: what stands before `cursor` was sent on this connection, what
/// stands before `unsent` was sent at least once, on any, maybe by a client before this one. Then `unsent` may
/// lie behind `end`.
pub(crate) struct Window {
    slots: VecDeque<Slot>,
    front: u64,
    cursor: u64,
    unsent: u64,
    /// Sent on this connection and not answered.
    waiting: usize,
}

/// An answer for an entry that does not wait for one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotWaiting {
    counter: u64,
}

impl From<NotWaiting> for Error {
    fn from(error: NotWaiting) -> Self {
        Self::protocol(format!("it answered counter {}, which does not wait", error.counter))
    }
}

impl Window {
    /// A window whose first entry gets `first_counter`. Those below `retry_below` may have been sent before.
    pub(crate) fn new(first_counter: u64, retry_below: u64) -> Self {
        let (front, cursor, unsent) = (first_counter, first_counter, first_counter.max(retry_below));
        Self { slots: VecDeque::new(), front, cursor, unsent, waiting: 0 }
    }

    /// All is acked or refused for good.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many were sent on this connection and not answered.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// An entry to send; it gets the next counter.
    pub(crate) fn push(&mut self, entry: Open) {
        self.slots.push_back(Slot::Waiting(entry));
    }

    /// A new connection: all is to be sent again, with the same counters.
    pub(crate) fn restart(&mut self) {
        self.cursor = self.front;
        self.waiting = 0;
        for slot in &mut self.slots {
            *slot = match std::mem::replace(slot, Slot::Settled) {
                Slot::Postponed(entry) => Slot::Waiting(entry),
                other => other,
            };
        }
    }

    /// The next frame to send, if anything is left to send on this connection.
    pub(crate) fn next_append(&mut self) -> Option<Append> {
        let first = self.index(self.cursor);
        let first = first + self.slots.range(first..).position(|slot| matches!(slot, Slot::Waiting(_)))?;
        let first_counter = self.front + first as u64;
        let retry = first_counter < self.unsent;
        // What was never sent does not share a frame with what was: only the latter is a retry.
        let last = if retry { self.index(self.unsent).min(self.slots.len()) } else { self.slots.len() };
        let mut bytes = 0;
        let entries: Vec<&NewEntry> = self
            .slots
            .range(first..last)
            .take(APPEND_MAX_ENTRIES)
            .map_while(|slot| match slot {
                Slot::Waiting(Open { entry, .. }) => {
                    bytes += TEXT_HEAD_BYTES + entry.text.len();
                    (bytes <= APPEND_MAX_BYTES).then_some(entry)
                }
                _ => None,
            })
            .collect();
        let count = entries.len();
        let append = Append { first_counter, retry, texts: texts_of(&entries, now()) };
        self.cursor = first_counter + count as u64;
        self.unsent = self.unsent.max(self.cursor);
        self.waiting += count;
        Some(append)
    }

    /// These are committed.
    pub(crate) fn ack(&mut self, run: Run) -> Result<(), NotWaiting> {
        let Run { first_counter, count, first_seq, time } = run;
        self.answer(first_counter, count, |offset, entry| {
            // Whoever dropped its end does not want to know.
            let _ = entry.reply.send(Ok(Ack { seq: first_seq.saturating_add(offset), time }));
            Slot::Settled
        })
    }

    /// These will not be stored, however often they are sent.
    pub(crate) fn refuse(&mut self, first: u64, count: u32, refusal: &Refusal) -> Result<(), NotWaiting> {
        self.answer(first, count, |_, entry| {
            let _ = entry.reply.send(Err(Error::Refused(refusal.clone())));
            Slot::Settled
        })
    }

    /// These are to be sent again on the next connection.
    pub(crate) fn postpone(&mut self, first: u64, count: u32) -> Result<(), NotWaiting> {
        self.answer(first, count, |_, entry| Slot::Postponed(entry))
    }

    fn answer(
        &mut self,
        first: u64,
        count: u32,
        mut settle: impl FnMut(u64, Open) -> Slot,
    ) -> Result<(), NotWaiting> {
        for offset in 0..u64::from(count) {
            let counter = first.saturating_add(offset);
            if !(self.front..self.cursor).contains(&counter) {
                return Err(NotWaiting { counter });
            }
            let at = self.index(counter);
            match std::mem::replace(&mut self.slots[at], Slot::Settled) {
                Slot::Waiting(entry) => self.slots[at] = settle(offset, entry),
                other => {
                    self.slots[at] = other;
                    return Err(NotWaiting { counter });
                }
            }
            self.waiting -= 1;
            while let Some(Slot::Settled) = self.slots.front() {
                self.slots.pop_front();
                self.front += 1;
            }
        }
        Ok(())
    }

    /// Ends every entry with `error`.
    pub(crate) fn fail(&mut self, error: &Error) {
        for entry in self.drain() {
            let _ = entry.1.reply.send(Err(error.clone()));
        }
    }

    /// Takes out what is not acked, in order.
    pub(crate) fn give_up(&mut self) -> Vec<NotAcked> {
        self.drain().into_iter().map(|(sent, entry)| NotAcked { text: entry.entry.text, sent }).collect()
    }

    /// Every open entry, and whether it was ever sent.
    fn drain(&mut self) -> Vec<(bool, Open)> {
        let sent = self.index(self.unsent);
        let slots = std::mem::take(&mut self.slots);
        let open = slots.into_iter().enumerate().filter_map(|(at, slot)| match slot {
            Slot::Waiting(entry) | Slot::Postponed(entry) => Some((at < sent, entry)),
            Slot::Settled => None,
        });
        open.collect()
    }

    /// Where a counter that is not before the front stands.
    fn index(&self, counter: u64) -> usize {
        usize::try_from(counter.saturating_sub(self.front)).unwrap_or(usize::MAX)
    }
}

/// Never panics, wherever the clock is.
fn now() -> Timestamp {
    Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::MAX)
}

/// They travel with what they say of themselves only if one of them says anything.
fn texts_of(entries: &[&NewEntry], now: Timestamp) -> Texts {
    let at = |entry: &NewEntry| {
        entry
            .at
            .or(entry.written.filter(|written| now.as_microsecond() - written.micros > WRITTEN_NOW_MICROS))
    };
    if entries.iter().all(|entry| at(entry).is_none() && entry.author.is_none()) {
        return Texts::new(entries.iter().map(|entry| entry.text.as_str()));
    }
    Texts::own(entries.iter().map(|entry| NewText {
        text: entry.text.as_bytes(),
        at: at(entry),
        author: entry.author.as_ref().map_or(&[], |author| author.as_str().as_bytes()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use diary_proto::{Code, Time};
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    const TIME: Time = Time { micros: 0, offset_minutes: 0 };

    struct Test {
        window: Window,
        replies: Vec<oneshot::Receiver<Result<Ack, Error>>>,
    }

    impl Test {
        fn new(texts: &[&str]) -> Self {
            let mut test = Self { window: Window::new(1, 0), replies: Vec::new() };
            test.push(texts);
            test
        }

        fn push(&mut self, texts: &[&str]) {
            for text in texts {
                let (reply, answer) = oneshot::channel();
                let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
                self.window.push(Open { entry: (*text).into(), reply, room });
                self.replies.push(answer);
            }
        }

        /// The next frame: `counter: texts`, with a `+` for a retry.
        fn frame(&mut self) -> String {
            let Some(append) = self.window.next_append() else { return "-".into() };
            let texts: Vec<_> =
                append.texts.iter().map(|new| String::from_utf8_lossy(new.text).into_owned()).collect();
            format!("{}{}: {}", append.first_counter, if append.retry { "+" } else { "" }, texts.join(" "))
        }

        fn ack(&mut self, first_counter: u64, count: u32, first_seq: u64) -> Result<(), NotWaiting> {
            self.window.ack(Run { first_counter, count, first_seq, time: TIME })
        }

        /// What each entry was told.
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
        test.window.postpone(1, 1).unwrap();
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
        test.window.postpone(1, 1).unwrap();
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
        let mut test = Test { window: Window::new(7, 9), replies: Vec::new() };
        test.push(&["a"]);
        assert_eq!([test.frame(), test.frame()], ["7+: a", "-"]);
        test.push(&["b", "c", "d"]);
        assert_eq!([test.frame(), test.frame(), test.frame()], ["8+: b", "9: c d", "-"]);
        test.push(&["e"]);
        let open: Vec<_> = test.window.give_up().into_iter().map(|open| (open.text, open.sent)).collect();
        let expected = [("a", true), ("b", true), ("c", true), ("d", true), ("e", false)];
        assert_eq!(open, expected.map(|(text, sent)| (text.to_owned(), sent)));

        let mut test = Test { window: Window::new(7, 3), replies: Vec::new() };
        test.push(&["a"]);
        assert_eq!(test.frame(), "7: a");
        let mut test = Test { window: Window::new(7, 9), replies: Vec::new() };
        test.push(&["a", "b", "c"]);
        let sent: Vec<_> = test.window.give_up().into_iter().map(|open| open.sent).collect();
        assert_eq!(sent, [true, true, false], "what was sent by another client counts as sent");
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
