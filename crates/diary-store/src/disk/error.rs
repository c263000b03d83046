//! Why a journal cannot be used.

use std::io;
use std::path::{Path, PathBuf};

/// Why a journal cannot be opened. Each displays as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder, or something in it, cannot be used.
    #[error("cannot {doing} {path}: {cause}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// Another process has the journal.
    #[error("another diary-server is using {0}; stop it first, or choose another --data or --journal")]
    Held(PathBuf),
    /// There is no journal in this folder.
    #[error("there is no diary in {0}")]
    Nothing(PathBuf),
    /// A later version wrote it.
    #[error("{0} has format {1}, and this version knows formats up to 1; use a newer diary-server")]
    Newer(PathBuf, u64),
    /// There are entries, and whose cannot be told.
    #[error(
        "{0} has entries, and nothing says of which diary: its first line is damaged, and there is no head; put either \
         back from a copy, or move the file away"
    )]
    NoId(PathBuf),
    /// Two files are of two journals.
    #[error(
        "{0} and {1} are of two diaries, and nothing decides which one this folder holds; move the files of the other \
         one away"
    )]
    Journals(PathBuf, PathBuf),
    /// Two day files have the same seqs.
    #[error(
        "{0} and {1} have different entries with the same numbers, as where a copy of the diary went on by itself, and \
         nothing decides which file belongs here; move the other one away"
    )]
    Copies(PathBuf, PathBuf),
}

impl From<OpenError> for io::Error {
    /// Of the same kind.
    fn from(error: OpenError) -> Self {
        let kind = match &error {
            OpenError::Io { cause, .. } => cause.kind(),
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// Why a name is not used: somebody else may have put it there. Displays as what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    /// Writing would go to wherever it leads.
    #[error(
        "it is a link, and what it leads to is left alone; put a file or folder in its place, or remove it"
    )]
    Link,
    /// A pipe, a device, a socket, a folder.
    #[error("not a file; move it away")]
    NoFile,
    /// Writing would change a file that has another name.
    #[error("it is a hard link, and the file is left alone; remove this name of it")]
    HardLink,
}

impl NotOurs {
    /// Whether this is why a call failed.
    pub(crate) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|cause| cause.is::<Self>())
    }
}

impl From<NotOurs> for io::Error {
    fn from(not_ours: NotOurs) -> Self {
        let kind = match not_ours {
            NotOurs::NoFile => io::ErrorKind::NotFound,
            NotOurs::Link | NotOurs::HardLink => io::ErrorKind::Other,
        };
        Self::new(kind, not_ours)
    }
}

pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, OpenError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, OpenError> {
        self.map_err(|cause| OpenError::Io { doing, path: path.to_owned(), cause })
    }
}
