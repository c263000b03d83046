//! Tests of reading through the handle.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use diary_proto::Filter;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::limits::SEARCHES_MAX;
use crate::limits::{PAGE_BYTES, READER_THREADS};
use crate::sim::{self, ManualWriter, SimDisk};
use crate::testing::{HookedDisk, appends, permit};

/// Only a test that fails waits as long.
const FAILED: Duration = Duration::from_secs(60);

/// Waits until only one holds it.
async fn alone<T>(shared: &Arc<T>) {
    let alone = async {
        while Arc::strong_count(shared) > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(FAILED, alone).await.expect("somebody keeps it");
}

/// So many entries of `length` bytes each.
fn fill(journal: &Journal, writer: &mut ManualWriter, entries: usize, length: usize) {
    let text = format!("{} here", "x".repeat(length - 5));
    let _receipt = journal.append(appends((0..entries).map(|_| text.as_str())), permit());
    while writer.commit() {}
}

fn needle(journal: &Journal, text: &str) -> Arc<Needle> {
    Arc::new(Needle::new(&Filter::of_text(text), journal.seal()))
}

#[tokio::test]
async fn a_search_that_waits_is_cancelled_by_dropping_it() {
    let (journal, _writer) = sim::journal(&SimDisk::new());
    let mut taken = Vec::new();
    for _ in 0..SEARCHES_MAX {
        taken.push(journal.searcher().turn().await);
    }
    let cursor = journal.find(Which::All).await.unwrap();
    let needle = needle(&journal, "a");
    let search = journal.search(cursor, Arc::clone(&needle), &journal.searcher(), || (PAGE_BYTES, ()));
    tokio::task::yield_now().await;
    drop((search, journal));
    alone(&needle).await;
    drop(taken);
}

/// Searches whose needle looks like each line and is in none, and a search with many hits that are given out little by
/// little: it needs many turns, which cost little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_search_gets_its_share_beside_many_that_cost_more() {
    const HOSTILE: usize = 16;
    const STEPS: usize = 100;
    let (journal, mut writer) = sim::journal(&SimDisk::new());
    fill(&journal, &mut writer, 2_000, 1_000);
    let scans: Vec<Arc<AtomicUsize>> = (0..HOSTILE).map(|_| Arc::default()).collect();
    let hostile = scans.iter().map(|scans| {
        let (journal, scans) = (journal.clone(), Arc::clone(scans));
        AbortOnDropHandle::new(tokio::spawn(async move {
            let searcher = journal.searcher();
            loop {
                let mut cursor = journal.find(Which::All).await.unwrap();
                loop {
                    let search =
                        journal.search(cursor, needle(&journal, "2"), &searcher, || (PAGE_BYTES, ()));
                    let (page, ()) = search.await.unwrap();
                    assert!(page.lines.is_empty());
                    if page.ended {
                        break;
                    }
                    cursor = page.cursor;
                }
                scans.fetch_add(1, Ordering::Relaxed);
            }
        }))
    });
    let hostile: Vec<_> = hostile.collect();
    let searcher = journal.searcher();
    let mut cursor = journal.find(Which::All).await.unwrap();
    for _ in 0..STEPS {
        let search = journal.search(cursor, needle(&journal, "here"), &searcher, || (4_000, ()));
        let (page, ()) = tokio::time::timeout(FAILED, search).await.expect("it has its turns").unwrap();
        assert!(!page.lines.is_empty() && !page.ended);
        cursor = page.cursor;
    }
    drop(hostile);
    let scans: Vec<usize> = scans.iter().map(|scans| scans.load(Ordering::Relaxed)).collect();
    // First come, first served would give each of them a scan for each step. What a turn costs is measured in processor
    // time, which scatters: their mean is looked at.
    let mean = scans.iter().sum::<usize>() / HOSTILE;
    assert!(mean < STEPS * 3 / 4, "{scans:?} whole scans beside {STEPS} small steps");
}

