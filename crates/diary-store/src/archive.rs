//! Archiving: the day files go to `archive/<date>/`, and a fresh journal begins whose seqs follow the old
//! ones and whose keys stay known.
//!
//! It takes many steps, so what is to be done is written down first, in a file `archiving`. Whatever ends
//! it in the middle, the next start does the rest before anything else.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use diary_proto::entry::{is_note, parse_number};
use diary_proto::{Date, Time, seal};

use crate::day_file::{After, HEADER_MAX_BYTES, Header, date_of_name, name};
use crate::disk::{Disk, DiskFile, How, write_whole};
use crate::head::{self, Head};
use crate::read::Reader;
use crate::recover::{Doing, OpenError, Recovery, day_files, make_dir, open, sync_names};
use crate::verify::verify;

/// The folder of archives, beside the day files.
pub(crate) const ARCHIVE: &str = "archive";

const PLAN: &str = "archiving";
const PLAN_NEW: &str = "archiving.new";
const FRESH_NEW: &str = "fresh.new";

/// Longest plan.
const PLAN_MAX_BYTES: usize = 512;

/// What was archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archived {
    /// Where the day files are now.
    pub folder: PathBuf,
    /// The newest entry in there; the next one follows it.
    pub head: u64,
    /// How much is wrong with what is in there.
    pub findings: u64,
}

/// Archives the journal in `dir`; `None` if it has no entries. The archive is named by `today`, and a
/// second one that day `<date>.2`.
///
/// # Errors
/// [`OpenError`], also where a server has the journal.
pub fn archive(disk: &Arc<dyn Disk>, dir: &Path, today: Date) -> Result<Option<Archived>, OpenError> {
    Recovery::new(&**disk, dir).examine_something()?;
    let (appender, reader) = open(Arc::clone(disk), dir)?.with_derived().doing("read", dir)?;
    let head = reader.head();
    let first = reader.first().doing("read", dir)?;
    let Some(newest) = head.file.filter(|_| head.seq >= first) else { return Ok(None) };
    // With the lock held, so that nobody writes meanwhile.
    let findings = verify(Arc::clone(disk), dir, |_| {})?.findings;
    make_dir(&**disk, &dir.join(ARCHIVE))?;
    let plan = Plan {
        to: free_name(&**disk, &dir.join(ARCHIVE), today)?,
        date: today.max(newest),
        id: reader.id(),
        first,
        after: After { date: newest, seq: head.seq, crc: head.crc },
        time: head.time,
    };
    // The cache says which keys the archive has, so that nobody need read it.
    appender.stop_but_hold(|| {
        plan.write(&**disk, dir).doing("write the plan in", dir)?;
        carry_out(&**disk, dir)
    })?;
    Ok(Some(Archived { folder: dir.join(ARCHIVE).join(plan.to), head: head.seq, findings }))
}

/// `<date>`, or with `.2`, `.3`, … behind it.
fn free_name(disk: &dyn Disk, archive: &Path, today: Date) -> Result<String, OpenError> {
    let taken = disk.list(archive).doing("list", archive)?;
    let is_taken = |name: &str| taken.iter().any(|taken| taken.to_str() == Some(name));
    let later = (2..).map(|number: u64| format!("{today}.{number}"));
    let mut names = std::iter::once(today.to_string()).chain(later);
    Ok(names.find(|name| !is_taken(name)).expect("there is always another number"))
}

/// What is to be done.
struct Plan {
    /// The archive's folder.
    to: String,
    /// The fresh file's day.
    date: Date,
    id: u64,
    /// The first entry that is archived.
    first: u64,
    /// The end of what is archived.
    after: After,
    /// When that was committed, if it can be told: no later entry may seem older.
    time: Option<Time>,
}

impl Plan {
    fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let After { date, seq, crc } = self.after;
        let crc = seal::hex(crc);
        let mut line = format!(
            "archiving 1 to={} date={} id={:016x} first={} after={}:{seq}:{} time={}\t",
            self.to,
            self.date,
            self.id,
            self.first,
            name(date),
            std::str::from_utf8(&crc).expect("hex digits"),
            self.time_or_dash(),
        )
        .into_bytes();
        seal::seal(&mut line, 0);
        write_whole(disk, dir, PLAN_NEW, PLAN, &[&line])?;
        disk.sync_dir(dir)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (body, _) = seal::check(bytes.strip_suffix(b"\n")?)?;
        let mut fields =
            std::str::from_utf8(body).ok()?.strip_prefix("archiving 1 ")?.strip_suffix('\t')?.split(' ');
        let mut field = |name: &str| fields.next()?.strip_prefix(name);
        let to = field("to=")?.to_owned();
        let date = date_of_name(&format!("{}.log", field("date=")?))?;
        let id = u64::from_str_radix(field("id=")?, 16).ok()?;
        let first = parse_number(field("first=")?.as_bytes())?;
        let mut after = field("after=")?.split(':');
        let after = After {
            date: date_of_name(after.next()?)?,
            seq: parse_number(after.next()?.as_bytes())?,
            crc: seal::from_hex(after.next()?)?,
        };
        let time = Time::parse(field("time=")?.as_bytes());
        Some(Self { to, date, id, first, after, time })
    }

    fn time_or_dash(&self) -> String {
        self.time.map_or_else(|| "-".to_owned(), |time| time.to_string())
    }

    fn header(&self) -> Header {
        Header { date: self.date, id: self.id, first: self.after.seq + 1, after: Some(self.after) }
    }

    /// The fresh file: a header, and a note that what it follows is in the archive.
    fn fresh(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.header().write(&mut bytes);
        let start = bytes.len();
        let (first, last, time) = (self.first, self.after.seq, self.time_or_dash());
        let note = format!("# archived {first}..{last} until {time} in {ARCHIVE}/{}\t", self.to);
        bytes.extend_from_slice(note.as_bytes());
        seal::seal(&mut bytes, start);
        bytes
    }
}

