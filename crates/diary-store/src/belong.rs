//! Which of the files with a day file's name are the journal's.
//!
//! A day file belongs to the journal if its header has the journal's id and the day of its name, and the first seqs
//! ascend from file to file. A file whose header is damaged belongs by its own valid lines. What does not belong is a
//! stray: nobody reads or writes it, no byte of it is changed, and it does not say where the journal ends. But the seqs
//! of the journal's own lines in it were given out, and are not given out again.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use diary_proto::entry::StoredLine;
use diary_proto::{Date, Seal, Time, seal};
use jiff::ToSpan;

use crate::disk::{Disk, DiskFile, Doing, How, OpenError};
use crate::format::day_file::{HEADER_MAX_BYTES, Header, name};
use crate::format::find::{find_seq, first_entry_of, last_entry_of};
use crate::format::lines::while_lines;
use crate::format::notes::archived_in;
use crate::format::stray::Stray;
use crate::quarantine;

/// The id that most of the files of these days have; of two that as many have, the one of the older files. `cached` is
/// what the cache says, which counts as much as a file. `empty` is what a head says that was written before the first
/// entry: if any file has that id, it is the one; if others were put into the folder since, theirs is. Without any, what is
/// left of a damaged header has to do.
///
/// # Errors
/// Those of reading the files: with one that nobody can read now, the journal would become another.
pub(crate) fn id_of_most(
    disk: &dyn Disk,
    dir: &Path,
    dates: &[Date],
    cached: Option<u64>,
    empty: Option<u64>,
) -> Result<Option<u64>, OpenError> {
    let (mut counts, mut doubtful) = (Vec::from_iter(cached.map(|id| (id, 1))), None);
    for &date in dates {
        let path = dir.join(name(date));
        let line = match disk.open(&path, How::Read).and_then(|file| first_line(&*file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            line => line.doing("read", &path)?,
        };
        match Header::parse(&line) {
            Ok(Header { id, .. }) => match counts.iter_mut().find(|(counted, _)| *counted == id) {
                Some((_, count)) => *count += 1,
                None => counts.push((id, 1)),
            },
            Err(_) => doubtful = seal::id_in_header(&line).or(doubtful),
        }
    }
    if counts.iter().any(|(id, _)| Some(*id) == empty) {
        return Ok(empty);
    }
    // Of several that are the greatest, the first.
    let most = counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(id, _)| id);
    Ok(most.or(empty).or(doubtful))
}

/// A file's first line, if it is no longer than a header.
fn first_line(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; HEADER_MAX_BYTES];
    let read = file.read_full_at(&mut bytes, 0)?;
    bytes.truncate(memchr::memchr(b'\n', &bytes[..read]).unwrap_or(0));
    Ok(bytes)
}

/// Which files belong to a journal.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The days whose files belong, in order.
    pub(crate) days: Vec<Date>,
    /// Where the seqs of the next day's file begin in a file that goes on with them, as a copy that others have written
    /// to does: that far it belongs.
    pub(crate) ends: BTreeMap<Date, u64>,
    pub(crate) strays: Vec<(Date, Stray)>,
    /// The highest seq of what does not belong and is the journal's.
    pub(crate) last_seq: u64,
}

/// A file of the journal, as far as its header says.
struct Candidate {
    date: Date,
    len: u64,
    /// Its header is valid.
    headed: bool,
    /// The first seq; none if the file cannot be read or no line in it is valid, as it may be only where something else
    /// says that it belongs.
    first: Option<u64>,
    /// The seq of the last valid line.
    last: u64,
    /// It begins with a note that what is before it is archived.
    archived: bool,
}

/// The folder, and whose it is.
struct Folder<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    id: u64,
    seal: Seal,
}

