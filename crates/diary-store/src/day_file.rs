//! A day file: its name, its header line, and finding a place in it.

use std::fmt::Write as _;
use std::io;

use diary_proto::Date;
use diary_proto::entry::{StoredLine, parse_number};
use diary_proto::limits::STORED_LINE_MAX_BYTES;
use diary_proto::seal;
use diary_proto::time::parse_date;

use crate::FORMAT;
use crate::disk::DiskFile;

/// Longest header line: its fields are all bounded.
pub(crate) const HEADER_MAX_BYTES: usize = 256;

/// How much is read at a place that bisection looks at; a few lines of usual length.
const PROBE_BYTES: usize = 4 * 1024;

/// Below this distance a scan is cheaper than another probe.
const SCAN_BYTES: u64 = 64 * 1024;

/// The name of the file for `date`.
pub(crate) fn name(date: Date) -> String {
    format!("{date}.log")
}

/// The date that a name stands for, if it is a day file's.
pub(crate) fn date_of_name(name: &str) -> Option<Date> {
    name.strip_suffix(".log").and_then(parse_date)
}

/// A day file's first line. It chains the file to the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The day, as in the file's name.
    pub date: Date,
    /// The journal's id.
    pub id: u64,
    /// The seq of the file's first entry.
    pub first: u64,
    /// The end of the file before it; `None` in the first.
    pub after: Option<After>,
}

/// Where a day file ended when the next one began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    /// That file's day.
    pub date: Date,
    /// Its last seq.
    pub seq: u64,
    /// The checksum of its last line.
    pub crc: u32,
}

/// Why a first line is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// It is damaged, or something else.
    Unsound,
    /// It is sound, and of a format that this version does not know.
    Newer(u64),
}

impl Header {
    /// Appends the line, line feed included.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let mut line =
            format!("# diary {FORMAT} {} id={:016x} first={} after=", self.date, self.id, self.first);
        match self.after {
            Some(after) => {
                let crc = seal::hex(after.crc);
                let crc = std::str::from_utf8(&crc).expect("hex digits");
                write!(line, "{}:{}:{crc}", name(after.date), after.seq).expect("writing to a string");
            }
            None => line.push('-'),
        }
        line.push('\t');
        out.extend_from_slice(line.as_bytes());
        seal::seal(out, start);
    }

    /// Reads a first line, without its line feed.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, BadHeader> {
        let (body, _) = seal::check(line).ok_or(BadHeader::Unsound)?;
        let body = std::str::from_utf8(body).map_err(|_| BadHeader::Unsound)?;
        let rest = body.strip_prefix("# diary ").ok_or(BadHeader::Unsound)?;
        let (format, rest) = rest.split_once(' ').ok_or(BadHeader::Unsound)?;
        match parse_number(format.as_bytes()) {
            Some(FORMAT) => Self::parse_fields(rest).ok_or(BadHeader::Unsound),
            Some(newer) => Err(BadHeader::Newer(newer)),
            None => Err(BadHeader::Unsound),
        }
    }

    fn parse_fields(fields: &str) -> Option<Self> {
        let mut fields = fields.strip_suffix('\t')?.split(' ');
        let date = parse_date(fields.next()?)?;
        let id = u64::from_str_radix(fields.next()?.strip_prefix("id=")?, 16).ok()?;
        let first =
            parse_number(fields.next()?.strip_prefix("first=")?.as_bytes()).filter(|&first| first > 0)?;
        let after = match fields.next()?.strip_prefix("after=")? {
            "-" => None,
            after => {
                let mut parts = after.split(':');
                let date = date_of_name(parts.next()?)?;
                let seq = parse_number(parts.next()?.as_bytes())?;
                Some(After { date, seq, crc: seal::from_hex(parts.next()?)? })
            }
        };
        Some(Self { date, id, first, after })
    }

    /// Reads the header of the open file `file`.
    pub(crate) fn read(file: &dyn DiskFile) -> io::Result<Result<Self, BadHeader>> {
        let mut bytes = [0; HEADER_MAX_BYTES];
        let read = file.read_full_at(&mut bytes, 0)?;
        Ok(match memchr::memchr(b'\n', &bytes[..read]) {
            Some(end) => Self::parse(&bytes[..end]),
            None => Err(BadHeader::Unsound),
        })
    }
}

/// The first sound entry at or after `offset`, and where its line starts. Looks no further than `end`.
pub(crate) struct Found {
    pub(crate) offset: u64,
    pub(crate) seq: u64,
}

