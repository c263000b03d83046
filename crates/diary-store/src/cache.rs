//! The cache: what is derived from the day files, so that a start need not read them all.
//!
//! It holds, up to a place in the journal, the days of all entries with an own time and the keys of all
//! appends: one sealed line `cache 4 id=ID seq=SEQ last=CRC length=BYTES table=CRC<TAB>crc`, and then both
//! tables. What was appended behind that place is read from the day files. Without the file, or with one
//! that does not fit the journal, everything is read: the result is the same.

use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use diary_proto::Date;
use diary_proto::block::{Step, Walker};
use diary_proto::entry::{StoredLine, parse_number};
use diary_proto::seal;

use crate::archive;
use crate::day_file::{first_entry_of, name};
use crate::disk::{Disk, DiskFile, How, write_whole};
use crate::head::Head;
use crate::keys::KeyTable;
use crate::own_days::OwnDays;
use crate::read::Reader;
use crate::recover::day_files;
use crate::scan::{for_each_line, scan};

const FILE: &str = "cache";

/// Longest first line.
const LINE_MAX_BYTES: usize = 256;

/// Most bytes of tables that are worth reading: what they hold at the most, and then some.
const TABLE_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// A cache is begun after so many bytes of entries, or as many as the last one has, so that caches cost no more
/// than the entries do; and a batch: 12 MiB, or 34 MiB where the tables are as large as they may be. The next one
/// is begun only when this one is written, and whoever appends waits for that: so at the most twice as much lies
/// behind the newest whole one. To load it after a kill reads less than 32 MiB, or twice the cache's size and 8 MiB
/// and the cache itself, unless the cache could not be written, of which the log tells.
pub(crate) const EVERY_BYTES: u64 = 8 * 1024 * 1024;

/// How much of the day files is read at once.
const PAGE_BYTES: usize = 256 * 1024;

/// What is to be written: the table's bytes, so that whoever writes them holds up nobody.
#[derive(Debug)]
pub struct Snapshot {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    id: u64,
    head: Head,
    /// Its bytes are made when it is written: nobody waits for that.
    own_days: Arc<OwnDays>,
    /// The keys' bytes.
    keys: Vec<u8>,
}

impl Snapshot {
    /// How many bytes the tables have.
    pub(crate) fn bytes(&self) -> u64 {
        (self.keys.len() + self.own_days.written_bytes()) as u64
    }

    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        id: u64,
        head: Head,
        own_days: Arc<OwnDays>,
        keys: &KeyTable,
    ) -> Self {
        let mut bytes = Vec::new();
        keys.write(&mut bytes);
        Self { disk, dir, id, head, own_days, keys: bytes }
    }

    /// Writes the cache.
    ///
    /// # Errors
    /// Those of writing a file. The journal is none the worse for it.
    pub fn write(self) -> io::Result<()> {
        if self.head.seq == 0 {
            return Ok(());
        }
        let mut own_days = Vec::new();
        self.own_days.write(&mut own_days);
        let hex = |crc| String::from_utf8_lossy(&seal::hex(crc)).into_owned();
        let mut line = format!(
            "cache 4 id={:016x} seq={} last={} length={} table={}\t",
            self.id,
            self.head.seq,
            hex(self.head.crc),
            own_days.len() + self.keys.len(),
            hex(seal::crc_on(seal::crc(&own_days), &self.keys)),
        )
        .into_bytes();
        seal::seal(&mut line, 0);
        write_whole(&*self.disk, &self.dir, FILE, &[&line, &own_days, &self.keys])
    }
}

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
    pub(crate) own_days: OwnDays,
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
        Self { keys: KeyTable::unknown(), own_days, seq: head, uncached_bytes: 0, cached_bytes: 0 }
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
        if let Some((place, own_days, keys)) = read(reader) {
            let mut gathered = Gathered { keys, own_days, next: place.seq + 1, own_day: None };
            let uncached_bytes = gathered.take_range(reader, place.seq + 1)?;
            return Ok(Derived { cached_bytes: place.length, ..gathered.finish(head, uncached_bytes) });
        }
        let mut gathered =
            Gathered { keys: KeyTable::default(), own_days: OwnDays::default(), next: 1, own_day: None };
        take_archives(reader, &mut gathered)?;
        if let Some(archived) = reader.archived()? {
            gathered.reach(archived.seq);
        }
        scan(
            reader,
            |_, line, _| gathered.take(line),
            |finding| tracing::error!("the diary is damaged: {finding}"),
        )?;
        // The next commit is reason enough to write a cache.
        Ok(gathered.finish(head, EVERY_BYTES))
    }
}

/// What is derived, entry by entry. Where entries are missing, both tables know that they do not know.
struct Gathered {
    keys: KeyTable,
    own_days: OwnDays,
    /// The seq that should come next.
    next: u64,
    /// The day that the entry before it is about, if that is another than its file's.
    own_day: Option<Date>,
}

impl Gathered {
    fn take(&mut self, line: &StoredLine<'_>) {
        let own_day = line.own.map(|own| own.day);
        if self.next < line.seq {
            self.doubt_own_days((self.next, line.seq - 1), own_day);
        }
        self.own_day = own_day;
        self.reach(line.seq - 1);
        self.next = line.seq + 1;
        if let Some(key) = line.key {
            self.keys.insert(key, line.seq);
        }
        if let Some(own) = line.own {
            self.own_days.insert(line.seq, own.day);
        }
    }

    /// Everything up to `last` should have been read.
    fn reach(&mut self, last: u64) {
        if self.next <= last {
            self.keys.doubt();
            self.next = last + 1;
        }
    }

