//! Recovery: from a folder in any state to a journal that can go on.
//!
//! Only the newest day file can be torn, and only in its last batch, because a batch is not written
//! before the sync of the one before it returned. So start-up looks at the last batch's worth of bytes,
//! whatever the size of the journal. *Known committed* is every batch but the last on disk, and
//! everything up to the head that a clean stop wrote down. Damage behind that is a torn tail: it goes to
//! `quarantine/`, and the file is cut. Damage anywhere else is corruption: no existing byte is changed,
//! and the journal goes on behind it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use diary_proto::{Date, Seal, Time};

use crate::belong::{Folder, Survey, tell_strays};
use crate::disk::{Disk, DiskFile, Doing, How, OpenError, open_if_there, sync_names};
use crate::format::day_file::{Header, day_files, first_bytes, first_line, name};
use crate::format::head::{self, Evidence, Head};
use crate::format::lines::holds_committed_lines;
use crate::format::notes::archived_in;
use crate::format::stray::Stray;
use crate::format::tail::{Known, TAIL_MAX_BYTES, Tail};
use crate::quarantine;
use crate::tables::cache::Cache;
use crate::view::{Reader, Shared};

/// The file whose lock says that a server has this journal.
pub(crate) const LOCK: &str = "lock";

/// Looks at a journal, and brings it in order.
pub(crate) struct Recovery<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    /// The days of all names, whatever they lead to.
    named: Vec<Date>,
    evidence: Option<Evidence>,
    /// The id and a committed seq of the journal that the cache was made for.
    cached: Option<(u64, u64)>,
}

pub(crate) struct Recovered {
    pub(crate) examined: Examined,
    /// The newest day's file.
    pub(crate) file: Option<Box<dyn DiskFile>>,
    pub(crate) line_feed_first: bool,
}

/// What a journal's end looks like; nothing has been changed.
pub(crate) struct Examined {
    /// The days that have a file, without those whose file is an unfinished first batch.
    pub(crate) days: Vec<Date>,
    /// How far files belong that go on with the seqs of the next one.
    pub(crate) ends: BTreeMap<Date, u64>,
    /// What has a day file's name and does not belong to the journal.
    pub(crate) strays: Vec<(Date, Stray)>,
    /// Files that hold nothing but an unfinished first batch, and their lengths.
    pub(crate) unfinished: Vec<(Date, u64)>,
    /// The newest of the days.
    newest: Option<Newest>,
    /// Where the journal ends once what is unfinished is set aside.
    pub(crate) head: Head,
    pub(crate) id: Option<u64>,
    /// Whether there is a head that an earlier start or stop wrote down.
    pub(crate) has_evidence: bool,
    /// A clean stop left the journal like this.
    pub(crate) is_clean: bool,
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

/// What is known of a journal before its files are read.
#[derive(Clone, Copy)]
struct Facts {
    id: Option<u64>,
    /// What an earlier start or stop wrote down.
    evidence: Option<Evidence>,
    /// Entries up to this one are known to have been committed: by the head and the cache.
    evident_seq: u64,
    /// The same, and by lines in strays.
    known_seq: u64,
}

impl Facts {
    /// Where no id is known, no line can be told from damage.
    fn seal(&self) -> Seal {
        Seal::of_journal(self.id.unwrap_or_default())
    }
}

impl Examined {
    /// The unfinished last batch: its file, where it begins, and the file's length.
    pub(crate) fn torn(&self) -> Option<(Date, u64, u64)> {
        let newest = self.newest.as_ref()?;
        newest.tail.torn.map(|at| (newest.date, at, newest.len))
    }

    fn tell_damage(&self, newest: &Newest) {
        let name = name(newest.date);
        if newest.header.is_none() {
            tracing::error!("the diary is damaged: {name} has no sound header");
        }
        if self.known_seq > newest.last_seq() {
            tracing::error!(
                "the diary is damaged: there were entries up to {}, and {name} ends with {}; the next \
                 entry is {}",
                self.known_seq,
                newest.last_seq(),
                self.head.seq + 1
            );
        }
    }

