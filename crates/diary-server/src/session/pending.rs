//! Answers that are not made yet, in a form that is far smaller than they will be.

use std::collections::VecDeque;

use diary_engine::{Appends, Part, Receipt};
use diary_proto::answer::is_old_command;

use crate::front::{Answer, Command, Front};

/// Acks in words that are written at a time, so that the bound on unsent answers holds.
const ACKS_AT_ONCE: u32 = 512;

/// An answer that is not made yet.
pub(super) enum Pending {
    /// Appends that the writer has.
    Appended {
        outcome: Receipt,
        entries: Entries,
    },
    /// Appends with their outcome, which is told piece by piece.
    Settled {
        outcome: VecDeque<Part>,
        entries: Entries,
    },
    Command(Command),
}

/// What a session remembers of its appends.
pub(super) struct Entries {
    /// The counter of the next one to be answered.
    counter: u64,
    /// How many have been answered.
    answered: u32,
    pub(super) bytes: usize,
    pub(super) count: u32,
    /// Places of texts that were commands once: their acks end in a hint.
    hints: VecDeque<u32>,
}

impl Entries {
    pub(super) fn new(first_counter: u64) -> Self {
        Self { counter: first_counter, answered: 0, bytes: 0, count: 0, hints: VecDeque::new() }
    }

    /// What the hints hold until they are told.
    pub(super) fn hint_bytes(&self) -> usize {
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
    front: &mut Front,
    out: &mut Vec<u8>,
    outcome: &mut VecDeque<Part>,
    entries: &mut Entries,
) {
    let Some(part) = outcome.front_mut() else { return };
    let at_once = if matches!(front, Front::Frame(_)) { u32::MAX } else { ACKS_AT_ONCE };
    let to_hint = entries.hints.front().map_or(u32::MAX, |hint| hint - entries.answered);
    let hint = to_hint == 0;
    let most = if hint { 1 } else { at_once.min(to_hint) };
    let first_counter = entries.counter;
    let (answered, left) = match part {
        Part::Acked { count, first_seq, time } => {
            let answered = most.min(*count);
            let ack =
                Answer::Acked { first_counter, count: answered, first_seq: *first_seq, time: *time, hint };
            front.encode(ack, out);
            *first_seq += u64::from(answered);
            *count -= answered;
            (answered, *count)
        }
        Part::Refused { count, refusal } => {
            let answered = most.min(*count);
            front.encode(Answer::NotStored { first_counter, count: answered, refusal }, out);
            *count -= answered;
            (answered, *count)
        }
        Part::Conflict { seq } => {
            let refusal = &Part::conflict(*seq);
            front.encode(Answer::NotStored { first_counter, count: 1, refusal }, out);
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