/// What a day file's second line says, if it is the note that what the file follows is in an archive.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    /// When the newest archived entry was committed, if it can be told.
    pub(crate) time: Option<Time>,
    /// The line.
    pub(crate) line: Vec<u8>,
}

/// The note of a day file.
pub(crate) fn note_of(file: &dyn DiskFile) -> io::Result<Option<Note>> {
    let mut bytes = [0; 2 * HEADER_MAX_BYTES];
    let read = file.read_full_at(&mut bytes, 0)?;
    let line = bytes[..read].split(|&b| b == b'\n').nth(1).unwrap_or_default();
    if !line.starts_with(b"# archived ") || !is_note(line) {
        return Ok(None);
    }
    let time = line.split(|&b| b == b' ').skip_while(|word| *word != b"until").nth(1).and_then(Time::parse);
    Ok(Some(Note { time, line: line.to_vec() }))
}

/// Whether an archive was begun and not finished; the next start, or [`archive`], finishes it.
pub fn is_unfinished(disk: &dyn Disk, dir: &Path) -> bool {
    disk.open(&dir.join(PLAN), How::Read).is_ok()
}

/// Everything in the folder of archives.
pub(crate) fn folders(reader: &Reader) -> io::Result<Vec<PathBuf>> {
    let (disk, dir) = reader.disk();
    let archives = dir.join(ARCHIVE);
    match disk.list(&archives) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => Ok(names?.into_iter().map(|name| archives.join(name)).collect()),
    }
}

impl Reader {
    /// A reader of the archive that has the entry `seq`; `None` if it was not archived, or its archive is gone. An archive
    /// that cannot be read counts as gone.
    ///
    /// # Errors
    /// Those of reading the first day file, and of listing the folder of archives.
    pub fn archive_of(&self, seq: u64) -> io::Result<Option<Reader>> {
        if self.archived()?.is_none_or(|archived| archived.seq < seq) {
            return Ok(None);
        }
        let mut archives = folders(self)?.into_iter().filter_map(|folder| self.of_archive(folder).ok());
        Ok(archives.find(|archive| matches!(archive.entry(seq), Ok(Some(_)))))
    }
}

/// Does what a plan says, if there is one, from wherever it was left.
pub(crate) fn carry_out(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    let path = dir.join(PLAN);
    let file = match disk.open(&path, How::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.doing("open", &path)?,
    };
    let mut bytes = [0; PLAN_MAX_BYTES];
    let read = file.read_full_at(&mut bytes, 0).doing("read", &path)?;
    let Some(plan) = Plan::parse(&bytes[..read]) else {
        tracing::error!("the diary is damaged: the plan of an archive that was not finished cannot be read");
        return Ok(());
    };
    let to = dir.join(ARCHIVE).join(&plan.to);
    make_dir(disk, &to)?;
    // Whoever made it may have been killed before its name was durable.
    sync_names(disk, &to)?;
    // If the plan outlives what it planned, the fresh file is there already, and may hold entries.
    let mut begun = false;
    for date in day_files(disk, dir)? {
        let path = dir.join(name(date));
        let file = disk.open(&path, How::Read).doing("open", &path)?;
        if Header::read(&*file).doing("read", &path)? == Ok(plan.header()) {
            begun = true;
        } else {
            disk.rename(&path, &to.join(name(date))).doing("move", &path)?;
        }
    }
    disk.sync_dir(&to).doing("sync", &to)?;
    disk.sync_dir(dir).doing("sync", dir)?;

    if !begun {
        let (day, fresh) = (name(plan.date), plan.fresh());
        write_whole(disk, dir, FRESH_NEW, &day, &[&fresh]).doing("write", &dir.join(day))?;
        disk.sync_dir(dir).doing("sync", dir)?;
        let After { seq, crc, .. } = plan.after;
        let head = Head { seq, time: plan.time, crc, file: Some(plan.date), end: fresh.len() as u64 };
        head::write(disk, dir, &head).doing("write the head in", dir)?;
    }
    disk.remove(&path).doing("remove", &path)?;
    disk.sync_dir(dir).doing("sync", dir)
}
