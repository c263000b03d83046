//! Every line of every day file, in order, with what is wrong in them.

use std::fmt;
use std::io;

use diary_proto::Date;
use diary_proto::entry::{StoredLine, is_note};

use crate::day_file::{BadHeader, Header, name};
use crate::read::Reader;

/// How much is read at once.
const READ_BYTES: usize = 1024 * 1024;

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The day file.
    pub file: Date,
    /// The line in it, from 1.
    pub line: u64,
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
    /// This line's seq should be past already.
    OutOfOrder(u64),
    /// The header does not name the end of the file before.
    Chain,
    /// The file does not end in a line feed.
    Cut,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}: ", name(self.file), self.line)?;
        match self.what {
            What::Unsound => f.write_str("the line is damaged"),
            What::Missing(first, last) => write!(f, "the entries {first} to {last} are missing before it"),
            What::OutOfOrder(seq) => write!(f, "the entry {seq} is out of order"),
            What::Chain => f.write_str("the header does not fit the file before it"),
            What::Cut => f.write_str("the file ends in the middle of it"),
        }
    }
}

/// Walks over the journal up to its head. `entry` sees every sound entry in its place, `finding`
/// everything that is wrong.
///
/// # Errors
/// Those of reading day files.
pub fn scan(
    reader: &Reader,
    mut entry: impl FnMut(&StoredLine<'_>),
    mut finding: impl FnMut(Finding),
) -> io::Result<()> {
    let head = reader.head();
    let mut at = Place { seq: 0, crc: 0, file: None };
    for date in reader.dates() {
        if head.file.is_some_and(|newest| date > newest) {
            break;
        }
        let file = reader.open(date)?;
        let end = if head.file == Some(date) { head.end } else { file.size()? };
        let (mut offset, mut line_number, mut rest) = (0, 0, Vec::new());
        while offset < end {
            let here = usize::try_from(end - offset).unwrap_or(usize::MAX).min(READ_BYTES);
            let kept = rest.len();
            rest.resize(kept + here, 0);
            let read = file.read_full_at(&mut rest[kept..], offset)?;
            rest.truncate(kept + read);
            offset += read as u64;
            let mut from = 0;
            for line_end in memchr::memchr_iter(b'\n', &rest) {
                line_number += 1;
                let mut found = |what| finding(Finding { file: date, line: line_number, what });
                at.take(date, line_number, &rest[from..line_end], &mut entry, &mut found);
                from = line_end + 1;
            }
            rest.drain(..from);
            if read < here {
                break;
            }
        }
        if !rest.is_empty() {
            finding(Finding { file: date, line: line_number + 1, what: What::Cut });
        }
    }
    Ok(())
}

/// Where a walk is: the newest entry that it saw.
struct Place {
    seq: u64,
    crc: u32,
    file: Option<Date>,
}

impl Place {
    fn take(
        &mut self,
        date: Date,
        line_number: u64,
        line: &[u8],
        entry: &mut impl FnMut(&StoredLine<'_>),
        found: &mut impl FnMut(What),
    ) {
        if line_number == 1 {
            match Header::parse(line) {
                Ok(header) => self.take_header(date, header, found),
                Err(BadHeader::Unsound | BadHeader::Newer(_)) => found(What::Unsound),
            }
            if !line.is_empty() && StoredLine::parse(line).is_err() {
                return;
            }
        }
        match StoredLine::parse(line) {
            Ok(stored) if stored.seq <= self.seq => found(What::OutOfOrder(stored.seq)),
            Ok(stored) => {
                self.expect(stored.seq, found);
                entry(&stored);
                *self = Self { seq: stored.seq, crc: stored.crc, file: Some(date) };
            }
            Err(_) if is_note(line) => {}
            Err(_) => found(What::Unsound),
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
        if header.after.is_none() && self.file.is_none() {
            self.seq = header.first - 1;
        }
        self.expect(header.first, found);
        self.seq = self.seq.max(header.first - 1);
        self.file = Some(date);
    }

    fn expect(&self, seq: u64, found: &mut impl FnMut(What)) {
        if seq > self.seq + 1 {
            found(What::Missing(self.seq + 1, seq - 1));
        }
    }
}
