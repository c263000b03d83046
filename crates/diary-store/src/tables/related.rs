//! Which entries belong to which earlier ones: what a thread is made of, and what was corrected.
//!
//! The table is derived from the day files. Its memory is bounded. Where there are too many answers, the oldest are
//! forgotten, and of entries that are older than those it is no longer known what answers them. Nothing is forgotten of
//! corrections, since old texts would be shown again: where there are too many, no more are
//! [taken](Related::takes_corrections).

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Included, Unbounded};

use diary_proto::Relation;
use serde::{Deserialize, Serialize};

/// Most answers, and most corrections, each of which take about 50 MiB then.
const LINKS_MAX: usize = 1024 * 1024;

/// So many answers are forgotten at once: whoever looks meanwhile waits.
const FORGOTTEN_AT_ONCE: usize = 1024;

/// Levels of a thread that are climbed at once, for the same reason.
const CLIMBED_AT_ONCE: usize = 1024;

/// The table.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Related {
    answers: Links,
    corrections: Links,
    /// Answers up to this seq are not known.
    forgotten: u64,
    /// It does not know of corrections before it, either.
    #[serde(skip)]
    unknown: bool,
}

impl Related {
    /// A table of a journal whose entries up to `head` cannot be known.
    pub(crate) fn unknown(head: u64) -> Self {
        Self { forgotten: head, unknown: true, ..Self::default() }
    }

    /// Notes what the entry `seq`, the newest so far, is to an earlier one.
    pub(crate) fn insert(&mut self, seq: u64, relation: Relation) {
        match relation {
            Relation::Answers(earlier) => {
                if self.answers.by_seq.len() == LINKS_MAX {
                    self.forgotten = self.answers.forget_oldest(FORGOTTEN_AT_ONCE);
                }
                self.answers.insert(seq, earlier);
            }
            Relation::Corrects(earlier) => self.corrections.insert(seq, earlier),
            Relation::Redacts(_) => {}
        }
    }

    /// Adds what a later table says of entries behind `seq`.
    pub(crate) fn extend(&mut self, later: &Self, seq: u64) {
        if later.forgotten > seq {
            self.forgotten = later.forgotten;
        }
        later.answers.behind(seq).for_each(|&(answer, to)| self.insert(answer, Relation::Answers(to)));
        later.corrections.behind(seq).for_each(|&(new, to)| self.insert(new, Relation::Corrects(to)));
    }

    /// Whether all that is in the thread of `seq` is known.
    pub(crate) fn knows_thread_of(&self, seq: u64) -> bool {
        // Whatever is in it comes after it.
        self.forgotten <= seq
    }

    /// The entry that follows a place in the thread of `root`, none above `head`: an entry's answers come right behind it,
    /// each with its own, in the order in which they were written. `None` if it is not found yet, and the place has moved.
    pub(crate) fn next_in_thread(&self, root: u64, place: &mut Place, head: u64) -> Option<Option<u64>> {
        for _ in 0..CLIMBED_AT_ONCE {
            let Place { above, behind } = *place;
            let next = self.answers.by_earlier.range((Excluded((above, behind)), Unbounded)).next();
            if let Some(&(answered, answer)) = next
                && answered == above
                && answer <= head
            {
                return Some(Some(answer));
            }
            let Some(higher) = self.answers.earlier_of(above).filter(|_| above != root) else {
                return Some(None);
            };
            *place = Place { above: higher, behind: above };
        }
        None
    }

    /// Whether it knows of every correction.
    pub(crate) fn knows_corrections(&self) -> bool {
        !self.unknown
    }

    /// Whether there is room for more corrections.
    pub(crate) fn takes_corrections(&self) -> bool {
        self.corrections.by_seq.len() < LINKS_MAX
    }

