//! Notes: sound lines that start with `#`. Readers skip those that they do not know.

use std::io;

use diary_proto::entry::is_note;
use diary_proto::{Seal, Time};

use super::day_file::HEADER_MAX_BYTES;
use crate::disk::DiskFile;

/// What a day file's second line says, if it is the note that what the file follows is in an archive.
#[derive(Debug, Clone)]
pub(crate) struct Archived {
    /// When the newest archived entry was committed, if it can be told.
    pub(crate) time: Option<Time>,
    /// The line.
    pub(crate) line: Vec<u8>,
}

/// The note of a day file.
pub(crate) fn archived_in(file: &dyn DiskFile, seal: Seal) -> io::Result<Option<Archived>> {
    let mut bytes = [0; 2 * HEADER_MAX_BYTES];
    let read = file.read_full_at(&mut bytes, 0)?;
    let line = bytes[..read].split(|&b| b == b'\n').nth(1).unwrap_or_default();
    if !line.starts_with(b"# archived ") || !is_note(line, seal) {
        return Ok(None);
    }
    let time = line.split(|&b| b == b' ').skip_while(|word| *word != b"until").nth(1).and_then(Time::parse);
    Ok(Some(Archived { time, line: line.to_vec() }))
}
