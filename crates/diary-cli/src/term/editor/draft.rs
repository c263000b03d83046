//! A line that was not finished when the program was ended from outside: the next conversation of the same author
//! with the same server begins with it.
//!
//! Each is a file of its own, in the folder for what outlives a run: `draft-HASH-MICROSECONDS-PID`, where the hash
//! is of the server and the author. Whoever shows one has it locked. The file goes only when its line has been
//! handed over or is kept anew, so that whatever ends a program leaves it there.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diary_client::{Address, Author};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// How a file's name begins.
const BEGINNING: &str = "draft-";

/// How it does while the file is written.
const UNFINISHED: &str = ".draft-";

/// The file of the versions before this one, which did not note whose the line was. One that was being shown has a
/// number behind a dot.
const OF_NOBODY: &str = "draft";

/// Bytes of the hash that are in a name.
const HASH_BYTES: usize = 8;

/// The lines that this conversation began with, and where its own is kept.
#[derive(Clone)]
pub(crate) struct Drafts {
    folder: Option<PathBuf>,
    server: Address,
    author: Option<Author>,
    held: Arc<Mutex<Vec<Held>>>,
}

/// A file, which is locked as long as this lives.
struct Held {
    path: PathBuf,
    _file: File,
}

impl Drafts {
    /// Those in `folder`, if there is one, of one author and one server.
    pub(crate) fn new(folder: Option<&Path>, server: &Address, author: Option<&Author>) -> Self {
        Self {
            folder: folder.map(Path::to_owned),
            server: server.clone(),
            author: author.cloned(),
            held: Arc::default(),
        }
    }

    /// Whose they are, for a sentence: `diary.example:8888`, or that `as anna`.
    pub(super) fn whose(&self) -> String {
        let author = self.author.as_ref().map(|author| format!(" as {author}"));
        format!("{}{}", self.server, author.unwrap_or_default())
    }

    /// What was kept and nobody else shows, the oldest first. It stays kept until it is [`done`](Self::done).
    pub(super) fn take(&self) -> Option<String> {
        let folder = self.folder.as_ref()?;
        let beginning = beginning(&self.server, self.author.as_ref());
        let names = self.names(|name| name.starts_with(&beginning));
        let (held, lines): (Vec<Held>, Vec<String>) =
            names.iter().filter_map(|name| hold(folder.join(name)).ok().flatten()).unzip();
        self.lock().extend(held);
        Some(lines.join("\n")).filter(|line| !line.is_empty())
    }

    /// Files with lines of which nobody knows whose they are, so that they are nobody's to begin with.
    pub(super) fn of_nobody(&self) -> Vec<PathBuf> {
        let is_number = |rest: &str| rest.strip_prefix('.').is_some_and(|pid| pid.parse::<u32>().is_ok());
        let names = self.names(|name| {
            name.strip_prefix(OF_NOBODY).is_some_and(|rest| rest.is_empty() || is_number(rest))
        });
        names.iter().filter_map(|name| Some(self.folder.as_ref()?.join(name))).collect()
    }

    /// The names of some files, the oldest first.
    fn names(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let Some(Ok(files)) = self.folder.as_ref().map(fs::read_dir) else { return Vec::new() };
        let names = files.flatten().filter_map(|file| file.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| wanted(name)).collect();
        names.sort_unstable();
        names
    }

    /// What was taken is in other hands, or nobody wants it any more.
    pub(super) fn done(&self) {
        for held in self.lock().drain(..) {
            // If it cannot be removed, it is offered once more.
            let _ = fs::remove_file(held.path);
        }
    }

