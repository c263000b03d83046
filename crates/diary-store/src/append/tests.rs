#![cfg(feature = "sim")]

use std::path::Path;

use super::*;
use crate::disk::sim::SimDisk;
use crate::open::open;
use crate::tables::own_days::OwnDays;
use crate::tables::related::Related;

const NOON: Time = Time { micros: 1_795_168_800_000_000, offset_minutes: 0 };

/// Commits a batch as large as it may be; returns its bytes.
fn append(appender: &mut Appender) -> u64 {
    let (author, text) = (Author::new("a").unwrap(), "x".repeat(60_000));
    let before = appender.head.end;
    while appender.stage(NOON, NewEntry { author: &author, text: &text, key: None, at: None, relation: None })
        != Staged::Full
    {}
    appender.commit(NOON).unwrap();
    appender.head.end - before
}

/// A table as large as it may be, of entries whose days are in no order.
fn large_table() -> OwnDays {
    let mut own_days = OwnDays::default();
    for seq in 1..3_000_000 {
        let day = i8::try_from(1 + seq % 28).unwrap();
        own_days.insert(seq, Date::new(2015, 3, day).unwrap());
    }
    own_days
}

/// How many bytes of entries come before each cache, after one of so many bytes.
fn bytes_between_caches(appender: &mut Appender, caches: usize) -> Vec<u64> {
    let (mut between, mut bytes) = (Vec::new(), 0);
    while between.len() < caches {
        bytes += append(appender);
        if let Some(snapshot) = appender.snapshot() {
            snapshot.write().unwrap();
            between.push(std::mem::take(&mut bytes));
        }
    }
    between
}

#[test]
fn caches_cost_no_more_than_the_entries_between_them() {
    const MIB: u64 = 1024 * 1024;
    let disk: Arc<dyn crate::disk::Disk> = Arc::new(SimDisk::new());
    let dir = Path::new("/data/diary");
    let mut appender = open(Arc::clone(&disk), dir).unwrap().appender;
    let own_days = large_table();
    let size = own_days.bytes() as u64;
    assert!(size > 11 * MIB, "{size}");
    let (keys, seen) = (KeyTable::default(), Some((own_days, Related::default())));
    appender.set_derived(Derived { keys, seen, seq: 0, uncached_bytes: 0, cached_bytes: 0 });
    let between = bytes_between_caches(&mut appender, 4);
    // The first is not known to be large.
    assert!((8 * MIB..12 * MIB).contains(&between[0]), "{between:?}");
    for bytes in &between[1..] {
        assert!((size..size + BATCH_MAX_BYTES as u64 * 2).contains(bytes), "{between:?}");
    }
    drop(appender);

    // The next start knows how large it is.
    let (mut appender, _) = open(disk, dir).unwrap().with_derived().unwrap();
    assert!(appender.cached_bytes >= size);
    let between = bytes_between_caches(&mut appender, 1);
    assert!(between[0] >= size - 1, "{between:?}");
}