impl Survey {
    /// Finds out which files of these days belong to the journal with this id. `known` is a day whose file does, if it is
    /// there, and a seq that was committed in it or before.
    pub(crate) fn new(
        disk: &dyn Disk,
        dir: &Path,
        dates: &[Date],
        id: Option<u64>,
        known: Option<(Date, u64)>,
    ) -> Self {
        let (id, known_day) = (id.unwrap_or_default(), known.map(|(day, _)| day));
        let folder = Folder { disk, dir, id, seal: Seal::of_journal(id) };
        let (mut survey, mut candidates) = (Self::default(), Vec::new());
        for &date in dates {
            let (stray, candidate) = folder.look_at(date);
            match stray {
                Some(Stray::NoLine) if known_day == Some(date) => candidates.push(candidate),
                None => candidates.push(candidate),
                Some(stray) => survey.set_aside(stray, [candidate]),
            }
        }
        let begin = candidates.iter().filter(|file| file.archived).filter_map(|file| file.first).max();
        let is_archived =
            |file: &Candidate| file.first.zip(begin).is_some_and(|(first, begin)| first < begin);
        let (archived, candidates): (Vec<_>, Vec<_>) = candidates.into_iter().partition(is_archived);
        survey.set_aside(Stray::Archived, archived);
        // What is later than that seq's file begins behind it.
        let is_behind = |file: &Candidate| {
            known.zip(file.first).is_none_or(|((day, seq), first)| file.date <= day || first > seq)
        };
        let (candidates, too_early): (Vec<_>, Vec<_>) = candidates.into_iter().partition(is_behind);
        let mut belongs = chain(&candidates, known_day).into_iter();
        let (chained, misplaced): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|_| belongs.next().unwrap_or(true));
        survey.set_aside(Stray::Misplaced, too_early.into_iter().chain(misplaced));
        survey.strays.sort_unstable_by_key(|(date, _)| *date);
        survey.find_ends(&folder, &chained);
        survey.days = chained.into_iter().map(|file| file.date).collect();
        for path in quarantine::strays(disk, dir) {
            let last =
                disk.open(&path, How::Read).and_then(|file| last_entry_of(&*file, folder.seal, file.size()?));
            survey.last_seq = survey.last_seq.max(last.unwrap_or_default().unwrap_or(0));
        }
        survey
    }

    fn set_aside(&mut self, stray: Stray, files: impl IntoIterator<Item = Candidate>) {
        for file in files {
            self.strays.push((file.date, stray));
            self.last_seq = self.last_seq.max(file.last);
        }
    }

    fn find_ends(&mut self, folder: &Folder<'_>, chained: &[Candidate]) {
        let mut next_first = None;
        for file in chained.iter().rev() {
            if let Some(next_first) = next_first.filter(|&next| next <= file.last) {
                let opened = folder.open(file.date);
                let found = opened.and_then(|open| find_seq(&*open, folder.seal, file.len, next_first));
                if let Ok(Some(found)) = found {
                    self.ends.insert(file.date, found.offset);
                    self.last_seq = self.last_seq.max(file.last);
                }
            }
            next_first = file.first.or(next_first);
        }
    }
}

