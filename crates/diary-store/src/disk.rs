//! The seam to the file system: every call by which the store touches a disk.
//!
//! The store keeps its promises with these calls alone, so whatever implements them, a simulated disk
//! too, can be recovered, crashed and failed at any one of them.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// To read what is there.
    Read,
    /// To read and write what is there.
    Write,
    /// To write a file that is not there yet (mode 0600).
    CreateNew,
    /// To write a file from its start, there or not (mode 0600).
    Replace,
}

/// A file system, or something that behaves like one.
pub trait Disk: Debug + Send + Sync {
    /// Makes a folder (mode 0700).
    ///
    /// # Errors
    /// Those of mkdir; `AlreadyExists` if something is there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder, in no order.
    ///
    /// # Errors
    /// Those of opening and reading it.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;

    /// Opens a file.
    ///
    /// # Errors
    /// Those of open.
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, replacing what has it.
    ///
    /// # Errors
    /// Those of rename.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Lets two files in one folder have each other's names, at once.
    ///
    /// # Errors
    /// Those of renameat2; `Unsupported` where the file system cannot do it.
    fn exchange(&self, _one: &Path, _other: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes a file.
    ///
    /// # Errors
    /// Those of unlink.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// Those of open and fsync.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes an exclusive lock that lasts as long as what is returned, and no longer than the process;
    /// `None` if somebody has it.
    ///
    /// # Errors
    /// Those of open and flock.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>>;
}

/// An open file. Offsets and lengths are bytes.
pub trait DiskFile: Send + Sync {
    /// Reads some bytes at `offset`; 0 at the end.
    ///
    /// # Errors
    /// Those of pread.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;

    /// The same without waiting for the disk: `None` if none of it is in memory, or nobody can tell.
    ///
    /// # Errors
    /// Those of preadv2.
    fn read_at_now(&self, _into: &mut [u8], _offset: u64) -> io::Result<Option<usize>> {
        Ok(None)
    }

    /// Writes some bytes at `offset`.
    ///
    /// # Errors
    /// Those of pwrite.
    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<usize>;

    /// Whether `path` still names this file: somebody may have moved or replaced it.
    ///
    /// # Errors
    /// Those of stat.
    fn is_at(&self, path: &Path) -> io::Result<bool>;

    /// The file's length.
    ///
    /// # Errors
    /// Those of fstat.
    fn size(&self) -> io::Result<u64>;

    /// Cuts the file.
    ///
    /// # Errors
    /// Those of ftruncate.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the file's bytes, and its length, durable (fdatasync).
    ///
    /// # Errors
    /// Those of fdatasync. After one, nothing may be concluded from a later success.
    fn sync_data(&self) -> io::Result<()>;
}

impl dyn DiskFile + '_ {
    /// Writes all of `from` at `offset`.
    ///
    /// # Errors
    /// The first that is not an interruption; some bytes may have been written.
    pub fn write_all_at(&self, mut from: &[u8], mut offset: u64) -> io::Result<()> {
        while !from.is_empty() {
            match self.write_at(from, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    from = &from[written..];
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads until `into` is full or the file ends, and returns how many bytes that were.
    ///
    /// # Errors
    /// The first that is not an interruption.
    pub fn read_full_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < into.len() {
            match self.read_at(&mut into[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }
}

/// Writes the file `name` whole or not at all, durably. It is made as `name.new`, and then the two exchange
/// names, so that neither is ever missing for whoever copies the folder. Between two writes `name.new` is
/// empty; nobody reads it. An empty `name` counts as none.
///
/// # Errors
/// Those of the calls. `name` is as it was, or new; what could not be written takes no room.
pub(crate) fn write_whole(disk: &dyn Disk, dir: &Path, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let (path, spare_path) = (dir.join(name), dir.join(format!("{name}.new")));
    let spare = match disk.open(&spare_path, How::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.open(&spare_path, How::CreateNew)?,
        spare => spare?,
    };
    if spare.size()? > 0 {
        // The last write was ended before it cut this. On disk it may still be the one called `name`.
        disk.sync_dir(dir)?;
        spare.set_len(0)?;
    }
    let written = write_parts(&*spare, parts).and_then(|()| exchange(disk, &spare_path, &path));
    if let Err(error) = written {
        if !spare.is_at(&path).unwrap_or(true) {
            let _ = spare.set_len(0);
        }
        return Err(error);
    }
    // Until the exchange is durable, the old file may be the only whole one.
    disk.sync_dir(dir)?;
    // If this fails, the next write does it.
    let _ = disk.open(&spare_path, How::Write).and_then(|old| old.set_len(0));
    Ok(())
}

/// Writes a file that is not there yet, whole or not at all. Its name is durable once the folder is synced,
/// which is left to the caller.
///
/// # Errors
/// Those of the calls.
pub(crate) fn write_new(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let file = disk.open(&new, How::Replace)?;
    let written = write_parts(&*file, &[bytes]).and_then(|()| disk.rename(&new, &dir.join(name)));
    if written.is_err() {
        let _ = disk.remove(&new);
    }
    written
}

fn write_parts(file: &dyn DiskFile, parts: &[&[u8]]) -> io::Result<()> {
    let mut end = 0;
    for part in parts {
        file.write_all_at(part, end)?;
        end += part.len() as u64;
    }
    file.sync_data()
}

/// Exchanges two names; where that cannot be done, `path` is replaced.
fn exchange(disk: &dyn Disk, spare: &Path, path: &Path) -> io::Result<()> {
    match disk.exchange(spare, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            disk.open(path, How::CreateNew)?;
            exchange(disk, spare, path)
        }
        Err(error) if error.kind() == io::ErrorKind::Unsupported => disk.rename(spare, path),
        exchanged => exchanged,
    }
}

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        match how {
            How::Read => {}
            How::Write => _ = options.write(true),
            How::CreateNew => _ = options.write(true).create_new(true),
            How::Replace => _ = options.write(true).create(true).truncate(true),
        }
        Ok(Box::new(RealFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    #[cfg(target_os = "linux")]
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
            // What file systems say that do not know it.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Err(io::ErrorKind::Unsupported.into()),
            exchanged => Ok(exchanged?),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.0, into, offset)
    }

    #[cfg(target_os = "linux")]
    fn read_at_now(&self, into: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        use rustix::io::{Errno, IoSliceMut, ReadWriteFlags, preadv2};
        match preadv2(&self.0, &mut [IoSliceMut::new(into)], offset, ReadWriteFlags::NOWAIT) {
            Ok(read) => Ok(Some(read)),
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(&self.0, from, offset)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let here = self.0.metadata()?;
        match fs::metadata(path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (here.dev(), here.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