/// Readings that hang have their threads, and leave a search those for searches.
#[test]
fn readings_that_wait_for_the_disk_hold_up_no_search() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .max_blocking_threads(READER_THREADS)
        .build()
        .unwrap();
    runtime.block_on(async {
        let (journal, mut writer) = sim::journal(&SimDisk::new());
        fill(&journal, &mut writer, 9, 100);
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let mut readings = Vec::new();
        for _ in 0..2 * READER_THREADS {
            let (cursor, released) = (journal.find(Which::All).await.unwrap(), Arc::clone(&released));
            readings.push((cursor, released));
        }
        let hang = |(cursor, released): (Cursor, Arc<Mutex<mpsc::Receiver<()>>>)| {
            journal.page(cursor, move || {
                // An error says that the test has ended.
                let _ = released.lock().unwrap().recv();
                (PAGE_BYTES, ())
            })
        };
        let cursor = journal.find(Which::All).await.unwrap();
        let readings: Vec<_> = readings.into_iter().map(hang).collect();
        let search =
            journal.search(cursor, needle(&journal, "here"), &journal.searcher(), || (PAGE_BYTES, ()));
        let found = tokio::time::timeout(Duration::from_secs(10), search).await;
        drop(release);
        let (page, ()) = found.expect("readings hold up a search").unwrap();
        assert_eq!(page.lines.iter().filter(|&&b| b == b'\n').count(), 9);
        for reading in readings {
            assert!(!reading.await.unwrap().0.lines.is_empty(), "each goes on once the disk does");
        }
    });
}

/// The lines that a search with this scope finds, so many bytes at a time.
async fn found(journal: &Journal, scope: Scope, text: &str, max_bytes: usize) -> Vec<String> {
    let (needle, searcher) = (needle(journal, text), journal.searcher());
    let mut cursor = journal.find(scope).await.unwrap();
    while cursor.is_unsought() {
        cursor = journal.seek(cursor, Arc::clone(&needle), &searcher).await.unwrap();
    }
    cursor.check_lines();
    let (mut found, mut more) = (Vec::new(), max_bytes);
    loop {
        let search = journal.search(cursor, Arc::clone(&needle), &searcher, move || (more, ()));
        let (page, ()) = search.await.unwrap();
        assert!(page.lines.len() <= more, "a page has no more than there is room for");
        more = page.needs_bytes.unwrap_or(max_bytes);
        let lines = page.lines.split(|&b| b == b'\n').filter(|line| !line.is_empty());
        found.extend(lines.map(|line| String::from_utf8_lossy(line).into_owned()));
        if page.ended {
            return found;
        }
        cursor = page.cursor;
    }
}

#[tokio::test]
async fn the_newest_hits_are_the_same_however_little_room_there_is() {
    let disk = HookedDisk::new();
    let (journal, mut writer) = sim::journal_on(Arc::new(disk.clone()));
    let text = |i: usize| format!("text {i}. {}", "x".repeat(if i == 50 { 9_000 } else { i % 7 * 100 }));
    for i in 1..=100 {
        let receipt = journal.append(appends([text(i).as_str()]), permit());
        writer.commit();
        receipt.await;
    }
    disk.damage(&["text 20.", "text 41.", "text 42.", "text 97."]);
    let all = found(&journal, Which::All.into(), "text", PAGE_BYTES).await;
    assert_eq!(all.iter().filter(|line| line.starts_with("# gap ")).count(), 3);
    let is_entry = |line: &&String| !line.starts_with('#');
    for newest in [None, Some(0), Some(1), Some(3), Some(58), Some(59), Some(1_000)] {
        // Of what is missing, also what is right before them.
        let mut left = newest.unwrap_or(u64::MAX);
        let wanted = all.iter().rev().take_while(|line| {
            let fits = !is_entry(line) || left > 0;
            left = left.saturating_sub(u64::from(is_entry(line)));
            fits
        });
        let mut expected: Vec<String> = wanted.cloned().collect();
        for reverse in [true, false] {
            for max_bytes in [1, 500, 10_000, PAGE_BYTES] {
                let scope = Scope { newest, reverse, ..Which::All.into() };
                assert!(found(&journal, scope, "text", max_bytes).await == expected, "{scope:?} {max_bytes}");
            }
            expected.reverse();
        }
    }
}

