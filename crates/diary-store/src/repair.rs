//! Repairing: a sound copy of a damaged journal beside it. The original is never touched.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::path::Path;
use std::sync::Arc;

use diary_proto::block::Gap;
use diary_proto::entry::StoredLine;
use diary_proto::{Date, Seal};

use crate::disk::{Disk, DiskFile, Doing, How, OpenError, make_dir, sync_names};
use crate::format::day_file::{After, Header, name};
use crate::format::head::{self, Head};
use crate::format::lines::for_each_line;
use crate::plan;
use crate::recover::Recovery;
use crate::scan::{What, scan};
use crate::view::{Beginning, Reader, Shared};

/// How much is written at once.
const WRITE_BYTES: usize = 1024 * 1024;

/// Lines that are out of their place and are kept for it; a copied file among the day files has more.
const STRAYS_MAX_BYTES: usize = 64 * 1024 * 1024;

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Entries that were copied.
    pub entries: u64,
    /// Entries that could not be: the first and the last of each gap.
    pub gaps: Vec<(u64, u64)>,
}

/// Copies every sound entry of the journal in `dir` to the folder `to`, which must not be there yet; it
/// gets its name when the copy is whole. The lines are copied byte for byte, without a CR that an editor
/// put at their ends, and each to its place; headers are made anew, so that the files chain; a note
/// `# gap A..B …` stands where entries are missing. What is not finished is left out, and so are archives.
///
/// # Errors
/// [`OpenError`] if the journal cannot be read or the copy cannot be written.
pub fn repair(disk: &Arc<dyn Disk>, dir: &Path, to: &Path) -> Result<Repaired, OpenError> {
    let refuse = |why: &str| Err(io::Error::other(why.to_owned())).doing("make the copy", to);
    if disk.list(to).is_ok() {
        return refuse("it is there already; remove it, or choose another place with --to");
    }
    if to.starts_with(dir) {
        return refuse("it would be inside the diary; choose another place with --to");
    }
    if plan::is_unfinished(&**disk, dir) {
        return refuse("an archive was not finished; `diary-server archive` or a server's start finishes it");
    }
    let mut part = to.as_os_str().to_owned();
    part.push(".unfinished");
    let part = Path::new(&part);
    if disk.list(part).is_ok() {
        return Err(io::Error::other("an earlier repair did not finish it; remove it")).doing("write", part);
    }

    let examined = Recovery::new(&**disk, dir)?.examine_something()?;
    let id = examined.id.unwrap_or_default();
    let shared = Shared::new(Arc::clone(disk), dir.to_owned(), id, examined.days.clone(), examined.head);
    let reader = Reader::new(Arc::new(shared));
    let strays = strays(&reader).doing("read", dir)?;
    make_dir(&**disk, part)?;
    let mut copy = Copy::new(&**disk, part, id, reader.beginning().doing("read", dir)?, strays);
    let mut written = Ok(());
    let end = scan(
        &reader,
        |date, line, raw| {
            if written.is_ok() {
                written = copy.push(date, line, raw);
            }
        },
        |_| {},
    )
    .doing("read", dir)?;
    let last_day = end.file.or(examined.days.last().copied()).unwrap_or(Date::constant(1970, 1, 1));
    let done =
        written.and_then(|()| copy.finish(examined.head.seq, last_day)).doing("write the copy in", part)?;
    disk.rename(part, to).doing("name the copy", to)?;
    sync_names(&**disk, to)?;
    Ok(done)
}

/// Sound lines that are out of their place, by their seqs.
fn strays(reader: &Reader) -> io::Result<BTreeMap<u64, Vec<u8>>> {
    let mut places: BTreeMap<Date, Vec<u64>> = BTreeMap::new();
    scan(
        reader,
        |_, _, _| {},
        |finding| {
            if let (What::OutOfOrder(_), Some(file)) = (finding.what, finding.file) {
                places.entry(file).or_default().push(finding.line);
            }
        },
    )?;
    let (mut strays, mut bytes) = (BTreeMap::new(), 0);
    for (date, lines) in places {
        let file = reader.open(date)?;
        let (mut wanted, mut number) = (lines.into_iter().peekable(), 0);
        for_each_line(&*file, file.size()?, |line| {
            number += 1;
            if wanted.next_if_eq(&number).is_some()
                && bytes + line.len() <= STRAYS_MAX_BYTES
                && let Ok(stored) = StoredLine::parse(line, reader.seal())
            {
                bytes += line.len();
                strays.insert(stored.seq, line.to_vec());
            }
        })?;
    }
    Ok(strays)
}