/// Finds the first entry of the open file, below `end`, whose seq is at least `seq`, by bisection:
/// sound lines stand in the order of their seqs. Damaged lines are passed over.
pub(crate) fn find_seq(file: &dyn DiskFile, end: u64, seq: u64) -> io::Result<Option<Found>> {
    // Entries that start before `low` have smaller seqs; those that start at or after `high` do not.
    let (mut low, mut high) = (0, end);
    while high - low > SCAN_BYTES {
        let middle = low + (high - low) / 2;
        match first_entry(file, middle, high, |_| true)? {
            Some(found) if found.seq < seq => low = found.offset + 1,
            _ => high = middle,
        }
    }
    let start = if low == 0 { Start::Line } else { Start::Anywhere };
    first_entry_from(file, low, end, start, |found| found >= seq)
}

/// The file's first sound entry.
pub(crate) fn first_entry_of(file: &dyn DiskFile, end: u64) -> io::Result<Option<Found>> {
    first_entry_from(file, 0, end, Start::Line, |_| true)
}

#[derive(Clone, Copy)]
enum Start {
    /// The offset is the start of a line.
    Line,
    /// It may be in the middle of one, which is passed over.
    Anywhere,
}

fn first_entry(
    file: &dyn DiskFile,
    from: u64,
    end: u64,
    wanted: impl Fn(u64) -> bool,
) -> io::Result<Option<Found>> {
    first_entry_from(file, from, end, Start::Anywhere, wanted)
}

/// What a line says that its seq is.
pub(crate) fn seq_of(line: &[u8]) -> Option<u64> {
    parse_number(&line[..memchr::memchr(b' ', line)?])
}

fn first_entry_from(
    file: &dyn DiskFile,
    from: u64,
    end: u64,
    start: Start,
    wanted: impl Fn(u64) -> bool,
) -> io::Result<Option<Found>> {
    let mut offset = from;
    let mut in_middle = matches!(start, Start::Anywhere);
    let mut size = PROBE_BYTES;
    while offset < end {
        let size_here = usize::try_from(end - offset).unwrap_or(usize::MAX).min(size);
        let mut bytes = vec![0; size_here];
        let read = file.read_full_at(&mut bytes, offset)?;
        bytes.truncate(read);
        let mut line_start = 0;
        for line_end in memchr::memchr_iter(b'\n', &bytes) {
            let line = &bytes[line_start..line_end];
            // Most lines are of other entries, and it is the last one that must be sound.
            if !std::mem::take(&mut in_middle)
                && seq_of(line).is_some_and(&wanted)
                && let Ok(stored) = StoredLine::parse(line)
            {
                return Ok(Some(Found { offset: offset + line_start as u64, seq: stored.seq }));
            }
            line_start = line_end + 1;
        }
        if read < size_here || offset + read as u64 == end {
            return Ok(None);
        }
        match line_start {
            // No line ended: look at more at once, or pass over what can be no line.
            0 if size < STORED_LINE_MAX_BYTES => size = STORED_LINE_MAX_BYTES,
            0 => {
                offset += read as u64;
                in_middle = true;
            }
            consumed => offset += consumed as u64,
        }
        size = (size * 2).min(STORED_LINE_MAX_BYTES);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_the_design() {
        let header = Header {
            date: Date::constant(2026, 11, 21),
            id: 0x5f0c_9e27_a1b3_4d68,
            first: 413,
            after: Some(After { date: Date::constant(2026, 11, 20), seq: 412, crc: 0x9c1e_04d2 }),
        };
        let mut line = Vec::new();
        header.write(&mut line);
        assert_eq!(
            std::str::from_utf8(&line).unwrap(),
            "# diary 1 2026-11-21 id=5f0c9e27a1b34d68 first=413 after=2026-11-20.log:412:9c1e04d2\t313240d3\n"
        );
        assert!(line.len() < HEADER_MAX_BYTES);
        assert_eq!(Header::parse(&line[..line.len() - 1]), Ok(header));
    }

    #[test]
    fn other_first_lines() {
        let mut newer = b"# diary 2 whatever comes\t".to_vec();
        seal::seal(&mut newer, 0);
        newer.pop();
        assert_eq!(Header::parse(&newer), Err(BadHeader::Newer(2)));
        newer[8] = b'3';
        assert_eq!(Header::parse(&newer), Err(BadHeader::Unsound));
        assert_eq!(Header::parse(b""), Err(BadHeader::Unsound));
    }

    #[test]
    fn names() {
        assert_eq!(date_of_name("2026-11-21.log"), Some(Date::constant(2026, 11, 21)));
        for other in ["2026-11-31.log", "2026-11-21.log.1", "head", "x2026-11-21.log", "2026-1-1.log"] {
            assert_eq!(date_of_name(other), None, "{other}");
        }
    }
}
