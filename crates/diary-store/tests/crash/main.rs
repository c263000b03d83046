//! A scripted life of a journal, ended after every disk call and recovered from whatever the disk may
//! hold then; and recovery itself, ended in the middle.
//!
//! Every failure prints what replays it: the call, what survived, and where recovery was ended;
//! `DIARY_TEST_CALL` runs one call alone. `DIARY_TEST_BUDGET` (1) multiplies how many states are tried.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the counts are part of what is shown")]

mod life;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use diary_proto::block::{Step as Walked, Walker};
use diary_proto::entry::StoredLine;
use diary_proto::{Author, Day, Key, Producer, Relation, Time, Which};
use diary_store::disk::Disk;
use diary_store::sim::{Fault, Seeded, SimDisk, Survives};
use diary_store::{NewEntry, Reader, Staged};
use life::*;

/// Endings that are tried at each place whatever the seed: a kill, and power cuts that keep nothing,
/// everything and zeros.
const FIXED: u64 = 4;

/// Random power cuts tried at each place beside those.
const CHOSEN: u64 = 3;

/// Every entry with its line: those in archives, and those that the journal gives back.
fn everything(disk: &SimDisk, reader: &Reader) -> Vec<(u64, Vec<u8>)> {
    let mut seen = Vec::new();
    for (path, bytes) in disk.contents() {
        if path.starts_with("/data/diary/archive") {
            let lines = bytes.split(|&b| b == b'\n');
            let seq = |line| Some(StoredLine::parse(line, reader.seal()).ok()?.seq);
            seen.extend(lines.filter_map(|line| Some((seq(line)?, line.to_vec()))));
        }
    }
    seen.sort_unstable();
    let mut range = reader.from(1).unwrap();
    let mut walker = Walker::new(range.first, reader.seal());
    while let Some(page) = reader.next_page(&mut range, 4096).unwrap() {
        for line in page.split_inclusive(|&b| b == b'\n') {
            walker.walk(line, |step| match step {
                Walked::Entry(entry) => seen.push((entry.seq, line[..line.len() - 1].to_vec())),
                Walked::Gap(gap) => panic!("entries are missing: {gap:?}"),
            });
        }
    }
    assert_eq!(walker.finish(range.last), None, "entries are missing at the end");
    seen
}

/// Recovers, and holds what is there against what the writers know.
fn check(disk: &SimDisk, record: &Record, replay: &dyn Fn() -> String) {
    let opened = try_start(disk).unwrap_or_else(|error| panic!("does not start: {error}; {}", replay()));
    let seen = everything(disk, &opened.reader);
    let mut texts = BTreeMap::new();
    for (place, (seq, line)) in seen.iter().enumerate() {
        let text = StoredLine::parse(line, opened.reader.seal()).unwrap().unescaped().into_owned();
        assert_eq!(*seq, place as u64 + 1, "seqs are dense; {}", replay());
        assert!(record.sent.contains(&text), "entry {seq} was never sent; {}", replay());
        assert!(!record.refused.contains(&text), "entry {seq} was refused as not stored; {}", replay());
        assert_eq!(texts.insert(text, *seq), None, "entry {seq} is there twice; {}", replay());
    }
    for (seq, line) in &record.acked {
        let there = seen.get(*seq as usize - 1).map(|(_, line)| line);
        assert_eq!(there, Some(line), "the acked entry {seq} is lost or changed; {}", replay());
    }
    check_own_days(&opened.reader, &seen, replay);
    // Each entry of a thread is looked up, which takes long on this disk.
    if seen.len().is_multiple_of(32) {
        check_related(&opened.reader, &seen, replay);
    }
    check_keys(opened, record, &texts, replay);

    let before = disk.contents();
    let again = start(disk).unwrap();
    assert!(everything(disk, &again.reader) == seen, "a second start sees something else; {}", replay());
    assert!(disk.contents() == before, "a second start changes something; {}", replay());
    drop(again);

    // What was shown to a reader is in the diary for good.
    disk.cut_power(Survives::Nothing);
    let again = start(disk).unwrap();
    assert!(everything(disk, &again.reader) == seen, "what was served is lost; {}", replay());
    drop(again);
    check_life_goes_on(disk, seen.len(), replay);
}

