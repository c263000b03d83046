//! Where missing entries should be, found in one pass of each file.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use diary_proto::Date;
use diary_proto::block::{Step, Walker};
use diary_proto::entry::{StoredLine, is_note};
use diary_store::{Located, Reader, open};
use support::counting::Counting;
use support::*;

const MIB: u64 = 1024 * 1024;

/// Three days of so many entries each, about a KiB an entry; `damage` says what becomes of a line.
fn damaged(entries: u64, damage: impl Fn(u64, &mut Vec<u8>)) -> (Diary, Reader, Counting) {
    let diary = Diary::new();
    let Opened { mut appender, .. } = diary.open();
    let text = "x".repeat(1000);
    for day in 0..3 {
        (0..entries / 1000).for_each(|_| append(&mut appender, NOON + day * DAY, &vec![text.as_str(); 1000]));
    }
    // What lies before a sound batch is no torn tail.
    append(&mut appender, NOON + 2 * DAY, &["the end"]);
    drop(appender);
    for name in diary.files() {
        let file = fs::read(diary.file(&name)).unwrap();
        let seal = seal_in(&file);
        let mut lines: Vec<Vec<u8>> = file.split_inclusive(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
        for line in &mut lines {
            if let Ok(stored) = StoredLine::parse(line.strip_suffix(b"\n").unwrap(), seal) {
                let seq = stored.seq;
                if seq <= 3 * entries {
                    damage(seq, line);
                }
            }
        }
        fs::write(diary.file(&name), lines.concat()).unwrap();
    }
    let disk = Counting::default();
    let reader = open(Arc::new(disk.clone()), &diary.dir).unwrap().reader;
    disk.0.store(0, Ordering::Relaxed);
    (diary, reader, disk)
}

fn gaps(reader: &Reader) -> Vec<u64> {
    let mut range = reader.from(1).unwrap();
    let (mut walker, mut gaps) = (Walker::new(range.first, reader.seal()), Vec::new());
    while let Some(page) = reader.next_page(&mut range, 64 * 1024).unwrap() {
        walker.walk(&page, |step| {
            if let Step::Gap(gap) = step {
                gaps.push(gap.first);
            }
        });
    }
    gaps.extend(walker.finish(range.last).map(|gap| gap.first));
    gaps
}

/// Line by line: the first that is sound and of a later entry, or damaged and right behind the entry before.
fn by_looking_at_every_line(dir: &Path, date: Date, first: u64, seq: u64) -> Located {
    let file = fs::read(dir.join(format!("{date}.log"))).unwrap();
    let (mut newest, mut number) = (first - 1, 0);
    let seal = seal_in(&file);
    for line in file.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        number += 1;
        let is_it = match StoredLine::parse(line, seal) {
            Ok(stored) => {
                newest = stored.seq;
                stored.seq > seq
            }
            Err(_) => newest + 1 == seq && number > 1 && !is_note(line, seal),
        };
        if is_it {
            return Located::Line(date, number);
        }
    }
    Located::Behind(date)
}

#[test]
fn every_gap_is_found_where_a_look_at_every_line_finds_it() {
    let (diary, reader, _) = damaged(1000, |seq, line| match seq % 97 {
        // Its text, its seq, its line feed, all of it.
        3 => *line.last_chunk_mut::<9>().unwrap() = *b"12345678\n",
        20 => line[0] = b'9',
        21 if seq > 900 => line[0] = b'0',
        40 => *line.last_mut().unwrap() = b'x',
        60..63 => line.clear(),
        _ if (1990..=2000).contains(&seq) => line.clear(),
        _ => {}
    });
    let gaps = gaps(&reader);
    assert!(gaps.len() > 90, "{gaps:?}");
    let dates = [20, 21, 22].map(|day| Date::constant(2026, 11, day));
    let expected: Vec<Located> = gaps
        .iter()
        .map(|&seq| {
            let day = ((seq - 1) / 1000).min(2);
            by_looking_at_every_line(&diary.dir, dates[usize::try_from(day).unwrap()], day * 1000 + 1, seq)
        })
        .collect();
    assert_eq!(reader.locate_all(&gaps), expected);
    assert!(expected.contains(&Located::Behind(dates[1])));
    for (seq, &expected) in gaps.iter().zip(&expected) {
        assert_eq!(reader.locate_all(&[*seq]), [expected], "{seq} alone");
    }
}

#[test]
fn a_file_is_read_once_for_all_its_gaps_and_no_further_than_to_the_last() {
    let (_diary, reader, disk) = damaged(20_000, |seq, line| {
        if seq % 50 == 7 && !(10_000..=40_000).contains(&seq) {
            line[10] ^= 1;
        }
    });
    let gaps = gaps(&reader);
    assert_eq!(gaps.len(), 600);
    let read = |gaps: &[u64]| {
        disk.0.store(0, Ordering::Relaxed);
        let places = reader.locate_all(gaps);
        assert!(places.iter().all(|place| matches!(place, Located::Line(..))), "{places:?}");
        disk.0.load(Ordering::Relaxed) / MIB
    };
    // Half of the first file, none of the second, all of the third; and what is read ahead.
    let file = 20;
    let all = read(&gaps);
    assert!((file * 3 / 2 - 2..file * 3 / 2 + 6).contains(&all), "{all} MiB");
    let few = read(&gaps[..3]);
    assert!(few <= 4, "{few} MiB");
    let one = read(&gaps[400..401]);
    assert!(one < file, "{one} MiB");
}

#[test]
fn a_file_that_cannot_be_read_says_so_for_its_own_gaps_only() {
    let (diary, reader, _) = damaged(1000, |seq, line| {
        if seq % 500 == 7 {
            line[10] ^= 1;
        }
    });
    let gaps = gaps(&reader);
    assert_eq!(gaps.len(), 6);
    fs::remove_file(diary.file("2026-11-21.log")).unwrap();
    let places = reader.locate_all(&gaps);
    let unreadable = Located::Unreadable(Date::constant(2026, 11, 21), std::io::ErrorKind::NotFound);
    assert_eq!(places.iter().filter(|&&place| place == unreadable).count(), 2, "{places:?}");
    assert_eq!(places.iter().filter(|place| matches!(place, Located::Line(..))).count(), 4, "{places:?}");
}
