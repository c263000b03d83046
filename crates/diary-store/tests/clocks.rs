//! Clocks and zones that go back. An entry is of the day that its writer's clock showed, whatever its file is called;
//! an archive is the way out for a journal that a wrong clock took into the future.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use diary_proto::{Author, Date, Day, DayStart, StoredLine, Time, Which};
use diary_store::disk::{Disk, How, RealDisk};
use diary_store::sim::SimDisk;
use diary_store::{Appender, Committed, NewEntry, Reader, Staged, archive, open, repair, verify};

mod support;
use support::{DAY, Diary, NOON, Opened, all, at, texts};

const HOUR: i64 = DAY / 24;

/// 2099-01-01T00:00:00Z.
const FUTURE: i64 = 4_070_908_800_000_000;

/// So many hours after 2026-11-20T10:00Z, on a clock so many hours ahead of UTC.
fn local(hours: i64, ahead: i16) -> Time {
    Time { micros: NOON + hours * HOUR, offset_minutes: ahead * 60 }
}

/// Appends one batch.
fn append(appender: &mut Appender, now: Time, texts: &[&str]) -> Committed {
    let author = Author::new("anna").unwrap();
    for text in texts {
        let staged =
            appender.stage(now, NewEntry { author: &author, text, key: None, at: None, relation: None });
        assert!(matches!(staged, Staged::New(_)), "{staged:?}");
    }
    appender.commit(now).unwrap()
}

/// The texts of one day.
fn day(reader: &Reader, date: &str) -> Vec<String> {
    let day = Day::Date(date.parse().unwrap());
    let mut range = reader.range(Which::Days(day, day), Date::constant(2026, 11, 20)).unwrap();
    let mut seen = Vec::new();
    while let Some(page) = reader.next_page(&mut range, 4096).unwrap() {
        let lines =
            page.split(|&b| b == b'\n').filter_map(|line| StoredLine::parse(line, reader.seal()).ok());
        seen.extend(lines.map(|line| line.text.to_owned()));
    }
    seen
}

fn archive_at(disk: Arc<dyn Disk>, dir: &Path, now: Time) {
    archive(&disk, dir, now, DayStart::default()).unwrap().expect("there are entries");
}

fn sound(dir: &Path) {
    let mut findings = Vec::new();
    verify(Arc::new(RealDisk), dir, |finding| findings.push(finding.to_string())).unwrap();
    assert_eq!(findings, [""; 0], "{}", dir.display());
}

/// Holds `check` against a journal that goes on, after a clean stop, after a kill, and without its cache.
fn check_ever_after(diary: &Diary, opened: Opened, check: impl Fn(&Reader)) {
    check(&opened.reader);
    opened.appender.stop().unwrap();
    check(&diary.open().reader);
    fs::remove_file(diary.file("cache")).unwrap();
    check(&diary.open().reader);
    sound(&diary.dir);
    let copy = diary.dir.with_file_name("copy");
    repair(&(Arc::new(RealDisk) as Arc<dyn Disk>), &diary.dir, &copy).unwrap();
    let (_, reader) = open(Arc::new(RealDisk), &copy).unwrap().with_derived().unwrap();
    check(&reader);
}

#[test]
fn a_zone_that_moves_over_midnight_changes_no_day() {
    let diary = Diary::new();
    let Opened { mut appender, .. } = diary.open();
    append(&mut appender, local(0, 14), &["in Kiritimati"]);
    drop(appender);
    // An hour later, 25 hours further west.
    let Opened { mut appender, .. } = diary.open();
    append(&mut appender, local(1, -11), &["in Niue", "there too"]);
    append(&mut appender, local(25, -11), &["in Niue on the day that Kiritimati had"]);
    drop(appender);
    let Opened { mut appender, reader } = diary.open();
    append(&mut appender, local(25, 14), &["back"]);
    append(&mut appender, local(26, -11), &["and forth"]);
    append(&mut appender, local(49, -11), &["a day later"]);
    check_ever_after(&diary, Opened { appender, reader }, |reader| {
        assert_eq!(day(reader, "2026-11-20"), ["in Niue", "there too"]);
        let expected = ["in Kiritimati", "in Niue on the day that Kiritimati had", "and forth"];
        assert_eq!(day(reader, "2026-11-21"), expected);
        assert_eq!(day(reader, "2026-11-22"), ["back", "a day later"]);
        assert_eq!(all(reader).len(), 7);
    });
    assert_eq!(diary.files(), ["2026-11-21.log", "2026-11-22.log"], "a file's date never goes back");
}

