//! The cache: what is derived from the day files, so that a start need not read them all.
//!
//! It holds the keys of all appends up to a place in the journal: one sealed line
//! `cache 1 id=ID seq=SEQ last=CRC length=BYTES table=CRC<TAB>crc`, and then the
//! table. What was appended behind that place is read from the day files. Without the file, or with one
//! that does not fit the journal, everything is read: the result is the same.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use diary_proto::entry::{StoredLine, parse_number};
use diary_proto::seal;

use crate::archive::ARCHIVE;
use crate::day_file::{first_entry_of, name};
use crate::disk::{Disk, How};
use crate::head::Head;
use crate::keys::KeyTable;
use crate::read::{Range, Reader};
use crate::recover::day_files;
use crate::scan::{for_each_line, scan};

const FILE: &str = "cache";
const FILE_NEW: &str = "cache.new";

/// Longest first line.
const LINE_MAX_BYTES: usize = 256;

/// Most bytes of a table that is worth reading: what [`KeyTable`] holds at the most, and then some.
const TABLE_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The cache is written again after so many bytes of entries. A start after a kill reads no more than
/// twice that, because the next one is begun only when this one is written.
pub(crate) const EVERY_BYTES: u64 = 16 * 1024 * 1024;

/// How much of the day files is read at once.
const PAGE_BYTES: usize = 256 * 1024;

/// What is to be written: a copy, so that whoever writes it holds up nobody.
#[derive(Debug)]
pub struct Snapshot {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    id: u64,
    head: Head,
    keys: KeyTable,
}

impl Snapshot {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, id: u64, head: Head, keys: KeyTable) -> Self {
        Self { disk, dir, id, head, keys }
    }

    /// Writes the cache: new file, fsync, rename, folder fsync.
    ///
    /// # Errors
    /// Those of writing a file. The journal is none the worse for it.
    pub fn write(self) -> io::Result<()> {
        if self.head.seq == 0 {
            return Ok(());
        }
        let mut table = Vec::new();
        self.keys.write(&mut table);
        let hex = |crc| String::from_utf8_lossy(&seal::hex(crc)).into_owned();
        let mut bytes = format!(
            "cache 1 id={:016x} seq={} last={} length={} table={}\t",
            self.id,
            self.head.seq,
            hex(self.head.crc),
            table.len(),
            hex(seal::crc(&table)),
        )
        .into_bytes();
        seal::seal(&mut bytes, 0);
        bytes.extend_from_slice(&table);
        let new = self.disk.open(&self.dir.join(FILE_NEW), How::Replace)?;
        new.write_all_at(&bytes, 0)?;
        new.sync_data()?;
        self.disk.rename(&self.dir.join(FILE_NEW), &self.dir.join(FILE))?;
        self.disk.sync_dir(&self.dir)
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
        if let Some((place, mut table)) = read(reader) {
            let mut range = reader.from(place.seq + 1)?;
            let uncached_bytes = insert_all(reader, &mut range, &mut table)?;
            return Ok(LoadedKeys { table, uncached_bytes });
        }
        let mut keys = KeyTable::default();
        read_archives(reader, &mut keys)?;
        scan(
            reader,
            |_, line, _| {
                if let Some(key) = line.key {
                    keys.insert(key, line.seq);
                }
            },
            |finding| tracing::error!("the diary is damaged: {finding}"),
        )?;
        // The next commit is reason enough to write a cache.
        Ok(LoadedKeys { table: keys, uncached_bytes: EVERY_BYTES })
    }
}

/// Adds the keys of everything that was archived, in the order of its seqs.
fn read_archives(reader: &Reader, keys: &mut KeyTable) -> io::Result<()> {
    let (disk, dir) = reader.disk();
    let archives = dir.join(ARCHIVE);
    let mut files = Vec::new();
    let names = match disk.list(&archives) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names?,
    };
    for archive in names {
        let archive = archives.join(archive);
        // Something else than a folder was not put there by an archive.
        for date in day_files(disk, &archive).unwrap_or_default() {
            let file = disk.open(&archive.join(name(date)), How::Read)?;
            let end = file.size()?;
            if let Some(first) = first_entry_of(&*file, end)? {
                files.push((first.seq, end, file));
            }
        }
    }
    files.sort_by_key(|(first, ..)| *first);
    for (_, end, file) in files {
        for_each_line(&*file, end, |line| {
            if let Ok(line) = StoredLine::parse(line)
                && let Some(key) = line.key
            {
                keys.insert(key, line.seq);
            }
        })?;
    }
    Ok(())
}

/// Adds the keys of a range; returns how many bytes it has.
fn insert_all(reader: &Reader, range: &mut Range, keys: &mut KeyTable) -> io::Result<u64> {
    let mut bytes = 0;
    let mut newest = range.first - 1;
    while let Some(page) = reader.next_page(range, PAGE_BYTES)? {
        bytes += page.len() as u64;
        for line in page.split(|&b| b == b'\n') {
            // As everywhere, a sound line counts only in the order of its seq.
            let Some(line) = StoredLine::parse(line).ok().filter(|line| line.seq > newest) else { continue };
            newest = line.seq;
            if let Some(key) = line.key {
                keys.insert(key, line.seq);
            }
        }
    }
    Ok(bytes)
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
    let mut line = [0; LINE_MAX_BYTES];
    let read = file.read_full_at(&mut line, 0).ok()?;
    let end = memchr::memchr(b'\n', &line[..read])?;
    let place = Place::parse(&line[..end]).filter(|place| place.fits(reader));
    let Some(place) = place else {
        tracing::warn!("the cache does not fit the diary and is made again from the day files");
        return None;
    };
    let mut table = vec![0; usize::try_from(place.length).ok()?];
    let read = file.read_full_at(&mut table, end as u64 + 1).ok()?;
    let keys = (read == table.len() && seal::crc(&table) == place.table).then(|| KeyTable::read(&table));
    if keys.is_none() {
        tracing::warn!("the cache is damaged and is made again from the day files");
    }
    Some((place, keys??))
}

impl Place {
    fn parse(line: &[u8]) -> Option<Self> {
        let (body, _) = seal::check(line)?;
        let mut fields =
            std::str::from_utf8(body).ok()?.strip_prefix("cache 1 ")?.strip_suffix('\t')?.split(' ');
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
