//! The machine's file system.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::exposed::{Exposed, exposed};
use super::{Disk, DiskFile, How, NotOurs};

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
        // What is created follows no link anyway.
        let flags = if how == How::Read { OFlags::empty() } else { OFlags::NOFOLLOW };
        options.read(true).write(how != How::Read).create_new(how == How::CreateNew);
        let file = open_file(&mut options, flags, path)?;
        if how == How::Overwrite && file.metadata()?.nlink() > 1 {
            return Err(NotOurs::HardLink.into());
        }
        Ok(Box::new(RealFile(file)))
    }

    fn is_link(&self, path: &Path) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            about => Ok(about?.is_symlink()),
        }
    }

    fn exposed(&self, dir: &Path) -> io::Result<Vec<Exposed>> {
        exposed(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    #[cfg(target_os = "linux")]
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
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

    #[cfg(target_os = "linux")]
    fn try_room(&self, dir: &Path, bytes: usize) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let flags = OFlags::TMPFILE.bits().cast_signed();
        match options.write(true).mode(0o600).custom_flags(flags).open(dir) {
            Ok(file) => {
                // No zeros: some file systems keep those as a hole.
                file.write_all_at(&vec![b'x'; bytes], 0)?;
                file.sync_data()
            }
            // What file systems say that do not know it.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::OPNOTSUPP | Errno::ISDIR)) => {
                has_free(dir, bytes)
            }
            Err(error) => Err(error),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn try_room(&self, dir: &Path, bytes: usize) -> io::Result<()> {
        has_free(dir, bytes)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let file = open_file(&mut options, OFlags::NOFOLLOW, path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Whether the file system of a folder counts so many bytes as free for us.
fn has_free(dir: &Path, bytes: usize) -> io::Result<()> {
    let stat = rustix::fs::statvfs(dir)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < bytes as u64 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

/// Opens a regular file, which has mode 0600 if it is new.
fn open_file(options: &mut OpenOptions, flags: OFlags, path: &Path) -> io::Result<File> {
    options.mode(0o600);
    let mut open = |flags: OFlags| options.custom_flags(flags.bits().cast_signed()).open(path);
    // Not to wait for the other end of a pipe.
    let opened = match open(flags | OFlags::NONBLOCK) {
        // Somebody has a lease on a regular file, as an NFS server for its clients: it is given back to who waits.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && fs::metadata(path)?.is_file() => {
            open(flags)
        }
        opened => opened,
    };
    let file = opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) if flags.contains(OFlags::NOFOLLOW) => NotOurs::Link.into(),
        // A folder; a pipe that nobody reads, or a socket; a link to itself.
        Some(Errno::ISDIR | Errno::NXIO | Errno::LOOP) => NotOurs::NoFile.into(),
        _ => error,
    })?;
    if !file.metadata()?.is_file() {
        return Err(NotOurs::NoFile.into());
    }
    Ok(file)
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.0, into, offset)
    }

    #[cfg(target_os = "linux")]
    fn read_at_now(&self, into: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        use rustix::io::{IoSliceMut, ReadWriteFlags, preadv2};
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_tried_and_counted_and_leaves_no_name() {
        let dir = tempfile::tempdir().unwrap();
        RealDisk.try_room(dir.path(), 1000).unwrap();
        has_free(dir.path(), 1000).unwrap();
        let too_much = has_free(dir.path(), usize::MAX).unwrap_err();
        assert_eq!(too_much.kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let nowhere = RealDisk.try_room(&dir.path().join("nowhere"), 1000).unwrap_err();
        assert_eq!(nowhere.kind(), io::ErrorKind::NotFound);
    }
}
