//! What is archived: other folders of day files, with a reader each.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Reader, Shared};
use crate::disk::How;
use crate::format::day_file::{day_files, name};
use crate::format::head::Head;

/// The folder of archives, beside the day files.
pub(crate) const ARCHIVE: &str = "archive";

impl Reader {
    /// Everything in the folder of archives.
    pub(crate) fn archives(&self) -> io::Result<Vec<PathBuf>> {
        let (disk, dir) = self.disk();
        let archives = dir.join(ARCHIVE);
        match disk.list(&archives) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => Ok(names?.into_iter().map(|name| archives.join(name)).collect()),
        }
    }

    /// A reader of the archive that has the entry `seq`, if that was archived and its archive is still there.
    ///
    /// # Errors
    /// Those of reading day files and listing folders. An archive that cannot be read counts as gone.
    pub fn archive_of(&self, seq: u64) -> io::Result<Option<Self>> {
        if self.archived()?.is_none_or(|archived| archived.seq < seq) {
            return Ok(None);
        }
        let mut archives = self.archives()?.into_iter().filter_map(|folder| self.of_archive(folder).ok());
        Ok(archives.find(|archive| matches!(archive.entry(seq), Ok(Some(_)))))
    }

    /// A reader of an archive of this journal.
    fn of_archive(&self, dir: PathBuf) -> io::Result<Self> {
        let disk = Arc::clone(&self.shared.disk);
        let days = day_files(&*disk, &dir).map_err(io::Error::other)?;
        let file = days.last().copied();
        let end = match file.map(|date| disk.open(&dir.join(name(date)), How::Read)) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Some(Ok(file)) => file.size()?,
            _ => 0,
        };
        // Its files tell where it ends.
        let head = Head { seq: u64::MAX - 1, file, end, ..Head::EMPTY };
        Ok(Self::new(Arc::new(Shared::new(disk, dir, self.shared.id, days, BTreeMap::new(), head))))
    }
}
