//! Tests of what becomes of entries that are sent again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use diary_proto::{DayStart, Time};
use diary_store::disk::Disk;
use diary_store::sim::Fault;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::Ascending;
use crate::limits::BATCH_MAX_ENTRIES;
use crate::sim::{self, ManualWriter};
use crate::testing::{HookedDisk, appends, is_on, keyed, permit};
use crate::{Appends, Journal, Outcome, Part};

fn journal(disk: &HookedDisk) -> (Journal, ManualWriter) {
    sim::journal_on(Arc::new(disk.clone()))
}

/// Appends one batch.
async fn append(journal: &Journal, writer: &mut ManualWriter, appends: Appends) -> Outcome {
    let receipt = journal.append(appends, permit());
    writer.commit();
    receipt.await
}

/// The outcome without its times: `ok FIRST+COUNT`, `CODE*COUNT` or `conflict SEQ`.
fn told(outcome: &[Part]) -> Vec<String> {
    let part = |part: &Part| match part {
        Part::Acked { count, first_seq, .. } => format!("ok {first_seq}+{count}"),
        Part::Refused { count, refusal } => format!("{}*{count}", refusal.code),
        Part::Conflict { seq } => format!("conflict {seq}"),
    };
    outcome.iter().map(part).collect()
}

fn time(part: &Part) -> Time {
    let Part::Acked { time, .. } = part else { panic!("{part:?}") };
    *time
}

/// 2026-11-20T10:00Z, and a hundred years later.
const NOON: Time = Time { micros: 1_795_168_800_000_000, offset_minutes: 0 };
const FUTURE: Time = Time { micros: 4_950_928_800_000_000, offset_minutes: 0 };

const FRAME_ENTRIES: usize = 64 * 1024;

/// As many one-byte texts as a frame can have.
fn full_frame() -> Appends {
    keyed(0, std::iter::repeat_n("x", FRAME_ENTRIES))
}

