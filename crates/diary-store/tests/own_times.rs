//! Entries with a time of their own are found on the day that they are about, and nowhere else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::sync::Arc;

use diary_proto::block::Gap;
use diary_proto::{Author, Date, Day, DayStart, Seal, StoredLine, Time, Which, seal};
use diary_store::disk::RealDisk;
use diary_store::{Appender, NewEntry, Reader, Staged, open};
use proptest::prelude::*;

mod support;
use support::{DAY, Diary, NOON, Opened, append, at};

/// Appends one batch; a text and its own time each.
fn append_own(appender: &mut Appender, now: i64, entries: &[(&str, Option<Time>)]) {
    let author = Author::new("anna").unwrap();
    for (text, own) in entries {
        let staged =
            appender.stage(at(now), NewEntry { author: &author, text, key: None, at: *own, relation: None });
        assert!(matches!(staged, Staged::New(_)), "{staged:?}");
    }
    appender.commit(at(now)).unwrap();
}

/// The texts of some days, and gaps.
fn days(reader: &Reader, from: Date, to: Date) -> Vec<String> {
    let which = Which::Days(Day::Date(from), Day::Date(to));
    let mut range = reader.range(which, Date::constant(2026, 11, 20)).unwrap();
    let mut seen = Vec::new();
    while let Some(page) = reader.next_page(&mut range, 4096).unwrap() {
        assert!(page.last().is_none_or(|&b| b == b'\n'));
        for line in page.split(|&b| b == b'\n') {
            if let Ok(line) = StoredLine::parse(line, reader.seal()) {
                seen.push(line.text.to_owned());
            } else if let Some(Gap { first, last }) = Gap::of_note(line, reader.seal()) {
                seen.push(format!("gap {first}..{last}"));
            }
        }
    }
    seen
}

fn day(reader: &Reader, date: &str) -> Vec<String> {
    let date = date.parse().unwrap();
    days(reader, date, date)
}

/// In 2015, so many days after March 2nd.
fn long_ago(days: i64) -> Time {
    Time { micros: 1_425_284_100_000_000 + days * DAY, offset_minutes: 480 }
}

#[test]
fn an_entry_is_on_its_own_day_and_not_on_that_of_its_file() {
    let diary = Diary::new();
    let check = |reader: &Reader| {
        assert_eq!(day(reader, "2015-03-02"), ["moved in"]);
        assert_eq!(day(reader, "2015-03-03"), ["next day", "added later"]);
        assert_eq!(days(reader, Date::constant(2015, 1, 1), Date::constant(2015, 12, 31)).len(), 3);
        assert_eq!(day(reader, "2026-11-20"), ["one", "two"]);
        assert_eq!(day(reader, "2026-11-21"), ["today"]);
        assert_eq!(day(reader, "2020-01-01"), [""; 0]);
        let all = days(reader, Date::constant(2015, 1, 1), Date::constant(2026, 12, 31));
        assert_eq!(all, ["one", "moved in", "next day", "two", "added later", "today"]);
    };
    let Opened { mut appender, reader } = diary.open();
    append(&mut appender, NOON, &["one"]);
    append_own(
        &mut appender,
        NOON,
        &[("moved in", Some(long_ago(0))), ("next day", Some(long_ago(1))), ("two", None)],
    );
    append_own(&mut appender, NOON + DAY, &[("added later", Some(long_ago(1))), ("today", None)]);
    check(&reader);

    appender.stop().unwrap();
    check(&diary.open().reader);
    // Without what a stop left, everything is read.
    fs::remove_file(diary.file("cache")).unwrap();
    check(&diary.open().reader);
}

#[test]
fn what_is_committed_while_the_own_times_are_loaded_is_found() {
    let diary = Diary::new();
    let Opened { mut appender, .. } = diary.open();
    append_own(&mut appender, NOON, &[("before", Some(long_ago(0)))]);
    drop(appender);
    let mut opened = open(Arc::new(RealDisk), &diary.dir).unwrap();
    let derived = opened.derived.load().unwrap();
    append_own(&mut opened.appender, NOON, &[("meanwhile", Some(long_ago(0)))]);
    opened.appender.set_derived(derived);
    append_own(&mut opened.appender, NOON, &[("after", Some(long_ago(0)))]);
    assert_eq!(day(&opened.reader, "2015-03-02"), ["before", "meanwhile", "after"]);
}

#[test]
fn damage_among_them_is_told() {
    let diary = Diary::new();
    let Opened { mut appender, .. } = diary.open();
    let entries = ["one", "two", "three", "four"].map(|text| (text, Some(long_ago(0))));
    append_own(&mut appender, NOON, &entries);
    append(&mut appender, NOON + DAY, &["later"]);
    appender.stop().unwrap();
    let path = diary.file("2026-11-20.log");
    let damaged = fs::read_to_string(&path).unwrap().replace("two", "2wo");
    fs::write(&path, &damaged).unwrap();
    assert_eq!(day(&diary.open().reader, "2015-03-02"), ["one", "gap 2..2", "three", "four"]);
    fs::remove_file(&path).unwrap();
    assert_eq!(day(&diary.open().reader, "2015-03-02"), ["gap 1..4"]);
    // What is derived anew knows of what is missing among them that it may be of their day.
    fs::write(&path, damaged).unwrap();
    fs::remove_file(diary.file("cache")).unwrap();
    assert_eq!(day(&diary.open().reader, "2015-03-02"), ["one", "gap 2..2", "three", "four"]);
}