/// The entries with an own time are found on their days.
fn check_own_days(reader: &Reader, seen: &[(u64, Vec<u8>)], replay: &dyn Fn() -> String) {
    let first = reader.first().unwrap();
    for date in [0, 1].map(|days| long_ago(days).date()) {
        let is_of_day = |(seq, line): &&(u64, Vec<u8>)| {
            let own = StoredLine::parse(line, reader.seal()).unwrap().own;
            *seq >= first && own.is_some_and(|own| own.day == date)
        };
        let expected: Vec<u8> =
            seen.iter().filter(is_of_day).flat_map(|(_, line)| [line, &b"\n"[..]].concat()).collect();
        let mut range = reader.range(Which::Days(Day::Date(date), Day::Date(date)), date).unwrap();
        let mut found = Vec::new();
        while let Some(page) = reader.next_page(&mut range, 4096).unwrap() {
            found.extend(page);
        }
        assert!(found == expected, "{date} has other entries; {}", replay());
    }
}

/// What answers an entry, and its newest correction, are known.
fn check_related(reader: &Reader, seen: &[(u64, Vec<u8>)], replay: &dyn Fn() -> String) {
    let relation = |line: &[u8]| StoredLine::parse(line, reader.seal()).unwrap().relation;
    let (first, head) = (reader.first().unwrap(), reader.head().seq);
    let (mut threads, mut newest) = (BTreeMap::<u64, Vec<u64>>::new(), BTreeMap::new());
    for (seq, line) in seen {
        match relation(line) {
            Some(Relation::Answers(root)) => threads.entry(root).or_insert(vec![root]).push(*seq),
            Some(Relation::Corrects(root)) => _ = newest.insert(root, [&line[..], b"\n"].concat()),
            _ => {}
        }
    }
    let corrected = reader.corrected((1, head), 1..=head, head);
    assert!(corrected.into_iter().eq(newest.keys().copied()), "others are corrected; {}", replay());
    for (root, expected) in threads.into_iter().filter(|(root, _)| *root >= first) {
        let correction = reader.newest_correction(root, head).unwrap();
        assert!(
            correction.as_deref() == newest.get(&root).map(Vec::as_slice),
            "{root} has another text; {}",
            replay()
        );
        let (mut range, mut found) = (reader.thread(root).unwrap(), Vec::new());
        while let Some(page) = reader.next_page(&mut range, 4096).unwrap() {
            let lines =
                page.split(|&b| b == b'\n').filter_map(|line| StoredLine::parse(line, reader.seal()).ok());
            let is_correction = |line: &StoredLine<'_>| line.relation.is_some_and(Relation::is_correction);
            found.extend(lines.filter(|line| !is_correction(line)).map(|line| line.seq));
        }
        assert_eq!(found, expected, "the thread of {root} is another; {}", replay());
    }
}

/// Appends another batch, which a power cut does not take.
fn check_life_goes_on(disk: &SimDisk, seen: usize, replay: &dyn Fn() -> String) {
    let mut opened = start(disk).unwrap();
    let mut record = Record::default();
    assert!(batch(disk, &mut opened.appender, &mut record, &mut 1_000_000, 2, 9), "{}", replay());
    drop(opened);
    disk.cut_power(Survives::Nothing);
    let opened = start(disk).unwrap();
    assert_eq!(everything(disk, &opened.reader).len(), seen + 2, "a later batch is lost; {}", replay());
}

/// Sends everything with a key again: what is there is known by it, what is not would be stored.
fn check_keys(
    mut opened: Opened,
    record: &Record,
    seqs: &BTreeMap<String, u64>,
    replay: &dyn Fn() -> String,
) {
    let author = Author::new("anna").unwrap();
    let now = Time { micros: START + 9 * DAY, offset_minutes: 0 };
    for (counter, text) in &record.keyed {
        let key = Key { producer: Producer(7), counter: *counter };
        let staged = opened
            .appender
            .stage(now, NewEntry { author: &author, text, key: Some((key, true)), at: None, relation: None });
        let right = match (seqs.get(text), staged) {
            (Some(there), Staged::Known { seq, .. }) => *there == seq,
            (None, Staged::New(_)) => true,
            _ => false,
        };
        assert!(right, "the key {counter} gives {staged:?}; {}", replay());
    }
}

/// The ways in which a machine may come back.
fn endings(seeded: &mut Seeded, chosen: u64) -> Vec<Option<Survives>> {
    let fixed = [None, Some(Survives::Nothing), Some(Survives::Everything), Some(Survives::Zeros)];
    let chosen = (0..chosen).map(|place| {
        let seed = seeded.next_u64();
        Some(if place % 2 == 0 { Survives::Chosen(seed) } else { Survives::Prefix(seed) })
    });
    fixed.into_iter().chain(chosen).collect()
}

fn end(disk: &SimDisk, ending: Option<Survives>) {
    match ending {
        None => disk.kill(),
        Some(survives) => disk.cut_power(survives),
    }
}