/// Where header and first entry are damaged, the entries behind them are of the file all the same.
#[test]
fn a_file_whose_entries_are_of_the_day_before_is_no_stray() {
    let diary = Diary::new();
    let Opened { mut appender, .. } = diary.open();
    append(&mut appender, local(-24, 0), &["before"]);
    append(&mut appender, local(0, 14), &["in Kiritimati"]);
    append(&mut appender, local(1, -11), &["in Niue"]);
    append(&mut appender, local(2, -11), &["there too"]);
    appender.stop().unwrap();
    let path = diary.file("2026-11-21.log");
    let damaged =
        fs::read_to_string(&path).unwrap().replace("# diary", "# dairy").replace("Kiritimati", "Tonga");
    fs::write(&path, damaged).unwrap();
    for small in ["head", "cache"] {
        assert_eq!(all(&diary.open().reader), ["1 before", "gap 2..2", "3 in Niue", "4 there too"]);
        fs::remove_file(diary.file(small)).unwrap();
    }
    assert_eq!(all(&diary.open().reader), ["1 before", "gap 2..2", "3 in Niue", "4 there too"]);
}

#[test]
fn days_that_start_later_from_now_on_change_no_day() {
    let diary = Diary::new();
    let Opened { mut appender, reader } = diary.open();
    // 00:30, 01:00 and 03:00 of the 21st.
    append(&mut appender, local(0, 14), &["after midnight"]);
    appender.start_days_at("03:00".parse().unwrap());
    append(&mut appender, local(1, 14), &["the evening before"]);
    append(&mut appender, local(3, 14), &["the morning"]);
    check_ever_after(&diary, Opened { appender, reader }, |reader| {
        assert_eq!(day(reader, "2026-11-20"), ["the evening before"]);
        assert_eq!(day(reader, "2026-11-21"), ["after midnight", "the morning"]);
    });
}

#[test]
fn a_clock_that_was_in_the_future_leaves_days_and_acks_alone() {
    let diary = Diary::new();
    let Opened { mut appender, reader } = diary.open();
    append(&mut appender, local(0, 0), &["before"]);
    append(&mut appender, at(FUTURE), &["from the future"]);
    let committed = append(&mut appender, local(1, 0), &["after"]);
    assert_eq!(committed.time, local(1, 0), "an ack has the time of the clock");
    check_ever_after(&diary, Opened { appender, reader }, |reader| {
        assert_eq!(day(reader, "2026-11-20"), ["before", "after"]);
        assert_eq!(day(reader, "2099-01-01"), ["from the future"]);
    });
}

#[test]
fn a_clock_that_is_behind_by_little_is_told_by_more_than_a_second() {
    let diary = Diary::new();
    let Opened { mut appender, reader } = diary.open();
    let second = 1_000_000;
    append(&mut appender, at(NOON), &["one"]);
    assert_eq!(append(&mut appender, at(NOON - second / 2), &["two"]).time, at(NOON));
    assert_eq!(append(&mut appender, at(NOON - 2 * second), &["three"]).time, at(NOON - 2 * second));
    let own = |seq| reader.entry(seq).unwrap().unwrap().own.map(|own| own.at);
    assert_eq!([own(2), own(3)], [None, Some(at(NOON - 2 * second))]);
    assert_eq!(day(&reader, "2026-11-20"), ["one", "two", "three"]);
    // Over midnight, too: 23:59:58 on a clock that was at 00:00.
    append(&mut appender, local(14, 0), &["midnight"]);
    append(&mut appender, at(local(14, 0).micros - 2 * second), &["before it"]);
    assert_eq!(day(&reader, "2026-11-20").last().unwrap(), "before it");
    assert_eq!(day(&reader, "2026-11-21"), ["midnight"]);
}

#[test]
fn a_clock_before_1970_is_a_clock() {
    let diary = Diary::new();
    let Opened { mut appender, reader } = diary.open();
    append(&mut appender, at(-1), &["the last moment"]);
    append(&mut appender, at(0), &["the first"]);
    check_ever_after(&diary, Opened { appender, reader }, |reader| {
        assert_eq!(day(reader, "1969-12-31"), ["the last moment"]);
        assert_eq!(day(reader, "1970-01-01"), ["the first"]);
    });
}

