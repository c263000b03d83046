//! The cache: what is derived from the day files, so that a start need not read them all.
//!
//! It holds, up to a place in the journal, the days of all entries with an own time, the keys of all appends, and which
//! entries belong to which earlier ones: one sealed line `cache 6 id=ID seq=SEQ last=CRC length=BYTES
//! table=CRC<TAB>crc`, and then the three tables. What was appended behind that place is read from the day files. Without the file, or with one
//! that does not fit the journal, everything is read: the result is the same.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use diary_proto::{Seal, seal};
use serde::{Deserialize, Serialize};

use super::keys::KeyTable;
use super::own_days::OwnDays;
use super::related::Related;
use crate::disk::{Disk, DiskFile, Doing, OpenError, open_if_there, write_whole};
use crate::format::head::Head;
use crate::format::sealed::{self, Fields};

pub(crate) const FILE: &str = "cache";

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

/// What is to be written: the table's bytes, so that whoever writes them holds up nobody.
#[derive(Debug)]
pub struct Snapshot {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    id: u64,
    head: Head,
    /// Its bytes are made when it is written: nobody waits for that.
    own_days: Arc<OwnDays>,
    /// The bytes of the others.
    keys: Vec<u8>,
    related: Vec<u8>,
}

/// The three tables.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tables {
    pub(crate) own_days: OwnDays,
    pub(crate) keys: KeyTable,
    pub(crate) related: Related,
}

impl Tables {
    /// Those that were read, if they are such that can be: what is read may be damaged.
    fn checked(self) -> Option<Self> {
        let Self { own_days, keys, related } = self;
        Some(Self { own_days: own_days.checked()?, keys: keys.checked()?, related: related.checked()? })
    }
}

impl Snapshot {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        id: u64,
        head: Head,
        own_days: Arc<OwnDays>,
        keys: &KeyTable,
        related: &Related,
    ) -> Self {
        Self { disk, dir, id, head, own_days, keys: encode(keys), related: encode(related) }
    }

    /// About how many bytes it has.
    pub(crate) fn bytes(&self) -> u64 {
        (self.keys.len() + self.related.len() + self.own_days.bytes()) as u64
    }

    /// Writes the cache.
    ///
    /// # Errors
    /// Those of writing a file. The journal is none the worse for it.
    pub fn write(self) -> io::Result<()> {
        if self.head.seq == 0 {
            return Ok(());
        }
        let own_days = encode(&*self.own_days);
        let tables = [&own_days, &self.keys, &self.related];
        let length: usize = tables.iter().map(|table| table.len()).sum();
        let table = tables[1..].iter().fold(seal::crc(&own_days), |crc, table| seal::crc_on(crc, table));
        let Head { seq, crc, .. } = self.head;
        let mut line = Vec::new();
        let id = self.id;
        sealed::write(
            &mut line,
            Seal::PLAIN,
            format_args!("cache 6 id={id:016x} seq={seq} last={crc:08x} length={length} table={table:08x}"),
        );
        write_whole(&*self.disk, &self.dir, FILE, &[&line, tables[0], tables[1], tables[2]])
    }
}

/// The place in the journal that a cache reaches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The journal's id.
    pub(crate) id: u64,
    /// The last entry that the tables know, and the checksum of its line. It was committed, so this is
    /// evidence too.
    pub(crate) seq: u64,
    pub(crate) crc: u32,
    /// The tables' bytes, and their checksum.
    pub(crate) length: u64,
    table: u32,
}

/// A cache that is there.
pub(crate) struct Cache {
    file: Box<dyn DiskFile>,
    /// What its first line says, if that is sound; the tables stand behind it.
    pub(crate) place: Option<Place>,
    tables_at: u64,
}

impl Cache {
    /// The one in this folder. An empty one is as good as none.
    ///
    /// # Errors
    /// Those of reading its first line, which is evidence.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, OpenError> {
        let (mut line, path) = ([0; LINE_MAX_BYTES], dir.join(FILE));
        let Some(file) = open_if_there(disk, &path)? else { return Ok(None) };
        let read = file.read_full_at(&mut line, 0).doing("read", &path)?;
        if read == 0 {
            return Ok(None);
        }
        let end = memchr::memchr(b'\n', &line[..read]);
        let place = end.and_then(|end| Place::parse(&line[..end]));
        Ok(Some(Self { file, place, tables_at: end.map_or(0, |end| end as u64 + 1) }))
    }

    /// The tables, unless they are damaged.
    pub(crate) fn tables(&self, place: &Place) -> Option<Tables> {
        let mut bytes = vec![0; usize::try_from(place.length).ok()?];
        let read = self.file.read_full_at(&mut bytes, self.tables_at).ok()?;
        (read == bytes.len() && seal::crc(&bytes) == place.table).then_some(())?;
        let (tables, rest) = postcard::take_from_bytes::<Tables>(&bytes).ok()?;
        tables.checked().filter(|_| rest.is_empty())
    }
}

/// A table's bytes: those of three, one behind the other, are those of [`Tables`].
fn encode(table: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(table).expect("tables have a length and are held in memory")
}

impl Place {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = Fields::of(line, "cache 6 ")?;
        Some(Self {
            id: fields.id()?,
            seq: fields.number("seq=")?,
            crc: fields.crc("last=")?,
            length: fields.number("length=").filter(|&length| length <= TABLE_MAX_BYTES)?,
            table: fields.crc("table=")?,
        })
    }
}
