//! Deriving tables from the day files: what the cache holds, and what was appended since.

use std::io;

use diary_proto::Date;
use diary_proto::block::{Step, Walker};
use diary_proto::entry::StoredLine;

use crate::disk::How;
use crate::format::day_file::{day_files, name};
use crate::format::find::first_entry_of;
use crate::format::lines::for_each_line;
use crate::scan::scan;
use crate::tables::cache::{self, Cache, Place, Tables};
use crate::tables::keys::KeyTable;
use crate::tables::own_days::OwnDays;
use crate::tables::related::Related;
use crate::view::Reader;

/// How much of the day files is read at once.
const PAGE_BYTES: usize = 256 * 1024;

/// Loads what is derived of a journal that has just been opened: the cache, and what is behind it in the day
/// files. It takes long only where there is no cache.
#[derive(Debug)]
pub struct DerivedLoader {
    reader: Reader,
}

/// What is derived of a journal's entries, and how far that is from what the cache holds.
#[derive(Debug)]
pub struct Derived {
    pub(crate) keys: KeyTable,
    /// What readers see; none once they [see it](Self::show).
    pub(crate) seen: Option<(OwnDays, Related)>,
    /// The newest entry that was looked at.
    pub(crate) seq: u64,
    pub(crate) uncached_bytes: u64,
    /// How many bytes the cache's tables have; 0 if there is none.
    pub(crate) cached_bytes: u64,
}

impl Derived {
    /// Where it cannot be loaded: no retry can be judged, and entries up to the head may be of any day.
    pub fn unknown(head: u64) -> Self {
        let mut own_days = OwnDays::default();
        own_days.doubt((1, head), Date::MIN, Date::MAX);
        let seen = Some((own_days, Related::unknown(head)));
        Self { keys: KeyTable::unknown(), seen, seq: head, uncached_bytes: 0, cached_bytes: 0 }
    }

    /// Shows readers what they can see of it, whatever the appender waits for.
    pub fn show(&mut self, reader: &Reader) {
        if let Some((own_days, related)) = self.seen.take() {
            reader.publish_derived(own_days, related, self.seq);
        }
    }
}

impl DerivedLoader {
    pub(crate) fn new(reader: Reader) -> Self {
        Self { reader }
    }

    /// Loads it.
    ///
    /// # Errors
    /// Those of reading day files.
    pub fn load(self) -> io::Result<Derived> {
        let reader = &self.reader;
        // Others may append while this reads; whoever takes what is derived knows what they did.
        let head = reader.head().seq;
        if let Some((place, tables)) = cached(reader)? {
            let mut gathered = Gathered { tables, next: place.seq + 1, own_day: None };
            let uncached_bytes = gathered.take_range(reader, place.seq + 1)?;
            return Ok(Derived { cached_bytes: place.length, ..gathered.finish(head, uncached_bytes) });
        }
        let mut gathered = Gathered { tables: Tables::default(), next: 1, own_day: None };
        take_archives(reader, &mut gathered)?;
        if let Some(archived) = reader.archived()? {
            gathered.reach(archived.seq);
        }
        scan(
            reader,
            |date, line, _| gathered.take(date, line),
            |finding| tracing::error!("the diary is damaged: {finding}"),
        )?;
        // The next commit is reason enough to write a cache.
        Ok(gathered.finish(head, cache::EVERY_BYTES))
    }
}

/// What is derived, entry by entry. Where entries are missing, the tables of keys and days know that they do not know.
struct Gathered {
    tables: Tables,
    /// The seq that should come next.
    next: u64,
    /// The day of the entry before it, as far as the table of days notes it.
    own_day: Option<Date>,
}

impl Gathered {
    /// Takes an entry in the file of the day `file`.
    fn take(&mut self, file: Date, line: &StoredLine<'_>) {
        let own_day = match line.own {
            Some(own) => Some(own.day),
            None => line.belongs_to().filter(|&day| day != file),
        };
        if self.next < line.seq {
            self.doubt_own_days((self.next, line.seq - 1), own_day);
        }
        self.own_day = own_day;
        self.reach(line.seq - 1);
        self.next = line.seq + 1;
        let Tables { own_days, keys, related } = &mut self.tables;
        if let Some(key) = line.key {
            keys.insert(key, line.seq);
        }
        if let Some(day) = own_day {
            own_days.insert(line.seq, day);
        }
        if let Some(relation) = line.relation {
            related.insert(line.seq, relation);
        }
    }

