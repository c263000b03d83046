//! Every line of every day file, in order, with what is wrong in them.

use std::fmt;
use std::io;

use diary_proto::block::Gap;
use diary_proto::entry::{StoredLine, is_note};
use diary_proto::{Date, Seal};

use crate::format::day_file::{Header, name};
use crate::format::lines::{entry_in, for_each_line, unedited};
pub use crate::format::stray::Stray;
use crate::view::Reader;

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The day file; none if there is none left.
    pub file: Option<Date>,
    /// The line in it, from 1.
    pub line: u64,
    /// The newest sound entry before it; 0 for none.
    pub after: u64,
    /// What.
    pub what: What,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The line is neither a sound entry nor a sound note.
    Unsound,
    /// Entries are missing before this line (both ends included).
    Missing(u64, u64),
    /// Entries are missing behind this line, the last one.
    MissingBehind(u64, u64),
    /// The line is sound but for a CR at its end, as an editor leaves it.
    CarriageReturn(u64),
    /// From here on, the file cannot be read.
    Unreadable(io::ErrorKind),
    /// This line's seq should be past already.
    OutOfOrder(u64),
    /// This entry does not belong to the batch that it says it is in.
    Batch(u64),
    /// The header does not name the end of the file before.
    Chain,
    /// The file does not end in a line feed.
    Cut,
    /// The file does not belong to the journal.
    Stray(Stray),
    /// From here on, the file goes on with the seqs of a later one.
    Overlap,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.file {
            Some(file) if matches!(self.what, What::Stray(_)) => write!(f, "{}: ", name(file))?,
            Some(file) => write!(f, "{} line {}: ", name(file), self.line)?,
            None => f.write_str("there is no day file: ")?,
        }
        match self.what {
            What::Unsound => write!(f, "the line is damaged (the entry before it is {})", self.after),
            What::Missing(first, last) => write!(f, "{} missing before it", Seqs(first, last)),
            What::MissingBehind(first, last) => write!(f, "{} missing behind it", Seqs(first, last)),
            What::CarriageReturn(seq) => {
                write!(
                    f,
                    "entry {seq} has CR LF at its end, as an editor leaves it; without the CR it is sound"
                )
            }
            What::Unreadable(error) => write!(f, "the file cannot be read from here on: {error}"),
            What::OutOfOrder(seq) => write!(f, "the entry {seq} is out of order"),
            What::Batch(seq) => write!(f, "the entry {seq} is not in the batch that it names"),
            What::Chain => f.write_str("the header does not fit the file before it"),
            What::Cut => {
                write!(f, "the file ends in the middle of it (the entry before it is {})", self.after)
            }
            What::Stray(stray) => write!(f, "it does not belong to the diary and is passed over: {stray}"),
            What::Overlap => f.write_str("from here on, the file has the seqs of a later one"),
        }
    }
}

/// Entries with these seqs, both ends included, and the verb.
pub struct Seqs(pub u64, pub u64);

impl fmt::Display for Seqs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Seqs(first, last) if first == last => write!(f, "entry {first} is"),
            Seqs(first, last) => write!(f, "the entries {first} to {last} are"),
        }
    }
}

