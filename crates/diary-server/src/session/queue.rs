//! The requests of a session that are not answered yet, in their order.
//!
//! A request takes its place here before anything else happens to it, so answers leave in the order of the requests,
//! whatever each of them waits for.

use std::collections::VecDeque;

use diary_engine::Reading;
use diary_engine::{Appends, Part, Receipt};
use diary_proto::Refusal;
use diary_proto::answer::is_old_command;
use diary_proto::message::Hello;
use futures::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;

use super::journals::{Listed, Opening};
use super::login::LoggingIn;
use super::stream::Stream;
use crate::budget::Reservation;
use crate::front::{Answer, Encoder, Request};
use crate::limits::APPEND_MIN_BYTES;

/// What a refused request counts as unanswered: its place, and its sentence.
const REFUSED_BYTES: usize = 256;

/// Acks that are written at a time in words, so that the bound on unsent answers holds.
const ACKS_AT_ONCE: u32 = 512;

#[derive(Default)]
pub(super) struct Queue {
    slots: VecDeque<Slot>,
    /// Bytes of appends and refusals that are not answered.
    unanswered_bytes: usize,
    /// Memory that outcomes of appends in the queue may take without a reservation, in bytes.
    unreserved_bytes: usize,
    /// Memory of requests that have not begun, beside their slots, in bytes.
    request_bytes: usize,
}

