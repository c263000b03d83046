//! Which entries answer which: what a thread is made of.
//!
//! The table is derived from the day files. Its memory is bounded: where there are too many answers, the oldest are
//! forgotten, and of entries that are older than those it is no longer known what answers them.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

use serde::{Deserialize, Serialize};

/// Most answers, which take about 50 MiB.
const ANSWERS_MAX: usize = 1024 * 1024;

/// The table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Answers {
    /// Each answer's seq, ascending, and that of the entry that it answers.
    by_seq: VecDeque<(u64, u64)>,
    /// The same as (answered, answer).
    #[serde(skip)]
    by_answered: BTreeSet<(u64, u64)>,
    /// Answers up to this seq are not known.
    forgotten: u64,
}

impl Answers {
    /// A table of a journal whose answers up to `head` cannot be known.
    pub(crate) fn unknown(head: u64) -> Self {
        Self { forgotten: head, ..Self::default() }
    }

    /// Notes that the entry `seq`, the newest so far, answers `answered`.
    pub(crate) fn insert(&mut self, seq: u64, answered: u64) {
        if self.by_seq.len() == ANSWERS_MAX {
            self.forget_oldest(ANSWERS_MAX / 4);
        }
        self.by_seq.push_back((seq, answered));
        self.by_answered.insert((answered, seq));
    }

    fn forget_oldest(&mut self, count: usize) {
        for (seq, answered) in self.by_seq.drain(..count) {
            self.by_answered.remove(&(answered, seq));
            self.forgotten = seq;
        }
    }

    /// Adds what a later table says of entries behind `seq`.
    pub(crate) fn extend(&mut self, later: &Self, seq: u64) {
        let behind = later.by_seq.partition_point(|&(answer, _)| answer <= seq);
        later.by_seq.range(behind..).for_each(|&(answer, answered)| self.insert(answer, answered));
    }

    /// Whether all that is in the thread of `seq` is known.
    pub(crate) fn knows_thread_of(&self, seq: u64) -> bool {
        // Whatever is in it comes after it.
        self.forgotten <= seq
    }

    /// The entry that follows `seq` in the thread of `root`, none above `head`: an entry's answers come right behind it,
    /// each with its own, in the order in which they were written.
    pub(crate) fn next_in_thread(&self, root: u64, seq: u64, head: u64) -> Option<u64> {
        let (mut above, mut behind) = (seq, 0);
        loop {
            let next = self.by_answered.range((Excluded((above, behind)), Unbounded)).next();
            if let Some(&(answered, answer)) = next
                && answered == above
                && answer <= head
            {
                return Some(answer);
            }
            if above == root {
                return None;
            }
            (above, behind) = (self.answered_by(above)?, above);
        }
    }

    /// The entry that `seq` answers.
    fn answered_by(&self, seq: u64) -> Option<u64> {
        let at = self.by_seq.binary_search_by_key(&seq, |&(answer, _)| answer).ok()?;
        Some(self.by_seq[at].1)
    }

    /// A table that was read, if it is one that can be: what is read may be damaged.
    pub(crate) fn checked(mut self) -> Option<Self> {
        let is_sound = |&(answer, answered): &(u64, u64)| answered > 0 && answered < answer;
        let is_behind = self.by_seq.front().is_none_or(|&(first, _)| self.forgotten < first);
        let is_in_order = self.by_seq.iter().is_sorted_by(|a, b| a.0 < b.0);
        if !(is_in_order && is_behind && self.by_seq.iter().all(is_sound)) || self.by_seq.len() > ANSWERS_MAX
        {
            return None;
        }
        self.by_answered = self.by_seq.iter().map(|&(answer, answered)| (answered, answer)).collect();
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn thread(answers: &Answers, root: u64, head: u64) -> Vec<u64> {
        let next = |&seq: &u64| answers.next_in_thread(root, seq, head);
        std::iter::successors(Some(root), next).collect()
    }

    #[test]
    fn answers_follow_what_they_answer() {
        let mut answers = Answers::default();
        for (seq, answered) in [(3, 1), (4, 2), (5, 3), (6, 1), (8, 5), (9, 3)] {
            answers.insert(seq, answered);
        }
        assert_eq!(thread(&answers, 1, 9), [1, 3, 5, 8, 9, 6]);
        assert_eq!(thread(&answers, 3, 9), [3, 5, 8, 9]);
        assert_eq!(thread(&answers, 2, 9), [2, 4]);
        assert_eq!(thread(&answers, 7, 9), [7]);
        assert_eq!(thread(&answers, 1, 5), [1, 3, 5], "none above the head");
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut answers = Answers::default();
        let count = ANSWERS_MAX as u64 + 1;
        (2..2 + count).for_each(|seq| answers.insert(seq, seq - 1));
        let forgotten = ANSWERS_MAX as u64 / 4;
        assert_eq!(answers.by_seq.len() as u64, count - forgotten);
        assert_eq!(answers.by_answered.len(), answers.by_seq.len());
        assert!(!answers.knows_thread_of(forgotten) && answers.knows_thread_of(forgotten + 1));
        assert_eq!(thread(&answers, forgotten + 1, u64::MAX).len() as u64, count - forgotten + 1);
    }

    proptest! {
        #[test]
        fn every_thread_is_what_a_search_for_it_finds(
            answered in proptest::collection::vec(any::<u64>(), 1..40),
            root in 1u64..40,
            split in 0usize..40,
        ) {
            // Entry `at + 2` answers an earlier one, or none.
            let answers: Vec<(u64, u64)> = (2u64..)
                .zip(&answered)
                .map(|(seq, any)| (seq, any % seq))
                .filter(|(_, answered)| *answered > 0)
                .collect();
            let (mut table, mut later) = (Answers::default(), Answers::default());
            let split = split.min(answers.len());
            answers[..split].iter().for_each(|&(seq, answered)| table.insert(seq, answered));
            answers.iter().for_each(|&(seq, answered)| later.insert(seq, answered));
            table.extend(&later, answers[..split].last().map_or(1, |&(seq, _)| seq));
            let bytes = postcard::to_allocvec(&table).unwrap();
            let table = postcard::from_bytes::<Answers>(&bytes).unwrap().checked().unwrap();

            fn search(answers: &[(u64, u64)], root: u64, found: &mut Vec<u64>) {
                found.push(root);
                answers.iter().filter(|(_, to)| *to == root).for_each(|&(seq, _)| search(answers, seq, found));
            }
            let mut found = Vec::new();
            search(&answers, root, &mut found);
            prop_assert_eq!(thread(&table, root, u64::MAX), found);
        }
    }
}
