//! Errors of kept files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An error of the outbox. Displays as a sentence for people.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no folder for files.
    #[error("no folder for the outbox")]
    NoFolder,
    /// The system returns no random bytes for a secret or a name.
    #[error("no random bytes for a secret: {0}")]
    NoRandom(String),
    /// A file or the folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// Error of the system.
        source: Arc<io::Error>,
    },
    /// A file or the folder cannot be read.
    #[error("cannot read {}: {why}; the file is left as it is", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Reason.
        why: String,
    },
    /// A line of a file cannot be read; the other lines are used.
    #[error("{}: line {line} is unreadable and left out; remove the file when you need it no more", path.display())]
    DamagedLine {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
    },
    /// No entry has this id.
    #[error("no entry {0} in the outbox")]
    NoSuchEntry(String),
    /// An id matches more than one entry.
    #[error("{0} matches more than one entry in the outbox")]
    Ambiguous(String),
    /// A running program holds the file of the entry with this id.
    #[error("{0} is held by another process; end that first")]
    InUse(String),
}

impl Error {
    pub(crate) fn no_random(why: impl ToString) -> Self {
        Self::NoRandom(why.to_string())
    }

    pub(crate) fn unwritable(path: &Path, source: io::Error) -> Self {
        Self::Unwritable { path: path.to_owned(), source: Arc::new(source) }
    }

    pub(crate) fn unreadable(path: &Path, why: impl ToString) -> Self {
        Self::Unreadable { path: path.to_owned(), why: why.to_string() }
    }
}
