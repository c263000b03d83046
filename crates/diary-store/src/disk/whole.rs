//! Files that are there whole or not at all.

use std::io;
use std::path::Path;

use super::{Disk, DiskFile, How, NotOurs};

/// Writes the file `name` whole or not at all, durably. It is made as `name.new`, and then the two exchange
/// names, so that neither is ever missing for whoever copies the folder. Between two writes `name.new` is
/// empty; nobody reads it. An empty `name` counts as none.
///
/// A name that is [`NotOurs`] is taken away, and nothing is written to where it leads.
///
/// # Errors
/// Those of the calls. `name` is as it was, or new, and whole; what could not be written takes no room.
pub(crate) fn write_whole(disk: &dyn Disk, dir: &Path, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let (path, spare_path) = (dir.join(name), dir.join(format!("{name}.new")));
    // `None`: it is there, and not ours. It keeps its name until the new one has it.
    let old = match open_or_create(disk, &path) {
        Err(error) if NotOurs::is(&error) => None,
        old => Some(old?),
    };
    let spare = match open_or_create(disk, &spare_path) {
        Err(error) if NotOurs::is(&error) => {
            tracing::warn!("{} was not the diary's file, and is removed", spare_path.display());
            create_anew(disk, dir, &spare_path)?
        }
        spare => spare?,
    };
    if spare.size()? > 0 {
        // The last write was ended before it cut this. On disk it may still be the one called `name`.
        disk.sync_dir(dir)?;
        spare.set_len(0)?;
    }
    let written = write_parts(&*spare, parts).and_then(|()| match disk.exchange(&spare_path, &path) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => disk.rename(&spare_path, &path),
        exchanged => exchanged,
    });
    if let Err(error) = written {
        if !spare.is_at(&path).unwrap_or(true) {
            let _ = spare.set_len(0);
        }
        return Err(error);
    }
    // Until the exchange is durable, the old file may be the only whole one.
    disk.sync_dir(dir)?;
    match old {
        Some(old) => old.set_len(0),
        None => {
            tracing::warn!("{} was not the diary's file, and is replaced", path.display());
            match disk.remove(&spare_path) {
                // Where names cannot be exchanged, it is gone already.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            }
        }
    }
}

fn open_or_create(disk: &dyn Disk, path: &Path) -> io::Result<Box<dyn DiskFile>> {
    match disk.open(path, How::Overwrite) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !NotOurs::is(&error) => {
            disk.open(path, How::CreateNew)
        }
        opened => opened,
    }
}

/// A new file, in the place of whatever has its name: what a process that was killed left, or what somebody planted.
fn create_anew(disk: &dyn Disk, dir: &Path, path: &Path) -> io::Result<Box<dyn DiskFile>> {
    match disk.open(path, How::CreateNew) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.remove(path)?;
            // Or a power cut could give the other one the name that the new one is to have.
            disk.sync_dir(dir)?;
            disk.open(path, How::CreateNew)
        }
        opened => opened,
    }
}

/// Writes a file that is not there yet, whole or not at all. Its name is durable once the folder is synced,
/// which is left to the caller.
///
/// # Errors
/// Those of the calls.
pub(crate) fn write_new(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let file = create_anew(disk, dir, &new)?;
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

#[cfg(test)]
mod tests;