    /// The corrections of the entry `seq` behind `after` and up to `head`, the oldest first.
    pub(crate) fn corrections_of(
        &self,
        seq: u64,
        after: u64,
        head: u64,
    ) -> impl DoubleEndedIterator<Item = u64> {
        self.corrections
            .by_earlier
            .range((Excluded((seq, after)), Included((seq, head.max(after)))))
            .map(|&(_, correction)| correction)
    }

    /// Those of `seqs`, which lie between `first` and `last`, that are corrected up to `head`.
    pub(crate) fn corrected(
        &self,
        (first, last): (u64, u64),
        seqs: impl Iterator<Item = u64>,
        head: u64,
    ) -> Vec<u64> {
        match self.corrected_from(first, head) {
            Some(seq) if seq <= last => {
                seqs.filter(|&seq| self.corrected_from(seq, head) == Some(seq)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The first entry from `seq` on that is corrected. It may be one that is corrected only behind `head`.
    fn corrected_from(&self, seq: u64, head: u64) -> Option<u64> {
        let &(seq, oldest) = self.corrections.by_earlier.range((seq, 0)..).next()?;
        (oldest <= head).then_some(seq)
    }

    /// Whether more than `count` of the entries between these are corrected.
    pub(crate) fn corrects_more_than(&self, count: usize, (first, last): (u64, u64)) -> bool {
        let mut next = first;
        for _ in 0..=count {
            match self.corrections.by_earlier.range((next, 0)..).next() {
                Some(&(seq, _)) if seq <= last => next = seq + 1,
                _ => return false,
            }
        }
        true
    }

    /// How many corrections are among the entries from `first` to `head`.
    pub(crate) fn corrections_from(&self, first: u64, head: u64) -> u64 {
        let before = |limit: u64| self.corrections.by_seq.partition_point(|&(seq, _)| seq < limit);
        (before(head + 1).saturating_sub(before(first))) as u64
    }

    /// A table that was read, if it is one that can be: what is read may be damaged.
    pub(crate) fn checked(self) -> Option<Self> {
        let Self { answers, corrections, forgotten, .. } = self;
        let is_behind = answers.by_seq.front().is_none_or(|&(first, _)| forgotten < first);
        let (answers, corrections) = (answers.checked()?, corrections.checked()?);
        (is_behind && answers.by_seq.len() <= LINKS_MAX).then_some(Self {
            answers,
            corrections,
            forgotten,
            unknown: false,
        })
    }
}

/// A place in a thread: behind an answer to the entry `above`, or behind that itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    above: u64,
    behind: u64,
}

impl Place {
    /// The place right behind an entry.
    pub(crate) fn behind(seq: u64) -> Self {
        Self { above: seq, behind: 0 }
    }
}

/// Entries of one kind, and the earlier ones that they belong to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Links {
    /// Each entry's seq, ascending, and that of the earlier one.
    by_seq: VecDeque<(u64, u64)>,
    /// The same the other way round.
    #[serde(skip)]
    by_earlier: BTreeSet<(u64, u64)>,
}

impl Links {
    fn insert(&mut self, seq: u64, earlier: u64) {
        self.by_seq.push_back((seq, earlier));
        self.by_earlier.insert((earlier, seq));
    }

    /// Forgets so many, and returns the last of them.
    fn forget_oldest(&mut self, count: usize) -> u64 {
        let mut forgotten = 0;
        for (seq, earlier) in self.by_seq.drain(..count) {
            self.by_earlier.remove(&(earlier, seq));
            forgotten = seq;
        }
        forgotten
    }

    fn behind(&self, seq: u64) -> impl Iterator<Item = &(u64, u64)> {
        self.by_seq.range(self.by_seq.partition_point(|&(later, _)| later <= seq)..)
    }

    fn earlier_of(&self, seq: u64) -> Option<u64> {
        let at = self.by_seq.binary_search_by_key(&seq, |&(later, _)| later).ok()?;
        Some(self.by_seq[at].1)
    }

    fn checked(mut self) -> Option<Self> {
        let is_sound = |&(seq, earlier): &(u64, u64)| earlier > 0 && earlier < seq;
        let is_in_order = self.by_seq.iter().is_sorted_by(|a, b| a.0 < b.0);
        (is_in_order && self.by_seq.iter().all(is_sound)).then_some(())?;
        self.by_earlier = self.by_seq.iter().map(|&(seq, earlier)| (earlier, seq)).collect();
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn thread(related: &Related, root: u64, head: u64) -> Vec<u64> {
        let next = |&seq: &u64| {
            let mut place = Place::behind(seq);
            std::iter::repeat_with(|| related.next_in_thread(root, &mut place, head))
                .find_map(|found| found)?
        };
        std::iter::successors(Some(root), next).collect()
    }

    #[test]
    fn answers_follow_what_they_answer() {
        let mut answers = Related::default();
        for (seq, answered) in [(3, 1), (4, 2), (5, 3), (6, 1), (8, 5), (9, 3)] {
            answers.insert(seq, Relation::Answers(answered));
        }
        assert_eq!(thread(&answers, 1, 9), [1, 3, 5, 8, 9, 6]);
        assert_eq!(thread(&answers, 3, 9), [3, 5, 8, 9]);
        assert_eq!(thread(&answers, 2, 9), [2, 4]);
        assert_eq!(thread(&answers, 7, 9), [7]);
        assert_eq!(thread(&answers, 1, 5), [1, 3, 5], "none above the head");
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut answers = Related::default();
        let count = LINKS_MAX as u64 + 1;
        (2..2 + count).for_each(|seq| answers.insert(seq, Relation::Answers(seq - 1)));
        let forgotten = FORGOTTEN_AT_ONCE as u64;
        assert_eq!(answers.answers.by_seq.len() as u64, count - forgotten);
        assert_eq!(answers.answers.by_earlier.len(), answers.answers.by_seq.len());
        assert!(!answers.knows_thread_of(forgotten) && answers.knows_thread_of(forgotten + 1));
        assert_eq!(thread(&answers, forgotten + 1, u64::MAX).len() as u64, count - forgotten + 1);
    }

    #[test]
    fn the_newest_correction_counts() {
        let mut related = Related::default();
        for (seq, corrected) in [(3, 1), (5, 2), (6, 1), (9, 8)] {
            related.insert(seq, Relation::Corrects(corrected));
        }
        let corrected = |first, last, head| related.corrected((first, last), first..=last, head);
        assert_eq!(corrected(1, 9, 9), [1, 2, 8]);
        assert_eq!(corrected(2, 9, 5), [2], "as of an earlier head");
        assert_eq!(corrected(2, 7, 9), [2]);
        assert!(related.corrects_more_than(2, (1, 9)) && !related.corrects_more_than(3, (1, 9)));
        assert!(!related.corrects_more_than(0, (3, 7)));
        assert_eq!(related.corrections_of(1, 9, 9).next(), None);
        assert_eq!(related.corrections_of(1, 0, 9).collect::<Vec<_>>(), [3, 6]);
        assert_eq!(related.corrections_of(1, 0, 5).next_back(), Some(3));
        assert_eq!((related.corrections_from(4, 9), related.corrections_from(4, 5)), (3, 1));
        let bytes = postcard::to_allocvec(&related).unwrap();
        let read = postcard::from_bytes::<Related>(&bytes).unwrap().checked().unwrap();
        assert_eq!(read.corrected((1, 9), 1..=9, 9), [1, 2, 8]);
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
            let (mut table, mut later) = (Related::default(), Related::default());
            let split = split.min(answers.len());
            answers[..split].iter().for_each(|&(seq, answered)| table.insert(seq, Relation::Answers(answered)));
            answers.iter().for_each(|&(seq, answered)| later.insert(seq, Relation::Answers(answered)));
            table.extend(&later, answers[..split].last().map_or(1, |&(seq, _)| seq));
            let bytes = postcard::to_allocvec(&table).unwrap();
            let table = postcard::from_bytes::<Related>(&bytes).unwrap().checked().unwrap();

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
