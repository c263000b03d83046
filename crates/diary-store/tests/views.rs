//! What a reader sees while a day begins: always one state of the journal, whole.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use diary_proto::block::{Step, Walker};
use diary_proto::{Author, Date, Day, Time, Which};
use diary_store::sim::SimDisk;
use diary_store::{Appender, NewEntry, Range, Reader, Staged, open};

const NOON: i64 = 1_795_168_800_000_000;
const DAY: i64 = 24 * 60 * 60 * 1_000_000;
const DAYS: i64 = 2_000;

fn at(day: i64) -> Time {
    Time { micros: NOON + day * DAY, offset_minutes: 0 }
}

/// Three entries; the last two may be about the day before.
fn append(appender: &mut Appender, day: i64, own: bool) {
    let author = Author::new("anna").unwrap();
    let own = own.then(|| at(day - 1));
    for own in [None, own, own] {
        let entry = NewEntry { author: &author, text: "x", key: None, at: own, relation: None };
        assert!(matches!(appender.stage(at(day), entry), Staged::New(_)));
    }
    appender.commit(at(day)).unwrap();
}

/// The seqs of a range, each of which must lie in it.
fn seqs(reader: &Reader, mut range: Range) -> Vec<u64> {
    let (mut walker, mut seen) = (Walker::new(range.first, reader.seal()), Vec::new());
    let (dense, first, last) = (range.is_dense(), range.first, range.last);
    while let Some(page) = reader.next_page(&mut range, 64 * 1024).unwrap() {
        walker.walk(&page, |step| match step {
            Step::Entry(line) => seen.push(line.seq),
            Step::Gap(gap) => assert!(!dense, "{gap:?} in {first}..{last}"),
        });
    }
    assert_eq!(walker.finish(last).filter(|_| dense), None, "{first}..{last}");
    assert!(seen.iter().all(|seq| (first..=last).contains(seq)), "{seen:?} in {first}..{last}");
    seen
}

/// Days begin as fast as they can while somebody reads.
fn while_days_begin(own: bool, look: impl Fn(&Reader) + Send + Sync) {
    let (mut appender, reader) =
        open(Arc::new(SimDisk::new()), Path::new("/data/diary")).unwrap().with_derived().unwrap();
    append(&mut appender, 0, own);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                look(&reader);
            }
        });
        (1..DAYS).for_each(|day| append(&mut appender, day, own));
        done.store(true, Ordering::Relaxed);
    });
}

fn day(reader: &Reader, date: Date) -> Range {
    reader.range(Which::Days(Day::Date(date), Day::Date(date)), date).unwrap()
}

#[test]
fn a_day_has_its_entries_and_no_gap_while_the_next_one_begins() {
    while_days_begin(false, |reader| {
        let newest = reader.head().file.unwrap();
        assert_eq!(seqs(reader, day(reader, newest)).len(), 3, "{newest}");
        let next = newest.saturating_add(jiff::Span::new().days(1));
        let seen = seqs(reader, day(reader, next)).len();
        assert!(seen == 0 || seen == 3, "{next}: {seen}");
    });
}

#[test]
fn own_times_are_known_with_the_head_that_they_are_committed_by() {
    while_days_begin(true, |reader| {
        let newest = reader.head().file.unwrap();
        // One in its own file, and two in that of the next day.
        let seen = seqs(reader, day(reader, newest)).len();
        assert!(seen == 1 || seen == 3, "{newest}: {seen}");
    });
}

#[test]
fn a_range_to_the_head_ends_there() {
    while_days_begin(false, |reader| {
        let range = reader.range(Which::Last(5), Date::MAX).unwrap();
        let last = range.last;
        assert_eq!(seqs(reader, range).last(), Some(&last));
    });
}