#[test]
fn an_archive_is_the_way_out_of_the_future() {
    let diary = Diary::new();
    let Opened { mut appender, .. } = diary.open();
    append(&mut appender, local(0, 0), &["before"]);
    append(&mut appender, at(FUTURE), &["from the future"]);
    append(&mut appender, local(1, 0), &["after"]);
    appender.stop().unwrap();
    archive_at(Arc::new(RealDisk), &diary.dir, local(2, 0));
    assert_eq!(
        diary.files(),
        ["2026-11-20.log", "archive/2026-11-20/2026-11-20.log", "archive/2026-11-20/2099-01-01.log"]
    );
    let header = fs::read_to_string(diary.file("2026-11-20.log")).unwrap();
    assert!(header.lines().next().unwrap().contains(" after=2099-01-01.log:3:"), "{header}");
    sound(&diary.dir);
    sound(&diary.file("archive/2026-11-20"));

    let Opened { mut appender, reader } = diary.open();
    assert_eq!(append(&mut appender, local(3, 0), &["afresh"]).time, local(3, 0));
    let entry = reader.entry(4).unwrap().unwrap();
    assert_eq!((entry.time, entry.own, entry.day), (local(3, 0), None, None));
    append(&mut appender, local(20, 0), &["the next day"]);
    assert!(reader.archive_of(3).unwrap().unwrap().entry(3).unwrap().is_some());
    check_ever_after(&diary, Opened { appender, reader }, |reader| {
        assert_eq!(all(reader), ["4 afresh", "5 the next day"]);
        assert_eq!(day(reader, "2026-11-20"), ["afresh"]);
        assert_eq!(day(reader, "2026-11-21"), ["the next day"]);
        assert_eq!(day(reader, "2099-01-01"), [""; 0]);
    });
    assert!(diary.file("2026-11-21.log").exists());
}

/// A zone that moved west needs no archive, but one begins on the day that the clock shows all the same.
#[test]
fn an_archive_begins_on_the_day_of_its_zone() {
    let diary = Diary::new();
    let Opened { mut appender, .. } = diary.open();
    append(&mut appender, local(0, 14), &["in Kiritimati"]);
    appender.stop().unwrap();
    archive_at(Arc::new(RealDisk), &diary.dir, local(1, -11));
    assert_eq!(diary.files(), ["2026-11-20.log", "archive/2026-11-20/2026-11-21.log"]);
    let Opened { mut appender, reader } = diary.open();
    append(&mut appender, local(2, -11), &["in Niue"]);
    assert_eq!(day(&reader, "2026-11-20"), ["in Niue"]);
    sound(&diary.dir);
}

/// The head that a stop wrote in the future says nothing of the fresh file, wherever the archive was ended: what is
/// torn there later is set aside, and no seq is lost.
#[test]
fn an_archive_out_of_the_future_that_is_ended_anywhere() {
    let dir = Path::new("/data/diary");
    let start = |disk: &SimDisk| open(Arc::new(disk.clone()), dir).unwrap().with_derived().unwrap();
    let lived = SimDisk::new();
    let (mut appender, _) = start(&lived);
    // Long enough that its end lies behind that of the fresh file.
    append(&mut appender, local(0, 0), &[&"x".repeat(4000)]);
    append(&mut appender, at(FUTURE), &[&"y".repeat(4000)]);
    appender.stop().unwrap();
    lived.kill();
    for today in [local(1, 0), at(FUTURE + 1)] {
        for call in 0.. {
            let disk = lived.fork();
            disk.die_at(call);
            let shared: Arc<dyn Disk> = Arc::new(disk.clone());
            let ended = archive(&shared, dir, today, DayStart::default());
            disk.kill();
            archive(&shared, dir, today, DayStart::default()).unwrap();
            let (mut appender, reader) = start(&disk);
            append(&mut appender, today, &["one", "two"]);
            drop((appender, reader));
            disk.kill();
            let days = disk.contents().into_keys().filter(|path| path.parent() == Some(dir));
            let newest = days.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap();
            let file = disk.open(&newest, How::Write).unwrap();
            file.write_all_at(b"5 2026-11-20T12:00:00.000000+00:00 anna half a li", file.size().unwrap())
                .unwrap();
            let (mut appender, reader) = start(&disk);
            append(&mut appender, today, &["three"]);
            let seen = texts(&reader, reader.from(1).unwrap());
            assert_eq!(seen, ["3 one", "4 two", "5 three"], "ended at {call}");
            if ended.is_ok() {
                break;
            }
        }
    }
}