/// The copy, as far as it is.
struct Copy<'a> {
    disk: &'a dyn Disk,
    to: &'a Path,
    id: u64,
    seal: Seal,
    file: Option<Open>,
    /// What the next file follows.
    after: Option<After>,
    /// A note for the first file: that it follows an archive.
    note: Option<Vec<u8>>,
    /// Lines that are out of their place, by their seqs.
    strays: BTreeMap<u64, Vec<u8>>,
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

    fn push_line(&mut self, raw: &[u8]) -> io::Result<()> {
        self.unwritten.extend_from_slice(raw);
        self.unwritten.push(b'\n');
        if self.unwritten.len() > WRITE_BYTES { self.write() } else { Ok(()) }
    }
}

impl<'a> Copy<'a> {
    fn new(
        disk: &'a dyn Disk,
        to: &'a Path,
        id: u64,
        beginning: Option<&Beginning>,
        strays: BTreeMap<u64, Vec<u8>>,
    ) -> Self {
        let archived = beginning.and_then(|beginning| beginning.archived.clone());
        let (after, note) = archived.map_or((None, None), |(after, note)| (Some(after), Some(note.line)));
        let (seq, crc) = after.map_or((0, 0), |after| (after.seq, after.crc));
        let seal = Seal::of_journal(id);
        Self { disk, to, id, seal, file: None, after, note, strays, seq, crc, done: Repaired::default() }
    }

    fn push(&mut self, date: Date, line: &StoredLine<'_>, raw: &[u8]) -> io::Result<()> {
        self.begin(date)?;
        self.fill(line.seq - 1)?;
        self.copy(line, raw)
    }

    fn copy(&mut self, line: &StoredLine<'_>, raw: &[u8]) -> io::Result<()> {
        if let Some(open) = &mut self.file {
            open.push_line(raw)?;
        }
        (self.seq, self.crc) = (line.seq, line.crc);
        self.done.entries += 1;
        Ok(())
    }

    /// Everything up to `last`: lines that stood elsewhere, and notes of what is missing.
    fn fill(&mut self, last: u64) -> io::Result<()> {
        let mut strays = mem::take(&mut self.strays).split_off(&(self.seq + 1));
        self.strays = strays.split_off(&(last + 1));
        for raw in strays.into_values() {
            if let Ok(line) = StoredLine::parse(&raw, self.seal) {
                self.note_gap(line.seq - 1);
                self.copy(&line, &raw)?;
            }
        }
        self.note_gap(last);
        Ok(())
    }

    /// Begins a day's file, chained to the one before it, if it is not the one that is being written.
    fn begin(&mut self, date: Date) -> io::Result<()> {
        if self.file.as_ref().is_some_and(|open| open.date == date) {
            return Ok(());
        }
        self.end_file()?;
        let header = Header { date, id: self.id, first: self.seq + 1, after: self.after };
        let file = self.disk.open(&self.to.join(name(date)), How::CreateNew)?;
        let mut unwritten = Vec::new();
        header.write(&mut unwritten);
        let mut open = Open { date, file, offset: 0, unwritten };
        if let Some(note) = self.note.take() {
            open.push_line(&note)?;
        }
        self.file = Some(open);
        Ok(())
    }

    fn note_gap(&mut self, last: u64) {
        let Some(open) = self.file.as_mut().filter(|_| last > self.seq) else { return };
        let gap = Gap { first: self.seq + 1, last };
        gap.write_note("damaged or missing when this copy was made", &mut open.unwritten, self.seal);
        self.done.gaps.push((self.seq + 1, last));
        self.seq = last;
    }

    /// Ends the day's file; returns its length.
    fn end_file(&mut self) -> io::Result<u64> {
        let Some(mut open) = self.file.take() else { return Ok(0) };
        open.write()?;
        open.file.sync_data()?;
        self.after = Some(After { date: open.date, seq: self.seq, crc: self.crc });
        Ok(open.offset)
    }

    /// Ends the copy, whose seqs go on behind `head`. It has a file even if no entry could be copied.
    fn finish(mut self, head: u64, last_day: Date) -> io::Result<Repaired> {
        if self.file.is_none() {
            self.begin(last_day)?;
        }
        self.fill(head)?;
        let end = self.end_file()?;
        // Nothing of the copy is a batch that was not finished.
        let file = self.after.map(|after| after.date);
        head::write(self.disk, self.to, &Head { seq: self.seq, time: None, crc: self.crc, file, end })?;
        Ok(self.done)
    }
}
