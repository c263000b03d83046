//! The files in the server's data folder.
//!
//! A change writes a temporary file in the same folder, syncs it, renames it over the old file, and syncs the folder. So
//! readers need no lock. Writers lock the folder, because a lock on the file would end up on the replaced one. All
//! calls block.

use std::fs::{File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use diary_proto::escape::escape;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::access::{Access, BadAccess, ChangeError};
use crate::last_use::LastUse;
use crate::limits::FILE_MAX_BYTES;

/// Name of the file with the tokens.
const ACCESS: &str = "access";

/// Name of the file with their last uses.
const USED: &str = "access-used";

/// Mode of both files.
const PRIVATE: u32 = 0o600;

/// Permission bits of the group and of others.
const OTHERS: u32 = 0o077;

/// The file `access` of a data folder, and `access-used` beside it.
#[derive(Debug, Clone)]
pub struct AccessFile {
    folder: PathBuf,
    path: PathBuf,
}

/// Why the file cannot be used. Displays as a sentence for people.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A line is damaged.
    #[error("{}: {bad}", shown(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, and what is wrong with it.
        bad: BadAccess,
    },
    /// Other users can read or write it.
    #[error("{} is open to other users (mode {mode:03o}); run: chmod 600 '{}'", shown(path), shown(path))]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is a symbolic link, a folder or something else.
    #[error("{} is not a regular file", shown(.0))]
    NotAFile(PathBuf),
    /// It has more than [`FILE_MAX_BYTES`].
    #[error("{} is too large; it can have at most {FILE_MAX_BYTES} bytes", shown(.0))]
    TooLarge(PathBuf),
    /// A system call failed.
    #[error("cannot {doing} {}: {cause}", shown(path))]
    Io {
        /// What failed, such as `read`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Error of the system.
        cause: io::Error,
    },
    /// A token was not added or removed.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// A version of the file. Differs after the file is edited, replaced, removed or gets other permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(Result<FileStamp, ErrorKind>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Time of the last change in seconds and nanoseconds. Unlike mtime, it covers permissions and cannot be set.
    ctime: (i64, i64),
}

impl AccessFile {
    /// Returns the file in a data folder. It need not exist.
    pub fn at(data_folder: impl Into<PathBuf>) -> Self {
        let folder = data_folder.into();
        Self { path: folder.join(ACCESS), folder }
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file. `None`: it does not exist, so tokens are not in use; see the [crate] before opening up.
    ///
    /// # Errors
    /// It is damaged, too large, not a regular file, open to other users, or unreadable. Let nobody in then.
    pub fn read(&self) -> Result<Option<Access>, Error> {
        let Some(file) = open(&self.path)? else { return Ok(None) };
        let mode = file.metadata().map_err(failed("read", &self.path))?.mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(Error::Exposed { path: self.path.clone(), mode });
        }
        let bytes = read_all(file, &self.path)?;
        let text = str::from_utf8(&bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count() + 1;
            BadAccess { line, reason: "it is not UTF-8".to_owned() }
        });
        let parsed = text.and_then(Access::parse);
        parsed.map(Some).map_err(|bad| Error::Damaged { path: self.path.clone(), bad })
    }

    /// Returns a stamp that differs after a change. Take it before [`AccessFile::read`], so that no change is missed.
    pub fn stamp(&self) -> Stamp {
        let stat = self.path.symlink_metadata().map_err(|error| error.kind());
        Stamp(stat.map(|stat| FileStamp {
            device: stat.dev(),
            inode: stat.ino(),
            size: stat.size(),
            ctime: (stat.ctime(), stat.ctime_nsec()),
        }))
    }

    /// Changes the file, or creates it in an existing folder. Waits for other processes that do the same, but cannot see
    /// an editor. The change is on disk when this returns. If `change` fails, nothing is written.
    ///
    /// # Errors
    /// Those of [`AccessFile::read`] and of `change`; the file cannot be locked or written.
    pub fn change<T>(&self, change: impl FnOnce(&mut Access) -> Result<T, ChangeError>) -> Result<T, Error> {
        let folder = File::open(&self.folder).map_err(failed("open", &self.folder))?;
        folder.lock().map_err(failed("lock", &self.folder))?;
        let mut access = self.read()?.unwrap_or_default();
        let changed = change(&mut access)?;
        replace(&folder, &self.path, &access.to_text())?;
        Ok(changed)
    }

    /// Reads when tokens were last used. Damaged lines are left out, and a missing file is empty.
    ///
    /// # Errors
    /// It is too large, not a regular file, or unreadable.
    pub fn read_last_use(&self) -> Result<LastUse, Error> {
        let path = self.folder.join(USED);
        let Some(file) = open(&path)? else { return Ok(LastUse::default()) };
        Ok(LastUse::parse(&String::from_utf8_lossy(&read_all(file, &path)?)))
    }

    /// Writes when tokens were last used. Takes over later uses from the file, which another server may have written, and
    /// forgets tokens that are not in `access`. Takes no lock: a lost use is written again the next time.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_last_use(&self, used: &mut LastUse, access: &Access) -> Result<(), Error> {
        if let Ok(written) = self.read_last_use() {
            used.merge(&written);
        }
        used.retain(access);
        let folder = File::open(&self.folder).map_err(failed("open", &self.folder))?;
        replace(&folder, &self.folder.join(USED), &used.to_text())
    }
}

