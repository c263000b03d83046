//! Reading: ranges of entries as pages of whole lines, byte for byte as on disk.
//!
//! A reader never looks past the head, so what it gives out is committed. It checks nothing on the way:
//! whoever uses a page checks its lines ([`diary_proto::block::Walker`]).

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use diary_proto::entry::{StoredLine, is_note};
use diary_proto::limits::STORED_LINE_MAX_BYTES;
use diary_proto::{Date, Entry, Which};

use crate::archive::{Note, note_of};
use crate::day_file::{self, After, Header, name};
use crate::days::Picked;
use crate::disk::{Disk, DiskFile, How};
use crate::head::Head;
use crate::own_days::OwnDays;
use crate::recover::day_files;
use crate::scan::while_lines;

/// Bytes that suffice to read one line of usual length.
const LINE_BYTES: usize = 4 * 1024;

/// A file that was opened longer ago may have been replaced by a repaired one.
const OPEN_MAX: Duration = Duration::from_secs(1);

/// Day files that are kept open for those who read on.
const OPENED_MAX: usize = 16;

/// What the appender and the readers of one journal know together.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    /// The journal's id.
    pub(crate) id: u64,
    view: RwLock<View>,
    /// The seqs of day files' first entries, as far as they were read; none where nothing is sound.
    first_seqs: Mutex<BTreeMap<Date, Option<u64>>>,
    /// Day files that were opened a moment ago to read history: those who read on need not open them.
    opened: Mutex<VecDeque<OpenDay>>,
    /// How the journal begins, once it has.
    beginning: OnceLock<Beginning>,
}

/// One state of the journal. Published as a whole, and read as a whole: an operation takes one view and asks
/// for nothing else that moves. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) head: Head,
    /// The days that have a file, in order; the head's is the last.
    pub(crate) days: Arc<Vec<Date>>,
    /// Which entries belong to another day than their file's; not all of them before what is derived is loaded.
    pub(crate) own_days: Arc<OwnDays>,
}

impl View {
    /// Where the committed part of a day's file ends.
    pub(crate) fn end_of(&self, date: Date, file: &dyn DiskFile) -> io::Result<u64> {
        if self.head.file == Some(date) { Ok(self.head.end) } else { file.size() }
    }
}

/// A day file that is open.
struct OpenDay {
    date: Date,
    since: Instant,
    file: Arc<dyn DiskFile>,
}

/// What the first day file says of how the journal begins.
#[derive(Debug, Clone)]
pub(crate) struct Beginning {
    /// The journal's first seq: 1, or behind what is archived. Where files are missing, it is 1 too.
    pub(crate) first: u64,
    /// The end of what is archived, if the journal follows an archive, and the note that says so.
    pub(crate) archived: Option<(After, Note)>,
}

impl Shared {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, id: u64, days: Vec<Date>, head: Head) -> Self {
        let view = View { head, days: Arc::new(days), own_days: Arc::default() };
        Self {
            disk,
            dir,
            id,
            view: RwLock::new(view),
            first_seqs: Mutex::default(),
            opened: Mutex::default(),
            beginning: OnceLock::new(),
        }
    }

    pub(crate) fn view(&self) -> View {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Moves the head: from here on, readers see what lies before it. `own_days`: entries behind the old head that
    /// belong to another day than their file's.
    pub(crate) fn publish(&self, head: Head, own_days: &[(u64, Date)]) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(date) = head.file.filter(|date| view.days.last() != Some(date)) {
            Arc::make_mut(&mut view.days).push(date);
        }
        if !own_days.is_empty() {
            let table = Arc::make_mut(&mut view.own_days);
            own_days.iter().for_each(|&(seq, day)| table.insert(seq, day));
        }
        view.head = head;
    }

    /// Puts what is derived of the entries up to `seq` before what was published meanwhile.
    pub(crate) fn publish_derived(&self, mut own_days: OwnDays, seq: u64) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        own_days.extend(&view.own_days, seq);
        view.own_days = Arc::new(own_days);
    }
}

/// Reads a journal. Cheap to clone; every clone sees the same head.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

