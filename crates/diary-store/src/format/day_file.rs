//! A day file: its name and its header line.

use std::fmt;
use std::io;
use std::path::Path;

use diary_proto::entry::parse_number;
use diary_proto::time::parse_date;
use diary_proto::{Date, Seal, seal};

use super::FORMAT;
use super::lines::unedited;
use super::sealed::{self, Fields};
use crate::disk::{Disk, DiskFile, Doing, OpenError};

/// Longest header line: its fields are all bounded.
pub(crate) const HEADER_MAX_BYTES: usize = 256;

/// The name of the file for `date`.
pub(crate) fn name(date: Date) -> String {
    format!("{date}.log")
}

/// The date that a name stands for, if it is a day file's.
pub(crate) fn date_of_name(name: &str) -> Option<Date> {
    name.strip_suffix(".log").and_then(parse_date)
}

/// The days that have a file in this folder, in order.
pub(crate) fn day_files(disk: &dyn Disk, dir: &Path) -> Result<Vec<Date>, OpenError> {
    let names = disk.list(dir).doing("list", dir)?;
    let mut days: Vec<Date> =
        names.iter().filter_map(|name| name.to_str()).filter_map(date_of_name).collect();
    days.sort_unstable();
    Ok(days)
}

/// The bytes at a file's beginning that hold its header and a note behind that.
///
/// # Errors
/// Those of reading it.
pub(crate) fn first_bytes(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 2 * HEADER_MAX_BYTES];
    let read = file.read_full_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The first line of these, without its line feed, if it is no longer than a header.
pub(crate) fn first_line(bytes: &[u8]) -> &[u8] {
    let bytes = &bytes[..bytes.len().min(HEADER_MAX_BYTES)];
    &bytes[..memchr::memchr(b'\n', bytes).unwrap_or(0)]
}

/// A day file's first line. It chains the file to the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The day, as in the file's name.
    pub(crate) date: Date,
    /// The journal's id.
    pub(crate) id: u64,
    /// The seq of the file's first entry.
    pub(crate) first: u64,
    /// The end of the file before it; `None` in the first.
    pub(crate) after: Option<After>,
}

/// Where a day file ended when the next one began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct After {
    /// That file's day.
    pub(crate) date: Date,
    /// Its last seq.
    pub(crate) seq: u64,
    /// The checksum of its last line.
    pub(crate) crc: u32,
}

impl After {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let date = date_of_name(parts.next()?)?;
        let seq = parse_number(parts.next()?.as_bytes())?;
        Some(Self { date, seq, crc: seal::from_hex(parts.next()?)? })
    }
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{:08x}", name(self.date), self.seq, self.crc)
    }
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
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let Self { date, id, first, after } = self;
        let after = after.map_or_else(|| "-".to_owned(), |after| after.to_string());
        let fields = format_args!("# diary {FORMAT} {date} id={id:016x} first={first} after={after}");
        sealed::write(out, Seal::PLAIN, fields);
    }

    /// Reads a first line, without its line feed; whatever an editor put around it says nothing else.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, BadHeader> {
        let line = unedited(line).unwrap_or(line);
        let mut fields = Fields::of(line, "# diary ").ok_or(BadHeader::Unsound)?;
        match fields.next().and_then(|format| parse_number(format.as_bytes())) {
            Some(FORMAT) => Self::parse_fields(fields).ok_or(BadHeader::Unsound),
            Some(newer) => Err(BadHeader::Newer(newer)),
            None => Err(BadHeader::Unsound),
        }
    }

    /// Reads a first line, if it is a header of the journal with this seal.
    pub(crate) fn parse_own(line: &[u8], seal: Seal) -> Option<Self> {
        Self::parse(line).ok().filter(|header| Seal::of_journal(header.id) == seal)
    }

    fn parse_fields(mut fields: Fields<'_>) -> Option<Self> {
        let date = parse_date(fields.next()?)?;
        let id = fields.id()?;
        let first = fields.number("first=").filter(|&first| first > 0)?;
        let after = match fields.value("after=")? {
            "-" => None,
            after => Some(After::parse(after)?),
        };
        Some(Self { date, id, first, after })
    }

    /// Reads the header of the open file `file`.
    pub(crate) fn read(file: &dyn DiskFile) -> io::Result<Result<Self, BadHeader>> {
        Ok(Self::parse(first_line(&first_bytes(file)?)))
    }
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
        Seal::PLAIN.write(&mut newer, 0);
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
