//! The cache: what is derived from the day files, so that a start need not read them all.
//!
//! It holds the keys of all appends up to a place in the journal: one sealed line
//! `cache 2 id=ID seq=SEQ last=CRC length=BYTES table=CRC<TAB>crc`, and then the
//! table. What was appended behind that place is read from the day files. Without the file, or with one
//! that does not fit the journal, everything is read: the result is the same.

use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use diary_proto::block::{Step, Walker};
use diary_proto::entry::{StoredLine, parse_number};
use diary_proto::seal;

use crate::archive;
use crate::day_file::{first_entry_of, name};
use crate::disk::{Disk, DiskFile, How, write_whole};
use crate::head::Head;
use crate::keys::KeyTable;
use crate::read::Reader;
use crate::recover::day_files;
use crate::scan::{for_each_line, scan};

const FILE: &str = "cache";
const FILE_NEW: &str = "cache.new";

/// Longest first line.
const LINE_MAX_BYTES: usize = 256;

/// Most bytes of a table that is worth reading: what [`KeyTable`] holds at the most, and then some.
const TABLE_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// A cache is begun after so many bytes of entries, and a batch: 12 MiB at the most. The next one is begun
/// only when this one is written, and whoever appends waits for that: so at the most 24 MiB lie behind the
/// newest whole one, and to load the keys after a kill reads less than 32 MiB, unless the cache could not be
/// written, of which the log tells.
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
    table: Vec<u8>,
}

impl Snapshot {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, id: u64, head: Head, keys: &KeyTable) -> Self {
        Self { disk, dir, id, head, table: keys.to_bytes() }
    }

    /// Writes the cache: new file, fsync, rename.
    ///
    /// # Errors
    /// Those of writing a file. The journal is none the worse for it.
    pub fn write(self) -> io::Result<()> {
        if self.head.seq == 0 {
            return Ok(());
        }
        let hex = |crc| String::from_utf8_lossy(&seal::hex(crc)).into_owned();
        let mut line = format!(
            "cache 2 id={:016x} seq={} last={} length={} table={}\t",
            self.id,
            self.head.seq,
            hex(self.head.crc),
            self.table.len(),
            hex(seal::crc(&self.table)),
        )
        .into_bytes();
        seal::seal(&mut line, 0);
        // Its name need not be durable: the cache before it is as good, and only takes longer.
        write_whole(&*self.disk, &self.dir, FILE_NEW, FILE, &[&line, &self.table])
    }
}

/// Loads the keys of a journal that has just been opened: the cache, and what is behind it in the day
/// files. It takes long only where there is no cache.
#[derive(Debug)]
pub struct KeyLoader {
    reader: Reader,
}

/// The keys of a journal, and how far they are from what the cache holds.
#[derive(Debug)]
pub struct LoadedKeys {
    pub(crate) table: KeyTable,
    pub(crate) uncached_bytes: u64,
}

impl LoadedKeys {
    /// Where they cannot be loaded: no retry can be judged.
    pub fn unknown() -> Self {
        Self { table: KeyTable::unknown(), uncached_bytes: 0 }
    }
}

impl KeyLoader {
    pub(crate) fn new(reader: Reader) -> Self {
        Self { reader }
    }

    /// Loads them.
    ///
    /// # Errors
    /// Those of reading day files.
    pub fn load(self) -> io::Result<LoadedKeys> {
        let reader = &self.reader;
        if let Some((place, table)) = read(reader) {
            let mut gathered = Gathered { table, next: place.seq + 1 };
            let uncached_bytes = gathered.take_range(reader, place.seq + 1)?;
            return Ok(LoadedKeys { table: gathered.finish(reader.head().seq), uncached_bytes });
        }
        let mut gathered = Gathered { table: KeyTable::default(), next: 1 };
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
        Ok(LoadedKeys { table: gathered.finish(reader.head().seq), uncached_bytes: EVERY_BYTES })
    }
}

/// Keys as they are read, entry by entry. Where entries are missing, the table knows that it does not know.
struct Gathered {
    table: KeyTable,
    /// The seq that should come next.
    next: u64,
}

impl Gathered {
    fn take(&mut self, line: &StoredLine<'_>) {
        self.reach(line.seq - 1);
        self.next = line.seq + 1;
        if let Some(key) = line.key {
            self.table.insert(key, line.seq);
        }
    }

    /// Everything up to `last` should have been read.
    fn reach(&mut self, last: u64) {
        if self.next <= last {
            self.table.doubt();
            self.next = last + 1;
        }
    }

    fn finish(mut self, head: u64) -> KeyTable {
        self.reach(head);
        self.table
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

/// The place in the journal up to which a cache holds the keys.
struct Place {
    id: u64,
    seq: u64,
    crc: u32,
    length: u64,
    table: u32,
}

/// The cache, if there is one that fits the journal.
fn read(reader: &Reader) -> Option<(Place, KeyTable)> {
    let file = reader.open_beside(FILE).ok()?;
    let place = Place::read(&*file).filter(|(place, _)| place.fits(reader));
    let Some((place, length)) = place else {
        tracing::warn!("the cache does not fit the diary and is made again from the day files");
        return None;
    };
    let table = Table { file: &*file, offset: length, left: place.length, crc: seal::crc(&[]) };
    let mut table = BufReader::with_capacity(PAGE_BYTES, table);
    let keys = KeyTable::read(&mut table);
    let table = table.into_inner();
    let keys = keys.ok().filter(|_| table.left == 0 && table.crc == place.table);
    if keys.is_none() {
        tracing::warn!("the cache is damaged and is made again from the day files");
    }
    Some((place, keys?))
}

/// A table's bytes in a cache, and the checksum of what has been read of them.
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
            std::str::from_utf8(body).ok()?.strip_prefix("cache 2 ")?.strip_suffix('\t')?.split(' ');
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
