//! Recovery: from a folder in any state to a journal that can go on.
//!
//! Only the newest day file can be torn, and only in its last batch, because a batch is not written
//! before the sync of the one before it returned. So start-up looks at the last batch's worth of bytes,
//! whatever the size of the journal. *Known committed* is every batch but the last on disk, and
//! everything up to the head that a clean stop wrote down. Damage behind that is a torn tail: it goes to
//! `quarantine/`, and the file is cut. Damage anywhere else is corruption: no existing byte is changed,
//! and the journal goes on behind it.

use std::io;
use std::path::{Path, PathBuf};

use diary_proto::entry::StoredLine;
use diary_proto::seal::id_in_header;
use diary_proto::{Date, Seal, Time};

use crate::disk::{Disk, DiskFile, Doing, How, NotOurs, OpenError, make_inner_dir, sync_names};
use crate::format::day_file::{BadHeader, HEADER_MAX_BYTES, Header, day_files, name};
use crate::format::head::{self, Evidence, Head};
use crate::format::notes::archived_in;
use crate::format::tail::{Known, TAIL_MAX_BYTES, Tail};
use crate::tables::cache::Cache;

/// The folder for torn tails, beside the day files.
const QUARANTINE: &str = "quarantine";

/// The file whose lock says that a server has this journal.
pub(crate) const LOCK: &str = "lock";

/// Looks at a journal, and brings it in order.
pub(crate) struct Recovery<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    evidence: Option<Evidence>,
    /// The id and a committed seq of the journal that the cache was made for.
    cached: Option<(u64, u64)>,
    days: Vec<Date>,
    id: Option<u64>,
    seal: Seal,
}

pub(crate) struct Recovered {
    pub(crate) days: Vec<Date>,
    pub(crate) head: Head,
    pub(crate) id: Option<u64>,
    pub(crate) file: Option<Box<dyn DiskFile>>,
    pub(crate) line_feed_first: bool,
}

/// What a journal's end looks like; nothing has been changed.
pub(crate) struct Examined {
    /// The days that have a file, without those whose file is an unfinished first batch.
    pub(crate) days: Vec<Date>,
    /// Files that hold nothing but an unfinished first batch, and their lengths.
    pub(crate) unfinished: Vec<(Date, u64)>,
    /// The newest of the days.
    newest: Option<Newest>,
    /// Where the journal ends once what is unfinished is set aside.
    pub(crate) head: Head,
    pub(crate) id: Option<u64>,
    /// What an earlier clean stop wrote down.
    evidence: Option<Evidence>,
    /// Entries up to this one are known to have been committed.
    pub(crate) known_seq: u64,
}

struct Newest {
    date: Date,
    path: PathBuf,
    len: u64,
    header: Option<Header>,
    /// The end of the archive that it follows, if that is all that is known of the time.
    archived_at: Option<Time>,
    tail: Tail,
}

impl Examined {
    /// The unfinished last batch: its file, where it begins, and the file's length.
    pub(crate) fn torn(&self) -> Option<(Date, u64, u64)> {
        let newest = self.newest.as_ref()?;
        newest.tail.torn.map(|at| (newest.date, at, newest.len))
    }

    /// Whether a clean stop left the journal like this.
    fn is_clean(&self, newest: &Newest) -> bool {
        let evidence = self.evidence.filter(|evidence| evidence.file == newest.date);
        self.unfinished.is_empty()
            && newest.tail.torn.is_none()
            && evidence.is_some_and(|e| (e.end, e.seq, e.crc) == (newest.len, self.head.seq, self.head.crc))
    }
}

impl<'a> Recovery<'a> {
    /// # Errors
    /// Those of listing the folder.
    pub(crate) fn new(disk: &'a dyn Disk, dir: &'a Path) -> Result<Self, OpenError> {
        let evidence = head::read(disk, dir);
        let cached = Cache::open(disk, dir).and_then(|cache| cache.place).map(|place| (place.id, place.seq));
        let days = day_files(disk, dir)?;
        let id = id_of(disk, dir, &days, cached.map(|(id, _)| id));
        // Where no id is known, no line can be told from damage.
        let seal = Seal::of_journal(id.unwrap_or_default());
        Ok(Self { disk, dir, evidence, cached, days, id, seal })
    }

