//! What an entry is to an earlier one: an answer, a correction or a redaction.

use std::fmt;

use crate::entry::parse_number;

/// The earlier entry's seq, and what the later one is to it. Displays as it stands before the text: `re 57`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// It answers the entry.
    Answers(u64),
    /// It is a newer version of the entry.
    Corrects(u64),
    /// It takes the entry's text out.
    Redacts(u64),
}

impl Relation {
    /// The seq of the earlier entry.
    pub fn seq(self) -> u64 {
        match self {
            Self::Answers(seq) | Self::Corrects(seq) | Self::Redacts(seq) => seq,
        }
    }

    /// Whether it is a newer version of the earlier entry.
    pub fn is_correction(self) -> bool {
        matches!(self, Self::Corrects(_))
    }

    /// The same to another entry.
    pub fn to(self, seq: u64) -> Self {
        match self {
            Self::Answers(_) => Self::Answers(seq),
            Self::Corrects(_) => Self::Corrects(seq),
            Self::Redacts(_) => Self::Redacts(seq),
        }
    }

    /// The name of the field that holds it.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Answers(_) => "re",
            Self::Corrects(_) => "corrects",
            Self::Redacts(_) => "redacts",
        }
    }

    /// Reads a field of the entry `seq`; `None` if the field has another name.
    ///
    /// # Errors
    /// It names no earlier entry.
    pub(crate) fn read(name: &str, value: &str, seq: u64) -> Option<Result<Self, &'static str>> {
        let of = match name {
            "re" => Self::Answers,
            "corrects" => Self::Corrects,
            "redacts" => Self::Redacts,
            _ => return None,
        };
        let earlier = parse_number(value.as_bytes()).filter(|earlier| (1..seq).contains(earlier));
        Some(earlier.map(of).ok_or(of(0).field()))
    }
}

/// The deepest level of a thread. What is deeper stands at this one.
pub const LEVEL_MAX: usize = 16;

/// How deep the entries of a thread are in it, as they come one after the other.
#[derive(Debug, Clone, Default)]
pub struct Levels {
    /// The entry that came last, behind the ones above it; each with what it answers.
    above: Vec<(u64, Option<u64>)>,
}

/// The place of an entry in a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// 0 for the first entry, and at most [`LEVEL_MAX`].
    pub depth: usize,
    /// It stands below the entry that it answers. Otherwise that is damaged, or too deep.
    pub is_below: bool,
}

impl Levels {
    /// The place of the next entry.
    pub fn next(&mut self, seq: u64, relation: Option<Relation>) -> Level {
        let answered = match relation {
            Some(Relation::Answers(answered)) => Some(answered),
            _ => None,
        };
        let found = self.above.iter().rposition(|&(above, _)| Some(above) == answered);
        let is_beside = |&(_, other): &(u64, Option<u64>)| answered.is_some() && other == answered;
        match (found, self.above.iter().rposition(is_beside)) {
            (Some(at), _) => self.above.truncate(at + 1),
            // What both answer is damaged.
            (None, Some(at)) if at > 0 => self.above.truncate(at),
            _ => {}
        }
        let depth = self.above.len();
        if depth < LEVEL_MAX {
            self.above.push((seq, answered));
        }
        Level { depth, is_below: found.is_some() }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field(), self.seq())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(thread: impl IntoIterator<Item = (u64, Option<u64>)>) -> Vec<usize> {
        let mut levels = Levels::default();
        thread
            .into_iter()
            .map(|(seq, answered)| levels.next(seq, answered.map(Relation::Answers)).depth)
            .collect()
    }

    #[test]
    fn an_answer_is_one_level_below_what_it_answers() {
        let thread = [
            (2, Some(1)),
            (3, Some(2)),
            (5, Some(3)),
            (8, Some(5)),
            (9, Some(3)),
            (6, Some(2)),
            (7, Some(6)),
        ];
        assert_eq!(levels(thread), [0, 1, 2, 3, 2, 1, 2]);
    }

    #[test]
    fn where_what_is_answered_is_missing_the_answer_is_below_what_came_last() {
        assert_eq!(
            levels([(1, None), (5, Some(3)), (6, Some(3)), (7, Some(5)), (8, Some(1))]),
            [0, 1, 1, 2, 1]
        );
        // The first one is damaged.
        assert_eq!(levels([(2, Some(1)), (3, Some(1)), (4, Some(2))]), [0, 1, 1]);
    }

    #[test]
    fn what_is_too_deep_stands_at_the_deepest_level() {
        let chain = (1..40).map(|seq| (seq, Some(seq - 1))).chain([(40, Some(2))]);
        let expected = (0..39).map(|level| level.min(LEVEL_MAX)).chain([2]);
        assert_eq!(levels(chain), expected.collect::<Vec<_>>());
    }
}
