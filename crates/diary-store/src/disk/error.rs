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
    #[error("another diary-server has {0}; stop it first, or choose another --data or --journal")]
    Held(PathBuf),
    /// There is no journal in this folder.
    #[error("there is no diary in {0}")]
    Nothing(PathBuf),
    /// A later version wrote it.
    #[error("{0} has format {1}, and this version knows formats up to 1; use a newer diary-server")]
    Newer(PathBuf, u64),
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

pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, OpenError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, OpenError> {
        self.map_err(|cause| OpenError::Io { doing, path: path.to_owned(), cause })
    }
}
