//! What is archived: other folders of day files, with a reader each.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use diary_proto::Entry;

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

    /// An entry that was archived, if its archive is still there.
    pub(crate) fn archived_entry(&self, seq: u64) -> io::Result<Option<Entry>> {
        if self.archived()?.is_none_or(|archived| archived.seq < seq) {
            return Ok(None);
        }
        for folder in self.archives()? {
            // Something else than a folder was not put there by an archive.
            if let Ok(Some(entry)) = self.of_archive(folder).and_then(|archive| archive.entry(seq)) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// A reader of an archive of this journal.
    fn of_archive(&self, dir: PathBuf) -> io::Result<Self> {
        let disk = Arc::clone(&self.shared.disk);
        let days = day_files(&*disk, &dir).map_err(io::Error::other)?;
        let file = days.last().copied();
        let end = match file {
            Some(date) => disk.open(&dir.join(name(date)), How::Read)?.size()?,
            None => 0,
        };
        // Its files tell where it ends.
        let head = Head { seq: u64::MAX - 1, file, end, ..Head::EMPTY };
        Ok(Self::new(Arc::new(Shared::new(disk, dir, self.shared.id, days, head))))
    }
}
