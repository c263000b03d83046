//! Repairing: a sound copy of a damaged journal beside it. The original is never touched.

mod lines;

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use diary_proto::block::Gap;
use diary_proto::entry::StoredLine;
use diary_proto::{Date, Seal, Time};

use crate::disk::{Disk, DiskFile, Doing, How, OpenError, make_dir, open_if_there, sync_names};
use crate::format::day_file::{After, Header, name};
use crate::format::head::{self, Head};
use crate::format::lines::{entry_in, while_lines};
use crate::plan;
use crate::recover::{LOCK, Recovery};
use crate::scan::scan;
use crate::view::Beginning;
use lines::Lines;

/// How much is written at once.
const WRITE_BYTES: usize = 1024 * 1024;

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Entries that were copied.
    pub entries: u64,
    /// Entries that could not be: the first and the last of each gap.
    pub gaps: Vec<(u64, u64)>,
    /// A server has the journal: the copy has nothing of what it takes from now on.
    pub in_use: bool,
}

/// Copies every sound entry of the journal in `dir` to the folder `to`, which must not be there yet; it
/// gets its name when the copy is whole. The lines are copied byte for byte, without a CR that an editor
/// put at their ends, and each to its place, from wherever they are: from files with the wrong name, and from strays in
/// the quarantine too. Headers are made anew, so that the files chain; a note `# gap A..B …` stands where entries are
/// missing. What is not finished is left out, and so are archives.
///
/// # Errors
/// [`OpenError`] if the journal cannot be read or the copy cannot be written.
pub fn repair(disk: &Arc<dyn Disk>, dir: &Path, to: &Path) -> Result<Repaired, OpenError> {
    let refuse = |why: &str| Err(io::Error::other(why.to_owned())).doing("make the copy", to);
    if is_there(&**disk, to)? {
        return refuse("it is there already; remove it, or choose another place with --to");
    }
    if to.starts_with(dir) {
        return refuse("it would be inside the diary; choose another place with --to");
    }
    if plan::is_unfinished(&**disk, dir)? {
        return refuse("an archive was not finished; `diary-server archive` or a server's start finishes it");
    }
    let mut part = to.as_os_str().to_owned();
    part.push(".unfinished");
    let part = Path::new(&part);
    if is_there(&**disk, part)? {
        return Err(io::Error::other("an earlier repair did not finish it; remove it")).doing("write", part);
    }

    let examined = Recovery::new(&**disk, dir)?.survey_something()?;
    let lock = dir.join(LOCK);
    let in_use = open_if_there(&**disk, &lock)?.is_some() && disk.lock(&lock).doing("lock", &lock)?.is_none();
    let id = examined.id.unwrap_or_default();
    let reader = examined.reader(Arc::clone(disk), dir);
    let found = Lines::find(&**disk, dir, &examined, reader.seal())?;
    make_dir(&**disk, part)?;
    let mut copy = Copy::new(&**disk, part, id, reader.beginning().doing("read", dir)?, found);
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
    Ok(Repaired { in_use, ..done })
}

/// Whether there is a folder, or something that nobody can look into.
fn is_there(disk: &dyn Disk, dir: &Path) -> Result<bool, OpenError> {
    match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        names => names.doing("look into", dir).map(|_| true),
    }
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
    /// Where lines that are out of their place are.
    found: Lines,
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
    fn new(disk: &'a dyn Disk, to: &'a Path, id: u64, beginning: Option<&Beginning>, found: Lines) -> Self {
        let archived = beginning.and_then(|beginning| beginning.archived.clone());
        let (after, note) = archived.map_or((None, None), |(after, note)| (Some(after), Some(note.line)));
        let (seq, crc) = after.map_or((0, 0), |after| (after.seq, after.crc));
        let seal = Seal::of_journal(id);
        Self { disk, to, id, seal, file: None, after, note, found, seq, crc, done: Repaired::default() }
    }

    fn push(&mut self, date: Date, line: &StoredLine<'_>, raw: &[u8]) -> io::Result<()> {
        self.fill(line.seq - 1, date)?;
        self.begin(date)?;
        self.note_gap(line.seq - 1);
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

    /// Copies the lines up to the seq `last` that stood elsewhere, each to its day's file, or to that of the nearest day
    /// between the newest one in the copy and `date`.
    fn fill(&mut self, last: u64, date: Date) -> io::Result<()> {
        for (seqs, run) in self.found.between(self.seq + 1, last) {
            let file = self.disk.open(&self.found.files[run.file], How::Read)?;
            let mut copied = Ok(());
            while_lines(&*file, run.from, run.to, |_, line| {
                if let Some((line, raw)) =
                    entry_in(line, self.seal).filter(|(line, _)| seqs.contains(&line.seq))
                {
                    let newest = self.file.as_ref().map_or(Date::MIN, |open| open.date);
                    let day = line.day.or_else(|| Some(Time::parse(line.time.as_bytes())?.date()));
                    copied = self
                        .begin(day.unwrap_or(date).min(date).max(newest))
                        .inspect(|()| self.note_gap(line.seq - 1))
                        .and_then(|()| self.copy(&line, raw));
                }
                if copied.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            copied?;
        }
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
        self.fill(head, Date::MAX)?;
        if self.file.is_none() {
            self.begin(last_day)?;
        }
        self.note_gap(head);
        let end = self.end_file()?;
        // Nothing of the copy is a batch that was not finished.
        let file = self.after.map(|after| after.date);
        head::write(
            self.disk,
            self.to,
            self.id,
            &Head { seq: self.seq, time: None, crc: self.crc, file, end },
        )?;
        Ok(self.done)
    }
}
