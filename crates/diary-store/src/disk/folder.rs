//! Folders whose names are durable.

use std::io;
use std::path::Path;

use super::Disk;
use super::error::{Doing, NotOurs, OpenError};

/// Makes a folder and whatever is missing above it, each name durable before it is used.
pub(crate) fn make_dir(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    match disk.list(dir) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).doing("use the folder", dir),
    }
    make_dir(disk, parent_of(dir))?;
    match disk.create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).doing("make the folder", dir);
        }
        _ => {}
    }
    sync_names(disk, dir)
}

/// The same for a folder inside of a journal's, which must not lead out of it.
pub(crate) fn make_inner_dir(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    if disk.is_link(dir).doing("look at", dir)? {
        return Err(NotOurs::Link.into()).doing("use the folder", dir);
    }
    make_dir(disk, dir)
}

/// Makes a folder's name durable, and the name of the folder above it: whoever made them may have been
/// killed before it could.
pub(crate) fn sync_names(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    let parent = parent_of(dir);
    disk.sync_dir(parent).doing("sync the folder", parent)?;
    match disk.sync_dir(parent_of(parent)) {
        // EACCES: we cannot have created entries in the grandparent.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced.doing("sync the folder", parent_of(parent)),
    }
}

fn parent_of(dir: &Path) -> &Path {
    match dir.parent() {
        None => dir,
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    }
}
