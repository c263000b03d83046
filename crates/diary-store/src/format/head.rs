//! The head: where the journal ends. A clean stop writes it down as evidence for the next start.
//!
//! `head 2 id=ID seq=SEQ file=NAME end=OFFSET last=CRC<TAB>crc`, one line, sealed like every other; `file=-` while there is
//! no day file. A journal has one from its first start on, which says which journal it is.

use std::io;
use std::path::Path;

use diary_proto::{Date, Seal, Time};

use super::day_file::{date_of_name, name};
use super::sealed::{self, Fields};
use crate::disk::{Disk, Doing, How, OpenError, open_if_there, write_whole};

/// The file's name.
pub(crate) const FILE: &str = "head";

/// In place of a day file's name.
const NO_FILE: &str = "-";

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
    /// The journal's id.
    pub(crate) id: u64,
    pub(crate) seq: u64,
    pub(crate) file: Option<Date>,
    pub(crate) end: u64,
    pub(crate) crc: u32,
}

/// Writes the head of the journal with this id down, durably.
pub(crate) fn write(disk: &dyn Disk, dir: &Path, id: u64, head: &Head) -> io::Result<()> {
    let Head { seq, end, crc, .. } = head;
    let file = head.file.map_or_else(|| NO_FILE.to_owned(), name);
    let mut line = Vec::new();
    let fields = format_args!("head 2 id={id:016x} seq={seq} file={file} end={end} last={crc:08x}");
    sealed::write(&mut line, Seal::PLAIN, fields);
    write_whole(disk, dir, FILE, &[&line])
}

/// What an earlier clean stop wrote down. Its loss, or damage in it, only weakens what recovery can tell.
///
/// # Errors
/// Those of reading it: it would be overwritten.
pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Evidence>, OpenError> {
    let (mut bytes, path) = ([0; 256], dir.join(FILE));
    let Some(file) = open_if_there(disk, &path)? else { return Ok(None) };
    let read = file.read_full_at(&mut bytes, 0).doing("read", &path)?;
    let evidence = parse(&bytes[..read]);
    if evidence.is_none() && read > 0 {
        tracing::warn!("the head file is damaged; going on without it");
    }
    Ok(evidence)
}

/// Whether a folder has a head file that is sound.
pub(crate) fn is_there(disk: &dyn Disk, dir: &Path) -> bool {
    let mut bytes = [0; 256];
    let read = disk.open(&dir.join(FILE), How::Read).and_then(|file| file.read_full_at(&mut bytes, 0));
    read.is_ok_and(|read| parse(&bytes[..read]).is_some())
}

fn parse(bytes: &[u8]) -> Option<Evidence> {
    let mut fields = Fields::of(bytes.strip_suffix(b"\n")?, "head 2 ")?;
    Some(Evidence {
        id: fields.id()?,
        seq: fields.number("seq=")?,
        file: match fields.value("file=")? {
            NO_FILE => None,
            file => Some(date_of_name(file)?),
        },
        end: fields.number("end=")?,
        crc: fields.crc("last=")?,
    })
}
