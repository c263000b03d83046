//! Items that readings deliver: entries, gaps, and blocks of stored lines.

use bytes::Bytes;
use diary_proto::Time;
use diary_proto::block::{Gap, Step, Walker};
use diary_proto::entry::{Author, Entry, Key, StoredLine};

/// An item of a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A valid entry.
    Entry(Stored),
    /// Entries of the range that are damaged or missing.
    Gap(Gap),
    /// Damaged hits of a search were left out. In history and follow, damage is a gap.
    Damaged {
        /// Number of damaged lines.
        lines: u64,
    },
    /// The diary was restored from an older copy while it was followed. Entries that were delivered may no
    /// longer be in it, and those that it got before this event are not delivered. Only a follow reports this,
    /// and goes on.
    Restored {
        /// Newest entry in the restored diary. The follow goes on after it.
        head: u64,
    },
}

/// An entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Decoded entry.
    pub entry: Entry,
    /// Key that the writer gave it.
    pub key: Option<Key>,
    /// Checksum of its line. With the journal's id and the seq it makes a [place](crate::Resume).
    pub crc: u32,
    /// The line's human-readable part, left of the TAB: seq, time, author, escaped text.
    pub left: String,
    /// Newest correction, if it has one. The entry's text and `left` are those that people see then. Only in readings that
    /// ask for [what people see](diary_proto::Scope::shown).
    pub correction: Option<Box<Correction>>,
}

/// The newest correction of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// Number of the correction, which is an entry itself.
    pub seq: u64,
    /// When it was committed.
    pub time: Time,
    /// Who wrote it.
    pub author: Author,
    /// Text of the entry as it was written first.
    pub original: String,
}

impl Stored {
    /// Decodes a line; `None` if its fields cannot be read.
    pub(crate) fn read(line: &StoredLine<'_>) -> Option<Self> {
        let entry = line.to_entry().ok()?;
        Some(Self { entry, key: line.key, crc: line.crc, left: line.left.to_owned(), correction: None })
    }

    /// Decodes the line of an entry whose newest correction is in the line `newest`.
    pub(crate) fn read_corrected(line: &StoredLine<'_>, newest: Option<&StoredLine<'_>>) -> Option<Self> {
        let mut stored = Self::read(line)?;
        if let Some((newest, correction)) = newest.and_then(|newest| Some((newest, newest.to_entry().ok()?)))
        {
            stored.left = line.corrected_left(newest);
            let original = std::mem::replace(&mut stored.entry.text, correction.text);
            let Entry { seq, time, author, .. } = correction;
            stored.correction = Some(Box::new(Correction { seq, time, author, original }));
        }
        Some(stored)
    }
}

/// Stored lines as sent by the server. Every checksum and seq is verified; no field is decoded yet.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// Number of valid entries of the range.
    pub entries: u64,
    /// Entries of the range that are damaged or missing before or among these.
    pub gaps: Vec<Gap>,
    /// Lines so damaged that not even their seq is known. Only where entries are not dense.
    pub damaged: u64,
    pub(crate) lines: Bytes,
    /// Position of the first line; `None` if there are no lines.
    pub(crate) walker: Option<Walker>,
    pub(crate) last: u64,
    /// Whether the range leaves out some of the entries between these.
    pub(crate) is_sparse: bool,
}

impl Block {
    /// Calls `visit` with every entry, in order, and with gaps where entries are dense. A line with a valid
    /// checksum but unreadable fields becomes part of a gap once a readable line follows.
    pub fn for_each(&self, mut visit: impl FnMut(Step<StoredLine<'_>>)) {
        let Some(mut walker) = self.walker.clone() else { return };
        walker.walk(&self.lines, |step| match step {
            Step::Entry(line) if line.seq > self.last => {}
            Step::Gap(_) if self.is_sparse => {}
            step => visit(step),
        });
    }
}