#[test]
fn before_a_day_starts_it_is_the_evening_before() {
    const HOUR: i64 = DAY / 24;
    let midnight = NOON + 14 * HOUR;
    let diary = Diary::new();
    let Opened { mut appender, reader } = diary.open();
    appender.start_days_at("03:00".parse::<DayStart>().unwrap());
    append(&mut appender, NOON, &["noon"]);
    let late = Time { micros: long_ago(0).micros + 10 * HOUR, ..long_ago(0) };
    append_own(&mut appender, midnight + HOUR, &[("at one", None), ("one in the night", Some(late))]);
    append(&mut appender, midnight + 3 * HOUR, &["at three"]);
    let check = |reader: &Reader| {
        assert_eq!(day(reader, "2026-11-20"), ["noon", "at one"]);
        assert_eq!(day(reader, "2026-11-21"), ["at three"]);
        // 02:15 on the third.
        assert_eq!(day(reader, "2015-03-02"), ["one in the night"]);
        assert_eq!(day(reader, "2015-03-03"), [""; 0]);
    };
    check(&reader);
    assert_eq!(diary.files(), ["2026-11-20.log", "2026-11-21.log"]);
    drop(appender);
    // A line says its day where its time does not.
    let file = fs::read_to_string(diary.file("2026-11-20.log")).unwrap();
    let fields =
        |text: &str| file.lines().find(|line| line.contains(text)).unwrap().split_once('\t').unwrap().1;
    assert!(fields("at one\t").contains(" day=2026-11-20 "), "{file}");
    assert!(!fields("noon\t").contains("day="), "{file}");

    // Another start of the day changes nothing that is there.
    let Opened { mut appender, reader } = diary.open();
    check(&reader);
    append_own(&mut appender, midnight + 25 * HOUR, &[("midnight again", Some(late))]);
    assert_eq!(day(&reader, "2015-03-03"), ["midnight again"]);
    assert_eq!(diary.files().len(), 3);
}

#[test]
fn a_cache_of_an_earlier_version_is_made_again() {
    let diary = Diary::new();
    let Opened { mut appender, .. } = diary.open();
    append_own(&mut appender, NOON, &[("one", None), ("then", Some(long_ago(0)))]);
    appender.stop().unwrap();
    let cache = fs::read(diary.file("cache")).unwrap();
    let place = &cache[..memchr::memmem::find(&cache, b" length=").unwrap()];
    let place = std::str::from_utf8(place).unwrap().strip_prefix("cache 6 ").unwrap();
    // It fits the diary, and knows of no own time.
    let tables = [0; 9];
    let crc = String::from_utf8(seal::hex(seal::crc(&tables)).to_vec()).unwrap();
    let mut earlier = format!("cache 4 {place} length=9 table={crc}\t").into_bytes();
    Seal::PLAIN.write(&mut earlier, 0);
    earlier.extend_from_slice(&tables);
    fs::write(diary.file("cache"), &earlier).unwrap();
    let Opened { appender, reader } = diary.open();
    assert_eq!(day(&reader, "2015-03-02"), ["then"]);
    appender.stop().unwrap();
    assert_eq!(fs::read(diary.file("cache")).unwrap(), cache);
}

/// What happens to a diary.
#[derive(Debug, Clone)]
enum Step {
    /// One batch, so many days after the one before; each entry has an own time so many days after some day,
    /// or none.
    Append(i64, Vec<Option<i64>>),
    /// It is stopped, or killed, and started again, maybe without its cache.
    Restart { clean: bool, cache: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let entries = prop::collection::vec(prop::option::of(0..6_i64), 1..6);
    prop_oneof![
        4 => (0..2_i64, entries).prop_map(|(days, entries)| Step::Append(days, entries)),
        1 => any::<(bool, bool)>().prop_map(|(clean, cache)| Step::Restart { clean, cache }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_every_day_has_its_entries(steps in prop::collection::vec(step(), 1..14)) {
        let diary = Diary::new();
        let mut opened = Some(diary.open());
        let (mut now, mut number) = (NOON, 0);
        let mut expected: Vec<(Date, String)> = Vec::new();
        for step in steps {
            let Opened { mut appender, reader } = opened.take().unwrap();
            match step {
                Step::Append(days, entries) => {
                    now += days * DAY;
                    // Some own times lie on days that have a file.
                    let own = |days| Time { micros: NOON + (days - 2) * DAY, offset_minutes: 60 };
                    let entries: Vec<_> = entries.into_iter().map(|days| days.map(own)).collect();
                    let texts: Vec<_> = entries.iter().map(|_| { number += 1; number.to_string() }).collect();
                    let batch: Vec<_> = texts.iter().map(String::as_str).zip(entries.iter().copied()).collect();
                    append_own(&mut appender, now, &batch);
                    for (text, own) in texts.into_iter().zip(entries) {
                        expected.push((own.unwrap_or(at(now)).date(), text));
                    }
                    opened = Some(Opened { appender, reader });
                }
                Step::Restart { clean, cache } => {
                    match clean {
                        true => appender.stop().unwrap(),
                        false => drop(appender),
                    }
                    if !cache {
                        let _ = fs::remove_file(diary.file("cache"));
                    }
                    opened = Some(diary.open());
                }
            }
        }
        let reader = &opened.unwrap().reader;
        let all = || (0..20).map(|days| at(NOON + (days - 3) * DAY).date());
        for from in all() {
            for to in all().filter(|&to| from <= to) {
                let of_days = expected.iter().filter(|(date, _)| (from..=to).contains(date));
                let expected: Vec<_> = of_days.map(|(_, text)| text.clone()).collect();
                prop_assert_eq!(days(reader, from, to), expected, "{}..{}", from, to);
            }
        }
    }
}
