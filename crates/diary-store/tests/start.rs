//! How much a start reads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the counts are part of what is shown")]

mod support;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use diary_proto::{Author, Key, Producer};
use diary_store::disk::{Disk, DiskFile, How, RealDisk};
use diary_store::{NewEntry, Staged, open};
use support::*;

const MIB: u64 = 1024 * 1024;

/// The real disk, with a count of the bytes that are read of it.
#[derive(Debug, Clone, Default)]
struct Counting(Arc<AtomicU64>);

struct CountingFile(Box<dyn DiskFile>, Arc<AtomicU64>);

impl Disk for Counting {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        RealDisk.list(dir)
    }
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(CountingFile(RealDisk.open(path, how)?, Arc::clone(&self.0))))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        RealDisk.lock(path)
    }
}

impl DiskFile for CountingFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.0.read_at(into, offset)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(from, offset)
    }
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.0.is_at(path)
    }
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// A kill while a cache is being written, at the worst moment that the writer allows: when the next one is
/// due. To load the keys then reads less than 32 MiB, and every key is known.
#[test]
fn after_a_kill_a_start_reads_less_than_32_mib() {
    let diary = Diary::new();
    let author = Author::new("a").unwrap();
    let text = "x".repeat(60_000);
    let key = |counter| Key { producer: Producer(1), counter };
    let (mut appender, reader) = open(Arc::new(RealDisk), &diary.dir).unwrap().with_derived().unwrap();
    let (mut being_written, mut caches, mut counter) = (None, 0, 0);
    // Batches as large as they may be; the caches come as the writer makes them, but for the last two.
    while caches < 5 {
        let entry = NewEntry { author: &author, text: &text, key: Some((key(counter), false)), at: None };
        if appender.stage(at(NOON), entry) != Staged::Full {
            counter += 1;
            continue;
        }
        appender.commit(at(NOON)).unwrap();
        if let Some(due) = appender.snapshot() {
            caches += 1;
            match being_written.replace(due) {
                Some(before) if caches < 5 => diary_store::Snapshot::write(before).unwrap(),
                _ => {}
            }
        }
    }
    let end = reader.head().end;
    assert!(end > 40 * MIB, "there is more than a start may read: {end}");
    drop((appender, reader));

    let disk = Counting::default();
    let opened = open(Arc::new(disk.clone()), &diary.dir).unwrap();
    // Recovery looks at the last batch, and writes it again.
    let recovered = disk.0.swap(0, Ordering::Relaxed);
    assert!(recovered < 10 * MIB, "{recovered} bytes");
    let (mut appender, _) = opened.with_derived().unwrap();
    let loaded = disk.0.load(Ordering::Relaxed);
    assert!(loaded > 16 * MIB && loaded < 32 * MIB, "{loaded} bytes");
    println!("recovery reads {recovered} bytes, the keys {loaded}");
    let entry = NewEntry { author: &author, text: &text, key: Some((key(counter - 1), true)), at: None };
    assert!(matches!(appender.stage(at(NOON), entry), Staged::Known { .. }));
}
