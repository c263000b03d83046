//! Repairing: a sound copy of a damaged journal beside it. The original is never touched.

use std::io;
use std::path::Path;
use std::sync::Arc;

use diary_proto::entry::StoredLine;
use diary_proto::{Date, seal};

use crate::day_file::{After, Header, name};
use crate::disk::{Disk, DiskFile, How};
use crate::head::{self, Head};
use crate::read::{Reader, Shared};
use crate::recover::{Doing, OpenError, Recovery, make_dir};
use crate::scan::{gap_note, scan};

/// How much is written at once.
const WRITE_BYTES: usize = 1024 * 1024;

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Entries that were copied.
    pub entries: u64,
    /// Entries that could not be: the first and the last of each gap.
    pub gaps: Vec<(u64, u64)>,
}

/// Copies every sound entry of the journal in `dir` to the folder `to`, which must not be there yet. The
/// lines are copied byte for byte; headers are made anew, so that the files chain; a note
/// `# gap A..B …` stands where entries are missing. What is not finished is left out.
///
/// # Errors
/// [`OpenError`] if the journal cannot be read or the copy cannot be written.
pub fn repair(disk: &Arc<dyn Disk>, dir: &Path, to: &Path) -> Result<Repaired, OpenError> {
    if disk.list(to).is_ok() {
        return Err(io::Error::from(io::ErrorKind::AlreadyExists)).doing("make the folder", to);
    }
    let examined = Recovery::new(&**disk, dir).examine()?;
    let id = examined.id.unwrap_or_default();
    let reader = Reader::new(Arc::new(Shared::new(
        Arc::clone(disk),
        dir.to_owned(),
        id,
        &examined.days,
        examined.head,
    )));
    let floor = reader.first().doing("read", dir)?;
    make_dir(&**disk, to)?;
    let mut copy =
        Copy { disk: &**disk, to, id, file: None, seq: floor - 1, crc: 0, done: Repaired::default() };
    let mut written = Ok(());
    scan(
        &reader,
        |date, line, raw| {
            if written.is_ok() {
                written = copy.push(date, line, raw);
            }
        },
        |_| {},
    )
    .doing("read", dir)?;
    written.and_then(|()| copy.finish(examined.head.seq)).doing("write the copy in", to)
}

/// The copy, as far as it is.
struct Copy<'a> {
    disk: &'a dyn Disk,
    to: &'a Path,
    id: u64,
    file: Option<Open>,
    /// The newest entry that was copied, or is noted as missing, and the checksum of the newest copied.
    seq: u64,
    crc: u32,
    done: Repaired,
}

struct Open {
    date: Date,
    file: Box<dyn DiskFile>,
    offset: u64,
    unwritten: Vec<u8>,
}

impl Open {
    fn write(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.unwritten, self.offset)?;
        self.offset += self.unwritten.len() as u64;
        self.unwritten.clear();
        Ok(())
    }
}

impl Copy<'_> {
    fn push(&mut self, date: Date, line: &StoredLine<'_>, raw: &[u8]) -> io::Result<()> {
        if self.file.as_ref().is_none_or(|open| open.date != date) {
            self.begin(date)?;
        }
        self.note_gap(line.seq - 1);
        if let Some(open) = &mut self.file {
            open.unwritten.extend_from_slice(raw);
            open.unwritten.push(b'\n');
            if open.unwritten.len() > WRITE_BYTES {
                open.write()?;
            }
        }
        (self.seq, self.crc) = (line.seq, line.crc);
        self.done.entries += 1;
        Ok(())
    }

    /// Begins the next day's file, chained to the one before it.
    fn begin(&mut self, date: Date) -> io::Result<()> {
        let before = self.end_file()?;
        let after = before.map(|(date, _)| After { date, seq: self.seq, crc: self.crc });
        let header = Header { date, id: self.id, first: self.seq + 1, after };
        let file = self.disk.open(&self.to.join(name(date)), How::CreateNew)?;
        let mut unwritten = Vec::new();
        header.write(&mut unwritten);
        self.file = Some(Open { date, file, offset: 0, unwritten });
        Ok(())
    }

    fn note_gap(&mut self, last: u64) {
        let Some(open) = self.file.as_mut().filter(|_| last > self.seq) else { return };
        let start = open.unwritten.len();
        open.unwritten.extend_from_slice(gap_note(self.seq + 1, last).as_bytes());
        seal::seal(&mut open.unwritten, start);
        self.done.gaps.push((self.seq + 1, last));
        self.seq = last;
    }

    fn end_file(&mut self) -> io::Result<Option<(Date, u64)>> {
        let Some(mut open) = self.file.take() else { return Ok(None) };
        open.write()?;
        open.file.sync_data()?;
        Ok(Some((open.date, open.offset)))
    }

    /// Ends the copy, whose seqs go on behind `head`.
    fn finish(mut self, head: u64) -> io::Result<Repaired> {
        self.note_gap(head);
        if let Some((date, end)) = self.end_file()? {
            self.disk.sync_dir(self.to)?;
            // Nothing of the copy is a batch that was not finished.
            let head = Head { seq: self.seq, time: None, crc: self.crc, file: Some(date), end };
            head::write(self.disk, self.to, &head)?;
        }
        Ok(self.done)
    }
}
