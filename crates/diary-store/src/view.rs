//! What readers see of a journal: one view at a time, and of it ranges of whole lines, byte for byte as on
//! disk.
//!
//! A reader never looks past the head, so what it gives out is committed. It checks nothing on the way:
//! whoever uses a page checks its lines ([`diary_proto::block::Walker`]).

mod archives;
mod backwards;
mod days;
mod locate;
mod pages;
mod range;
mod read_ahead;
mod thread;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use diary_proto::{Date, Relation, Seal};

use crate::disk::{Disk, DiskFile, How};
use crate::format::day_file::{After, Header, first_bytes, first_line, name};
use crate::format::find;
use crate::format::head::{self, Head};
use crate::format::notes::{Archived, archived_in};
use crate::format::stray::Stray;
use crate::tables::own_days::OwnDays;
use crate::tables::related::Related;
use pages::Opened;
use read_ahead::ReadAhead;

pub(crate) use archives::ARCHIVE;
pub use locate::Located;
pub use range::{Fresh, Range};

/// What the appender and the readers of one journal know together.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    /// The journal's id.
    pub(crate) id: u64,
    /// What its lines are sealed with.
    pub(crate) seal: Seal,
    view: RwLock<View>,
    /// Which entries belong to which earlier ones; not all of them before what is derived is loaded. It is no part of a
    /// view, because it only grows: whoever looks into it looks no further than their view's head.
    related: RwLock<Related>,
    /// The seqs of day files' first entries, as far as they were read; none where nothing is sound.
    first_seqs: Mutex<BTreeMap<Date, Option<u64>>>,
    /// Day files that were opened a moment ago to read history: those who read on need not open them.
    opened: Opened,
    /// Corrections that were read a moment ago.
    corrections: ReadAhead,
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
    /// How far files belong to the journal that go on with the seqs of the next one.
    pub(crate) ends: Arc<BTreeMap<Date, u64>>,
    /// Which entries belong to another day than their file's; not all of them before what is derived is loaded.
    pub(crate) own_days: Arc<OwnDays>,
}

impl View {
    /// Where the committed part of a day's file ends.
    pub(crate) fn end_of(&self, date: Date, file: &dyn DiskFile) -> io::Result<u64> {
        match self.ends.get(&date) {
            _ if self.head.file == Some(date) => Ok(self.head.end),
            Some(&end) => Ok(end),
            None => file.size(),
        }
    }
}

/// What the first day file says of how the journal begins.
#[derive(Debug, Clone)]
pub(crate) struct Beginning {
    /// The journal's first seq: 1, or behind what is archived. Where files are missing, it is 1 too.
    pub(crate) first: u64,
    /// The end of what is archived, if the journal follows an archive, and the note that says so.
    pub(crate) archived: Option<(After, Archived)>,
}

impl Shared {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        id: u64,
        days: Vec<Date>,
        ends: BTreeMap<Date, u64>,
        head: Head,
    ) -> Self {
        let view = View { head, days: Arc::new(days), ends: Arc::new(ends), own_days: Arc::default() };
        Self {
            disk,
            dir,
            id,
            seal: Seal::of_journal(id),
            view: RwLock::new(view),
            related: RwLock::default(),
            first_seqs: Mutex::default(),
            opened: Opened::default(),
            corrections: ReadAhead::default(),
            beginning: OnceLock::new(),
        }
    }

    pub(crate) fn view(&self) -> View {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Moves the head: from here on, readers see what lies before it. `own_days`: entries behind the old head that
    /// belong to another day than their file's; `related`: those that belong to earlier ones.
    pub(crate) fn publish(&self, head: Head, own_days: &[(u64, Date)], related: &[(u64, Relation)]) {
        if !related.is_empty() {
            let mut table = self.related.write().unwrap_or_else(PoisonError::into_inner);
            related.iter().for_each(|&(seq, relation)| table.insert(seq, relation));
        }
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

    pub(crate) fn related(&self) -> RwLockReadGuard<'_, Related> {
        self.related.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the head down, as evidence for the next start.
    pub(crate) fn write_head(&self, head: &Head) -> io::Result<()> {
        head::write(&*self.disk, &self.dir, self.id, head)
    }

    /// Puts what is derived of the entries up to `seq` before what was published meanwhile.
    pub(crate) fn publish_derived(&self, mut own_days: OwnDays, mut related: Related, seq: u64) {
        {
            let mut known = self.related.write().unwrap_or_else(PoisonError::into_inner);
            related.extend(&known, seq);
            *known = related;
        }
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

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(crate) fn publish_derived(&self, own_days: OwnDays, related: Related, seq: u64) {
        self.shared.publish_derived(own_days, related, seq);
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

    /// What its lines are sealed with.
    pub fn seal(&self) -> Seal {
        self.shared.seal
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
        let days = self.view().days;
        // Past what is not there any more.
        let is_there = |opened: &io::Result<_>| {
            !opened.as_ref().is_err_and(|error: &io::Error| error.kind() == io::ErrorKind::NotFound)
        };
        let Some(file) = days.iter().map(|&date| self.open(date)).find(is_there) else { return Ok(None) };
        // Whoever reads on to it is told.
        let Ok(bytes) = file.and_then(|file| first_bytes(&*file)) else { return Ok(None) };
        let Ok(header) = Header::parse(first_line(&bytes)) else { return Ok(None) };
        let archived = header.after.zip(archived_in(&bytes, self.seal()));
        let first = if archived.is_some() { header.first } else { 1 };
        let beginning = Beginning { first, archived };
        Ok(Some(self.shared.beginning.get_or_init(|| beginning)))
    }

    /// A day's file. One that does not belong to the journal, as when another was put in its place, is not found.
    pub(crate) fn open(&self, date: Date) -> io::Result<Box<dyn DiskFile>> {
        let file = self.shared.disk.open(&self.shared.dir.join(name(date)), How::Read)?;
        let header = Header::read(&*file)?.ok();
        match header.and_then(|header| Stray::of_header(&header, date, self.shared.id)) {
            Some(stray) => Err(io::Error::new(io::ErrorKind::NotFound, stray.to_string())),
            None => Ok(file),
        }
    }

    /// The disk and the folder, for what lies beside the day files.
    pub(crate) fn disk(&self) -> (&dyn Disk, &Path) {
        (&*self.shared.disk, &self.shared.dir)
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
        if let Ok(header) = Header::read(&*file)?
            && header.id == self.id()
        {
            return Ok(Some(header.first));
        }
        let end = view.end_of(date, &*file)?;
        Ok(find::first_entry_of(&*file, self.seal(), 0..end)?.map(|found| found.seq))
    }
}