    /// The same as [`examine`](Self::examine), for a folder that should hold a journal.
    pub(crate) fn examine_something(&self) -> Result<Examined, OpenError> {
        let examined = self.examine()?;
        let something =
            !examined.days.is_empty() || !examined.unfinished.is_empty() || examined.known_seq > 0;
        // A server that has been here, if only once, leaves this.
        if !something && self.disk.open(&self.dir.join(LOCK), How::Read).is_err() {
            return Err(OpenError::Nothing(self.dir.to_owned()));
        }
        Ok(examined)
    }

    /// Looks, and changes nothing.
    pub(crate) fn examine(&self) -> Result<Examined, OpenError> {
        let mut days = self.days.clone();
        let mut unfinished = Vec::new();
        let mut newest = None;
        while let Some(&date) = days.last() {
            // Once a file behind it was begun, a file is committed as a whole.
            let whole = !unfinished.is_empty() || self.evidence.is_some_and(|evidence| evidence.file > date);
            let candidate = self.look_at(date, whole)?;
            if !candidate.is_unfinished_whole(self.evidence) || self.is_known(date, &days)? {
                newest = Some(candidate);
                break;
            }
            unfinished.push((date, candidate.len));
            days.pop();
        }
        let known_seq = self.known_seq(newest.as_ref().and_then(|newest| newest.header));
        let head = match &newest {
            Some(newest) => Self::head_of(newest, known_seq),
            None => Head { seq: known_seq, ..Head::EMPTY },
        };
        Ok(Examined { days, unfinished, newest, head, id: self.id, evidence: self.evidence, known_seq })
    }

    /// Entries up to this one are known to have been committed, in the journal with this header.
    fn known_seq(&self, header: Option<Header>) -> u64 {
        let cached = self.cached.filter(|(id, _)| header.is_none_or(|header| header.id == *id));
        self.evidence.map_or(0, |evidence| evidence.seq).max(cached.map_or(0, |(_, seq)| seq))
    }

    /// Whether a file of which nothing is sound holds entries that are known to have been committed, as no
    /// earlier file does.
    fn is_known(&self, date: Date, days: &[Date]) -> Result<bool, OpenError> {
        let before = match days.iter().rev().find(|&&before| before < date) {
            Some(&before) => {
                let before = self.look_at(before, true)?;
                (before.last_seq(), before.header)
            }
            None => (0, None),
        };
        Ok(self.known_seq(before.1) > before.0)
    }

    /// Looks, and brings the journal's end in order.
    pub(crate) fn run(&self) -> Result<Recovered, OpenError> {
        let examined = self.examine()?;
        for &(date, len) in &examined.unfinished {
            self.quarantine_whole(date, len)?;
        }
        let Some(newest) = &examined.newest else {
            if examined.head.seq > 0 {
                tracing::error!(
                    "the diary is damaged: no day file is left, but there were entries up to {}",
                    examined.head.seq
                );
            }
            sync_names(self.disk, self.dir)?;
            let Examined { days, head, id, .. } = examined;
            return Ok(Recovered { days, head, id, file: None, line_feed_first: false });
        };
        self.tell_damage(newest, &examined.head);
        let file = self.disk.open(&newest.path, How::Write).doing("open", &newest.path)?;
        if let Some(at) = newest.tail.torn {
            self.quarantine(&*file, newest.date, at, newest.len)?;
            file.set_len(at).doing("cut", &newest.path)?;
        }
        let end = examined.head.end;
        if !examined.is_clean(newest) {
            self.make_durable(&*file, &newest.tail, end).doing("write and sync", &newest.path)?;
            sync_names(self.disk, self.dir)?;
        }
        let line_feed_first = !ends_in_line_feed(&*file, end).doing("read", &newest.path)?;
        let Examined { days, head, id, .. } = examined;
        Ok(Recovered { days, head, id, file: Some(file), line_feed_first })
    }

