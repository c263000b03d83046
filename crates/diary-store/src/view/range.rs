//! Ranges: which entries somebody wants, and how far they have been read.

use std::io;

use bytes::Bytes;
use diary_proto::{Date, Which};

use super::days::Picked;
use super::thread::Thread;
use super::{Reader, View};
use crate::format::find;
use crate::format::head::Head;

/// Entries with consecutive seqs, and how far they have been read.
#[derive(Debug, Clone)]
pub struct Range {
    /// The seq of the first entry.
    pub first: u64,
    /// The seq of the last one; below `first` for a range without entries.
    pub last: u64,
    /// Where reading goes on; no file yet in a journal that had none.
    pub(super) date: Option<Date>,
    pub(super) offset: u64,
    /// Where it ends: the file's length if this is `None`.
    pub(super) end_date: Option<Date>,
    pub(super) end_offset: Option<u64>,
    /// Only some of the entries are wanted: those of some days, or of a thread.
    pub(super) picked: Option<Box<Picked>>,
    pub(super) thread: Option<Thread>,
}

/// A batch that was just committed, for those who read on where it begins: they need not ask the disk.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// The head before it, and behind it.
    pub(crate) before: Head,
    pub(crate) after: Head,
    /// Its lines, as on disk.
    pub lines: Bytes,
}

impl Fresh {
    /// The seq of its last entry.
    pub fn last(&self) -> u64 {
        self.after.seq
    }
}

impl Range {
    /// Takes a batch as read, if the range goes on where it begins.
    pub fn take(&mut self, fresh: &Fresh) -> bool {
        let goes_on = (self.date, self.offset) == (fresh.before.file, fresh.before.end);
        if goes_on {
            (self.date, self.offset) = (fresh.after.file, fresh.after.end);
            (self.end_date, self.end_offset) = (fresh.after.file, Some(fresh.after.end));
            self.last = fresh.after.seq;
        }
        goes_on
    }

    pub(super) fn empty() -> Self {
        Self {
            first: 1,
            last: 0,
            date: None,
            offset: 0,
            end_date: None,
            end_offset: None,
            picked: None,
            thread: None,
        }
    }

    /// The day of the file where reading goes on: after a page, the one that the page is of.
    pub(crate) fn file(&self) -> Option<Date> {
        self.date
    }
}

impl Reader {
    /// The range that `which` stands for now; `today` is the server's. For days, what is derived must have
    /// been loaded: own times are not known before.
    ///
    /// # Errors
    /// Those of reading day files.
    pub fn range(&self, which: Which, today: Date) -> io::Result<Range> {
        let view = self.view();
        match which {
            Which::Last(count) => self.range_from(&view, (view.head.seq + 1).saturating_sub(count).max(1)),
            Which::All => self.range_from(&view, 1),
            Which::From(seq) => self.range_from(&view, seq),
            Which::Days(from, to) => self.days(&view, from.date(today), to.date(today)),
        }
    }

    /// The range from `seq` to the head. Past the head it is empty, and [`extend`](Self::extend) lets it
    /// begin there.
    ///
    /// # Errors
    /// Those of reading day files.
    pub fn from(&self, seq: u64) -> io::Result<Range> {
        self.range_from(&self.view(), seq)
    }

    pub(super) fn range_from(&self, view: &View, seq: u64) -> io::Result<Range> {
        let head = view.head;
        let mut range = Range {
            first: seq.max(self.first()?),
            last: head.seq,
            date: head.file,
            offset: head.end,
            end_date: head.file,
            end_offset: Some(head.end),
            picked: None,
            thread: None,
        };
        if range.first > head.seq {
            return Ok(range);
        }
        let Some(date) = self.file_of(view, range.first) else {
            return Ok(range);
        };
        range.date = Some(date);
        range.offset = match self.kept(date) {
            Ok(file) => {
                let end = view.end_of(date, &*file)?;
                // Nothing sound from there on in this file: the next one, if there is one, goes on.
                find::find_seq(&*file, self.seal(), end, range.first)?.map_or(end, |found| found.offset)
            }
            // Whoever reads on to it passes it over.
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(range)
    }

    /// Lets a range that was read to its end go on to the present head.
    pub fn extend(&self, range: &mut Range) {
        let head = self.head();
        range.last = head.seq;
        range.end_date = head.file;
        range.end_offset = Some(head.end);
    }

    /// All that is in the files of these days.
    pub(super) fn files_of_days(&self, view: &View, from: Date, to: Date) -> Range {
        let View { head, days: dates, .. } = view;
        let begin = dates.partition_point(|&date| date < from);
        let end = dates.partition_point(|&date| date <= to);
        let (Some(&first_date), true) = (dates.get(begin), begin < end) else {
            return Range::empty();
        };
        let last_date = dates[end - 1];
        let first_of = |dates: &[Date]| dates.iter().find_map(|&date| self.first_seq(view, date));
        let last = first_of(&dates[end..]).map_or(head.seq, |next| next - 1);
        Range {
            first: first_of(&dates[begin..end]).unwrap_or(last + 1),
            last,
            date: Some(first_date),
            offset: 0,
            end_date: Some(last_date),
            end_offset: (head.file == Some(last_date)).then_some(head.end),
            picked: None,
            thread: None,
        }
    }
}
