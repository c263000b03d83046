//! The head: where the journal ends. A clean stop writes it down as evidence for the next start.
//!
//! `head 1 seq=SEQ file=NAME end=OFFSET last=CRC<TAB>crc`, one line, sealed like every other.

use std::io;
use std::path::Path;

use diary_proto::entry::parse_number;
use diary_proto::{Date, Time, seal};

use crate::day_file::{date_of_name, name};
use crate::disk::{Disk, How, write_whole};

/// The file's name.
const FILE: &str = "head";

/// The end of what is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The newest committed entry's seq; 0 for none.
    pub seq: u64,
    /// When it was committed.
    pub time: Option<Time>,
    /// The checksum of its line.
    pub crc: u32,
    /// The day file that it ends.
    pub file: Option<Date>,
    /// Bytes of that file that are committed.
    pub end: u64,
}

impl Head {
    /// The head of a journal without entries.
    pub const EMPTY: Self = Self { seq: 0, time: None, crc: 0, file: None, end: 0 };
}

/// What an earlier clean stop wrote down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Evidence {
    pub(crate) seq: u64,
    pub(crate) file: Date,
    pub(crate) end: u64,
    pub(crate) crc: u32,
}

/// Writes the head down, durably.
pub(crate) fn write(disk: &dyn Disk, dir: &Path, head: &Head) -> io::Result<()> {
    let Some(file) = head.file else {
        return Ok(());
    };
    let crc = seal::hex(head.crc);
    let crc = std::str::from_utf8(&crc).expect("hex digits");
    let mut line =
        format!("head 1 seq={} file={} end={} last={crc}\t", head.seq, name(file), head.end).into_bytes();
    seal::seal(&mut line, 0);
    write_whole(disk, dir, FILE, &[&line])
}

/// What an earlier clean stop wrote down, if it can be read; its loss only weakens what recovery can
/// tell.
pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Option<Evidence> {
    let mut bytes = [0; 256];
    let file = match disk.open(&dir.join(FILE), How::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(%error, "the head file cannot be opened; going on without it");
            return None;
        }
    };
    let read = file.read_full_at(&mut bytes, 0).unwrap_or(0);
    let evidence = parse(&bytes[..read]);
    if evidence.is_none() && read > 0 {
        tracing::warn!("the head file is damaged; going on without it");
    }
    evidence
}

fn parse(bytes: &[u8]) -> Option<Evidence> {
    let (body, _) = seal::check(bytes.strip_suffix(b"\n")?)?;
    let mut fields = std::str::from_utf8(body).ok()?.strip_prefix("head 1 ")?.strip_suffix('\t')?.split(' ');
    Some(Evidence {
        seq: parse_number(fields.next()?.strip_prefix("seq=")?.as_bytes())?,
        file: date_of_name(fields.next()?.strip_prefix("file=")?)?,
        end: parse_number(fields.next()?.strip_prefix("end=")?.as_bytes())?,
        crc: seal::from_hex(fields.next()?.strip_prefix("last=")?)?,
    })
}