impl Folder<'_> {
    fn open(&self, date: Date) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(&self.dir.join(name(date)), How::Read)
    }

    /// What a file is by itself. One that cannot be read is taken for the journal's: whoever reads on to it is told.
    fn look_at(&self, date: Date) -> (Option<Stray>, Candidate) {
        let mut file = Candidate { date, len: 0, headed: false, first: None, last: 0, archived: false };
        let mut stray = None;
        match self.read(&mut file, &mut stray) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Some(Stray::NoFile), file),
            Ok(()) | Err(_) => (stray, file),
        }
    }

    fn read(&self, file: &mut Candidate, stray: &mut Option<Stray>) -> io::Result<()> {
        let open = self.open(file.date)?;
        file.len = open.size()?;
        let header = Header::read(&*open)?.ok();
        *stray = header.and_then(|header| Stray::of_header(&header, file.date, self.id));
        file.last = last_entry_of(&*open, self.seal, file.len)?.unwrap_or(0);
        // What another journal's header says of seqs is nothing to this one.
        if let Some(header) = header.filter(|header| header.id == self.id) {
            file.headed = true;
            file.first = Some(header.first);
            file.last = file.last.max(header.first - 1);
            file.archived = header.after.is_some() && archived_in(&*open, self.seal)?.is_some();
            return Ok(());
        }
        let Some(found) = first_entry_of(&*open, self.seal, file.len)? else {
            stray.get_or_insert(Stray::NoLine);
            return Ok(());
        };
        file.first = Some(found.seq);
        // A file begins with an entry of its day, behind its header.
        let earlier_max_days =
            if found.offset <= first_line(&*open)?.len() as u64 + 1 { 0 } else { EARLIER_MAX_DAYS };
        while_lines(&*open, found.offset, file.len, |_, line| {
            let line = StoredLine::parse(line, self.seal).ok();
            let other_day = line.and_then(|line| other_day_of(&line, file.date, earlier_max_days));
            *stray = stray.or(other_day.map(Stray::OtherDay));
            ControlFlow::Break(())
        })?;
        Ok(())
    }
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

/// The day on which an entry was committed, if that is certainly not `date`, or one of so many days before it.
fn other_day_of(line: &StoredLine<'_>, date: Date, earlier_max_days: i64) -> Option<Date> {
    let written = Time::parse(line.time.as_bytes())?.date();
    let day = line.day.unwrap_or(written);
    // The line of an entry with a time of its own does not say whether the day had begun by midnight.
    let may_be_eve = line.own.is_some() && written.yesterday().is_ok_and(|eve| eve == date);
    let first = date.saturating_sub(earlier_max_days.days());
    (!(first..=date).contains(&day) && !may_be_eve).then_some(day)
}

/// How much more a byte of a file with a valid header counts than one of a file without. No folder has so many bytes.
const HEADED_BYTES: u128 = 1 << 48;

/// How many bytes a file counts as that is known to belong, beside its own. No folder has so many, however they count.
const KNOWN_BYTES: u128 = 1 << 120;

