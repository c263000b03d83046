//! What readings bring: entries, gaps, and blocks of stored lines.

use bytes::Bytes;
use diary_proto::block::{Gap, Step, Walker};
use diary_proto::entry::{Entry, Key, StoredLine};

/// What a reading brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A sound entry.
    Entry(Stored),
    /// Entries of the range that are damaged or missing.
    Gap(Gap),
    /// So many hits of a search were damaged and are left out. In history and follow damage is a gap.
    Damaged {
        /// How many lines.
        lines: u64,
    },
    /// The diary was restored from an older copy while it was followed: entries that came may not be in it any more, and
    /// those that it got before this are not shown. Only a follow tells it, and goes on.
    Restored {
        /// The newest entry that it has; what follows is behind it.
        head: u64,
    },
}

/// An entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The entry, decoded.
    pub entry: Entry,
    /// The writer's name for it.
    pub key: Option<Key>,
    /// The checksum of its line: with the journal's id and the seq it is a [place](crate::Resume).
    pub crc: u32,
    /// What stands left of the TAB, for people: seq, time, author, escaped text.
    pub left: String,
}

impl Stored {
    /// A line's entry; `None` if its fields cannot be read.
    pub(crate) fn read(line: &StoredLine<'_>) -> Option<Self> {
        let entry = line.to_entry().ok()?;
        Some(Self { entry, key: line.key, crc: line.crc, left: line.left.to_owned() })
    }
}

/// Stored lines as they travel, every checksum and seq checked, and no field read yet.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// How many sound entries of the range it has.
    pub entries: u64,
    /// Entries of the range that are damaged or missing before or among them.
    pub gaps: Vec<Gap>,
    /// Lines that say nothing, not even which entries they were; only where entries are not dense.
    pub damaged: u64,
    pub(crate) lines: Bytes,
    /// At the first of them; none before there are any.
    pub(crate) walker: Option<Walker>,
    pub(crate) last: u64,
    /// Not all between its entries belongs to the reading.
    pub(crate) is_sparse: bool,
}

impl Block {
    /// Gives every entry to `visit`, in order, and gaps where entries are dense. A line whose checksum fits but whose fields cannot be read is in
    /// a gap, once a readable one follows.
    pub fn for_each(&self, mut visit: impl FnMut(Step<StoredLine<'_>>)) {
        let Some(mut walker) = self.walker.clone() else { return };
        walker.walk(&self.lines, |step| match step {
            Step::Entry(line) if line.seq > self.last => {}
            Step::Gap(_) if self.is_sparse => {}
            step => visit(step),
        });
    }
}
