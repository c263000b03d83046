//! The small files beside the day files: whole or as they were before, never missing for whoever copies the
//! folder, and without a rest on a full disk.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use diary_proto::{Author, Key, Producer, Seal, Time, seal};
use diary_store::disk::RealDisk;
use diary_store::sim::{Call, Fault, SimDisk, Survives};
use diary_store::{Appender, NewEntry, Reader, open};
use support::{Diary, append};

const DIR: &str = "/data/diary";
const NOON: Time = Time { micros: support::NOON, offset_minutes: 0 };

fn start(disk: &SimDisk) -> Option<(Appender, Reader)> {
    open(Arc::new(disk.clone()), Path::new(DIR)).ok()?.with_derived().ok()
}

/// Commits an entry with a key of its own and stops, which writes the cache and the head.
fn run(disk: &SimDisk, counter: u64) {
    let Some((mut appender, _)) = start(disk) else { return };
    let author = Author::new("anna").unwrap();
    let key = Some((Key { producer: Producer(counter), counter }, false));
    appender.stage(NOON, NewEntry { author: &author, text: "x", key, at: None, relation: None });
    if appender.commit(NOON).is_ok() {
        let _ = appender.stop();
    }
}

/// The names in the diary's folder and their bytes, but for day files.
fn small_files(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let is_small =
        |path: &Path| path.parent() == Some(Path::new(DIR)) && path.extension() != Some("log".as_ref());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let contents = disk.contents().into_iter();
    contents.filter(|(path, _)| is_small(path)).map(|(path, bytes)| (name(&path), bytes)).collect()
}

/// A disk that has seen so many runs.
fn disk_after(runs: u64) -> SimDisk {
    let disk = SimDisk::new();
    (1..=runs).for_each(|counter| run(&disk, counter));
    disk.kill();
    disk
}

/// `look` at a disk whose next run, the number `counter`, was ended at each of its calls.
fn ended_at_each_call(disk: &SimDisk, counter: u64, mut look: impl FnMut(u64, SimDisk)) {
    let whole = disk.fork();
    run(&whole, counter);
    for call in 0..whole.calls() {
        let dying = disk.fork();
        dying.die_at(call);
        run(&dying, counter);
        look(call, dying);
    }
    look(whole.calls(), whole);
}

#[test]
fn no_name_is_ever_missing() {
    for runs in 0..3 {
        let disk = disk_after(runs);
        let mut before = small_files(&disk);
        ended_at_each_call(&disk, runs + 1, |call, ended| {
            let names = small_files(&ended);
            let missing: Vec<_> = before.keys().filter(|name| !names.contains_key(*name)).collect();
            assert_eq!(missing, [""; 0], "after call {call} of run {}", runs + 1);
            before = names;
        });
    }
}

/// The seq that a file names, which must be whole; 0 for none.
fn seq_in(files: &BTreeMap<String, Vec<u8>>, name: &str) -> Option<u64> {
    let bytes = files.get(name).filter(|bytes| !bytes.is_empty());
    let Some(bytes) = bytes else { return Some(0) };
    let end = bytes.iter().position(|&b| b == b'\n')?;
    let (line, _) = Seal::PLAIN.check(&bytes[..end])?;
    let field = |field: &str| {
        let fields = std::str::from_utf8(line).ok()?.split([' ', '\t']);
        fields.filter_map(|found| found.strip_prefix(field)).next()
    };
    let tables = field("table=").and_then(seal::from_hex);
    (tables.is_none_or(|crc| crc == seal::crc(&bytes[end + 1..]))).then_some(())?;
    field("seq=")?.parse().ok()
}

/// Both files are whole, and of one of these runs.
fn check_whole(disk: &SimDisk, runs: &[u64], replay: impl Fn() -> String) {
    let files = small_files(disk);
    for name in ["cache", "head"] {
        let seq = seq_in(&files, name).unwrap_or_else(|| panic!("{name} is damaged; {}", replay()));
        assert!(runs.contains(&seq), "{name} is of {seq}; {}", replay());
    }
}

fn endings() -> impl Iterator<Item = Survives> {
    [Survives::Nothing, Survives::Everything, Survives::Zeros]
        .into_iter()
        .chain((0..12).map(Survives::Chosen))
}

#[test]
fn a_power_cut_leaves_them_whole() {
    for runs in 0..3 {
        let disk = disk_after(runs);
        ended_at_each_call(&disk, runs + 1, |call, ended| {
            for ending in endings() {
                let cut = ended.fork();
                cut.cut_power(ending);
                check_whole(&cut, &[runs, runs + 1], || {
                    format!("run {} ended at {call}, {ending:?}", runs + 1)
                });
            }
        });
    }
}

/// What a killed process left is not durable. The next one must not spoil what the disk may still have.
#[test]
fn a_power_cut_after_a_kill_leaves_them_whole() {
    let disk = disk_after(1);
    ended_at_each_call(&disk, 2, |first, killed| {
        killed.kill();
        ended_at_each_call(&killed, 3, |second, ended| {
            for ending in endings() {
                let cut = ended.fork();
                cut.cut_power(ending);
                check_whole(&cut, &[1, 2, 3], || format!("killed at {first}, ended at {second}, {ending:?}"));
            }
        });
    });
}

#[test]
fn a_full_disk_keeps_nothing_of_what_was_not_written() {
    for runs in 0..3 {
        let disk = disk_after(runs);
        let whole = disk.fork();
        run(&whole, runs + 1);
        let log = whole.call_log();
        let may_meet = |call: &Call| matches!(call, Call::Create | Call::Write);
        for (number, _) in log.iter().enumerate().filter(|(_, call)| may_meet(call)) {
            let full = disk.fork();
            full.fail_at(number as u64, Fault::Full);
            run(&full, runs + 1);
            for (name, bytes) in small_files(&full) {
                let is_empty = bytes.is_empty() || !name.ends_with(".new");
                assert!(is_empty, "{name} has {} bytes after call {number} of run {}", bytes.len(), runs + 1);
            }
            full.kill();
            let (_, reader) = start(&full).unwrap();
            assert!(reader.head().seq >= runs);
        }
    }
}

/// As `cp -a` goes through the folder of a server that writes its cache.
#[test]
fn the_folder_can_be_copied_while_they_are_written() {
    let diary = Diary::new();
    let mut opened = diary.open();
    append(&mut opened.appender, support::NOON, &["one"]);
    opened.appender.stop().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let copying = scope.spawn(|| {
            let mut copies = 0;
            while !done.load(Ordering::Relaxed) {
                for name in fs::read_dir(&diary.dir).unwrap() {
                    let path = name.unwrap().path();
                    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                }
                copies += 1;
            }
            copies
        });
        for _ in 0..100 {
            let mut opened = diary.open();
            append(&mut opened.appender, support::NOON, &["more"]);
            opened.appender.stop().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(copying.join().unwrap() > 0);
    });
    let opened = open(Arc::new(RealDisk), &diary.dir).unwrap();
    assert_eq!(opened.reader.head().seq, 101);
    assert_eq!(fs::metadata(diary.file("cache.new")).unwrap().len(), 0);
    assert_eq!(fs::metadata(diary.file("head.new")).unwrap().len(), 0);
}