#[tokio::test]
async fn retries_cost_the_writer_no_reads_and_hold_up_no_batch() {
    const FRAMES: usize = 4;
    let disk = HookedDisk::new();
    let (journal, mut writer) = journal(&disk);
    let first = append(&journal, &mut writer, full_frame()).await;
    let reads = Arc::new([const { AtomicUsize::new(0) }; 2]);
    let counted = Arc::clone(&reads);
    disk.before_reads(move || {
        counted[usize::from(is_on("repeats"))].fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let before = journal.append(appends(["before"]), permit());
    let frames: Vec<_> = (0..FRAMES).map(|_| journal.append(full_frame(), permit())).collect();
    let behind = journal.append(appends(["behind"]), permit());
    let batches = writer.commit_each();

    assert!(batches.iter().all(|&judged| judged <= BATCH_MAX_ENTRIES), "{batches:?}");
    assert_eq!(batches.iter().sum::<usize>(), FRAMES * FRAME_ENTRIES + 2);
    assert_eq!(told(&before.await), ["ok 65537+1"]);
    assert_eq!(told(&behind.await), ["ok 65538+1"]);
    for frame in frames {
        assert_eq!(frame.await, first);
    }
    let [writer_reads, repeats_reads] = [0, 1].map(|thread: usize| reads[thread].load(Ordering::Relaxed));
    assert_eq!(writer_reads, 0);
    // 3.4 MiB in pages of 128 KiB, and to find their beginning.
    assert!(repeats_reads < FRAMES * 80, "{repeats_reads} reads for {} retries", FRAMES * FRAME_ENTRIES);
}

#[tokio::test]
async fn every_repeated_entry_gets_its_own_answer() {
    let disk = HookedDisk::new();
    let (journal, mut writer) = journal(&disk);
    let first = append(&journal, &mut writer, keyed(0, ["a\nb", "b"])).await;
    append(&journal, &mut writer, appends(["between"])).await;
    let second = append(&journal, &mut writer, keyed(2, ["c", "d"])).await;
    // Two that are known, one with another text, one that is known, two that are new.
    let outcome = append(&journal, &mut writer, keyed(0, ["a\nb", "b", "C", "d", "e", "f"])).await;
    assert_eq!(told(&outcome), ["ok 1+2", "conflict 4", "ok 5+1", "ok 6+2"]);
    assert_eq!(time(&outcome[0]), time(&first[0]));
    assert_eq!(time(&outcome[2]), time(&second[0]));
}

#[tokio::test]
async fn a_repeat_of_an_entry_in_the_same_batch_shares_its_fate() {
    let disk = HookedDisk::new();
    let (journal, mut writer) = journal(&disk);
    let both = [keyed(0, ["a", "b"]), keyed(0, ["a", "B"])].map(|appends| journal.append(appends, permit()));
    writer.commit();
    let [first, again] = both;
    let (first, again) = (first.await, again.await);
    assert_eq!(
        (told(&first), told(&again)),
        (vec!["ok 1+2".into()], vec!["ok 1+1".into(), "conflict 2".into()])
    );
    assert_eq!(time(&again[0]), time(&first[0]));

    let both = [keyed(2, ["c"]), keyed(2, ["c"])].map(|appends| journal.append(appends, permit()));
    disk.disk.set_full(true);
    writer.commit();
    for receipt in both {
        assert_eq!(told(&receipt.await), ["disk-full*1"]);
    }
    disk.disk.set_full(false);
    assert_eq!(told(&append(&journal, &mut writer, keyed(2, ["c"])).await), ["ok 3+1"]);
}

#[tokio::test]
async fn a_stop_waits_for_repeats() {
    let disk = HookedDisk::new();
    let (journal, mut writer) = journal(&disk);
    append(&journal, &mut writer, keyed(0, ["a"])).await;
    let mut again = journal.append(keyed(0, ["a"]), permit());
    let running = tokio::task::spawn_blocking(|| writer.run());
    journal.stop().await;
    assert_eq!(told(&again.try_outcome().expect("it is answered before the end")), ["ok 1+1"]);
    running.await.unwrap();
}

#[tokio::test]
async fn a_comparison_that_panics_leaves_nobody_waiting() {
    let disk = HookedDisk::new();
    let (journal, mut writer) = journal(&disk);
    append(&journal, &mut writer, keyed(0, ["a"])).await;
    disk.before_reads(|| if is_on("repeats") { panic!("as the test wants it") } else { Ok(()) });
    assert_eq!(told(&append(&journal, &mut writer, keyed(0, ["a"])).await), ["unknown-outcome*1"]);
    disk.before_reads(|| Ok(()));
    assert_eq!(told(&append(&journal, &mut writer, keyed(0, ["a"])).await), ["ok 1+1"]);
}

#[tokio::test]
async fn what_cannot_be_read_is_stale() {
    let disk = HookedDisk::new();
    let (journal, mut writer) = journal(&disk);
    append(&journal, &mut writer, keyed(0, ["a", "b"])).await;
    disk.before_reads(|| Err(std::io::Error::other("as the test wants it")));
    let outcome = append(&journal, &mut writer, keyed(0, ["a", "b", "c"])).await;
    assert_eq!(told(&outcome), ["stale-key*2", "ok 3+1"]);
}

/// The disk fails under a batch with a repeat of what is committed, and one of what is not.
#[tokio::test]
async fn a_failed_batch_fails_only_what_is_not_committed() {
    let disk = HookedDisk::new();
    let (journal, mut writer) = journal(&disk);
    append(&journal, &mut writer, keyed(0, ["a"])).await;
    let old = journal.append(keyed(0, ["a", "b"]), permit());
    let new = journal.append(keyed(1, ["b"]), permit());
    // It asks for the size, writes, and syncs.
    disk.disk.fail_at(disk.disk.calls() + 2, Fault::Io);
    writer.commit();
    assert_eq!(told(&old.await), ["ok 1+1", "unknown-outcome*1"]);
    assert_eq!(told(&new.await), ["unknown-outcome*1"]);
    assert!(journal.common().failed.is_cancelled());
}

#[tokio::test]
async fn archived_entries_are_compared_too() {
    let disk = HookedDisk::new();
    let texts: Vec<String> = (0..300).map(|i| format!("text {i}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let as_dyn: Arc<dyn Disk> = Arc::new(disk.clone());
    // Two archives, and a journal behind them.
    for part in [0..100, 100..200, 200..300] {
        let (journal, mut writer) = journal(&disk);
        append(&journal, &mut writer, keyed(part.start as u64, texts[part.clone()].iter().copied())).await;
        if part.end < 300 {
            drop(journal);
            tokio::task::spawn_blocking(|| writer.run()).await.unwrap();
            diary_store::archive(&as_dyn, Path::new("/diary"), NOON, DayStart::default()).unwrap();
            continue;
        }
        let outcome = append(&journal, &mut writer, keyed(0, texts.iter().copied())).await;
        let expected: u32 = outcome.iter().map(Part::count).sum();
        assert_eq!(expected, 300);
        assert!(outcome.iter().all(|part| matches!(part, Part::Acked { .. })), "{:?}", told(&outcome));
        let other = append(&journal, &mut writer, keyed(99, ["text 99", "another", "text 101"])).await;
        assert_eq!(told(&other), ["ok 100+1", "conflict 101", "ok 102+1"]);
    }
}

/// Behind entries that a wrong clock dated later, a retry hears the same time as the first ack: what the clock said.
#[tokio::test]
async fn a_retry_is_told_what_the_clock_said() {
    let disk = HookedDisk::new();
    let (journal, mut writer) = journal(&disk);
    writer.set_clock(|_| Ok(FUTURE));
    append(&journal, &mut writer, keyed(0, ["from the future"])).await;
    writer.set_clock(|_| Ok(NOON));
    for _ in 0..2 {
        let outcome = append(&journal, &mut writer, keyed(0, ["from the future", "after"])).await;
        assert_eq!(outcome.iter().map(time).collect::<Vec<_>>(), [FUTURE, NOON], "{outcome:?}");
    }
}

#[tokio::test]
async fn what_is_damaged_is_the_same_by_its_key() {
    let disk = HookedDisk::new();
    let (journal, mut writer) = journal(&disk);
    append(&journal, &mut writer, keyed(0, ["one", "two", "three"])).await;
    disk.damage(&[" two\t"]);
    let outcome = append(&journal, &mut writer, keyed(0, ["one", "what it was", "four"])).await;
    assert_eq!(told(&outcome).last().unwrap(), "conflict 3");
    assert_eq!(outcome.iter().map(Part::count).sum::<u32>(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Reading forward finds what bisection finds, whatever is asked for, damaged, or far apart.
    #[test]
    fn reading_forward_finds_what_is_there(
        sizes in vec(prop_oneof![4 => 1..60_usize, 1 => 1000..20_000_usize], 1..200),
        damaged in vec(any::<Index>(), 0..20),
        asked in vec(any::<bool>(), 200),
    ) {
        let disk = HookedDisk::new();
        let (journal, mut writer) = journal(&disk);
        let texts: Vec<String> = sizes.iter().enumerate().map(|(i, size)| format!("<{i}>{}", "x".repeat(*size))).collect();
        let _receipt = journal.append(appends(texts.iter().map(String::as_str)), permit());
        writer.commit();
        let mut damaged: Vec<usize> = damaged.iter().map(|index| index.index(texts.len())).collect();
        damaged.sort_unstable();
        damaged.dedup();
        let marks: Vec<String> = damaged.iter().map(|i| format!("<{i}>")).collect();
        disk.damage(&marks.iter().map(String::as_str).collect::<Vec<_>>());
        let reader = journal.reader().clone();
        let mut stored = Ascending::new(&reader);
        for (i, text) in texts.iter().enumerate().filter(|(i, _)| asked[*i]) {
            let found = stored.find(i as u64 + 1, |line| line.unescaped() == *text).unwrap();
            prop_assert_eq!(found, (!damaged.contains(&i)).then_some(true), "entry {}", i + 1);
        }
    }
}
