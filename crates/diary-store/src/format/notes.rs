//! Notes: sound lines that start with `#`. Readers skip those that they do not know.

use diary_proto::entry::is_note;
use diary_proto::{Seal, Time};

/// What a day file's second line says, if it is the note that what the file follows is in an archive.
#[derive(Debug, Clone)]
pub(crate) struct Archived {
    /// When the newest archived entry was committed, if it can be told.
    pub(crate) time: Option<Time>,
    /// The line.
    pub(crate) line: Vec<u8>,
}

/// The note among a day file's first bytes.
pub(crate) fn archived_in(bytes: &[u8], seal: Seal) -> Option<Archived> {
    let line = bytes.split(|&b| b == b'\n').nth(1).unwrap_or_default();
    if !line.starts_with(b"# archived ") || !is_note(line, seal) {
        return None;
    }
    let time = line.split(|&b| b == b' ').skip_while(|word| *word != b"until").nth(1).and_then(Time::parse);
    Some(Archived { time, line: line.to_vec() })
}
