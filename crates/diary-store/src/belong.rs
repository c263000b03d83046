//! Which of the files with a day file's name are the journal's.
//!
//! A day file belongs to the journal if its header has the journal's id and the day of its name, and its seqs lie above
//! those of the files before it. A file whose header is damaged belongs by its own valid lines. What does not belong is a
//! stray: nobody reads or writes it, no byte of it is changed, and it does not say where the journal ends. But the seqs
//! of the journal's own lines in it were given out, and are not given out again.
//!
//! Nothing is guessed: where evidence does not decide, the journal is not opened.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use diary_proto::entry::StoredLine;
use diary_proto::{Date, Seal, Time, seal};
use jiff::ToSpan;

use crate::disk::{Disk, DiskFile, Doing, How, OpenError, open_if_there};
use crate::format::day_file::{BadHeader, Header, first_bytes, first_line, name};
use crate::format::find::{Found, find_seq, first_edited_of, last_entry_of};
use crate::format::head::{self, Evidence};
use crate::format::lines::{entry_in, while_lines};
use crate::format::notes::archived_in;
use crate::format::stray::Stray;
use crate::format::tail::TAIL_MAX_BYTES;
use crate::quarantine;
use crate::tables::cache;

/// So much of a file's beginning and end is looked at for lines of the journal, where its header does not say whose it
/// is: three of the longest lines. A large stray costs a start no more.
const LOOK_MAX_BYTES: u64 = 1024 * 1024;

/// Which files belong to a journal.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The journal's id, if anything says it.
    pub(crate) id: Option<u64>,
    /// The days whose files belong, in order.
    pub(crate) days: Vec<Date>,
    /// Where the seqs of the next day's file begin in a file that goes on with them, as a copy that others have written
    /// to does: that far it belongs.
    pub(crate) ends: BTreeMap<Date, u64>,
    pub(crate) strays: Vec<(Date, Stray)>,
    /// Those without a valid line that are no longer than a batch, in order.
    pub(crate) maybe_unfinished: Vec<Date>,
    /// The highest seq of what does not belong and is the journal's.
    pub(crate) last_seq: u64,
}

/// A file, as far as it says itself what it is.
#[derive(Clone, Copy)]
struct File {
    date: Date,
    len: u64,
    header: Option<Header>,
    /// The id in a damaged header.
    doubtful: Option<u64>,
    /// It begins with a note that what is before it is archived.
    archived: bool,
    /// The journal ended in it when the head was written, or went on from it to there.
    is_vouched: bool,
    /// The seqs of the first and the last valid line; the last is below the first where there is none.
    first: u64,
    last: u64,
}

/// What a journal's folder knows beside its day files.
#[derive(Clone, Copy)]
pub(crate) struct Folder<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) dir: &'a Path,
    pub(crate) evidence: Option<Evidence>,
    /// The id in the cache.
    pub(crate) cached: Option<u64>,
}