/// Entries with consecutive seqs, and how far they have been read.
#[derive(Debug, Clone)]
pub struct Range {
    /// The seq of the first entry.
    pub first: u64,
    /// The seq of the last one; below `first` for a range without entries.
    pub last: u64,
    /// Where reading goes on; no file yet in a journal that had none.
    date: Option<Date>,
    offset: u64,
    /// Where it ends: the file's length if this is `None`.
    end_date: Option<Date>,
    end_offset: Option<u64>,
    /// Only some of the entries are wanted.
    pub(crate) picked: Option<Box<Picked>>,
}

/// A batch that was just committed, for those who read on where it begins: they need not ask the disk.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// The head before it, and behind it.
    pub(crate) before: Head,
    pub(crate) after: Head,
    /// Its lines, as on disk.
    pub lines: Bytes,
}

impl Fresh {
    /// The seq of its last entry.
    pub fn last(&self) -> u64 {
        self.after.seq
    }
}

/// Where an entry should be that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Located {
    /// In this line of this day file, from 1, or before it.
    Line(Date, u64),
    /// Behind the last line of this one.
    Behind(Date),
    /// In this one, which cannot be read.
    Unreadable(Date, io::ErrorKind),
    /// There are no day files.
    Nowhere,
}

impl Range {
    /// Takes a batch as read, if the range goes on where it begins.
    pub fn take(&mut self, fresh: &Fresh) -> bool {
        let goes_on = (self.date, self.offset) == (fresh.before.file, fresh.before.end);
        if goes_on {
            (self.date, self.offset) = (fresh.after.file, fresh.after.end);
            (self.end_date, self.end_offset) = (fresh.after.file, Some(fresh.after.end));
            self.last = fresh.after.seq;
        }
        goes_on
    }

    pub(crate) fn empty() -> Self {
        Self { first: 1, last: 0, date: None, offset: 0, end_date: None, end_offset: None, picked: None }
    }

    /// The day of the file where reading goes on.
    pub(crate) fn file(&self) -> Option<Date> {
        self.date
    }
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The end of what is committed.
    pub fn head(&self) -> Head {
        self.shared.view.read().unwrap_or_else(PoisonError::into_inner).head
    }

    /// The journal as it is now.
    pub(crate) fn view(&self) -> View {
        self.shared.view()
    }

    /// The journal's random id.
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    pub(crate) fn open(&self, date: Date) -> io::Result<Box<dyn DiskFile>> {
        self.shared.disk.open(&self.shared.dir.join(name(date)), How::Read)
    }

    /// Opens another file in the journal's folder.
    pub(crate) fn open_beside(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.shared.disk.open(&self.shared.dir.join(name), How::Read)
    }

