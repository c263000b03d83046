//! Earlier entries that others name: whether they are there.

use std::io;

use diary_proto::{Code, Refusal};
use diary_store::Reader;

/// Why an entry that another names is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Its seq is not given out yet.
    NotYet,
    /// It is in an archive, which is not shown.
    Archived,
    /// Its line is damaged or missing.
    Damaged,
    /// Whether it is there cannot be told.
    Unreadable,
}

impl Missing {
    /// The refusal of what names it. One append may bring many, so the messages are static.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::NotYet => Refusal::new(Code::NoEntry, "there is no entry with that number yet"),
            Self::Archived => Refusal::new(Code::NoEntry, "the entry with that number is archived"),
            Self::Damaged => Refusal::new(Code::NoEntry, "the entry with that number is damaged or missing"),
            Self::Unreadable => Refusal::new(
                Code::Unreadable,
                "the disk could not be read to see whether there is an entry with that number",
            ),
        }
    }
}

/// Which of these entries are not there, and why.
pub(crate) fn missing_of(reader: &Reader, seqs: &[u64]) -> io::Result<Vec<(u64, Missing)>> {
    let mut missing = Vec::new();
    for &seq in seqs {
        let found = match outside(reader, seq)? {
            None => reader.line(seq, |_| ())?.is_none().then_some(Missing::Damaged),
            outside => outside,
        };
        missing.extend(found.map(|why| (seq, why)));
    }
    Ok(missing)
}

/// Why the entry `seq` is not between the first and the last, if it is not.
pub(crate) fn outside(reader: &Reader, seq: u64) -> io::Result<Option<Missing>> {
    Ok(if seq == 0 || seq > reader.head().seq {
        Some(Missing::NotYet)
    } else if seq < reader.first()? {
        Some(Missing::Archived)
    } else {
        None
    })
}