    /// Keeps a line in place of what was taken, for whoever writes as this one next.
    ///
    /// # Errors
    /// It is not kept, and all is as before.
    pub(crate) fn keep(&self, author: Option<&Author>, line: &str) -> io::Result<()> {
        let folder = self.folder.as_ref().ok_or(io::ErrorKind::NotFound)?;
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let rest = format!(
            "{}{:020}-{}",
            &beginning(&self.server, author)[BEGINNING.len()..],
            Timestamp::now().as_microsecond(),
            std::process::id()
        );
        let unfinished = folder.join(format!("{UNFINISHED}{rest}"));
        let written = write(&unfinished, line)
            .and_then(|()| fs::rename(&unfinished, folder.join(format!("{BEGINNING}{rest}"))));
        if let Err(error) = written {
            // What failed before is told; half a line helps nobody.
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        File::open(folder)?.sync_all()?;
        self.done();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the names begin of what one author did not finish for one server.
fn beginning(server: &Address, author: Option<&Author>) -> String {
    let whose = format!("{server}\n{}", author.map_or("", Author::as_str));
    let hash = Sha256::digest(whose.as_bytes());
    let hash: String = hash.iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
    format!("{BEGINNING}{hash}-")
}

/// Locks a file and reads it; `None` if another process has it, or has done with it.
fn hold(path: PathBuf) -> io::Result<Option<(Held, String)>> {
    let mut file = File::open(&path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    if file.metadata()?.nlink() == 0 {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let line = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Some((Held { path, _file: file }, line)))
}

fn write(path: &Path, line: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(line.as_bytes())?;
    file.sync_all()
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
        assert_eq!(first.take(), None);
        first.keep(first.author.as_ref(), "half a 行").unwrap();
        let second = begin();
        assert_eq!(second.take().as_deref(), Some("half a 行"));
        assert_eq!(begin().take(), None, "another program shows it");
        // The program is killed.
        drop(second);
        let third = begin();
        assert_eq!(third.take().as_deref(), Some("half a 行"));
        third.keep(third.author.as_ref(), "half a 行, and more").unwrap();
        assert_eq!(files(state.path()), 1);
        drop(third);
        let fourth = begin();
        assert_eq!(fourth.take().as_deref(), Some("half a 行, and more"));
        fourth.done();
        assert_eq!((begin().take(), files(state.path())), (None, 0));
    }

    #[test]
    fn each_is_for_one_server_and_one_author() {
        let state = tempfile::tempdir().unwrap();
        let anna = drafts(state.path(), "here:1", "anna");
        anna.keep(anna.author.as_ref(), "one").unwrap();
        anna.keep(anna.author.as_ref(), "two\nthree").unwrap();
        anna.keep(Some(&Author::new("cleo").unwrap()), "typed behind /name cleo").unwrap();
        for (server, author) in [("here:1", "ben"), ("here:2", "anna"), ("here:1", "")] {
            assert_eq!(drafts(state.path(), server, author).take(), None, "{author} at {server}");
        }
        let cleo = drafts(state.path(), "here:1", "cleo");
        assert_eq!(cleo.take().as_deref(), Some("typed behind /name cleo"));
        assert_eq!(drafts(state.path(), "here:1", "anna").take().as_deref(), Some("one\ntwo\nthree"));
    }

    #[test]
    fn what_nobody_signed_is_only_named() {
        let state = tempfile::tempdir().unwrap();
        for name in ["draft", "draft.4711", "draft.txt", "drafts"] {
            fs::write(state.path().join(name), "half").unwrap();
        }
        let anna = drafts(state.path(), "here:1", "anna");
        assert_eq!(anna.of_nobody(), ["draft", "draft.4711"].map(|name| state.path().join(name)));
        assert_eq!(anna.take(), None);
    }

    #[test]
    fn damage_costs_no_more_than_what_it_met() {
        let state = tempfile::tempdir().unwrap();
        let anna = drafts(state.path(), "here:1", "anna");
        let name = format!("{}0", beginning(&anna.server, anna.author.as_ref()));
        fs::write(state.path().join(name), b"caf\xe9 au lait").unwrap();
        assert_eq!(anna.take().as_deref(), Some("caf\u{fffd} au lait"));
        assert!(Drafts { folder: None, ..anna }.keep(None, "x").is_err());
    }
}