impl Folder<'_> {
    /// Finds out which journal it holds, and which files of these days belong to it.
    ///
    /// # Errors
    /// [`OpenError`], also where a file that decides cannot be read, and where nothing decides.
    pub(crate) fn survey(&self, dates: &[Date]) -> Result<Survey, OpenError> {
        let (mut survey, mut files, mut unreadable) = (Survey::default(), Vec::new(), Vec::new());
        for &date in dates {
            match self.look_at(date) {
                Ok(Some(file)) => files.push(file),
                Ok(None) => survey.strays.push((date, Stray::NoFile)),
                Err(error @ OpenError::Io { .. }) => unreadable.push((date, error)),
                Err(error) => return Err(error),
            }
        }
        survey.id = self.id_of(&files)?;
        let id = survey.id.unwrap_or_default();
        let evidence = self.evidence.filter(|evidence| evidence.id == id);
        let mut own = Vec::new();
        for mut file in files {
            match self.stray(&mut file, id)? {
                // Only the head says that it belongs.
                Some(Stray::NoLine) if evidence.is_some_and(|head| head.file == Some(file.date)) => {
                    survey.days.push(file.date);
                }
                Some(stray) => {
                    let is_short = stray == Stray::NoLine && file.len <= TAIL_MAX_BYTES;
                    survey.maybe_unfinished.extend(is_short.then_some(file.date));
                    survey.set_aside(stray, [file]);
                }
                None => own.push(file),
            }
        }
        survey.set_aside_by_head(&mut own, evidence);
        let chained = self.chain(own, id, &mut survey)?;
        self.find_ends(&chained, id, &mut survey)?;
        let mut inner = None;
        for (date, error) in unreadable.into_iter().rev() {
            // One of several in a row.
            let is_before_inner =
                inner.is_some() && dates.iter().find(|&&next| date < next) == inner.as_ref();
            if !is_before_inner && !self.is_inner(date, &chained) {
                return Err(error);
            }
            tracing::error!("the diary is damaged: {error}");
            survey.days.push(date);
            inner = Some(date);
        }
        survey.days.extend(chained.iter().map(|file| file.date));
        survey.days.sort_unstable();
        survey.strays.sort_unstable_by_key(|(date, _)| *date);
        for path in quarantine::strays(self.disk, self.dir)? {
            if let Some(file) = open_if_there(self.disk, &path)? {
                let last = file.size().and_then(|len| last_own(&*file, Seal::of_journal(id), len));
                survey.last_seq = survey.last_seq.max(last.doing("read", &path)?);
            }
        }
        Ok(survey)
    }

    /// Whether a day's file, which cannot be read, is known not to be the newest: a later one follows it, and where the
    /// journal ends is known from elsewhere. It is damage then, and the diary goes on without.
    fn is_inner(&self, date: Date, chained: &[File]) -> bool {
        let follows =
            |file: &File| file.header.and_then(|header| header.after).is_some_and(|after| after.date == date);
        let ends = self.cached.is_some() || self.evidence.is_some_and(|head| head.seq > 0);
        ends && chained.iter().any(follows)
    }

    fn path(&self, date: Date) -> PathBuf {
        self.dir.join(name(date))
    }

    /// Reads a header, and the last line by what it says; `None` where no file is.
    fn look_at(&self, date: Date) -> Result<Option<File>, OpenError> {
        let path = self.path(date);
        let Some(file) = open_if_there(self.disk, &path)? else { return Ok(None) };
        let bytes = first_bytes(&*file).doing("read", &path)?;
        let line = first_line(&bytes);
        let header = match Header::parse(line) {
            Err(BadHeader::Newer(format)) => return Err(OpenError::Newer(path, format)),
            header => header.ok(),
        };
        let mut seen = File {
            date,
            len: file.size().doing("look at", &path)?,
            header,
            doubtful: seal::id_in_header(line),
            archived: false,
            is_vouched: false,
            first: 0,
            last: 0,
        };
        if let Some(header) = header {
            let seal = Seal::of_journal(header.id);
            seen.archived = header.after.is_some() && archived_in(&bytes, seal).is_some();
            seen.first = header.first;
            seen.last = last_own(&*file, seal, seen.len).doing("read", &path)?.max(header.first - 1);
            seen.is_vouched = self.is_end(&*file, &seen, header.id).doing("read", &path)?;
        }
        Ok(Some(seen))
    }

    /// Which journal it is. A head that was written before the first entry says something if a file has its id: day files
    /// may have been put back since. Without any of these, what is left of damaged headers has to do.
    fn id_of(&self, files: &[File]) -> Result<Option<u64>, OpenError> {
        let of_files = |id: fn(&File) -> Option<u64>| -> Vec<_> {
            files.iter().filter_map(|file| Some((id(file)?, self.path(file.date)))).collect()
        };
        let mut said = of_files(|file| Some(file.header?.id));
        let says_something =
            |head: &Evidence| head.seq > 0 || said.is_empty() || said.iter().any(|(id, _)| *id == head.id);
        let head = self.evidence.filter(says_something).map(|head| (head.id, self.dir.join(head::FILE)));
        let cached = self.cached.map(|id| (id, self.dir.join(cache::FILE)));
        if head.is_none() && cached.is_none() && said.is_empty() {
            said = of_files(|file| file.doubtful);
        }
        decide(head, cached, said)
    }

    /// Whether the journal with this id ended in this file when the head was written: it has the last entry, or follows that.
    fn is_end(&self, open: &dyn DiskFile, file: &File, id: u64) -> io::Result<bool> {
        let head = self.evidence.filter(|head| (head.id, head.file) == (id, Some(file.date)));
        let Some(Evidence { seq, crc, .. }) = head else { return Ok(false) };
        let after = file.header.and_then(|header| header.after).filter(|_| file.archived);
        Ok(after.is_some_and(|after| (after.seq, after.crc) == (seq, crc))
            || crc_of(open, Seal::of_journal(id), file.len, seq)? == Some(crc))
    }

    /// Why a file does not belong to the journal with this id.
    fn stray(&self, file: &mut File, id: u64) -> Result<Option<Stray>, OpenError> {
        let stray = file.header.and_then(|header| Stray::of_header(&header, file.date, id));
        if stray.is_none() && file.header.is_some() {
            return Ok(None);
        }
        // No header of this journal and day: what its lines say counts.
        let (path, seal) = (self.path(file.date), Seal::of_journal(id));
        let Some(open) = open_if_there(self.disk, &path)? else { return Ok(Some(Stray::NoFile)) };
        file.last = last_own(&*open, seal, file.len).doing("read", &path)?;
        if stray.is_some() {
            // It may be put together from others.
            file.last = file.last.max(highest_own(&*open, seal, file.len).doing("read", &path)?);
            return Ok(stray);
        }
        let found = first_own(&*open, seal, file.len).doing("read", &path)?;
        let Some(found) = found else { return Ok(Some(Stray::NoLine)) };
        (file.first, file.last) = (found.seq, file.last.max(found.seq));
        // Damage makes the file where the journal ended no other one.
        file.is_vouched = self.is_end(&*open, file, id).doing("read", &path)?;
        if file.is_vouched {
            return Ok(None);
        }
        let day = other_day_in(&*open, &found, file, seal).doing("read", &path)?;
        Ok(day.map(Stray::OtherDay))
    }

    /// The files whose seqs ascend. Where one goes on with seqs of the next, it belongs up to where that begins, if they do
    /// not contradict each other, as where lines are repeated, or if the head's journal lies in the next one.
    fn chain(&self, mut files: Vec<File>, id: u64, survey: &mut Survey) -> Result<Vec<File>, OpenError> {
        if files.windows(2).all(|pair| pair[0].last < pair[1].first) {
            return Ok(files);
        }
        self.vouch(&mut files)?;
        let mut chained: Vec<File> = Vec::new();
        'files: for &file in &files {
            while let Some(before) = chained.last().filter(|before| before.last >= file.first) {
                if before.is_before(file.first) && !self.contradicts(&file, before, id)? {
                    break;
                }
                match (before.is_vouched, file.is_vouched) {
                    (false, false) if self.repeats(&file, &chained, id)? => {
                        survey.set_aside(Stray::Misplaced, [file]);
                        continue 'files;
                    }
                    (false, false) => {
                        return Err(OpenError::Copies(self.path(before.date), self.path(file.date)));
                    }
                    (_, true) if before.is_before(file.first) => break,
                    (_, true) => survey.set_aside(Stray::Misplaced, chained.pop()),
                    (true, false) => {
                        survey.set_aside(Stray::Misplaced, [file]);
                        continue 'files;
                    }
                }
            }
            chained.push(file);
        }
        Ok(chained)
    }

    /// Goes back from the file in which the journal ended, as long as each follows an entry of the one before it.
    fn vouch(&self, files: &mut [File]) -> Result<(), OpenError> {
        let mut place = files.iter().position(|file| file.is_vouched);
        while let Some(at) = place {
            let after = files[at].header.and_then(|header| header.after);
            place = after.and_then(|after| files.iter().position(|file| file.date == after.date));
            let Some(before) = place.filter(|&before| !files[before].is_vouched) else { break };
            files[before].is_vouched = self.follows(&files[at], &files[before])?;
            place = place.filter(|_| files[before].is_vouched);
        }
        Ok(())
    }

    /// Whether the header of `file` names an entry of the file before it.
    fn follows(&self, file: &File, before: &File) -> Result<bool, OpenError> {
        match file.header.and_then(|header| Some((header.id, header.after?))) {
            Some((id, after)) if after.date == before.date => {
                Ok(self.crc_of(before, id, after.seq)? == Some(after.crc))
            }
            _ => Ok(false),
        }
    }

    /// Whether a file begins with an entry that an earlier one has.
    fn repeats(&self, file: &File, earlier: &[File], id: u64) -> Result<bool, OpenError> {
        let holds = |earlier: &&File| (earlier.first..=earlier.last).contains(&file.first);
        let Some(earlier) = earlier.iter().find(holds) else { return Ok(false) };
        let crc = self.crc_of(file, id, file.first)?;
        Ok(crc.is_some() && crc == self.crc_of(earlier, id, file.first)?)
    }

    /// Whether the file before has another entry with the first seq of `file`, as a copy of the journal has that went on by
    /// itself.
    fn contradicts(&self, file: &File, before: &File, id: u64) -> Result<bool, OpenError> {
        let crc = self.crc_of(before, id, file.first)?;
        Ok(crc.is_some() && crc != self.crc_of(file, id, file.first)?)
    }

    /// The checksum of an entry of the journal with this id, if a file has it.
    fn crc_of(&self, file: &File, id: u64, seq: u64) -> Result<Option<u32>, OpenError> {
        let path = self.path(file.date);
        let Some(open) = open_if_there(self.disk, &path)? else { return Ok(None) };
        crc_of(&*open, Seal::of_journal(id), file.len, seq).doing("read", &path)
    }

    /// Finds where the seqs of the next file begin in files that go on with them.
    fn find_ends(&self, chained: &[File], id: u64, survey: &mut Survey) -> Result<(), OpenError> {
        for pair in chained.windows(2) {
            let (file, next) = (&pair[0], &pair[1]);
            if file.last >= next.first {
                let path = self.path(file.date);
                let open = self.disk.open(&path, How::Read).doing("open", &path)?;
                let found =
                    find_seq(&*open, Seal::of_journal(id), file.len, next.first).doing("read", &path)?;
                survey.ends.extend(found.map(|found| (file.date, found.offset)));
                survey.last_seq = survey.last_seq.max(file.last);
            }
        }
        Ok(())
    }
}