/// Which of the files, in the order of their days, belong together: those with the most bytes whose first seqs ascend.
/// So a file of a copy that has gone its own way sets none aside that hold more. A file without entries has the same
/// first seq as the next one. One with a valid header counts more than any without, and `known` more than all.
fn chain(files: &[Candidate], known: Option<Date>) -> Vec<bool> {
    let mut belongs: Vec<bool> = files.iter().map(|file| file.first.is_none()).collect();
    // By the seq that the next file must begin behind: the best chain among those that no better one ends below; how
    // good it is, and its last file. `before` says which file is before each in its chain.
    let mut best: BTreeMap<u64, (u128, usize)> = BTreeMap::new();
    let mut before = vec![None; files.len()];
    for (place, file) in files.iter().enumerate() {
        let Some(first) = file.first else { continue };
        let below = best.range(..first).next_back().map(|(_, &chain)| chain);
        let own = (u128::from(file.len) + 1) * if file.headed { HEADED_BYTES } else { 1 };
        let known = if known == Some(file.date) { KNOWN_BYTES } else { 0 };
        let bytes = own + known + below.map_or(0, |(bytes, _)| bytes);
        let end = first.min(file.last);
        if best.range(..=end).next_back().is_some_and(|(_, (other, _))| *other >= bytes) {
            continue;
        }
        before[place] = below.map(|(_, place)| place);
        let worse: Vec<u64> =
            best.range(end..).take_while(|(_, (other, _))| *other <= bytes).map(|(&end, _)| end).collect();
        worse.iter().for_each(|end| _ = best.remove(end));
        best.insert(end, (bytes, place));
    }
    let mut next = best.last_key_value().map(|(_, (_, place))| *place);
    while let Some(place) = next {
        belongs[place] = true;
        next = before[place];
    }
    belongs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Days with these first seqs and lengths; which of them belong.
    fn check(files: &[(u64, u64)], known: Option<i8>, expected: &[usize]) {
        check_with(files, usize::MAX, known, expected);
    }

    fn check_with(files: &[(u64, u64)], headless: usize, known: Option<i8>, expected: &[usize]) {
        let date = |place: usize| Date::constant(2026, 11, 1 + i8::try_from(place).unwrap());
        let candidates: Vec<Candidate> = files
            .iter()
            .enumerate()
            .map(|(place, &(first, len))| Candidate {
                date: date(place),
                len,
                headed: place != headless,
                first: (first > 0).then_some(first),
                last: first,
                archived: false,
            })
            .collect();
        let belongs = chain(&candidates, known.map(|day| Date::constant(2026, 11, day)));
        let places: Vec<usize> = (0..files.len()).filter(|&place| belongs[place]).collect();
        assert_eq!(places, expected, "{files:?}");
    }

    #[test]
    fn files_whose_seqs_ascend_belong_together() {
        check(&[], None, &[]);
        check(&[(1, 9), (5, 9), (9, 9)], None, &[0, 1, 2]);
        check(&[(1, 9), (5, 9), (1, 9), (9, 9)], None, &[0, 1, 3]);
        check(&[(1, 9), (5, 2), (5, 9), (9, 9)], None, &[0, 2, 3]);
        check(&[(1, 9), (5, 9), (5, 2), (9, 9)], None, &[0, 1, 3]);
        check(&[(1, 9), (0, 9), (5, 9)], None, &[0, 1, 2]);
        // A high one first, and many or few bytes behind it.
        check(&[(1, 9), (90, 9), (5, 4), (6, 4), (7, 4)], None, &[0, 2, 3, 4]);
        check(&[(1, 9), (90, 99), (5, 4), (6, 4), (7, 4)], None, &[0, 1]);
        check(&[(1, 9), (90, 99), (5, 4), (6, 4), (7, 4)], Some(4), &[0, 2, 3, 4]);
        check(&[(1, 0), (1, 0)], None, &[0]);
        // One without a header only fits in.
        check_with(&[(1, 9), (90, 99), (5, 4), (6, 4)], 1, None, &[0, 2, 3]);
        check_with(&[(1, 9), (3, 99), (5, 4), (6, 4)], 1, None, &[0, 1, 2, 3]);
    }

    #[cfg(feature = "sim")]
    #[test]
    fn the_id_is_the_one_of_most_files() {
        use crate::disk::sim::SimDisk;

        /// Files with headers of these ids; 9 stands for a damaged one.
        fn check(ids: &[u64], cached: Option<u64>, empty: Option<u64>, expected: Option<u64>) {
            let (disk, dir) = (SimDisk::new(), Path::new("/"));
            let mut dates = Vec::new();
            for (day, &id) in (1..).zip(ids) {
                let header = Header { date: Date::constant(2026, 11, day), id, first: 1, after: None };
                let mut bytes = Vec::new();
                header.write(&mut bytes);
                if id == 9 {
                    bytes[10] ^= 1;
                }
                let file = disk.open(&dir.join(name(header.date)), How::CreateNew).unwrap();
                file.write_all_at(&bytes, 0).unwrap();
                dates.push(header.date);
            }
            let found = id_of_most(&disk, dir, &dates, cached, empty).unwrap();
            assert_eq!(found, expected, "{ids:?} {cached:?} {empty:?}");
        }

        check(&[], None, None, None);
        check(&[9], None, None, Some(9));
        check(&[9, 7], None, None, Some(7));
        check(&[7, 8], None, None, Some(7));
        check(&[7, 8, 8], None, None, Some(8));
        check(&[7, 8], Some(8), None, Some(8));
        check(&[7], Some(8), None, Some(8));
        check(&[7, 7], Some(8), None, Some(7));
        check(&[7, 8, 8], None, Some(7), Some(7));
        check(&[8, 8], None, Some(7), Some(8));
        check(&[9], None, Some(7), Some(7));
    }
}
