//! Strays: what has a day file's name and is no day file of the journal.

use std::fmt;

use diary_proto::Date;

use super::day_file::Header;

/// Why something with a day file's name does not belong to the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stray {
    /// It is not a regular file.
    NoFile,
    /// Its header has the id of another journal.
    OtherJournal(u64),
    /// Its header has another day than its name.
    OtherDay(Date),
    /// Its seqs are not between those of the files around it.
    Misplaced,
    /// Its entries are in an archive.
    Archived,
    /// No line in it is valid.
    NoLine,
}

impl Stray {
    /// What a header says of the file that has the name of the day `date`, in the journal with this id.
    pub(crate) fn of_header(header: &Header, date: Date, id: u64) -> Option<Self> {
        match header {
            header if header.id != id => Some(Self::OtherJournal(header.id)),
            header if header.date != date => Some(Self::OtherDay(header.date)),
            _ => None,
        }
    }
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile => f.write_str("it is not a regular file"),
            Self::OtherJournal(id) => write!(f, "it is a file of another journal, with the id {id:016x}"),
            Self::OtherDay(date) => write!(f, "it is the file of {date}"),
            Self::Misplaced => f.write_str("its seqs are not between those of the files around it"),
            Self::Archived => f.write_str("its entries were archived"),
            Self::NoLine => f.write_str("no line in it is valid"),
        }
    }
}
