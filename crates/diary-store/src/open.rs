//! Opening a journal, whatever an earlier process left.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::append::Appender;
use crate::derive::DerivedLoader;
use crate::disk::{Disk, Doing, OpenError, make_dir};
use crate::plan;
use crate::recover::{Examined, LOCK, Recovered, Recovery};
use crate::view::{Reader, Shared};

/// A journal, ready.
pub struct Opened {
    /// Writes it.
    pub appender: Appender,
    /// Reads it.
    pub reader: Reader,
    /// Loads what is derived from the day files. Until [`Appender::set_derived`] has it, the appender takes
    /// no append with a key, and the days of own times are not known.
    pub derived: DerivedLoader,
}

impl Opened {
    /// Loads what is derived at once.
    ///
    /// # Errors
    /// Those of reading day files.
    pub fn with_derived(mut self) -> io::Result<(Appender, Reader)> {
        self.appender.set_derived(self.derived.load()?);
        Ok((self.appender, self.reader))
    }
}

/// Opens the journal in `dir`, making the folder if it is not there, and recovers what an unclean stop
/// left.
///
/// # Errors
/// [`OpenError`]; nothing that was there has been changed then, unless it is the disk that failed.
pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Opened, OpenError> {
    make_dir(&*disk, dir)?;
    let lock_path = dir.join(LOCK);
    let lock = disk.lock(&lock_path).doing("lock", &lock_path)?;
    let lock = lock.ok_or_else(|| OpenError::Held(dir.to_owned()))?;

    for exposed in disk.exposed(dir).doing("look at", dir)? {
        tracing::warn!("{exposed}");
    }
    plan::carry_out(&*disk, dir)?;
    let Recovered { examined, file, line_feed_first } = Recovery::new(&*disk, dir)?.run()?;
    let id = match examined.id {
        Some(id) => id,
        None => getrandom::u64().map_err(io::Error::other).doing("make an id for", dir)?,
    };
    let Examined { days, ends, head, .. } = examined;
    let shared = Arc::new(Shared::new(disk, dir.to_owned(), id, days, ends, head));
    if !examined.has_evidence
        && let Err(error) = shared.write_head(&head)
    {
        tracing::warn!(%error, "the head could not be written down");
    }
    let reader = Reader::new(Arc::clone(&shared));
    let appender = Appender::new(shared, file, line_feed_first, lock);
    Ok(Opened { appender, derived: DerivedLoader::new(reader.clone()), reader })
}
