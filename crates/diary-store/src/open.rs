//! Opening a journal, whatever an earlier process left.

use std::io;
use std::path::Path;
use std::sync::Arc;

use diary_proto::JournalName;

use crate::append::Appender;
use crate::derive::DerivedLoader;
use crate::disk::{Disk, Doing, OpenError, make_dir};
use crate::format::day_file::date_of_name;
use crate::format::head;
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

/// Whether `dir` holds a journal: a head that was written down, or day files.
///
/// # Errors
/// Those of looking.
pub fn is_journal(disk: &dyn Disk, dir: &Path) -> io::Result<bool> {
    if head::is_there(disk, dir) {
        return Ok(true);
    }
    match disk.list(dir) {
        Ok(names) => Ok(names.iter().any(|name| name.to_str().and_then(date_of_name).is_some())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The journals in the folder `data`, by name. What cannot be looked at counts as one, so that whoever uses it is told why.
///
/// # Errors
/// Those of listing `data`.
pub fn journals(disk: &dyn Disk, data: &Path) -> io::Result<Vec<JournalName>> {
    let files = match disk.list(data) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        files => files?,
    };
    let named = files.iter().filter_map(|name| name.to_str()?.parse::<JournalName>().ok());
    let mut names: Vec<_> =
        named.filter(|name| is_journal(disk, &data.join(name.as_str())).unwrap_or(true)).collect();
    names.sort_unstable();
    Ok(names)
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

    plan::carry_out(&*disk, dir)?;
    let Recovered { examined, file, line_feed_first } = Recovery::new(&*disk, dir)?.run()?;
    // Not before: who tries again and again to open what cannot be opened fills no log.
    for exposed in disk.exposed(dir).doing("look at", dir)? {
        tracing::warn!("{exposed}");
    }
    let id = match examined.id {
        Some(id) => id,
        None => getrandom::u64().map_err(io::Error::other).doing("make an id for", dir)?,
    };
    let Examined { days, ends, head, .. } = examined;
    let shared = Arc::new(Shared::new(disk, dir.to_owned(), id, days, ends, head));
    let mut is_noted = examined.is_clean;
    if !examined.has_evidence {
        match shared.write_head(&head) {
            Ok(()) => is_noted = true,
            Err(error) => tracing::warn!(%error, "the head could not be written down"),
        }
    }
    let reader = Reader::new(Arc::clone(&shared));
    let appender = Appender::new(shared, file, line_feed_first, is_noted, lock);
    Ok(Opened { appender, derived: DerivedLoader::new(reader.clone()), reader })
}