impl Survey {
    /// Sets aside what does not fit the file in which the head says that the journal ended, and what is archived.
    fn set_aside_by_head(&mut self, own: &mut Vec<File>, evidence: Option<Evidence>) {
        let end = own.iter().find(|file| file.is_vouched).map(|file| (file.date, file.first));
        let is_archived = |file: &&File| file.archived && end.is_none_or(|(_, first)| file.first <= first);
        let begin = own.iter().filter(is_archived).map(|file| file.first).max().unwrap_or(0);
        self.set_aside(Stray::Archived, own.extract_if(.., |file| file.first < begin));
        let is_misplaced = |file: &mut File| {
            evidence.is_some_and(|head| {
                head.file < Some(file.date) && head.file.is_some() && file.first <= head.seq
            }) || end.is_some_and(|(date, first)| file.date < date && !file.is_before(first))
        };
        self.set_aside(Stray::Misplaced, own.extract_if(.., is_misplaced));
    }

    fn set_aside(&mut self, stray: Stray, files: impl IntoIterator<Item = File>) {
        for file in files {
            self.strays.push((file.date, stray));
            self.last_seq = self.last_seq.max(file.last);
        }
    }
}

impl File {
    /// Whether it begins before this seq. One without entries has the same first seq as the next one.
    fn is_before(&self, seq: u64) -> bool {
        self.first.min(self.last) < seq
    }
}

