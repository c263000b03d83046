//! What is on disk.

use std::fs;
use std::path::{Path, PathBuf};

use diary_proto::Seal;
use diary_proto::entry::StoredLine;
use diary_proto::seal::id_in_header;

/// A journal's day files, oldest first.
pub(crate) fn day_files(journal: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(journal).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|kind| kind == "log")).collect();
    files.sort();
    files
}

/// What the lines of a day file are sealed with, as its header says.
pub(crate) fn seal_in(day_file: &[u8]) -> Seal {
    let header = day_file.split(|&b| b == b'\n').next().unwrap();
    Seal::of_journal(id_in_header(header).expect("a header comes first"))
}

/// All entries of a journal as `AUTHOR TEXT`, the text escaped. They are sound, and count from 1.
///
/// For a journal that nobody writes to at the moment: a batch is not written in one piece.
pub(crate) fn stored(journal: &Path) -> Vec<String> {
    let mut entries = Vec::new();
    for file in day_files(journal) {
        let bytes = fs::read(&file).unwrap();
        for line in bytes.split_inclusive(|&b| b == b'\n').filter(|line| !line.starts_with(b"#")) {
            let shown = String::from_utf8_lossy(line);
            let line = StoredLine::parse(line.strip_suffix(b"\n").expect("a line ends"), seal_in(&bytes));
            let line = line.unwrap_or_else(|error| panic!("{error}: {shown}"));
            entries.push(format!("{} {}", line.author, line.text));
            assert_eq!(line.seq, entries.len() as u64, "{shown}");
        }
    }
    entries
}