    /// The end of one day's file; `whole`: all of it is known to be committed.
    fn look_at(&self, date: Date, whole: bool) -> Result<Newest, OpenError> {
        let path = self.dir.join(name(date));
        let file = self.disk.open(&path, How::Read).doing("open", &path)?;
        let len = file.size().doing("look at", &path)?;
        let header = match Header::read(&*file).doing("read", &path)? {
            Err(BadHeader::Newer(format)) => return Err(OpenError::Newer(path, format)),
            Err(BadHeader::Unsound) => None,
            // A file of another journal says nothing of this one.
            Ok(header) => Some(header).filter(|header| Some(header.id) == self.id),
        };
        let evident =
            self.evidence.filter(|evidence| evidence.file == date).map_or(0, |evidence| evidence.end);
        let committed = if whole { len } else { evident };
        let known = Known { committed, evident, seq: self.known_seq(header) };
        let tail = Tail::read(&*file, len, known, header, self.seal).doing("read", &path)?;
        let archived_at =
            archived_in(&*file, self.seal).doing("read", &path)?.and_then(|archived| archived.time);
        Ok(Newest { date, path, len, header, archived_at, tail })
    }

    fn tell_damage(&self, newest: &Newest, head: &Head) {
        let name = name(newest.date);
        if newest.header.is_none() {
            tracing::error!("the diary is damaged: {name} has no sound header");
        }
        let known = self.known_seq(newest.header);
        if known > newest.last_seq() {
            tracing::error!(
                "the diary is damaged: there were entries up to {known}, and {name} ends with {}; the next \
                 entry is {}",
                newest.last_seq(),
                head.seq + 1
            );
        }
    }

    /// Where the journal ends, and which seqs may never be given out again.
    fn head_of(newest: &Newest, known_seq: u64) -> Head {
        let Newest { date, len, header, tail, .. } = newest;
        let seq = newest.last_seq().max(known_seq);
        let time = tail.last.and_then(|last| last.time).or(newest.archived_at);
        let crc = match (tail.last, header.and_then(|header| header.after)) {
            (Some(last), _) => last.crc,
            (None, Some(after)) => after.crc,
            (None, None) => 0,
        };
        Head { seq, time, crc, file: Some(*date), end: tail.torn.unwrap_or(*len) }
    }

    /// The page cache and the folder may hold what the disk does not, and a page that failed to sync
    /// counts as clean: so the last batch is written again, and file and folder are synced.
    fn make_durable(&self, file: &dyn DiskFile, tail: &Tail, end: u64) -> io::Result<()> {
        if tail.last_batch_at < end {
            let mut bytes = vec![0; usize::try_from(end - tail.last_batch_at).unwrap_or(usize::MAX)];
            let read = file.read_full_at(&mut bytes, tail.last_batch_at)?;
            file.write_all_at(&bytes[..read], tail.last_batch_at)?;
        }
        file.sync_data()?;
        self.disk.sync_dir(self.dir)
    }

    fn quarantine_whole(&self, date: Date, len: u64) -> Result<(), OpenError> {
        let path = self.dir.join(name(date));
        if len > 0 {
            let file = self.disk.open(&path, How::Read).doing("open", &path)?;
            self.quarantine(&*file, date, 0, len)?;
        }
        self.disk.remove(&path).doing("remove", &path)?;
        self.disk.sync_dir(self.dir).doing("sync", self.dir)
    }

    /// Copies what lies from `at` on, and makes the copy durable.
    fn quarantine(&self, file: &dyn DiskFile, date: Date, at: u64, len: u64) -> Result<(), OpenError> {
        let dir = self.dir.join(QUARANTINE);
        make_inner_dir(self.disk, &dir)?;
        sync_names(self.disk, &dir)?;
        let mut bytes = vec![0; usize::try_from(len - at).unwrap_or(usize::MAX)];
        let read = file.read_full_at(&mut bytes, at).doing("read", &self.dir.join(name(date)))?;
        bytes.truncate(read);
        let path = self.write_quarantine(&dir, &format!("{}.{at}", name(date)), &bytes)?;
        self.disk.sync_dir(&dir).doing("sync", &dir)?;
        tracing::warn!(
            "the last batch was not finished when the server stopped, or when this copy was made: {read} \
             bytes from byte {at} of {} are now in {}{}",
            name(date),
            path.display(),
            self.describe_seqs(&bytes)
        );
        Ok(())
    }

