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

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field(), self.seq())
    }
}
