//! Earlier entries that others name: whether they are there, and whose they are.

use std::io;

use diary_proto::{Author, Code, Refusal, Relation};
use diary_store::{Reader, is_out_of_descriptors};

/// An earlier entry that another names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// The entry that is meant: a correction stands for the one that it corrects.
    pub seq: u64,
    /// Who wrote that.
    pub author: Author,
}

/// Why an entry cannot be named by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// Its seq is not given out yet.
    NotYet,
    /// It is in an archive, which is not shown.
    Archived,
    /// Its line is damaged or missing.
    Damaged,
    /// Whether it is there cannot be told.
    Unreadable,
    /// The same for now: there is no descriptor to read it with.
    NoDescriptor,
    /// Somebody else wrote it, so it cannot be corrected.
    NotOwn,
    /// The journal has as many corrections as it can have.
    Full,
}

impl Unfit {
    /// The refusal of what names it. One append may bring many, so the messages are static.
    pub fn refusal(self) -> Refusal {
        let (code, message) = match self {
            Self::NotYet => (Code::NoEntry, "there is no entry with that number"),
            Self::Archived => (Code::NoEntry, "the entry with that number is archived"),
            Self::Damaged => (Code::NoEntry, "the entry with that number is damaged or missing"),
            Self::Unreadable => {
                let message = "the disk could not be read to see whether there is an entry with that number";
                (Code::Unreadable, message)
            }
            Self::NoDescriptor => {
                (Code::DiskFull, "the server has too many open files to look an entry up; try again later")
            }
            Self::NotOwn => {
                (Code::NotPermitted, "only who wrote an entry corrects it, under the same name, or an admin")
            }
            Self::Full => (Code::Denied, "this journal has a million corrections, and takes no more"),
        };
        Refusal::new(code, message)
    }
}

/// What is known of an entry that others name.
pub type Found = (u64, Result<Earlier, Unfit>);

/// Looks these entries up.
pub(crate) fn look_up(reader: &Reader, seqs: &[u64]) -> Vec<Found> {
    let unreadable = |error: io::Error| {
        tracing::error!(%error, "an entry that another names cannot be looked up");
        Err(if is_out_of_descriptors(&error) { Unfit::NoDescriptor } else { Unfit::Unreadable })
    };
    seqs.iter().map(|&seq| (seq, find(reader, seq).unwrap_or_else(unreadable))).collect()
}

fn find(reader: &Reader, seq: u64) -> io::Result<Result<Earlier, Unfit>> {
    match meant(reader, seq)? {
        Err(unfit) => Ok(Err(unfit)),
        Ok(seq) => {
            let entry = reader.entry(seq)?;
            Ok(entry.map(|entry| Earlier { seq, author: entry.author }).ok_or(Unfit::Damaged))
        }
    }
}

/// The entry that is meant by a number: a correction stands for what it corrects.
pub(crate) fn meant(reader: &Reader, seq: u64) -> io::Result<Result<u64, Unfit>> {
    if let Some(unfit) = outside(reader, seq)? {
        return Ok(Err(unfit));
    }
    Ok(Ok(match reader.line(seq, |line| line.relation)?.flatten() {
        Some(Relation::Corrects(corrected)) => corrected,
        _ => seq,
    }))
}

/// Why the entry `seq` is not between the first and the last, if it is not.
fn outside(reader: &Reader, seq: u64) -> io::Result<Option<Unfit>> {
    Ok(if seq == 0 || seq > reader.head().seq {
        Some(Unfit::NotYet)
    } else if seq < reader.first()? {
        Some(Unfit::Archived)
    } else {
        None
    })
}