/// The id that the head says, else the cache, if a file has it or none has any; else the one that all files have. Where
/// these contradict each other, it is nobody's.
fn decide(
    head: Option<(u64, PathBuf)>,
    cached: Option<(u64, PathBuf)>,
    files: Vec<(u64, PathBuf)>,
) -> Result<Option<u64>, OpenError> {
    let has = |id: u64| files.iter().any(|(other, _)| *other == id);
    let (first, other) = match (head, cached) {
        (Some(head), Some(cached)) if head.0 != cached.0 && has(head.0) && has(cached.0) => (cached, head),
        (Some((id, _)), _) | (None, Some((id, _))) if files.is_empty() || has(id) => return Ok(Some(id)),
        (Some(evident), _) | (None, Some(evident)) => match files.into_iter().next() {
            Some(first) => (first, evident),
            None => return Ok(None),
        },
        (None, None) => {
            let mut files = files.into_iter();
            let Some(first) = files.next() else { return Ok(None) };
            match files.find(|(id, _)| *id != first.0) {
                Some(other) => (first, other),
                None => return Ok(Some(first.0)),
            }
        }
    };
    Err(OpenError::Journals(first.1, other.1))
}

/// The first line of the journal near a file's beginning, or else near its end.
fn first_own(file: &dyn DiskFile, seal: Seal, len: u64) -> io::Result<Option<Found>> {
    match first_edited_of(file, seal, 0..len.min(LOOK_MAX_BYTES))? {
        None => first_edited_of(file, seal, len.saturating_sub(LOOK_MAX_BYTES)..len),
        found => Ok(found),
    }
}

