//! Maintenance of a journal's folder: verify, repair, archive.

use std::io;
use std::path::Path;
use std::sync::Arc;

use diary_proto::{DayStart, JournalName, Time};
use diary_store::disk::{Disk, RealDisk};

pub use diary_store::OpenError;
pub use diary_store::archive::Archived;
pub use diary_store::repair::Repaired;
pub use diary_store::scan::{Finding, Seqs, What};
pub use diary_store::verify::Verified;

/// The journals in a data folder, by name.
///
/// # Errors
/// Those of looking.
pub fn journals(data: &Path) -> io::Result<Vec<JournalName>> {
    diary_store::journals(&RealDisk, data)
}

/// Makes a journal in `dir`, on disk when this returns. False if there is one already.
///
/// # Errors
/// [`OpenError`].
pub fn make(dir: &Path) -> Result<bool, OpenError> {
    let looking = |cause| OpenError::Io { doing: "look at", path: dir.to_owned(), cause };
    if diary_store::is_journal(&RealDisk, dir).map_err(looking)? {
        return Ok(false);
    }
    diary_store::open(disk(), dir)?;
    // A head that could not be written down is a warning there, and what makes a journal here.
    match diary_store::is_journal(&RealDisk, dir).map_err(looking)? {
        true => Ok(true),
        false => Err(looking(io::Error::other("its head could not be written"))),
    }
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

/// Checks every line, chain and seq in `dir`, even while a server writes there. `finding` is called for every fault.
///
/// # Errors
/// [`OpenError`].
pub fn verify(dir: &Path, finding: impl FnMut(Finding)) -> Result<Verified, OpenError> {
    // Whoever it is that damages a diary, the command that ends it is worth knowing.
    for exposed in RealDisk.exposed(dir).unwrap_or_default() {
        tracing::warn!("{exposed}");
    }
    diary_store::verify(disk(), dir, finding)
}

/// Writes a valid copy of the journal in `dir` to `to`.
///
/// # Errors
/// [`OpenError`].
pub fn repair(dir: &Path, to: &Path) -> Result<Repaired, OpenError> {
    diary_store::repair(&disk(), dir, to)
}

/// Moves the day files of `dir` into an archive named by the day of `now`, where days begin at `day_start`; `None` if
/// there are no entries.
///
/// # Errors
/// [`OpenError`], also if a server has the journal open.
pub fn archive(dir: &Path, now: Time, day_start: DayStart) -> Result<Option<Archived>, OpenError> {
    diary_store::archive(&disk(), dir, now, day_start)
}

/// Whether an archive was begun in `dir` and not finished. The next start finishes it.
///
/// # Errors
/// [`OpenError`].
pub fn is_archive_unfinished(dir: &Path) -> Result<bool, OpenError> {
    diary_store::archive::is_unfinished(&RealDisk, dir)
}
