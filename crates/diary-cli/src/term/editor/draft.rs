//! Unsent lines of conversations that were ended from outside. The next conversation of the same author with the
//! same server offers them, one after the other.
//!
//! Each draft is a file `draft-HASH-MICROSECONDS-PID` in the folder for state that outlives a run; the hash is of
//! the server and the author. The file is locked while its line is offered. It is removed only once the line was
//! sent, dropped or saved again, so it survives however the program ends.

use std::fs::{self, DirEntry, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use diary_client::{Address, Author};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::term::lock;
use crate::term::whole::replace;

/// Bytes of the hash in a file name.
const HASH_BYTES: usize = 8;

/// The drafts of one author for one server.
#[derive(Clone)]
pub(crate) struct Drafts {
    folder: Option<PathBuf>,
    server: Address,
    author: Option<Author>,
    /// The offered draft, with its lock.
    offered: Arc<Mutex<Option<(PathBuf, File)>>>,
}

impl Drafts {
    /// Returns the drafts in `folder`, if there is one.
    pub(crate) fn new(folder: Option<&Path>, server: &Address, author: Option<&Author>) -> Self {
        Self {
            folder: folder.map(Path::to_owned),
            server: server.clone(),
            author: author.cloned(),
            offered: Arc::default(),
        }
    }

    /// Offers the oldest draft that no other program offers. It is kept until it is [`done`](Self::done).
    pub(super) fn offer(&self) -> Option<String> {
        let beginning = self.beginning(self.author.as_ref());
        let is_one =
            |file: &DirEntry| file.file_name().to_str().is_some_and(|name| name.starts_with(&beginning));
        let files = fs::read_dir(self.folder.as_ref()?).ok()?.flatten().filter(is_one);
        let mut paths: Vec<PathBuf> = files.map(|file| file.path()).collect();
        paths.sort_unstable();
        let (offered, line) = paths.into_iter().find_map(hold)?;
        *lock(&self.offered) = Some(offered);
        Some(line)
    }

    /// Removes the offered draft, which was sent or dropped. Returns whether there was one.
    pub(super) fn done(&self) -> bool {
        let offered = lock(&self.offered).take();
        // If it cannot be removed, it is offered again.
        offered.map(|(path, _lock)| fs::remove_file(path)).is_some()
    }

    /// Saves a line in place of the offered draft, for the next conversation of `author`.
    ///
    /// # Errors
    /// The line is not saved, and nothing has changed.
    pub(crate) fn keep(&self, author: Option<&Author>, line: &str) -> io::Result<()> {
        let folder = self.folder.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let (now, process) = (Timestamp::now().as_microsecond(), std::process::id());
        let name = format!("{}{now:020}-{process}", self.beginning(author));
        replace(&folder.join(name), line, 0o600)?;
        self.done();
        Ok(())
    }

    /// Returns how the file names begin.
    fn beginning(&self, author: Option<&Author>) -> String {
        let whose = format!("{}\n{}", self.server, author.map_or("", Author::as_str));
        let hash = Sha256::digest(whose.as_bytes());
        let hash: String = hash.iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
        format!("draft-{hash}-")
    }
}

/// Locks and reads a file; `None` if another program offers it or has removed it.
fn hold(path: PathBuf) -> Option<((PathBuf, File), String)> {
    let file = File::open(&path).ok()?;
    file.try_lock().ok()?;
    // By path, since the previous holder may have removed it.
    let line = String::from_utf8_lossy(&fs::read(&path).ok()?).into_owned();
    Some(((path, file), line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drafts(folder: &Path, server: &str, author: &str) -> Drafts {
        Drafts::new(Some(folder), &server.parse().unwrap(), Author::new(author).ok().as_ref())
    }

    fn files(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn what_is_kept_stays_until_it_is_done() {
        let state = tempfile::tempdir().unwrap();
        let begin = || drafts(state.path(), "here:1", "anna");
        let first = begin();
        assert_eq!(first.offer(), None);
        first.keep(first.author.as_ref(), "half a 行").unwrap();
        let second = begin();
        assert_eq!(second.offer().as_deref(), Some("half a 行"));
        assert_eq!(begin().offer(), None, "another program shows it");
        // As if the program were killed.
        drop(second);
        let third = begin();
        assert_eq!(third.offer().as_deref(), Some("half a 行"));
        third.keep(third.author.as_ref(), "half a 行, and more").unwrap();
        assert_eq!(files(state.path()), 1);
        drop(third);
        let fourth = begin();
        assert_eq!(fourth.offer().as_deref(), Some("half a 行, and more"));
        assert!(fourth.done() && !fourth.done());
        assert_eq!((begin().offer(), files(state.path())), (None, 0));
    }

    #[test]
    fn each_is_for_one_server_and_one_author_and_offered_alone() {
        let state = tempfile::tempdir().unwrap();
        let anna = drafts(state.path(), "here:1", "anna");
        anna.keep(anna.author.as_ref(), "one").unwrap();
        anna.keep(anna.author.as_ref(), "two\nthree").unwrap();
        anna.keep(Some(&Author::new("cleo").unwrap()), "typed behind /name cleo").unwrap();
        for (server, author) in [("here:1", "ben"), ("here:2", "anna"), ("here:1", "")] {
            assert_eq!(drafts(state.path(), server, author).offer(), None, "{author} at {server}");
        }
        let cleo = drafts(state.path(), "here:1", "cleo");
        assert_eq!(cleo.offer().as_deref(), Some("typed behind /name cleo"));
        for line in ["one", "two\nthree"] {
            assert_eq!(anna.offer().as_deref(), Some(line));
            assert!(anna.done());
        }
        assert_eq!(anna.offer(), None);
    }

    #[test]
    fn damage_costs_no_more_than_what_it_met() {
        let state = tempfile::tempdir().unwrap();
        let anna = drafts(state.path(), "here:1", "anna");
        let name = format!("{}0", anna.beginning(anna.author.as_ref()));
        fs::write(state.path().join(name), b"caf\xe9 au lait").unwrap();
        assert_eq!(anna.offer().as_deref(), Some("caf\u{fffd} au lait"));
        assert!(Drafts { folder: None, ..anna }.keep(None, "x").is_err());
    }
}