#[tokio::test]
async fn what_is_near_the_end_is_found_without_reading_the_rest() {
    let disk = HookedDisk::new();
    let (journal, mut writer) = sim::journal_on(Arc::new(disk.clone()));
    for _ in 0..8 {
        fill(&journal, &mut writer, 2_000, 1_000);
    }
    let reads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reads);
    disk.before_reads(move || {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let of = async |newest, reverse| {
        reads.store(0, Ordering::Relaxed);
        let scope = Scope { newest, reverse, ..Which::All.into() };
        let hits = found(&journal, scope, "here", PAGE_BYTES).await.len();
        (hits, reads.load(Ordering::Relaxed))
    };
    let (all, whole) = of(None, false).await;
    assert_eq!(all, 16_000);
    for reverse in [true, false] {
        let (hits, few) = of(Some(3), reverse).await;
        assert_eq!(hits, 3);
        assert!(few * 5 < whole, "{few} reads for the newest three, {whole} for all");
    }
}

/// A journal that was opened with so many entries, some of which are damaged since.
async fn damaged(disk: &HookedDisk, entries: usize, damaged: &[&str]) -> (Journal, ManualWriter) {
    let (journal, mut writer) = sim::journal_on(Arc::new(disk.clone()));
    for i in 1..=entries {
        let receipt = journal.append(appends([format!("text {i}.").as_str()]), permit());
        writer.commit();
        receipt.await;
    }
    drop((journal, writer));
    let opened = sim::journal_on(Arc::new(disk.clone()));
    disk.damage(damaged);
    opened
}

fn gap(first: u64, last: u64) -> Gap {
    Gap { first, last }
}

#[test]
fn damage_holds_up_no_reading() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let disk = HookedDisk::new();
        let (journal, _writer) = damaged(&disk, 9, &[]).await;
        let cursor = journal.find(Which::All).await.unwrap();
        // The first read of whoever looks for a place is held up.
        let (reached, at_work) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let (first, released) = (AtomicBool::new(true), Mutex::new(released));
        disk.before_reads(move || {
            if first.swap(false, Ordering::Relaxed) {
                reached.send(()).unwrap();
                // An error says that the test has ended.
                let _ = released.lock().unwrap().recv();
            }
            Ok(())
        });
        journal.tell_gaps(&mut (1..=9).map(|seq| gap(seq, seq)).collect());
        at_work.recv_timeout(FAILED).unwrap();
        let page =
            tokio::time::timeout(Duration::from_secs(5), journal.page(cursor, || (PAGE_BYTES, ()))).await;
        drop(release);
        assert_eq!(
            page.expect("a reading waits for damage to be found")
                .unwrap()
                .0
                .lines
                .iter()
                .filter(|&&b| b == b'\n')
                .count(),
            9
        );
    });
}

const DAMAGED: [&str; 4] = ["text 2.", "text 5.", "text 6.", "text 9."];

/// Reads everything, a few lines at a time.
async fn read_all(journal: &Journal, mut cursor: Cursor) -> Cursor {
    loop {
        let (page, ()) = journal.page(cursor, || (256, ())).await.unwrap();
        if page.ended {
            return page.cursor;
        }
        cursor = page.cursor;
    }
}

#[tokio::test]
async fn damage_that_is_read_is_logged() {
    for follows in [false, true] {
        let disk = HookedDisk::new();
        let (journal, mut writer) = damaged(&disk, 9, &DAMAGED).await;
        assert_eq!(journal.auditor.told(), []);
        let cursor = match follows {
            false => journal.find(Which::From(4)).await.unwrap(),
            true => journal.follow(4).await.unwrap(),
        };
        let cursor = read_all(&journal, cursor).await;
        journal.auditor.flush().await;
        assert_eq!(journal.auditor.told(), [5, 9], "follows: {follows}");
        if follows {
            // What is behind a gap that was logged at the end is none.
            let receipt = journal.append(appends(["more"]), permit());
            writer.commit();
            receipt.await;
            read_all(&journal, cursor).await;
        }
        let cursor = journal.find(Which::All).await.unwrap();
        read_all(&journal, cursor).await;
        journal.auditor.flush().await;
        assert_eq!(journal.auditor.told(), [2, 5, 9], "follows: {follows}");
    }
}

#[tokio::test]
async fn damage_that_is_in_memory_is_told_too() {
    let disk = HookedDisk::new();
    let (journal, mut writer) = damaged(&disk, 9, &DAMAGED).await;
    disk.keep_in_memory();
    let mut follower = journal.follow(1).await.unwrap();
    for text in ["ten", "eleven"] {
        loop {
            match journal.try_page(&mut follower, PAGE_BYTES) {
                Some(lines) if lines.is_empty() => break,
                Some(_) => {}
                // The day file was opened more than a second ago.
                None => {
                    let (mut page, ()) = journal.page(follower, || (PAGE_BYTES, ())).await.unwrap();
                    journal.tell_gaps(&mut page.gaps);
                    follower = page.cursor;
                }
            }
        }
        journal.auditor.flush().await;
        assert_eq!(journal.auditor.told(), [2, 5, 9]);
        let receipt = journal.append(appends([text]), permit());
        writer.commit();
        receipt.await;
    }
}
