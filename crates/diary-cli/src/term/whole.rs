//! Writes files that appear complete or not at all.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use diary_proto::escape::escape;
use tempfile::NamedTempFile;

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It exists, and overwriting was not requested.
    #[error("{} already exists; use --force to overwrite it", shown(.0))]
    Exists(PathBuf),
    /// Something other than a file has its name.
    #[error("{} is not a regular file", shown(.0))]
    NotAFile(PathBuf),
    /// Writing or renaming failed.
    #[error("cannot write {}: {source}", shown(path))]
    Unwritable { path: PathBuf, source: io::Error },
}

/// Replaces the file at `path`, with the permissions `mode` within the user's umask. A crash leaves the old file or
/// the new one.
///
/// # Errors
/// Writing or renaming failed.
pub(crate) fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = beside(path, mode)?;
    file.write_all(text.as_bytes())?;
    persist(file, path, true)
}

/// A file that gets its name once it is complete. Until then it has a temporary name, and dropping removes it.
pub(crate) struct Whole {
    file: NamedTempFile,
    path: PathBuf,
    force: bool,
}

impl Whole {
    /// Creates the temporary file. With `force`, it may replace a file; if `path` is a symbolic link, it replaces
    /// the link's target.
    ///
    /// # Errors
    /// The file exists without `force`, is not a regular file, or cannot be written.
    pub(crate) fn begin(path: PathBuf, force: bool) -> Result<Self, FileError> {
        if !force && path.symlink_metadata().is_ok() {
            return Err(FileError::Exists(path));
        }
        let target = if path.is_symlink() { path.canonicalize() } else { Ok(path.clone()) };
        let target = target.map_err(unwritable(&path))?;
        if target.metadata().is_ok_and(|there| !there.is_file()) {
            return Err(FileError::NotAFile(path));
        }
        // Private: it may hold a whole diary.
        let file = beside(&target, 0o600).map_err(unwritable(&path))?;
        Ok(Self { file, path: target, force })
    }

    /// Returns the file to write to.
    ///
    /// # Errors
    /// The descriptor cannot be duplicated.
    pub(crate) fn file(&self) -> Result<File, FileError> {
        self.file.as_file().try_clone().map_err(unwritable(&self.path))
    }

    /// Writes all bytes.
    ///
    /// # Errors
    /// They cannot be written.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), FileError> {
        self.file.as_file().write_all(bytes).map_err(unwritable(&self.path))
    }

    /// Gives the file its name. File and name are on disk when this returns.
    ///
    /// # Errors
    /// The file has no name and is lost.
    pub(crate) fn finish(self) -> Result<(), FileError> {
        persist(self.file, &self.path, self.force).map_err(unwritable(&self.path))
    }
}

fn beside(path: &Path, mode: u32) -> io::Result<NamedTempFile> {
    let permissions = Permissions::from_mode(mode);
    let made =
        tempfile::Builder::new().prefix(".diary-").permissions(permissions).tempfile_in(folder_of(path));
    // tempfile adds the temporary path to the error, which means nothing to the user.
    made.map_err(|error| match error.to_string().split_once(" at path ") {
        Some((why, _)) => io::Error::new(error.kind(), why),
        None => error,
    })
}

fn persist(file: NamedTempFile, path: &Path, force: bool) -> io::Result<()> {
    // Otherwise a power cut could leave the new name on an empty file.
    file.as_file().sync_all()?;
    let persisted = if force { file.persist(path) } else { file.persist_noclobber(path) };
    persisted?;
    File::open(folder_of(path))?.sync_all()
}

/// Returns the folder of a file.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    |source| FileError::Unwritable { path, source }
}

fn shown(path: &Path) -> String {
    escape(&path.display().to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_fails_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for text in ["old", "new"] {
            replace(&path, text, 0o666).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        // Other files stay.
        fs::write(folder.path().join("file.new"), "mine").unwrap();
        replace(&path, "newer", 0o666).unwrap();
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        replace(&taken, "text", 0o666).unwrap_err();
        replace(&folder.path().join("nowhere/file"), "text", 0o666).unwrap_err();
        assert!(
            Whole::begin(taken.clone(), true)
                .is_err_and(|why| why.to_string().ends_with("taken is not a regular file"))
        );
        drop(Whole::begin(folder.path().join("given up"), false).unwrap());
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["file", "file.new", "taken"]);
        assert_eq!(fs::read_to_string(folder.path().join("file.new")).unwrap(), "mine");
    }

    #[test]
    fn no_error_tells_a_temporary_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "text").unwrap();
        for (path, kind, why) in [
            ("none/x", io::ErrorKind::NotFound, "No such file or directory (os error 2)"),
            ("file/x", io::ErrorKind::NotADirectory, "Not a directory (os error 20)"),
        ] {
            let path = folder.path().join(path);
            let error = replace(&path, "text", 0o600).unwrap_err();
            assert_eq!((error.kind(), error.to_string()), (kind, why.to_owned()));
            let error = Whole::begin(path.clone(), false).map(drop).unwrap_err();
            assert_eq!(error.to_string(), format!("cannot write {}: {why}", path.display()));
        }
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("far")).unwrap();
        fs::write(at("far/there"), "old").unwrap();
        for (link, to) in [
            ("link", "next"),
            ("next", "far/there"),
            ("dangling", "far/nothing"),
            ("a", "b"),
            ("b", "a"),
            ("null", "/dev/null"),
        ] {
            symlink(to, at(link)).unwrap();
        }
        for link in ["link", "dangling"] {
            assert!(
                Whole::begin(at(link), false).is_err_and(|why| why.to_string().contains(" already exists; "))
            );
        }
        let whole = Whole::begin(at("link"), true).unwrap();
        whole.file().unwrap().write_all(b"new").unwrap();
        whole.finish().unwrap();
        assert!(at("link").is_symlink() && at("next").is_symlink());
        assert_eq!(fs::read_to_string(at("far/there")).unwrap(), "new");
        for (link, part) in [
            ("a", "a: Too many"),
            ("dangling", "dangling: No such file"),
            ("null", "null is not a regular file"),
        ] {
            assert!(Whole::begin(at(link), true).is_err_and(|why| why.to_string().contains(part)));
        }
    }
}