/// The seq of the newest line of the journal near a file's end; 0 if there is none.
fn last_own(file: &dyn DiskFile, seal: Seal, len: u64) -> io::Result<u64> {
    let from = len.saturating_sub(LOOK_MAX_BYTES);
    Ok(last_entry_of(file, seal, from..len)?.unwrap_or_default())
}

/// The highest seq of the journal's lines near a file's end; 0 if there is none.
fn highest_own(file: &dyn DiskFile, seal: Seal, len: u64) -> io::Result<u64> {
    let mut highest = 0;
    while_lines(file, len.saturating_sub(LOOK_MAX_BYTES), len, |_, line| {
        if let Some((entry, _)) = entry_in(line, seal) {
            highest = highest.max(entry.seq);
        }
        ControlFlow::Continue(())
    })?;
    Ok(highest)
}

/// The checksum of an entry, if a file has it.
fn crc_of(file: &dyn DiskFile, seal: Seal, len: u64, seq: u64) -> io::Result<Option<u32>> {
    match find_seq(file, seal, len, seq)? {
        Some(found) if found.seq == seq => with_line(file, found.offset, len, seal, |line| line.crc),
        _ => Ok(None),
    }
}

/// What `look` makes of the line at this place, if it is an entry.
fn with_line<T>(
    file: &dyn DiskFile,
    offset: u64,
    len: u64,
    seal: Seal,
    look: impl Fn(&StoredLine<'_>) -> T,
) -> io::Result<Option<T>> {
    let mut made = None;
    while_lines(file, offset, len, |_, line| {
        made = entry_in(line, seal).map(|(line, _)| look(&line));
        ControlFlow::Break(())
    })?;
    Ok(made)
}

/// Logs what does not belong to the journal.
pub(crate) fn tell_strays(strays: &[(Date, Stray)]) {
    for (date, stray) in strays {
        tracing::error!("{} does not belong to the diary and is passed over: {stray}", name(*date));
    }
}

/// So many days before that of its file may a later entry be committed: a zone can move west by 26 hours, and days can
/// start later, by less than 24.
const EARLIER_MAX_DAYS: i64 = 3;

/// The day of the first line that was found in a file, if that is certainly not the file's.
fn other_day_in(open: &dyn DiskFile, found: &Found, file: &File, seal: Seal) -> io::Result<Option<Date>> {
    // A file begins with an entry of its day, behind its header.
    let is_first = found.offset <= first_line(&first_bytes(open)?).len() as u64 + 1;
    let earlier_max_days = if is_first { 0 } else { EARLIER_MAX_DAYS };
    let day = with_line(open, found.offset, file.len, seal, |line| {
        other_day_of(line, file.date, earlier_max_days)
    })?;
    Ok(day.flatten())
}

/// The day on which an entry was committed, if that is certainly not `date`, or one of so many days before it.
fn other_day_of(line: &StoredLine<'_>, date: Date, earlier_max_days: i64) -> Option<Date> {
    let written = Time::parse(line.time.as_bytes())?.date();
    let day = line.day.unwrap_or(written);
    // The line of an entry with a time of its own does not say whether the day had begun by midnight.
    let may_be_eve = line.own.is_some() && written.yesterday().is_ok_and(|eve| eve == date);
    let first = date.saturating_sub(earlier_max_days.days());
    (!(first..=date).contains(&day) && !may_be_eve).then_some(day)
}