    /// A reader of the journal, which nobody writes.
    pub(crate) fn reader(&self, disk: Arc<dyn Disk>, dir: &Path) -> Reader {
        let (days, ends) = (self.days.clone(), self.ends.clone());
        let id = self.id.unwrap_or_default();
        Reader::new(Arc::new(Shared::new(disk, dir.to_owned(), id, days, ends, self.head)))
    }
}

impl<'a> Recovery<'a> {
    /// # Errors
    /// Those of listing the folder, and of reading the small files.
    pub(crate) fn new(disk: &'a dyn Disk, dir: &'a Path) -> Result<Self, OpenError> {
        let named = match day_files(disk, dir) {
            Err(OpenError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::Nothing(dir.to_owned()));
            }
            named => named?,
        };
        Ok(Self {
            disk,
            dir,
            named,
            evidence: head::read(disk, dir)?,
            cached: Cache::open(disk, dir)?.and_then(|cache| cache.place).map(|place| (place.id, place.seq)),
        })
    }

    /// The same as [`survey`](Self::survey), for a folder that should hold a journal.
    pub(crate) fn survey_something(&self) -> Result<Examined, OpenError> {
        let something = !self.named.is_empty() || self.evidence.is_some() || self.cached.is_some();
        // A server that has been here, if only once, leaves this.
        if !something && open_if_there(self.disk, &self.dir.join(LOCK))?.is_none() {
            return Err(OpenError::Nothing(self.dir.to_owned()));
        }
        self.survey()
    }

    /// Looks at every file, and changes nothing.
    pub(crate) fn survey(&self) -> Result<Examined, OpenError> {
        let folder = Folder {
            disk: self.disk,
            dir: self.dir,
            evidence: self.evidence,
            cached: self.cached.map(|(id, _)| id),
        };
        let mut survey = folder.survey(&self.named)?;
        let id = survey.id;
        let evidence = self.evidence.filter(|evidence| Some(evidence.id) == id);
        if evidence.is_none() && self.cached.is_none() && survey.days.is_empty() {
            self.refuse_without_id(&survey)?;
        }
        let facts = self.facts(id, survey.last_seq);
        let mut unfinished = Vec::new();
        let newest = self.find_newest(&mut survey, &mut unfinished, &facts)?;
        let head = match &newest {
            Some(newest) => Self::head_of(newest, facts.known_seq),
            None => Head { seq: facts.known_seq, ..Head::EMPTY },
        };
        let is_clean = unfinished.is_empty()
            && newest.as_ref().zip(facts.evidence).is_some_and(|(newest, found)| found.is_of(newest, &head));
        Ok(Examined {
            days: survey.days,
            ends: survey.ends,
            strays: survey.strays,
            unfinished,
            newest,
            head,
            id,
            has_evidence: facts.evidence.is_some(),
            is_clean,
            known_seq: facts.known_seq,
        })
    }

    /// A file with committed entries of which no line is valid: the id is not the journal's. To go on would give its seqs
    /// out again.
    fn refuse_without_id(&self, survey: &Survey) -> Result<(), OpenError> {
        for &(date, _) in survey.strays.iter().filter(|(_, stray)| *stray == Stray::NoLine) {
            let path = self.dir.join(name(date));
            let file = self.disk.open(&path, How::Read).doing("open", &path)?;
            if holds_committed_lines(&*file).doing("read", &path)? {
                return Err(OpenError::NoId(path));
            }
        }
        Ok(())
    }

    /// The newest of the days. Files that hold nothing but an unfinished first batch go from the survey to those.
    fn find_newest(
        &self,
        survey: &mut Survey,
        unfinished: &mut Vec<(Date, u64)>,
        facts: &Facts,
    ) -> Result<Option<Newest>, OpenError> {
        // Whether the journal had a later file: then all of this one is committed.
        let mut later = false;
        while let Some(date) = survey.days.last().max(survey.maybe_unfinished.last()).copied() {
            later |= facts.evidence.is_some_and(|evidence| evidence.file > Some(date));
            let candidate = self.look_at(date, later, facts)?;
            let belongs = survey.days.last() == Some(&date);
            if candidate.is_unfinished_whole(facts.evidence) && !self.is_known(date, &survey.days, facts)? {
                // With lines of the journal: a file is begun once the one before it is committed.
                later |= belongs;
                unfinished.push((date, candidate.len));
                survey.strays.retain(|(stray, _)| *stray != date);
                survey.days.retain(|day| *day != date);
            } else if belongs {
                return Ok(Some(candidate));
            }
            survey.maybe_unfinished.retain(|day| *day != date);
        }
        Ok(None)
    }

    fn facts(&self, id: Option<u64>, last_stray_seq: u64) -> Facts {
        let evidence = self.evidence.filter(|evidence| Some(evidence.id) == id);
        let cached = self.cached.filter(|(cached, _)| id.is_none_or(|id| id == *cached));
        let evident_seq = evidence.map_or(0, |evidence| evidence.seq).max(cached.map_or(0, |(_, seq)| seq));
        Facts { id, evidence, evident_seq, known_seq: evident_seq.max(last_stray_seq) }
    }

