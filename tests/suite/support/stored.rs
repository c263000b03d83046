//! What is on disk.

use std::fs;
use std::path::{Path, PathBuf};

use diary_proto::Seal;
use diary_proto::entry::StoredLine;
use diary_proto::seal::id_in_header;
use tokio::process::Command;

use super::soon;

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

/// What keeps a server from knowing what is derived from a journal: there is no cache, and in the archive lies a pipe, so
/// that reading takes until the test says so.
pub(crate) struct Loading {
    pipe: PathBuf,
}

impl Loading {
    /// For the next start on a journal that has a cache.
    pub(crate) async fn hold(journal: &Path) -> Self {
        fs::remove_file(journal.join("cache")).unwrap();
        let archive = journal.join("archive/old");
        fs::create_dir_all(&archive).unwrap();
        let pipe = archive.join("2001-01-01.log");
        assert!(soon("mkfifo", Command::new("mkfifo").arg(&pipe).status()).await.unwrap().success());
        Self { pipe }
    }

    /// Lets it go on.
    pub(crate) async fn release(self) {
        let opened = tokio::task::spawn_blocking(|| fs::File::options().write(true).open(self.pipe));
        soon("the archive is read", opened).await.unwrap().unwrap();
    }
}
