//! In which order things happen: written, synced, and only then known to anybody.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use diary_proto::entry::StoredLine;
use diary_proto::{Author, Time};
use diary_store::disk::{Disk, DiskFile, How};
use diary_store::sim::{Call, Fault, SimDisk, Survives};
use diary_store::{Appender, CommitError, Committed, NewEntry, Reader, Staged, open};

const DIR: &str = "/data/diary";
const NOON: Time = Time { micros: 1_795_168_800_000_000, offset_minutes: 0 };
const NEXT_DAY: Time = Time { micros: NOON.micros + 24 * 60 * 60 * 1_000_000, offset_minutes: 0 };

fn start(disk: impl Disk + 'static) -> (Appender, Reader) {
    open(Arc::new(disk), Path::new(DIR)).unwrap().with_derived().unwrap()
}

fn append(appender: &mut Appender, now: Time, texts: &[&str]) -> Result<Committed, CommitError> {
    let author = Author::new("anna").unwrap();
    for text in texts {
        let staged =
            appender.stage(now, NewEntry { author: &author, text, key: None, at: None, relation: None });
        assert!(matches!(staged, Staged::New(_)), "{staged:?}");
    }
    appender.commit(now)
}

/// The calls from number `from` on that change something or make it durable.
fn changes(disk: &SimDisk, from: u64) -> Vec<Call> {
    let log = disk.call_log().split_off(usize::try_from(from).unwrap());
    log.into_iter()
        .filter(|call| !matches!(call, Call::Read | Call::Size | Call::List | Call::Open))
        .collect()
}

#[test]
fn a_batch_is_one_write_and_one_sync_before_the_next_one() {
    let disk = SimDisk::new();
    let (mut appender, _) = start(disk.clone());
    let from = disk.calls();
    append(&mut appender, NOON, &["one", "two"]).unwrap();
    append(&mut appender, NOON, &["three"]).unwrap();
    append(&mut appender, NOON, &["four", "five", "six"]).unwrap();
    append(&mut appender, NEXT_DAY, &["seven"]).unwrap();
    let (new_file, batch) =
        ([Call::Create, Call::Write, Call::SyncData, Call::SyncDir], [Call::Write, Call::SyncData]);
    assert_eq!(changes(&disk, from), [&new_file[..], &batch, &batch, &new_file].concat());
}

#[test]
fn what_is_synced_together_is_one_batch() {
    let disk = SimDisk::new();
    let (mut appender, reader) = start(disk.clone());
    append(&mut appender, NOON, &["one"]).unwrap();
    append(&mut appender, NOON, &["x"; 300]).unwrap();
    let file = &disk.contents()[Path::new("/data/diary/2026-11-20.log")];
    let seal = reader.seal();
    let lines = file.split(|&b| b == b'\n').filter_map(|line| StoredLine::parse(line, seal).ok());
    let batches: Vec<u64> = lines.map(|line| line.batch()).collect();
    assert_eq!(batches, [&[1][..], &[2; 300]].concat());
}

#[test]
fn after_a_failed_sync_nothing_more_is_written() {
    let disk = SimDisk::new();
    let (mut appender, reader) = start(disk.clone());
    append(&mut appender, NOON, &["one"]).unwrap();
    // The write, then the sync.
    disk.fail_at(disk.calls() + 1, Fault::Io);
    assert!(matches!(append(&mut appender, NOON, &["two"]), Err(CommitError::Failed(_))));
    let from = disk.calls();
    for text in ["three", "four"] {
        assert!(matches!(append(&mut appender, NOON, &[text]), Err(CommitError::Failed(_))));
    }
    appender.stop().unwrap();
    assert_eq!(changes(&disk, from), []);
    assert_eq!(reader.head().seq, 1);

    disk.cut_power(Survives::Nothing);
    assert_eq!(start(disk).1.head().seq, 1);
}

#[test]
fn nobody_sees_a_batch_before_its_sync_returned() {
    let disk = Watched { disk: SimDisk::new(), ..Watched::default() };
    let (mut appender, reader) = start(disk.clone());
    *disk.reader.lock().unwrap() = Some(reader);
    append(&mut appender, NOON, &["one", "two"]).unwrap();
    append(&mut appender, NOON, &["three"]).unwrap();
    append(&mut appender, NEXT_DAY, &["four"]).unwrap();
    // Two syncs for a new file, its own and its folder's.
    assert_eq!(*disk.heads.lock().unwrap(), [0, 0, 2, 3, 3]);
}

/// A disk that notes what a reader sees while it syncs.
#[derive(Debug, Clone, Default)]
struct Watched {
    disk: SimDisk,
    reader: Arc<Mutex<Option<Reader>>>,
    heads: Arc<Mutex<Vec<u64>>>,
}

impl Watched {
    fn look(&self) {
        if let Some(reader) = &*self.reader.lock().unwrap() {
            self.heads.lock().unwrap().push(reader.head().seq);
        }
    }
}

impl Disk for Watched {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.disk.list(dir)
    }

    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(WatchedFile { file: self.disk.open(path, how)?, disk: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.look();
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.disk.lock(path)
    }
}

struct WatchedFile {
    file: Box<dyn DiskFile>,
    disk: Watched,
}

impl DiskFile for WatchedFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(into, offset)
    }

    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(from, offset)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.file.is_at(path)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.look();
        self.file.sync_data()
    }
}