/// Opens a regular file; `None` if there is none.
fn open(path: &Path) -> Result<Option<File>, Error> {
    // A FIFO would block.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(Error::NotAFile(path.to_owned())),
        Err(error) => return Err(failed("read", path)(error.into())),
    };
    match file.metadata().map_err(failed("read", path))?.is_file() {
        true => Ok(Some(file)),
        false => Err(Error::NotAFile(path.to_owned())),
    }
}

fn read_all(file: File, path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    file.take(FILE_MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if bytes.len() > FILE_MAX_BYTES { Err(Error::TooLarge(path.to_owned())) } else { Ok(bytes) }
}

/// Replaces a file in `folder`. A crash leaves the old file or the new one.
fn replace(folder: &File, path: &Path, text: &str) -> Result<(), Error> {
    if text.len() > FILE_MAX_BYTES {
        return Err(Error::TooLarge(path.to_owned()));
    }
    let write = || {
        let parent = path.parent().unwrap_or(Path::new("."));
        let private = Permissions::from_mode(PRIVATE);
        let temporary = tempfile::Builder::new().prefix(".access-").permissions(private).tempfile_in(parent);
        // Without the temporary path, which tempfile adds to the error.
        let mut file = temporary.map_err(|error| error.kind())?;
        let owner = folder.metadata()?;
        if geteuid().is_root() && owner.uid() != 0 {
            // A server that runs as the folder's owner has to read what root changes.
            fchown(file.as_file(), Some(owner.uid()), Some(owner.gid()))?;
        }
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        folder.sync_all()
    };
    write().map_err(failed("write", path))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |cause| Error::Io { doing, path, cause }
}

fn shown(path: &Path) -> String {
    escape(&path.display().to_string()).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, symlink};
    use std::sync::Barrier;
    use std::thread;

    use jiff::Timestamp;
    use rustix::fs::{CWD, mkfifoat};
    use tempfile::TempDir;

    use super::*;
    use crate::grant::Grant;

    fn folder() -> (TempDir, AccessFile) {
        let folder = tempfile::tempdir().unwrap();
        let file = AccessFile::at(folder.path());
        (folder, file)
    }

    fn grant(name: &str) -> Grant {
        let now = Timestamp::UNIX_EPOCH;
        Grant::issue(name.parse().unwrap(), Default::default(), Default::default(), now, None).unwrap().0
    }

    fn add(file: &AccessFile, name: &str) {
        file.change(|access| access.add(grant(name))).unwrap();
    }

    fn names(file: &AccessFile) -> Vec<String> {
        file.read().unwrap().unwrap().grants().map(|grant| grant.name.to_string()).collect()
    }

    /// Returns the names in a folder, sorted.
    fn files(folder: &TempDir) -> Vec<String> {
        let mut files: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        files
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn removing_the_last_token_leaves_the_file() {
        let (folder, file) = folder();
        assert_eq!(file.read().unwrap(), None);
        let name = "anna".parse().unwrap();
        let error = file.change(|access| access.remove(&name)).unwrap_err();
        assert!(matches!(error, Error::Change(ChangeError::UnknownName(_))), "{error}");
        assert!(files(&folder).is_empty(), "a change that fails creates nothing");

        add(&file, "anna");
        assert_eq!(file.path().metadata().unwrap().mode() & 0o7777, 0o600);
        file.change(|access| access.remove(&name)).unwrap();
        assert_eq!(file.read().unwrap(), Some(Access::default()));
        assert_eq!(files(&folder), ["access"]);
        fs::remove_file(file.path()).unwrap();
        assert_eq!(file.read().unwrap(), None);
    }

    #[test]
    fn tokens_added_at_once_are_all_kept() {
        const EACH: usize = 16;
        let (folder, file) = folder();
        let start = Barrier::new(2);
        thread::scope(|scope| {
            for thread in ["a", "b"] {
                let (file, start) = (&file, &start);
                scope.spawn(move || {
                    start.wait();
                    (0..EACH).for_each(|number| add(file, &format!("{thread}{number}")));
                });
            }
        });
        assert_eq!(names(&file).len(), 2 * EACH);
        assert_eq!(files(&folder), ["access"]);
    }

    #[test]
    fn a_change_that_fails_leaves_the_file() {
        let (folder, file) = folder();
        add(&file, "anna");
        let before = (fs::read(file.path()).unwrap(), file.stamp());
        let error = file.change(|access| access.add(grant("anna"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a token named anna already exists; remove it first, or choose another name"
        );
        fs::write(file.path(), [&before.0[..], b"bob\n"].concat()).unwrap();
        let error = file.change(|access| access.add(grant("eve"))).unwrap_err();
        let why = "line 4: a token has 6 columns; this line has 1";
        assert_eq!(error.to_string(), format!("{}: {why}", file.path().display()));
        assert!(fs::read(file.path()).unwrap().ends_with(b"\nbob\n"));
        assert_eq!(files(&folder), ["access"]);
    }

    #[test]
    fn a_file_that_others_can_use_is_refused() {
        let (_folder, file) = folder();
        add(&file, "anna");
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666] {
            set_mode(file.path(), mode);
            let error = file.read().unwrap_err();
            assert!(matches!(error, Error::Exposed { mode: told, .. } if told == mode), "{mode:o}: {error}");
            let way_out = format!("; run: chmod 600 '{}'", file.path().display());
            assert!(error.to_string().ends_with(&way_out), "{error}");
            file.change(|access| access.add(grant("bob"))).unwrap_err();
        }
        for mode in [0o400, 0o600, 0o700] {
            set_mode(file.path(), mode);
            assert_eq!(names(&file), ["anna"], "{mode:o}");
        }
    }

    #[test]
    fn only_a_regular_file_is_read() {
        let (folder, file) = folder();
        let not_a_file = |what| {
            let errors =
                [file.read().unwrap_err(), file.change(|access| access.add(grant("anna"))).unwrap_err()];
            for error in errors {
                assert!(matches!(error, Error::NotAFile(_)), "{what}: {error}");
            }
        };
        let elsewhere = folder.path().join("elsewhere");
        symlink(&elsewhere, file.path()).unwrap();
        not_a_file("dangling link");
        fs::write(&elsewhere, Access::default().to_text()).unwrap();
        set_mode(&elsewhere, 0o600);
        not_a_file("link");
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), Access::default().to_text());
        fs::remove_file(file.path()).unwrap();
        fs::create_dir(file.path()).unwrap();
        not_a_file("folder");
        fs::remove_dir(file.path()).unwrap();
        mkfifoat(CWD, file.path(), Mode::from_raw_mode(0o600)).unwrap();
        not_a_file("fifo");
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let (_folder, file) = folder();
        add(&file, "anna");
        fs::write(file.path(), b"# diary access 1\n\n# caf\xe9\n").unwrap();
        let error = file.read().unwrap_err();
        assert_eq!(error.to_string(), format!("{}: line 3: it is not UTF-8", file.path().display()));
        File::options().write(true).open(file.path()).unwrap().set_len(FILE_MAX_BYTES as u64 + 1).unwrap();
        assert!(matches!(file.read(), Err(Error::TooLarge(_))));

        let nowhere = AccessFile::at(file.path().join("nowhere"));
        assert!(matches!(nowhere.read(), Err(Error::Io { .. })), "a file in place of the folder");
        let missing = AccessFile::at("/nonexistent/diary");
        assert_eq!(missing.read().unwrap(), None);
        let error = missing.change(|access| access.add(grant("anna"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot open /nonexistent/diary: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_stamp_tells_every_change() {
        let (_folder, file) = folder();
        let mut stamps = vec![file.stamp()];
        let mut check = |what: &str| {
            let stamp = file.stamp();
            assert_eq!(stamp, file.stamp());
            assert!(!stamps.contains(&stamp), "{what}");
            stamps.push(stamp);
        };
        add(&file, "anna");
        check("created");
        add(&file, "bob");
        check("replaced");
        let mut text = fs::read(file.path()).unwrap();
        text.extend(b"# edited\n");
        fs::write(file.path(), text).unwrap();
        check("edited");
        let missing = stamps[0];
        fs::remove_file(file.path()).unwrap();
        assert_eq!(file.stamp(), missing);
    }

    #[test]
    fn root_leaves_the_file_to_the_owner_of_the_folder() {
        if !geteuid().is_root() {
            return;
        }
        let (folder, file) = folder();
        chown(folder.path(), Some(1234), Some(5678)).unwrap();
        add(&file, "anna");
        let stat = file.path().metadata().unwrap();
        assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o777), (1234, 5678, 0o600));
    }

    #[test]
    fn last_uses_are_merged_with_those_of_another_server() {
        let (folder, file) = folder();
        ["anna", "bob"].iter().for_each(|name| add(&file, name));
        let access = file.read().unwrap().unwrap();
        assert_eq!(file.read_last_use().unwrap(), LastUse::default());
        fs::write(folder.path().join(USED), b"bob 2026-11-27T10:00:00Z\n\xff\ngone 2026-11-27T10:00:00Z\n")
            .unwrap();
        let mut used = LastUse::parse("anna 2026-11-27T11:00:00Z\nbob 2026-11-27T09:00:00Z\n");
        file.write_last_use(&mut used, &access).unwrap();
        let text = "anna 2026-11-27T11:00:00Z\nbob 2026-11-27T10:00:00Z\n";
        assert_eq!(fs::read_to_string(folder.path().join(USED)).unwrap(), text);
        assert_eq!((used.to_text().as_str(), file.read_last_use().unwrap()), (text, used));
        assert_eq!(files(&folder), ["access", "access-used"]);
    }
}
