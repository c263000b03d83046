//! How much a start reads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the counts are part of what is shown")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use diary_proto::{Author, Key, Producer};
use diary_store::disk::RealDisk;
use diary_store::{NewEntry, Staged, open};
use support::counting::Counting;
use support::*;

const MIB: u64 = 1024 * 1024;

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
        let entry = NewEntry {
            author: &author,
            text: &text,
            key: Some((key(counter), false)),
            at: None,
            relation: None,
        };
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
    let entry = NewEntry {
        author: &author,
        text: &text,
        key: Some((key(counter - 1), true)),
        at: None,
        relation: None,
    };
    assert!(matches!(appender.stage(at(NOON), entry), Staged::Known { .. }));
}
