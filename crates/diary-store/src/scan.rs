//! Every line of every day file, in order, with what is wrong in them.

use std::fmt;
use std::io;
use std::sync::mpsc;
use std::thread;

use diary_proto::Date;
use diary_proto::entry::{StoredLine, is_note, parse_number};
use diary_proto::limits::STORED_LINE_MAX_BYTES;

use crate::day_file::{BadHeader, Header, name};
use crate::disk::DiskFile;
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
    /// This line's seq should be past already.
    OutOfOrder(u64),
    /// This entry does not belong to the batch that it says it is in.
    Batch(u64),
    /// The header does not name the end of the file before.
    Chain,
    /// The file does not end in a line feed.
    Cut,
}

/// The note of a repair that these entries are missing, without its checksum.
pub(crate) fn gap_note(first: u64, last: u64) -> String {
    format!("# gap {first}..{last} damaged or missing when this copy was made\t")
}

/// The entries that a note says are missing.
pub(crate) fn gap_of_note(line: &[u8]) -> Option<(u64, u64)> {
    let rest = line.strip_prefix(b"# gap ")?;
    let range = rest.split(|&b| b == b' ').next()?;
    let dots = memchr::memmem::find(range, b"..")?;
    let (first, last) = (parse_number(&range[..dots])?, parse_number(&range[dots + 2..])?);
    (first <= last).then_some((first, last))
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}: ", name(self.file), self.line)?;
        match self.what {
            What::Unsound => write!(f, "the line is damaged, behind entry {}", self.after),
            What::Missing(first, last) => write!(f, "the entries {first} to {last} are missing before it"),
            What::OutOfOrder(seq) => write!(f, "the entry {seq} is out of order"),
            What::Batch(seq) => write!(f, "the entry {seq} is not in the batch that it names"),
            What::Chain => f.write_str("the header does not fit the file before it"),
            What::Cut => write!(f, "the file ends in the middle of it, behind entry {}", self.after),
        }
    }
}

/// Walks over the journal up to its head. `entry` sees every sound entry in its place, `finding`
/// everything that is wrong.
///
/// Returns where it ended.
///
/// # Errors
/// Those of reading day files.
pub(crate) fn scan(
    reader: &Reader,
    mut entry: impl FnMut(Date, &StoredLine<'_>, &[u8]),
    mut finding: impl FnMut(Finding),
) -> io::Result<Place> {
    let head = reader.head();
    let mut at = Place { seq: 0, crc: 0, batch: 0, file: None, line: 0 };
    if let Some(archived) = reader.archived()? {
        (at.seq, at.crc, at.file) = (archived.seq, archived.crc, Some(archived.date));
    }
    for date in reader.dates() {
        if head.file.is_some_and(|newest| date > newest) {
            break;
        }
        let file = reader.open(date)?;
        let end = if head.file == Some(date) { head.end } else { file.size()? };
        let mut line_number = 0;
        let whole = for_each_line(&*file, end, |line| {
            line_number += 1;
            at.line = line_number;
            let after = at.seq;
            let mut found = |what| finding(Finding { file: date, line: line_number, after, what });
            at.take(date, line_number, line, &mut entry, &mut found);
        })?;
        if !whole {
            finding(Finding { file: date, line: line_number + 1, after: at.seq, what: What::Cut });
        }
    }
    Ok(at)
}

/// Gives every line of a file, up to `end`, to `visit`, without its line feed. Returns whether the last
/// one had a line feed.
///
/// # Errors
/// Those of reading it.
pub(crate) fn for_each_line(file: &dyn DiskFile, end: u64, mut visit: impl FnMut(&[u8])) -> io::Result<bool> {
    // A line that begins in one piece and ends in a later one.
    let mut begun = Vec::new();
    for_each_piece(file, end, |mut piece| {
        while let Some(line_end) = memchr::memchr(b'\n', piece) {
            if begun.is_empty() {
                visit(&piece[..line_end]);
            } else {
                begun.extend_from_slice(&piece[..line_end]);
                visit(&begun);
                begun.clear();
            }
            piece = &piece[line_end + 1..];
        }
        // What is longer than any line is damage, of which no more than that need be kept.
        let room = (STORED_LINE_MAX_BYTES + 1).saturating_sub(begun.len());
        begun.extend_from_slice(&piece[..piece.len().min(room)]);
    })?;
    Ok(begun.is_empty())
}

/// Gives a file, up to `end` or its own, to `visit`, piece by piece. While one is visited, the next is
/// read: a disk that has to wait for whoever looks at its bytes is read at half its speed.
fn for_each_piece(file: &dyn DiskFile, end: u64, mut visit: impl FnMut(&[u8])) -> io::Result<()> {
    let read = |mut piece: Vec<u8>, offset: u64| {
        piece.resize(usize::try_from(end - offset).unwrap_or(usize::MAX).min(READ_BYTES), 0);
        let read = file.read_full_at(&mut piece, offset)?;
        piece.truncate(read);
        io::Result::Ok(piece)
    };
    if end <= READ_BYTES as u64 {
        visit(&read(Vec::new(), 0)?);
        return Ok(());
    }
    thread::scope(|scope| {
        let (full, pieces) = mpsc::sync_channel(1);
        let (empty, reusable) = mpsc::channel();
        scope.spawn(move || {
            for offset in (0..end).step_by(READ_BYTES) {
                // Whoever visits has met an error if it is gone.
                let piece = reusable.try_recv().unwrap_or_default();
                if full.send(read(piece, offset)).is_err() {
                    return;
                }
            }
        });
        for piece in pieces {
            let piece = piece?;
            visit(&piece);
            let _ = empty.send(piece);
        }
        Ok(())
    })
}

/// Where a walk is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The newest entry that it saw, or that a note says is missing.
    pub(crate) seq: u64,
    crc: u32,
    /// That entry's batch.
    batch: u64,
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
                // A batch goes on with its next place or is over; behind a gap, anything may come.
                if stored.seq == self.seq + 1 && stored.index > 0 && stored.batch() != self.batch {
                    found(What::Batch(stored.seq));
                }
                entry(date, &stored, line);
                let batch = stored.batch();
                *self = Self { seq: stored.seq, crc: stored.crc, batch, file: Some(date), line: line_number };
            }
            Err(_) if is_note(line) => {
                // What a repair has noted as missing is known.
                if let Some((first, last)) = gap_of_note(line).filter(|(first, _)| *first == self.seq + 1) {
                    debug_assert!(first <= last);
                    self.seq = last;
                }
            }
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