    fn describe_seqs(&self, bytes: &[u8]) -> String {
        let lines = bytes.split(|&b| b == b'\n');
        let mut seqs = lines.filter_map(|line| Some(StoredLine::parse(line, self.seal).ok()?.seq));
        match seqs.next() {
            Some(first) => {
                format!(" (sound lines in it: seqs {first} to {})", seqs.next_back().unwrap_or(first))
            }
            None => String::new(),
        }
    }

    /// Writes under `base`, or with `.2`, `.3`, … behind it where something else has that name. What an
    /// interrupted recovery left there is written again.
    fn write_quarantine(&self, dir: &Path, base: &str, bytes: &[u8]) -> Result<PathBuf, OpenError> {
        let mut number = 1;
        loop {
            let path = dir.join(if number == 1 { base.to_owned() } else { format!("{base}.{number}") });
            let file = match self.disk.open(&path, How::CreateNew) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let file = match self.disk.open(&path, How::Overwrite) {
                        Err(error) if NotOurs::is(&error) => {
                            number += 1;
                            continue;
                        }
                        file => file.doing("open", &path)?,
                    };
                    let mut old = vec![0; bytes.len() + 1];
                    let read = file.read_full_at(&mut old, 0).doing("read", &path)?;
                    if !bytes.starts_with(&old[..read]) {
                        number += 1;
                        continue;
                    }
                    file
                }
                Err(error) => return Err(error).doing("make", &path),
            };
            file.write_all_at(bytes, 0).doing("write", &path)?;
            file.sync_data().doing("sync", &path)?;
            return Ok(path);
        }
    }
}

/// Whether what is before `end` ends in a line feed; so does nothing.
fn ends_in_line_feed(file: &dyn DiskFile, end: u64) -> io::Result<bool> {
    let Some(last) = end.checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    file.read_full_at(&mut byte, last)?;
    Ok(byte == *b"\n")
}

/// The journal's id: as its newest sound header says, unless the oldest one and the cache agree on another. So a file of
/// another journal that lies there does not make all others invalid. Without a sound header or a cache, what is left of
/// the newest file's header has to do.
fn id_of(disk: &dyn Disk, dir: &Path, days: &[Date], cached: Option<u64>) -> Option<u64> {
    let open = |&date: &Date| disk.open(&dir.join(name(date)), How::Read).ok();
    let in_header = |date: &Date| Some(Header::read(&*open(date)?).ok()?.ok()?.id);
    let oldest = days.iter().find_map(in_header);
    let newest = days.iter().rev().find_map(in_header);
    oldest.filter(|_| oldest == cached).or(newest).or(cached).or_else(|| {
        let mut bytes = [0; HEADER_MAX_BYTES];
        let read = open(days.last()?)?.read_full_at(&mut bytes, 0).ok()?;
        id_in_header(bytes[..read].split(|&b| b == b'\n').next()?)
    })
}

impl Newest {
    /// Whether it holds nothing but a first batch that was not finished.
    fn is_unfinished_whole(&self, evidence: Option<Evidence>) -> bool {
        let committed = evidence.is_some_and(|evidence| evidence.file == self.date && evidence.end > 0);
        self.header.is_none()
            && !committed
            && !self.tail.whole
            && self.tail.batches < 2
            && self.len <= TAIL_MAX_BYTES
    }

    /// The highest seq that it may have held.
    fn last_seq(&self) -> u64 {
        let before = self.header.map_or(0, |header| header.first - 1);
        self.tail.last.map_or(before, |last| last.seq).max(self.tail.max_seq) + self.tail.lost_at_end
    }
}
