//! The seam to the file system: every call by which the store touches a disk.
//!
//! The store keeps its promises with these calls alone, so whatever implements them, a simulated disk
//! too, can be recovered, crashed and failed at any one of them.

mod error;
mod exposed;
mod folder;
mod real;
#[cfg(feature = "sim")]
pub mod sim;
mod whole;

use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::path::Path;

pub(crate) use error::Doing;
pub use error::{NotOurs, OpenError};
pub use exposed::Exposed;
pub(crate) use folder::{make_dir, make_inner_dir, sync_names};
pub use real::RealDisk;
pub(crate) use whole::{write_new, write_whole};

/// How to open a file. What has the name and is no regular file is [`NotOurs`], whatever it is opened for; nobody waits
/// for the other end of a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// To read what is there, or what a link leads to.
    Read,
    /// To read and write what is there; a link is [`NotOurs`].
    Write,
    /// To write a file anew, which has no other name: a link, hard ones included, is [`NotOurs`].
    Overwrite,
    /// To write a file that is not there yet (mode 0600).
    CreateNew,
}

/// A file system, or something that behaves like one.
pub trait Disk: Debug + Send + Sync {
    /// Makes a folder (mode 0700).
    ///
    /// # Errors
    /// Those of mkdir; `AlreadyExists` if something is there.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Whether a name is a link, wherever it leads to; not if there is none.
    ///
    /// # Errors
    /// Those of lstat.
    fn is_link(&self, _path: &Path) -> io::Result<bool> {
        Ok(false)
    }

    /// How others than the user that this process runs as can change what is in a folder.
    ///
    /// # Errors
    /// Those of stat.
    fn exposed(&self, _dir: &Path) -> io::Result<Vec<Exposed>> {
        Ok(Vec::new())
    }

    /// The names in a folder, in no order.
    ///
    /// # Errors
    /// Those of opening and reading it.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;

    /// Opens a regular file. Never waits for anybody.
    ///
    /// # Errors
    /// Those of open, and [`NotOurs`]; `NotFound` where something else is than a file.
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

    /// Whether a file of so many bytes could be written in a folder now. It is tried with one that has no name, so nothing is
    /// ever seen of it; where the file system has no such files, with its count of free bytes.
    ///
    /// # Errors
    /// Those of writing and syncing a file; `StorageFull` if there is no room.
    fn try_room(&self, _dir: &Path, _bytes: usize) -> io::Result<()> {
        Ok(())
    }

    /// Takes an exclusive lock that lasts as long as what is returned, and no longer than the process;
    /// `None` if somebody has it.
    ///
    /// # Errors
    /// Those of open and flock.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>>;
}

/// A file opened to be read; `None` where none is.
///
/// # Errors
/// [`OpenError::Io`]: what cannot be opened is not absent.
pub(crate) fn open_if_there(disk: &dyn Disk, path: &Path) -> Result<Option<Box<dyn DiskFile>>, OpenError> {
    match disk.open(path, How::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.doing("open", path).map(Some),
    }
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
