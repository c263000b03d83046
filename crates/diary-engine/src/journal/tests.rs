//! Tests of reading through the handle.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use diary_proto::Filter;

use super::*;
use crate::limits::PAGE_BYTES;
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

#[tokio::test]
async fn a_search_that_waits_is_cancelled_by_dropping_it() {
    let (journal, _writer) = sim::journal(&SimDisk::new());
    let searches = Arc::clone(&journal.searches);
    let every_permit = searches.try_acquire_many(u32::try_from(SEARCHES_MAX).unwrap()).unwrap();
    let cursor = journal.find(Which::All).await.unwrap();
    let needle = Arc::new(Needle::new(&Filter::of_text("a".to_owned()), journal.seal()));
    let search = journal.search(cursor, needle, || (PAGE_BYTES, ()));
    tokio::task::yield_now().await;
    drop((search, journal));
    alone(&searches).await;
    drop(every_permit);
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