    /// A reader of an archive of this journal.
    pub(crate) fn of_archive(&self, dir: PathBuf) -> io::Result<Self> {
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

    /// The disk and the folder, for what lies beside the day files.
    pub(crate) fn disk(&self) -> (&dyn Disk, &Path) {
        (&*self.shared.disk, &self.shared.dir)
    }

    /// The range that `which` stands for now; `today` is the server's. For days, what is derived must have
    /// been loaded: own times are not known before.
    ///
    /// # Errors
    /// Those of reading day files.
    pub fn range(&self, which: Which, today: Date) -> io::Result<Range> {
        let view = self.view();
        match which {
            Which::Last(count) => self.range_from(&view, (view.head.seq + 1).saturating_sub(count).max(1)),
            Which::All => self.range_from(&view, 1),
            Which::From(seq) => self.range_from(&view, seq),
            Which::Days(from, to) => self.days(&view, from.date(today), to.date(today)),
        }
    }

    /// The range from `seq` to the head. Past the head it is empty, and [`extend`](Self::extend) lets it
    /// begin there.
    ///
    /// # Errors
    /// Those of reading day files.
    pub fn from(&self, seq: u64) -> io::Result<Range> {
        self.range_from(&self.view(), seq)
    }

    pub(crate) fn range_from(&self, view: &View, seq: u64) -> io::Result<Range> {
        let head = view.head;
        let mut range = Range {
            first: seq.max(self.first()?),
            last: head.seq,
            date: head.file,
            offset: head.end,
            end_date: head.file,
            end_offset: Some(head.end),
            picked: None,
        };
        if range.first > head.seq {
            return Ok(range);
        }
        let Some(date) = self.file_of(view, range.first) else {
            return Ok(range);
        };
        let file = self.kept(date)?;
        let end = view.end_of(date, &*file)?;
        let found = day_file::find_seq(&*file, end, range.first)?;
        range.date = Some(date);
        // Nothing sound from there on in this file: the next one, if there is one, goes on.
        range.offset = found.map_or(end, |found| found.offset);
        Ok(range)
    }

    /// Lets a range that was read to its end go on to the present head.
    pub fn extend(&self, range: &mut Range) {
        let head = self.head();
        range.last = head.seq;
        range.end_date = head.file;
        range.end_offset = Some(head.end);
    }

    /// The next lines of a range, `max_bytes` or one longer line at the most; `None` at its end. In a range that is not
    /// dense there may be none of them before its end, too.
    ///
    /// # Errors
    /// Those of reading day files. The range stays where it was.
    pub fn next_page(&self, range: &mut Range, max_bytes: usize) -> io::Result<Option<Vec<u8>>> {
        let mut page = Vec::new();
        Ok(self.next_page_into(range, max_bytes, &mut page)?.then_some(page))
    }

    /// The same, into a buffer that can be used again; false at the range's end.
    ///
    /// # Errors
    /// Those of reading day files. The range stays where it was.
    pub fn next_page_into(
        &self,
        range: &mut Range,
        max_bytes: usize,
        page: &mut Vec<u8>,
    ) -> io::Result<bool> {
        if let Some(mut picked) = range.picked.take() {
            let found = self.next_picked_into(range, &mut picked, max_bytes, page);
            range.picked = Some(picked);
            return found;
        }
        let Some(end_date) = range.end_date else {
            return Ok(false);
        };
        let days = self.view().days;
        loop {
            let date = match range.date {
                Some(date) => date,
                None => match days.first() {
                    Some(&date) => date,
                    None => return Ok(false),
                },
            };
            range.date = Some(date);
            let limit = range.end_offset.filter(|_| date == end_date);
            if date <= end_date && self.page_of_file(date, &mut range.offset, limit, max_bytes, page)? {
                return Ok(true);
            }
            if date >= end_date {
                return Ok(false);
            }
            let next = days.get(days.partition_point(|&day| day <= date));
            range.date = Some(next.copied().unwrap_or(end_date));
            range.offset = 0;
        }
    }

    /// The next lines of a range, if they can be had without waiting for the disk; none at its end. It leaves
    /// the range where it was if not.
    pub fn next_page_now(&self, range: &mut Range, max_bytes: usize) -> Option<Vec<u8>> {
        let date = range.date.filter(|_| range.is_dense())?;
        let limit = range.end_offset.filter(|_| range.end_date == Some(date));
        if limit.is_some_and(|limit| range.offset >= limit) {
            return Some(Vec::new());
        }
        let file = self.opened(date)?;
        let here = limit.map_or(max_bytes as u64, |limit| limit.saturating_sub(range.offset));
        let mut page = vec![0; usize::try_from(here).unwrap_or(usize::MAX).min(max_bytes)];
        let read = file.read_at_now(&mut page, range.offset).ok()??;
        page.truncate(memchr::memrchr(b'\n', &page[..read])? + 1);
        range.offset += page.len() as u64;
        Some(page)
    }

    /// The entry with this seq, if it is there and sound.
    ///
    /// # Errors
    /// Those of reading day files.
    pub fn entry(&self, seq: u64) -> io::Result<Option<Entry>> {
        Ok(self.line(seq, |line| line.to_entry().ok())?.flatten())
    }

    /// What `look` makes of the line with this seq, if it is there and sound.
    ///
    /// # Errors
    /// Those of reading day files.
    pub fn line<T>(&self, seq: u64, look: impl FnOnce(&StoredLine<'_>) -> T) -> io::Result<Option<T>> {
        let mut range = self.from(seq)?;
        if range.first != seq || range.last < seq {
            return Ok(None);
        }
        let page = self.next_page(&mut range, LINE_BYTES)?.unwrap_or_default();
        let line = page.split(|&b| b == b'\n').next().unwrap_or_default();
        Ok(StoredLine::parse(line).ok().filter(|line| line.seq == seq).as_ref().map(look))
    }

    /// Where the entry `seq`, the first of a gap, should be: [`locate_all`](Self::locate_all) for one.
    ///
    /// # Errors
    /// Those of reading the day file.
    pub fn locate(&self, seq: u64) -> io::Result<Option<(Date, Option<u64>)>> {
        match self.locate_all(&[seq])[..] {
            [Located::Line(date, line)] => Ok(Some((date, Some(line)))),
            [Located::Behind(date)] => Ok(Some((date, None))),
            [Located::Unreadable(_, error)] => Err(error.into()),
            _ => Ok(None),
        }
    }

    /// Where missing entries should be, each the first of a gap, in ascending order. Reads one day file after the
    /// other, each once and no further than to the last place in it.
    pub fn locate_all(&self, seqs: &[u64]) -> Vec<Located> {
        let view = self.view();
        let mut places = Vec::with_capacity(seqs.len());
        while let Some(&seq) = seqs.get(places.len()) {
            let Some(date) = self.file_of(&view, seq) else {
                places.resize(seqs.len(), Located::Nowhere);
                break;
            };
            let rest = &seqs[places.len()..];
            let in_file = rest.iter().take_while(|&&seq| self.file_of(&view, seq) == Some(date)).count();
            let in_file = &rest[..in_file.max(1)];
            match self.lines_of(&view, date, in_file) {
                Ok(lines) => places.extend(lines),
                Err(error) => {
                    places.resize(places.len() + in_file.len(), Located::Unreadable(date, error.kind()));
                }
            }
        }
        places
    }

    /// The lines where these missing entries of one file should be.
    fn lines_of(&self, view: &View, date: Date, seqs: &[u64]) -> io::Result<Vec<Located>> {
        let file = self.open(date)?;
        let end = view.end_of(date, &*file)?;
        let mut newest = self.first_seq(view, date).map_or(0, |first| first - 1);
        let (mut lines, mut number) = (Vec::with_capacity(seqs.len()), 0);
        while_lines(&*file, end, |line| {
            number += 1;
            // Only a line near an entry that is asked for need be looked at closely.
            let wanted = seqs[lines.len()];
            if let Some(seq) = day_file::seq_of(line).filter(|&seq| seq + 1 < wanted) {
                newest = seq;
                return ControlFlow::Continue(());
            }
            let missing_before = match StoredLine::parse(line) {
                Ok(stored) => {
                    newest = stored.seq;
                    newest
                }
                Err(_) if is_note(line) => 0,
                // Damage, in which the entry behind the newest one may have been.
                Err(_) => newest + 2,
            };
            while seqs.get(lines.len()).is_some_and(|&seq| seq < missing_before) {
                lines.push(Located::Line(date, number));
            }
            if lines.len() < seqs.len() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        lines.resize(seqs.len(), Located::Behind(date));
        Ok(lines)
    }

    /// A day's file, if it was opened a moment ago.
    fn opened(&self, date: Date) -> Option<Arc<dyn DiskFile>> {
        let opened = self.shared.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let day = opened.iter().find(|day| day.date == date && day.since.elapsed() < OPEN_MAX);
        Some(Arc::clone(&day?.file))
    }

    /// A day's file, which is kept open for who reads on.
    fn kept(&self, date: Date) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = self.opened(date) {
            return Ok(file);
        }
        let file: Arc<dyn DiskFile> = self.open(date)?.into();
        let mut opened = self.shared.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|day| day.date != date && day.since.elapsed() < OPEN_MAX);
        opened.truncate(OPENED_MAX - 1);
        opened.push_front(OpenDay { date, since: Instant::now(), file: Arc::clone(&file) });
        drop(opened);
        Ok(file)
    }

    /// The next whole lines of one file; false if there are none before `limit`, or its end.
    fn page_of_file(
        &self,
        date: Date,
        offset: &mut u64,
        limit: Option<u64>,
        max_bytes: usize,
        page: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let file = match self.kept(date) {
            Ok(file) => file,
            // A file that went missing shows up as a gap.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let limit = match limit {
            Some(limit) => limit,
            None => file.size()?,
        };
        let mut size = max_bytes;
        while *offset < limit {
            let here = usize::try_from(limit - *offset).unwrap_or(usize::MAX).min(size);
            page.resize(here, 0);
            let read = file.read_full_at(page, *offset)?;
            page.truncate(read);
            if let Some(last) = memchr::memrchr(b'\n', page) {
                page.truncate(last + 1);
                *offset += page.len() as u64;
                return Ok(true);
            }
            if read < here || *offset + read as u64 >= limit {
                // A rest without a line feed is damage, or the file was cut below us.
                *offset = limit;
                return Ok(false);
            }
            if size < STORED_LINE_MAX_BYTES {
                size = STORED_LINE_MAX_BYTES;
            } else {
                *offset += read as u64;
            }
        }
        Ok(false)
    }

    /// All that is in the files of these days.
    pub(crate) fn files_of_days(&self, view: &View, from: Date, to: Date) -> Range {
        let View { head, days: dates, .. } = view;
        let begin = dates.partition_point(|&date| date < from);
        let end = dates.partition_point(|&date| date <= to);
        let (Some(&first_date), true) = (dates.get(begin), begin < end) else {
            return Range::empty();
        };
        let last_date = dates[end - 1];
        let first_of = |dates: &[Date]| dates.iter().find_map(|&date| self.first_seq(view, date));
        let last = first_of(&dates[end..]).map_or(head.seq, |next| next - 1);
        Range {
            first: first_of(&dates[begin..end]).unwrap_or(last + 1),
            last,
            date: Some(first_date),
            offset: 0,
            end_date: Some(last_date),
            end_offset: (head.file == Some(last_date)).then_some(head.end),
            picked: None,
        }
    }

    /// The seq with which the journal begins: 1, or behind what is archived. Where files before the first
    /// one are missing, it is 1 too.
    ///
    /// # Errors
    /// Those of reading day files.
    pub fn first(&self) -> io::Result<u64> {
        Ok(self.beginning()?.map_or(1, |beginning| beginning.first))
    }

    /// The end of what is archived, if the journal follows an archive.
    pub(crate) fn archived(&self) -> io::Result<Option<After>> {
        Ok(self.beginning()?.and_then(|beginning| beginning.archived.as_ref()).map(|(after, _)| *after))
    }

    /// How the journal begins; `None` where it has not, or its first file says nothing.
    pub(crate) fn beginning(&self) -> io::Result<Option<&Beginning>> {
        if let Some(beginning) = self.shared.beginning.get() {
            return Ok(Some(beginning));
        }
        let Some(&date) = self.view().days.first() else { return Ok(None) };
        let file = match self.open(date) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let Some(header) = Header::read(&*file)?.ok().filter(|header| header.date == date) else {
            return Ok(None);
        };
        let archived = header.after.zip(note_of(&*file)?);
        let first = if archived.is_some() { header.first } else { 1 };
        let beginning = Beginning { first, archived };
        Ok(Some(self.shared.beginning.get_or_init(|| beginning)))
    }

    /// The file that holds `seq`, or the one after which it is missing.
    fn file_of(&self, view: &View, seq: u64) -> Option<Date> {
        let days = &view.days;
        let (mut low, mut high) = (0, days.len());
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            // A file in which nothing is sound says nothing; the next one that does speaks for it.
            let told = (middle..high).find_map(|at| Some((at, self.first_seq(view, days[at])?)));
            match told {
                Some((at, first)) if first <= seq => low = at,
                _ => high = middle,
            }
        }
        days.get(low).copied()
    }

    /// The seq of a day file's first entry. A file that cannot be read says nothing for now: whoever reads
    /// on to it is told.
    fn first_seq(&self, view: &View, date: Date) -> Option<u64> {
        let first_seqs = || self.shared.first_seqs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&known) = first_seqs().get(&date) {
            return known;
        }
        let first = self.read_first_seq(view, date).ok()?;
        first_seqs().insert(date, first);
        first
    }

    fn read_first_seq(&self, view: &View, date: Date) -> io::Result<Option<u64>> {
        let file = self.open(date)?;
        if let Ok(header) = Header::read(&*file)? {
            return Ok(Some(header.first));
        }
        let end = view.end_of(date, &*file)?;
        Ok(day_file::first_entry_of(&*file, end)?.map(|found| found.seq))
    }
}
