//! Which appends are in the journal already: for each producer, exact runs of counters and seqs.
//!
//! The table is derived from the day files. Its memory is bounded, and shared fairly: a producer keeps its
//! newest runs, and where there is no room for all, those with the most runs give up their oldest. Only
//! where there are too many producers, the longest-silent are forgotten. What is forgotten is never
//! guessed at.

use std::collections::{HashMap, VecDeque};

use diary_proto::{Key, Producer};
use serde::{Deserialize, Serialize};

/// Most runs kept for one producer, which is no less than a client can have in flight: what it sends again
/// after its connection was cut is always known. 64 of them leave room for others.
pub const PRODUCER_MAX_RUNS: usize = 4096;

/// A producer's share is never smaller: below this, whole producers are forgotten.
const SHARE_MIN_RUNS: usize = 16;

/// Most memory of the table, counted as [`RUN_BYTES`] a run and [`PRODUCER_BYTES`] a producer. What it
/// really takes is up to twice that, and once more while a cache is written.
const TABLE_MAX_BYTES: usize = 8 * 1024 * 1024;

const RUN_BYTES: usize = size_of::<Run>();

/// A producer's part in the map, with the room that a hash map leaves free.
const PRODUCER_BYTES: usize = 2 * size_of::<(Producer, ProducerRuns)>();

/// What the table is cut back to when it is full. To look at all producers then costs little for each of the
/// many inserts until it is full again.
const TABLE_CUT_BYTES: usize = TABLE_MAX_BYTES / 8 * 7;

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It is not in the journal.
    New,
    /// It is, with this seq.
    Known(u64),
    /// It may be: what would tell has been forgotten.
    Stale,
}

/// Consecutive counters with consecutive seqs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    first_counter: u64,
    first_seq: u64,
    count: u64,
}

impl Run {
    fn is_sound(&self) -> bool {
        let ends = |first: u64| first.checked_add(self.count).is_some();
        self.count > 0 && ends(self.first_counter) && ends(self.first_seq)
    }

    fn seq_of(&self, counter: u64) -> Option<u64> {
        let place = counter.checked_sub(self.first_counter)?;
        (place < self.count).then(|| self.first_seq + place)
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct ProducerRuns {
    /// In the order of their counters.
    runs: VecDeque<Run>,
    /// Counters below this one that are in no run have been forgotten, or were never known.
    floor: u64,
    /// Behind its newest run there may be more that is not known.
    doubt: bool,
    /// The seq of its newest entry, which tells how long it has been silent.
    newest_seq: u64,
}

impl ProducerRuns {
    /// Forgets the oldest runs beyond `share`.
    fn trim(&mut self, share: usize) {
        let excess = self.runs.len().saturating_sub(share);
        if let Some(newest) = self.runs.drain(..excess).next_back() {
            self.floor = self.floor.max(newest.first_counter.saturating_add(newest.count));
        }
    }
}

/// The table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct KeyTable {
    /// By their numbers.
    producers: HashMap<u64, ProducerRuns>,
    #[serde(skip)]
    runs: usize,
    /// A whole producer has been forgotten, so one that is not in the table may be an old one.
    forgotten: bool,
    /// It knows nothing of what was there before it.
    #[serde(skip)]
    unknown: bool,
}

impl KeyTable {
    /// A table of a journal whose keys cannot be known: no retry can be judged.
    pub(crate) fn unknown() -> Self {
        Self { forgotten: true, unknown: true, ..Self::default() }
    }

    /// Whether it was made as one that knows nothing.
    pub(crate) fn is_unknown(&self) -> bool {
        self.unknown
    }

    /// Notes that entries may have been here whose keys cannot be read: they may be anybody's.
    pub(crate) fn doubt(&mut self) {
        self.forgotten = true;
        self.producers.values_mut().for_each(|known| known.doubt = true);
    }

    /// What is known of `key`. `retry` says that it may have been sent before.
    pub(crate) fn judge(&self, key: Key, retry: bool) -> Judgement {
        let Some(known) = self.producers.get(&key.producer.0) else {
            return if retry && self.forgotten { Judgement::Stale } else { Judgement::New };
        };
        let after = known.runs.partition_point(|run| run.first_counter <= key.counter);
        let run = after.checked_sub(1).and_then(|at| known.runs.get(at));
        match run.and_then(|run| run.seq_of(key.counter)) {
            Some(seq) => Judgement::Known(seq),
            None if key.counter < known.floor || (retry && known.doubt) => Judgement::Stale,
            None => Judgement::New,
        }
    }