    /// Everything up to `last` should have been read.
    fn reach(&mut self, last: u64) {
        if self.next <= last {
            self.tables.keys.doubt();
            self.next = last + 1;
        }
    }

    /// Entries are missing behind the one that was taken last. What is missing among entries that are about other
    /// days may be about those.
    fn doubt_own_days(&mut self, seqs: (u64, u64), day_behind: Option<Date>) {
        let days = [self.own_day, day_behind];
        if let (Some(from), Some(to)) = (days.iter().flatten().min(), days.iter().flatten().max()) {
            self.tables.own_days.doubt(seqs, *from, *to);
        }
    }

    fn finish(mut self, head: u64, uncached_bytes: u64) -> Derived {
        if self.next <= head {
            self.doubt_own_days((self.next, head), None);
        }
        self.reach(head);
        let Tables { own_days, keys, related } = self.tables;
        let seen = Some((own_days, related));
        Derived { keys, seen, seq: self.next - 1, uncached_bytes, cached_bytes: 0 }
    }

    /// Takes everything from `first` to the head; returns how many bytes it has.
    fn take_range(&mut self, reader: &Reader, first: u64) -> io::Result<u64> {
        let mut range = reader.from(first)?;
        let mut bytes = 0;
        let mut walker = Walker::new(range.first, reader.seal());
        while let Some(page) = reader.next_page(&mut range, PAGE_BYTES)? {
            bytes += page.len() as u64;
            let Some(file) = range.file() else { continue };
            walker.walk(&page, |step| match step {
                Step::Entry(line) => self.take(file, &line),
                // The next entry, or the end, tells how wide it is.
                Step::Gap(_) => {}
            });
        }
        Ok(bytes)
    }
}

/// Takes everything that was archived, in the order of its seqs. What cannot be read is missing.
fn take_archives(reader: &Reader, gathered: &mut Gathered) -> io::Result<()> {
    let (disk, _) = reader.disk();
    let mut files = Vec::new();
    for archive in reader.archives()? {
        for date in day_files(disk, &archive).unwrap_or_default() {
            let path = archive.join(name(date));
            let first = disk
                .open(&path, How::Read)
                .and_then(|file| first_entry_of(&*file, reader.seal(), 0..file.size()?));
            match first {
                Ok(Some(first)) => files.push((first.seq, date, path)),
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "{} cannot be read", path.display()),
            }
        }
    }
    files.sort_unstable();
    for (_, date, path) in files {
        let read = disk.open(&path, How::Read).and_then(|file| {
            for_each_line(&*file, file.size()?, |line| {
                if let Ok(line) = StoredLine::parse(line, reader.seal())
                    && line.seq >= gathered.next
                {
                    gathered.take(date, &line);
                }
            })
        });
        if let Err(error) = read {
            tracing::error!(%error, "{} cannot be read", path.display());
        }
    }
    Ok(())
}

/// What the cache holds, if there is one that fits the journal.
fn cached(reader: &Reader) -> io::Result<Option<(Place, Tables)>> {
    let (disk, dir) = reader.disk();
    let Some(cache) = Cache::open(disk, dir)? else { return Ok(None) };
    let place = match cache.place {
        Some(place) if fits(&place, reader)? => place,
        _ => {
            tracing::warn!("the cache does not fit the diary and is made again from the day files");
            return Ok(None);
        }
    };
    let Some(tables) = cache.tables(&place) else {
        tracing::warn!("the cache is damaged and is made again from the day files");
        return Ok(None);
    };
    Ok(Some((place, tables)))
}

/// Whether the journal has, at this place, the entry that the cache ends with.
fn fits(place: &Place, reader: &Reader) -> io::Result<bool> {
    let there = match reader.archived()? {
        Some(archived) if archived.seq == place.seq => Some(archived.crc),
        _ => reader.line(place.seq, |line| line.crc)?,
    };
    Ok(place.id == reader.id() && there == Some(place.crc))
}
