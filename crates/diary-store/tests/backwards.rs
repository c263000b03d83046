//! A range that is read from its end, part by part, is the same range; and so is what is left of one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use diary_proto::block::{Gap, Step, Walker};
use diary_proto::{Author, Date, Day, StoredLine, Time, Which};
use diary_store::{NewEntry, Range, Reader, Staged};

mod support;
use support::{DAY, Diary, NOON, Opened, at};

const TODAY: Date = Date::constant(2026, 11, 24);

/// What a range brings in its own order; of an entry only the seq, as both ends of a gap.
fn read(reader: &Reader, mut range: Range) -> Vec<(char, u64, u64)> {
    let (mut walker, last, dense) = (Walker::new(range.first, reader.seal()), range.last, range.is_dense());
    let mut seen = Vec::new();
    let gap = |Gap { first, last }| ('-', first, last);
    while let Some(page) = reader.next_page(&mut range, 300).unwrap() {
        if dense {
            walker.walk(&page, |step| match step {
                Step::Entry(line) => seen.push(('+', line.seq, line.seq)),
                Step::Gap(met) => seen.push(gap(met)),
            });
            continue;
        }
        for line in page.split(|&b| b == b'\n') {
            seen.extend(StoredLine::parse(line, reader.seal()).ok().map(|line| ('+', line.seq, line.seq)));
            seen.extend(Gap::of_note(line, reader.seal()).map(gap));
        }
    }
    seen.extend(walker.finish(last).filter(|_| dense).map(gap));
    seen
}

/// The same from its end.
fn read_back(reader: &Reader, mut range: Range, part_bytes: usize) -> Vec<(char, u64, u64)> {
    let mut seen = Vec::new();
    while let Some(part) = reader.split_end(&mut range, part_bytes).unwrap() {
        assert!(range.last < part.first, "{range:?} {part:?}");
        seen.extend(read(reader, part).into_iter().rev());
    }
    seen.reverse();
    seen
}

/// What of it is between two seqs.
fn between(seen: &[(char, u64, u64)], first: u64, last: u64) -> Vec<(char, u64, u64)> {
    let clipped = seen.iter().map(|&(what, from, to)| (what, from.max(first), to.min(last)));
    clipped.filter(|(_, from, to)| from <= to).collect()
}

/// Four days of ten entries, one of them long. `own`: some are about other days.
fn four_days(own: bool) -> (Diary, Opened) {
    let (diary, author) = (Diary::new(), Author::new("anna").unwrap());
    let mut opened = diary.open();
    let long = "x".repeat(50_000);
    for day in 0..4 {
        for number in 0..10 {
            let about = own && number % 4 == 1;
            let about = about.then(|| Time { micros: NOON + (day + number - 5) * DAY, offset_minutes: 480 });
            let text = if (day, number) == (2, 5) { long.as_str() } else { "text" };
            let now = at(NOON + day * DAY);
            let staged = opened
                .appender
                .stage(now, NewEntry { author: &author, text, key: None, at: about, relation: None });
            assert!(matches!(staged, Staged::New(_)));
        }
        opened.appender.commit(at(NOON + day * DAY)).unwrap();
    }
    (diary, opened)
}

/// Breaks the lines of these entries.
fn damage(diary: &Diary, seqs: &[u64]) {
    for name in diary.files() {
        let path = diary.file(&name);
        let mut bytes = fs::read(&path).unwrap();
        for seq in seqs {
            if let Some(at) = memchr::memmem::find(&bytes, format!("\n{seq} 2026").as_bytes()) {
                bytes[at + 10] = b'?';
            }
        }
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn every_part_and_every_rest_of_a_range_has_what_the_range_has() {
    let third: Vec<u64> = (21..=30).collect();
    for own in [false, true] {
        for damaged in [&[][..], &[5], &[1, 2, 10, 11, 12, 40], &[9, 10, 11, 25], &third, &[20, 29, 30, 31]] {
            let (diary, opened) = four_days(own);
            damage(&diary, damaged);
            let reader = &opened.reader;
            let day = |day: i8| Day::Date(Date::constant(2026, 11, day));
            for which in [
                Which::All,
                Which::Last(13),
                Which::Last(0),
                Which::From(7),
                Which::Days(day(20), day(20)),
                Which::Days(day(21), day(22)),
                Which::Days(day(1), day(30)),
                Which::Days(day(1), day(2)),
            ] {
                let range = reader.range(which, TODAY).unwrap();
                let whole = read(reader, range.clone());
                for part_bytes in [1, 100, 400, 1000, 100_000] {
                    let case = format!("own {own}, damaged {damaged:?}, {which}, {part_bytes}");
                    assert_eq!(read_back(reader, range.clone(), part_bytes), whole, "{case}");
                }
                for (first, last) in [(1, 40), (8, 33), (1, 20), (21, 40), (11, 10), (12, 12), (50, 60)] {
                    let mut rest = range.clone();
                    reader.narrow(&mut rest, first, last).unwrap();
                    let case = format!("own {own}, damaged {damaged:?}, {which}, {first}..{last}");
                    let expected = between(&whole, first, last);
                    assert_eq!(read(reader, rest.clone()), expected, "{case}");
                    assert_eq!(read_back(reader, rest, 400), expected, "{case}, from its end");
                }
            }
        }
    }
}