    /// Notes that `key` is the entry `seq`.
    pub(crate) fn insert(&mut self, key: Key, seq: u64) {
        let forgotten = self.forgotten;
        let known = self.producers.entry(key.producer.0).or_insert_with(|| ProducerRuns {
            // It may be one that was forgotten; what it wrote before this is not known.
            doubt: forgotten,
            ..ProducerRuns::default()
        });
        if std::mem::take(&mut known.doubt) {
            known.floor = known.floor.max(key.counter);
        }
        known.newest_seq = known.newest_seq.max(seq);
        let new = Run { first_counter: key.counter, first_seq: seq, count: 1 };
        let runs_before = known.runs.len();
        match known.runs.back_mut() {
            Some(last)
                if last.first_counter.checked_add(last.count) == Some(key.counter)
                    && last.first_seq + last.count == seq =>
            {
                last.count += 1;
            }
            Some(last) if last.first_counter > key.counter => {
                let at = known.runs.partition_point(|run| run.first_counter < key.counter);
                known.runs.insert(at, new);
            }
            _ => known.runs.push_back(new),
        }
        known.trim(PRODUCER_MAX_RUNS);
        self.runs = self.runs + known.runs.len() - runs_before;
        if self.bytes() > TABLE_MAX_BYTES {
            self.cut_back();
        }
    }

    /// Takes back what [`insert`](Self::insert) noted of `producer` from `seq` on: it was not committed.
    pub(crate) fn take_back(&mut self, producer: Producer, from_seq: u64) {
        let Some(known) = self.producers.get_mut(&producer.0) else {
            return;
        };
        let runs_before = known.runs.len();
        known.runs.retain_mut(|run| {
            run.count = run.count.min(from_seq.saturating_sub(run.first_seq));
            run.count > 0
        });
        self.runs -= runs_before - known.runs.len();
    }

    /// A table that was read, if it is one that can be: what is read may be damaged.
    pub(crate) fn checked(mut self) -> Option<Self> {
        for known in self.producers.values_mut() {
            // An earlier version kept more.
            known.trim(PRODUCER_MAX_RUNS);
            known.runs.iter().all(Run::is_sound).then_some(())?;
        }
        self.count_runs();
        Some(self)
    }

    fn bytes(&self) -> usize {
        self.runs * RUN_BYTES + self.producers.len() * PRODUCER_BYTES
    }

    fn cut_back(&mut self) {
        let share = self.share();
        for known in self.producers.values_mut().filter(|known| known.runs.len() > share) {
            known.trim(share);
            known.runs.shrink_to_fit();
        }
        self.count_runs();
        if self.bytes() > TABLE_CUT_BYTES {
            self.forget_silent();
        }
    }

    /// The largest share for each producer with which the table is cut back far enough: those who have fewer
    /// runs leave the rest to the others (max-min fair).
    fn share(&self) -> usize {
        // How many producers have so many runs.
        let mut with = vec![0; PRODUCER_MAX_RUNS + 1];
        self.producers.values().for_each(|known| with[known.runs.len()] += 1);
        let (mut share, mut bytes, mut above) = (PRODUCER_MAX_RUNS, self.bytes(), 0);
        while bytes > TABLE_CUT_BYTES && share > SHARE_MIN_RUNS {
            above += with[share];
            share -= 1;
            bytes -= above * RUN_BYTES;
        }
        share
    }

    /// Forgets the quarter of the producers that has been silent the longest.
    fn forget_silent(&mut self) {
        let mut newest: Vec<u64> = self.producers.values().map(|known| known.newest_seq).collect();
        let quarter = newest.len() / 4;
        let (_, &mut limit, _) = newest.select_nth_unstable(quarter);
        self.producers.retain(|_, known| known.newest_seq > limit);
        self.forgotten = true;
        self.count_runs();
    }

    fn count_runs(&mut self) {
        self.runs = self.producers.values().map(|known| known.runs.len()).sum();
    }
}

#[cfg(test)]
mod tests;