    /// Whether a file of which nothing is sound holds entries that are known to have been committed, as no
    /// earlier file does.
    fn is_known(&self, date: Date, days: &[Date], facts: &Facts) -> Result<bool, OpenError> {
        let before = match days.iter().rev().find(|&&before| before < date) {
            Some(&before) => self.look_at(before, true, facts)?.last_seq(),
            None => 0,
        };
        Ok(facts.evident_seq > before)
    }

    /// Looks, and brings the journal's end in order.
    pub(crate) fn run(&self) -> Result<Recovered, OpenError> {
        let examined = self.survey()?;
        tell_strays(&examined.strays);
        let seal = Seal::of_journal(examined.id.unwrap_or_default());
        for &(date, len) in &examined.unfinished {
            self.quarantine_whole(seal, date, len)?;
        }
        let Some(newest) = &examined.newest else {
            if examined.head.seq > 0 {
                tracing::error!(
                    "the diary is damaged: no day file is left, but there were entries up to {}",
                    examined.head.seq
                );
            }
            sync_names(self.disk, self.dir)?;
            return Ok(Recovered { examined, file: None, line_feed_first: false });
        };
        examined.tell_damage(newest);
        let file = self.disk.open(&newest.path, How::Write).doing("open", &newest.path)?;
        if let Some(at) = newest.tail.torn {
            quarantine::keep_tail(self.disk, self.dir, seal, &*file, newest.date, at..newest.len)?;
            file.set_len(at).doing("cut", &newest.path)?;
        }
        let end = examined.head.end;
        if !examined.is_clean {
            self.make_durable(&*file, &newest.tail, end).doing("write and sync", &newest.path)?;
            sync_names(self.disk, self.dir)?;
        }
        let line_feed_first = !ends_in_line_feed(&*file, end).doing("read", &newest.path)?;
        Ok(Recovered { examined, file: Some(file), line_feed_first })
    }

    /// The end of one day's file; `whole`: all of it is known to be committed.
    fn look_at(&self, date: Date, whole: bool, facts: &Facts) -> Result<Newest, OpenError> {
        let path = self.dir.join(name(date));
        let file = self.disk.open(&path, How::Read).doing("open", &path)?;
        let len = file.size().doing("look at", &path)?;
        let first = first_bytes(&*file).doing("read", &path)?;
        // A file of another journal says nothing of this one.
        let header = Header::parse(first_line(&first)).ok().filter(|header| Some(header.id) == facts.id);
        let evidence = facts.evidence.filter(|evidence| evidence.file == Some(date));
        let evident = evidence.map_or(0, |evidence| evidence.end);
        let committed = if whole { len } else { evident };
        let known = Known { committed, evident, seq: facts.known_seq };
        let seal = facts.seal();
        let tail = Tail::read(&*file, len, known, header, seal).doing("read", &path)?;
        let archived_at = archived_in(&first, seal).and_then(|archived| archived.time);
        Ok(Newest { date, path, len, header, archived_at, tail })
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

    fn quarantine_whole(&self, seal: Seal, date: Date, len: u64) -> Result<(), OpenError> {
        let path = self.dir.join(name(date));
        if len > 0 {
            let file = self.disk.open(&path, How::Read).doing("open", &path)?;
            quarantine::keep_tail(self.disk, self.dir, seal, &*file, date, 0..len)?;
        }
        self.disk.remove(&path).doing("remove", &path)?;
        self.disk.sync_dir(self.dir).doing("sync", self.dir)
    }
}

/// Whether what is before `end` ends in a line feed; so does nothing.
fn ends_in_line_feed(file: &dyn DiskFile, end: u64) -> io::Result<bool> {
    let Some(last) = end.checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    file.read_full_at(&mut byte, last)?;
    Ok(byte == *b"\n")
}

impl Evidence {
    /// Whether it is of this file, which has not changed since.
    fn is_of(&self, newest: &Newest, head: &Head) -> bool {
        newest.tail.torn.is_none()
            && (self.file, self.end, self.seq, self.crc)
                == (Some(newest.date), newest.len, head.seq, head.crc)
    }
}

impl Newest {
    /// Whether it holds nothing but a first batch that was not finished.
    fn is_unfinished_whole(&self, evidence: Option<Evidence>) -> bool {
        let committed = evidence.is_some_and(|evidence| evidence.file == Some(self.date) && evidence.end > 0);
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