/// A request, and how far it is.
pub(super) enum Slot {
    /// Appends that wait for room. Nothing is taken behind them but what the same input brought.
    Waiting(Appends, Entries),
    /// Appends that the writer has.
    Appended(Receipt, Entries),
    /// Appends with their outcome, which is told part by part.
    Settled(VecDeque<Part>, Entries),
    /// Something that has not begun.
    Request(Request),
    /// A history or a search that is being answered.
    Stream(Box<Stream>),
    /// A Hello that resumes: whether this is the same journal.
    Resuming(Box<(Hello, Reading<bool>)>),
    /// A journal is being opened.
    Opening(Box<Opening>),
    /// The names of the journals are being read.
    Listing(BoxFuture<'static, Listed>),
    /// A token waits.
    LoggingIn(Box<LoggingIn>),
    /// The writer tries whether it would take an append.
    Checking(u32, BoxFuture<'static, Result<(), Refusal>>),
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut Slot> {
        self.slots.front_mut()
    }

    pub(super) fn front(&self) -> Option<&Slot> {
        self.slots.front()
    }

    /// Whether requests may be added. A command sees everything before it and nothing behind it, so nothing is taken
    /// while one is in the queue.
    pub(super) fn takes_more(&self, max_bytes: usize) -> bool {
        self.unanswered_bytes < max_bytes
            && self.waiting_at().is_none()
            && match self.slots.back() {
                None
                | Some(Slot::Appended(..) | Slot::Settled(..) | Slot::Request(Request::Refused { .. })) => {
                    true
                }
                Some(
                    Slot::Waiting(..)
                    | Slot::Request(_)
                    | Slot::Stream(_)
                    | Slot::Resuming(_)
                    | Slot::Opening(_)
                    | Slot::Listing(_)
                    | Slot::LoggingIn(_)
                    | Slot::Checking(..),
                ) => false,
            }
    }

    /// Bytes of input that waits for room.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting().map_or(0, |(_, entries)| entries.bytes)
    }

    /// Memory of the requests and of outcomes that are not told yet, in bytes. What is reserved is not counted.
    pub(super) fn held_bytes(&self) -> usize {
        let first = match self.slots.front() {
            Some(Slot::Settled(outcome, _)) => outcome.capacity() * size_of::<Part>(),
            Some(Slot::Stream(stream)) => stream.held_bytes(),
            _ => 0,
        };
        self.slots.capacity() * size_of::<Slot>() + first + self.request_bytes + self.unreserved_bytes
    }

    /// Memory that outcomes may take without a reservation, in bytes.
    pub(super) fn unreserved_bytes(&self) -> usize {
        self.unreserved_bytes
    }

    pub(super) fn push_request(&mut self, request: Request) {
        if matches!(request, Request::Refused { .. }) {
            self.unanswered_bytes += REFUSED_BYTES;
        }
        self.request_bytes += request.held_bytes();
        self.slots.push_back(Slot::Request(request));
    }

    /// Adds appends; they wait for room until [`admit`](Self::admit).
    pub(super) fn push_appends(&mut self, appends: Appends, mut entries: Entries) {
        entries.bytes = (appends.bytes() + entries.hint_bytes()).max(APPEND_MIN_BYTES);
        self.unanswered_bytes += entries.bytes;
        self.slots.push_back(Slot::Waiting(appends, entries));
    }

    /// Where the appends that wait are: the last ones, with at most the request behind them that came with them.
    fn waiting_at(&self) -> Option<usize> {
        let is_waiting = |&at: &usize| matches!(self.slots.get(at), Some(Slot::Waiting(..)));
        (1..=2).filter_map(|back| self.slots.len().checked_sub(back)).filter(is_waiting).min()
    }

    /// The first appends that wait for room.
    pub(super) fn waiting(&self) -> Option<(&Appends, &Entries)> {
        match &self.slots[self.waiting_at()?] {
            Slot::Waiting(appends, entries) => Some((appends, entries)),
            _ => None,
        }
    }

    /// The first appends that wait have room: `append` hands them to the writer.
    pub(super) fn admit(
        &mut self,
        room: Room,
        append: impl FnOnce(Appends, OwnedSemaphorePermit) -> Receipt,
    ) {
        let Some(at) = self.waiting_at() else { return };
        if let Some(Slot::Waiting(appends, mut entries)) = self.slots.remove(at) {
            if room.outcome.is_none() {
                entries.unreserved_bytes = appends.outcome_max_bytes();
                self.unreserved_bytes += entries.unreserved_bytes;
            }
            entries.outcome = room.outcome;
            self.slots.insert(at, Slot::Appended(append(appends, room.permit), entries));
        }
    }

    /// The outcome of the appends at the front has come.
    pub(super) fn settle(&mut self, outcome: Vec<Part>) {
        if let Some(Slot::Appended(..)) = self.slots.front()
            && let Some(Slot::Appended(_, mut entries)) = self.slots.pop_front()
        {
            // From here on, what it really takes is counted.
            entries.outcome = None;
            self.unreserved_bytes -= std::mem::take(&mut entries.unreserved_bytes);
            self.slots.push_front(Slot::Settled(outcome.into(), entries));
        }
    }

    /// What was at the front goes on in another form.
    pub(super) fn push_front(&mut self, slot: Slot) {
        self.slots.push_front(slot);
    }

    /// What is at the front is done, or taken to be done.
    pub(super) fn pop_front(&mut self) -> Option<Slot> {
        let old = self.slots.pop_front();
        match &old {
            Some(Slot::Request(Request::Refused { .. })) => self.unanswered_bytes -= REFUSED_BYTES,
            Some(Slot::Settled(_, entries)) => self.unanswered_bytes -= entries.bytes,
            _ => {}
        }
        if let Some(Slot::Request(request)) = &old {
            self.request_bytes -= request.held_bytes();
        }
        if self.slots.is_empty() {
            // An idle session holds none.
            self.slots = VecDeque::new();
        }
        old
    }

    /// Forgets everything: nothing is answered any more. What the writer has is committed all the same.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Room for appends.
pub(super) struct Room {
    /// Until they are committed.
    pub(super) permit: OwnedSemaphorePermit,
    /// For their outcome, until it has come; none if it is small.
    pub(super) outcome: Option<Reservation>,
}

/// What a session remembers of its appends.
#[derive(Default)]
pub(super) struct Entries {
    /// The counter of the next one to be answered.
    counter: u64,
    /// How many have been answered.
    answered: u32,
    /// What they take of the budget for appends.
    pub(super) bytes: usize,
    /// Places of texts that were commands once: their acks end in a hint.
    hints: VecDeque<u32>,
    /// Memory for their outcome, or how much of it is not reserved.
    outcome: Option<Reservation>,
    unreserved_bytes: usize,
}

impl Entries {
    pub(super) fn new(first_counter: u64) -> Self {
        Self { counter: first_counter, ..Self::default() }
    }

    /// What the hints hold until they are told.
    fn hint_bytes(&self) -> usize {
        self.hints.len() * size_of::<u32>()
    }

    /// Adds a text of line mode.
    pub(super) fn push(&mut self, appends: &mut Appends, text: &str) {
        if is_old_command(text) {
            self.hints.push_back(u32::try_from(appends.count()).unwrap_or(u32::MAX));
        }
        appends.push(text);
    }
}

/// Makes one answer of the first part of an outcome, and takes off what it covers.
pub(super) fn answer_part(
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
    outcome: &mut VecDeque<Part>,
    entries: &mut Entries,
) {
    let Some(part) = outcome.front_mut() else { return };
    let at_once = if encoder.is_frame() { u32::MAX } else { ACKS_AT_ONCE };
    let to_hint = entries.hints.front().map_or(u32::MAX, |hint| hint - entries.answered);
    let hint = to_hint == 0;
    let most = if hint { 1 } else { at_once.min(to_hint) };
    let first_counter = entries.counter;
    let (answered, left) = match part {
        Part::Acked { count, first_seq, time } => {
            let answered = most.min(*count);
            let ack =
                Answer::Acked { first_counter, count: answered, first_seq: *first_seq, time: *time, hint };
            encoder.encode(ack, out);
            *first_seq += u64::from(answered);
            *count -= answered;
            (answered, *count)
        }
        Part::Refused { count, refusal } => {
            let answered = most.min(*count);
            encoder.encode(Answer::NotStored { first_counter, count: answered, refusal }, out);
            *count -= answered;
            (answered, *count)
        }
        Part::Conflict { seq } => {
            let refusal = &Part::conflict(*seq);
            encoder.encode(Answer::NotStored { first_counter, count: 1, refusal }, out);
            (1, 0)
        }
    };
    if left == 0 {
        outcome.pop_front();
    }
    if hint {
        entries.hints.pop_front();
    }
    entries.answered += answered;
    entries.counter += u64::from(answered);
}