    /// Entries are missing behind the one that was taken last. What is missing among entries that are about other
    /// days may be about those.
    fn doubt_own_days(&mut self, seqs: (u64, u64), day_behind: Option<Date>) {
        let days = [self.own_day, day_behind];
        if let (Some(from), Some(to)) = (days.iter().flatten().min(), days.iter().flatten().max()) {
            self.own_days.doubt(seqs, *from, *to);
        }
    }

    fn finish(mut self, head: u64, uncached_bytes: u64) -> Derived {
        if self.next <= head {
            self.doubt_own_days((self.next, head), None);
        }
        self.reach(head);
        Derived {
            keys: self.keys,
            own_days: self.own_days,
            seq: self.next - 1,
            uncached_bytes,
            cached_bytes: 0,
        }
    }

    /// Takes everything from `first` to the head; returns how many bytes it has.
    fn take_range(&mut self, reader: &Reader, first: u64) -> io::Result<u64> {
        let mut range = reader.from(first)?;
        let mut bytes = 0;
        let mut walker = Walker::new(range.first);
        while let Some(page) = reader.next_page(&mut range, PAGE_BYTES)? {
            bytes += page.len() as u64;
            walker.walk(&page, |step| match step {
                Step::Entry(line) => self.take(&line),
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
    for archive in archive::folders(reader)? {
        for date in day_files(disk, &archive).unwrap_or_default() {
            let path = archive.join(name(date));
            let first = disk.open(&path, How::Read).and_then(|file| first_entry_of(&*file, file.size()?));
            match first {
                Ok(Some(first)) => files.push((first.seq, path)),
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "{} cannot be read", path.display()),
            }
        }
    }
    files.sort_unstable();
    for (_, path) in files {
        let read = disk.open(&path, How::Read).and_then(|file| {
            for_each_line(&*file, file.size()?, |line| {
                if let Ok(line) = StoredLine::parse(line)
                    && line.seq >= gathered.next
                {
                    gathered.take(&line);
                }
            })
        });
        if let Err(error) = read {
            tracing::error!(%error, "{} cannot be read", path.display());
        }
    }
    Ok(())
}

/// What a cache says of the journal that it was made for: its id and a committed seq. It is evidence too.
pub(crate) fn evidence(disk: &dyn Disk, dir: &Path) -> Option<(u64, u64)> {
    let file = disk.open(&dir.join(FILE), How::Read).ok()?;
    let (place, _) = Place::read(&*file)?;
    Some((place.id, place.seq))
}

/// The place in the journal that a cache reaches.
struct Place {
    id: u64,
    seq: u64,
    crc: u32,
    length: u64,
    table: u32,
}

/// The cache, if there is one that fits the journal.
fn read(reader: &Reader) -> Option<(Place, OwnDays, KeyTable)> {
    let file = reader.open_beside(FILE).ok().filter(|file| file.size().is_ok_and(|size| size > 0))?;
    let place = Place::read(&*file).filter(|(place, _)| place.fits(reader));
    let Some((place, length)) = place else {
        tracing::warn!("the cache does not fit the diary and is made again from the day files");
        return None;
    };
    let table = Table { file: &*file, offset: length, left: place.length, crc: seal::crc(&[]) };
    let mut table = BufReader::with_capacity(PAGE_BYTES, table);
    let both = OwnDays::read(&mut table).and_then(|own_days| Ok((own_days, KeyTable::read(&mut table)?)));
    let table = table.into_inner();
    let both = both.ok().filter(|_| table.left == 0 && table.crc == place.table);
    if both.is_none() {
        tracing::warn!("the cache is damaged and is made again from the day files");
    }
    let (own_days, keys) = both?;
    Some((place, own_days, keys))
}

/// The tables' bytes in a cache, and the checksum of what has been read of them.
struct Table<'a> {
    file: &'a dyn DiskFile,
    offset: u64,
    left: u64,
    crc: u32,
}

impl Read for Table<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let read = self.file.read_at(&mut into[..most], self.offset)?;
        self.crc = seal::crc_on(self.crc, &into[..read]);
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

impl Place {
    /// The first line of a cache, and its length.
    fn read(file: &dyn DiskFile) -> Option<(Self, u64)> {
        let mut line = [0; LINE_MAX_BYTES];
        let read = file.read_full_at(&mut line, 0).ok()?;
        let end = memchr::memchr(b'\n', &line[..read])?;
        Some((Self::parse(&line[..end])?, end as u64 + 1))
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let (body, _) = seal::check(line)?;
        let mut fields =
            std::str::from_utf8(body).ok()?.strip_prefix("cache 4 ")?.strip_suffix('\t')?.split(' ');
        let mut field = |name: &str| fields.next()?.strip_prefix(name);
        Some(Self {
            id: u64::from_str_radix(field("id=")?, 16).ok()?,
            seq: parse_number(field("seq=")?.as_bytes())?,
            crc: seal::from_hex(field("last=")?)?,
            length: parse_number(field("length=")?.as_bytes()).filter(|&length| length <= TABLE_MAX_BYTES)?,
            table: seal::from_hex(field("table=")?)?,
        })
    }

    /// Whether the journal has, at this place, the entry that the cache ends with.
    fn fits(&self, reader: &Reader) -> bool {
        let there = match reader.archived() {
            Ok(Some(archived)) if archived.seq == self.seq => Some(archived.crc),
            _ => reader.line(self.seq, |line| line.crc).ok().flatten(),
        };
        self.id == reader.id() && there == Some(self.crc)
    }
}