/// Walks over the journal up to its head. `entry` sees every sound entry in its place, `finding`
/// everything that is wrong; a file that cannot be read is wrong too.
///
/// Returns where it ended.
///
/// # Errors
/// Those of finding out how the journal begins.
pub(crate) fn scan(
    reader: &Reader,
    mut entry: impl FnMut(Date, &StoredLine<'_>, &[u8]),
    mut finding: impl FnMut(Finding),
) -> io::Result<Place> {
    let view = reader.view();
    let mut at = Place { seal: reader.seal(), seq: 0, crc: 0, batch: None, file: None, line: 0 };
    if let Some(archived) = reader.archived()? {
        (at.seq, at.crc, at.file) = (archived.seq, archived.crc, Some(archived.date));
    }
    for &date in &*view.days {
        let mut line_number = 0;
        let read = reader.open(date).and_then(|file| {
            let end = view.end_of(date, &*file)?;
            for_each_line(&*file, end, |line| {
                line_number += 1;
                at.line = line_number;
                let after = at.seq;
                let mut found = |what| finding(Finding { file: Some(date), line: line_number, after, what });
                at.take(date, line_number, line, &mut entry, &mut found);
            })
        });
        let what = match read {
            Ok(_) if view.ends.contains_key(&date) => What::Overlap,
            Ok(true) if line_number > 0 => continue,
            // Not even a header.
            Ok(true) => What::Unsound,
            Ok(false) => What::Cut,
            Err(error) => What::Unreadable(error.kind()),
        };
        finding(Finding { file: Some(date), line: line_number + 1, after: at.seq, what });
        at.file.get_or_insert(date);
    }
    Ok(at)
}

/// Where a walk is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    seal: Seal,
    /// The newest entry that it saw, or that a note says is missing.
    pub(crate) seq: u64,
    crc: u32,
    /// That entry's batch; none if the entry is missing.
    batch: Option<u64>,
    pub(crate) file: Option<Date>,
    pub(crate) line: u64,
}

impl Place {
    fn take(
        &mut self,
        date: Date,
        line_number: u64,
        line: &[u8],
        entry: &mut impl FnMut(Date, &StoredLine<'_>, &[u8]),
        found: &mut impl FnMut(What),
    ) {
        if line_number == 1 {
            let header = Header::parse_own(line, self.seal);
            if header.is_none() || unedited(line).is_some() {
                found(What::Unsound);
            }
            // What an editor did to the line makes the chain no worse.
            if let Some(header) = header {
                self.take_header(date, header, found);
            }
            if StoredLine::parse(line, self.seal).is_err() {
                return;
            }
        }
        match StoredLine::parse(line, self.seal) {
            Ok(stored) if stored.seq <= self.seq => found(What::OutOfOrder(stored.seq)),
            Ok(stored) => {
                self.expect(stored.seq, found);
                // A batch goes on with its next place or is over; behind a gap, anything may come.
                let batch = stored.batch();
                let follows = stored.seq == self.seq + 1 && stored.index > 0;
                if follows && self.batch.is_some_and(|before| before != batch) {
                    found(What::Batch(stored.seq));
                }
                entry(date, &stored, line);
                let (seq, crc) = (stored.seq, stored.crc);
                *self = Self { seq, crc, batch: Some(batch), file: Some(date), line: line_number, ..*self };
            }
            Err(_) if is_note(line, self.seal) => {
                // What a repair has noted as missing is known.
                if let Some(gap) = Gap::of_note(line, self.seal).filter(|gap| gap.first == self.seq + 1) {
                    (self.seq, self.batch) = (gap.last, None);
                }
            }
            Err(_) => match entry_in(line, self.seal) {
                Some((stored, unedited)) if stored.seq > self.seq => {
                    found(What::CarriageReturn(stored.seq));
                    self.take(date, line_number, unedited, entry, found);
                }
                _ => found(What::Unsound),
            },
        }
    }

    fn take_header(&mut self, date: Date, header: Header, found: &mut impl FnMut(What)) {
        let fits = match header.after {
            None => self.file.is_none(),
            Some(after) => self.file == Some(after.date) && self.seq == after.seq && self.crc == after.crc,
        };
        if !fits || header.date != date {
            found(What::Chain);
        }
        self.expect(header.first, found);
        if header.first - 1 > self.seq {
            (self.seq, self.batch) = (header.first - 1, None);
        }
        self.file = Some(date);
    }

    fn expect(&self, seq: u64, found: &mut impl FnMut(What)) {
        if seq > self.seq + 1 {
            found(What::Missing(self.seq + 1, seq - 1));
        }
    }
}