fn budget() -> u64 {
    std::env::var("DIARY_TEST_BUDGET")
        .map_or(1, |budget| budget.parse().expect("DIARY_TEST_BUDGET is a number"))
}

#[test]
fn ended_after_every_call() {
    let states = at_every_call(|call| {
        let disk = new_disk();
        disk.die_at(call);
        let mut record = Record::default();
        live(&disk, &mut record);
        recovered_from(&disk, &record, call, "ends", (FIXED + CHOSEN) * budget() - FIXED, 13)
    });
    assert!(states >= 100_000 * budget(), "only {states} states");
}

#[test]
fn each_call_failed_once() {
    let states = at_every_call(|call| {
        let mut states = 0;
        for fault in [Fault::Io, Fault::Full, Fault::Short, Fault::Interrupted] {
            let disk = new_disk();
            disk.fail_at(call, fault);
            let mut record = Record::default();
            live(&disk, &mut record);
            states += recovered_from(
                &disk,
                &record,
                call,
                &format!("fails with {fault:?}"),
                (FIXED + 1) * budget() - FIXED,
                101,
            );
        }
        states
    });
    assert!(states >= 10_000 * budget(), "only {states} states");
}

/// Runs `test` for every call of a whole life, on two threads; it tells how many states it tried.
fn at_every_call(test: impl Fn(u64) -> u64 + Sync) -> u64 {
    let whole = new_disk();
    live(&whole, &mut Record::default());
    let calls = whole.calls();
    let states = AtomicU64::new(0);
    let only = std::env::var("DIARY_TEST_CALL").ok().map(|call| call.parse::<u64>().expect("a number"));
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (states, test) = (&states, &test);
            scope.spawn(move || {
                for call in (thread..=calls).step_by(2).filter(|call| only.is_none_or(|only| only == *call)) {
                    let told = std::panic::catch_unwind(AssertUnwindSafe(|| test(call)));
                    let tried = told.unwrap_or_else(|failure| {
                        println!("this replays it: DIARY_TEST_CALL={call}");
                        std::panic::resume_unwind(failure)
                    });
                    states.fetch_add(tried, Ordering::Relaxed);
                }
            });
        }
    });
    let states = states.into_inner();
    println!("{calls} calls, {states} states");
    if only.is_some() { u64::MAX } else { states }
}

fn new_disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir(Path::new("/data")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.kill();
    disk
}

/// Starts and appends on the newest day, so that nothing but that entry's own sync makes anything durable,
/// and ends again. Returns how many states were tried.
fn lives_on(disk: &SimDisk, record: &Record, seeded: &mut Seeded, replay: &dyn Fn() -> String) -> u64 {
    let mut record = record.clone();
    let mut opened = start(disk).unwrap();
    assert!(batch(disk, &mut opened.appender, &mut record, &mut 2_000_000, 2, 0), "{}", replay());
    drop(opened);
    let endings = endings(seeded, 1);
    for second in &endings {
        let ended = disk.fork();
        end(&ended, *second);
        check(&ended, &record, &|| format!("{}, a batch, then {second:?}", replay()));
    }
    endings.len() as u64
}

/// Every way in which a life may go on that ended like this, with every so many of recovery's own calls
/// ended too. Returns how many were tried.
fn recovered_from(disk: &SimDisk, record: &Record, call: u64, how: &str, chosen: u64, every: usize) -> u64 {
    let mut states = 0;
    let mut seeded = Seeded(call);
    for (first, place) in endings(&mut seeded, chosen).into_iter().zip(call..) {
        let ended = disk.fork();
        end(&ended, first);
        check(&ended.fork(), record, &|| format!("call {call} {how}, then {first:?}"));
        states += 1;
        // Of neighbouring calls, each tries the other half.
        if place % 2 == 0 {
            states += lives_on(&ended.fork(), record, &mut seeded, &|| {
                format!("call {call} {how}, then {first:?}")
            });
        }

        // Recovery, ended at each of its calls; a power cut may follow a kill.
        let whole = ended.fork();
        drop(start(&whole));
        for recovery_call in (call % every as u64..whole.calls()).step_by(every) {
            let dying = ended.fork();
            dying.die_at(recovery_call);
            drop(start(&dying));
            for second in endings(&mut seeded, 1) {
                let twice = dying.fork();
                end(&twice, second);
                check(&twice, record, &|| {
                    format!(
                        "call {call} {how}, then {first:?}, recovery call {recovery_call}, then {second:?}"
                    )
                });
                states += 1;
            }
        }
    }
    states
}
