//! The journal on a real disk: what is appended is read back, whatever happened in between.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::sync::Arc;

use diary_proto::block::Walker;
use diary_proto::{Author, Date, Day, Key, Producer, Which};
use diary_store::disk::RealDisk;
use diary_store::{Appender, Derived, NewEntry, OpenError, Staged, open};
use support::*;

#[test]
fn a_range_by_every_way_of_asking() {
    let diary = Diary::new();
    let reader = three_days(&diary).reader;
    let today = Date::constant(2026, 11, 22);
    let date = |d| Day::Date(Date::constant(2026, 11, d));
    let check = |which, expected: &[&str]| {
        assert_eq!(texts(&reader, reader.range(which, today).unwrap()), expected, "{which}");
    };
    check(Which::All, &EVERYTHING);
    for last in 0..=10 {
        check(Which::Last(last), &EVERYTHING[9 - (last as usize).min(9)..]);
    }
    for from in 1..=10 {
        check(Which::From(from), &EVERYTHING[from as usize - 1..]);
    }
    check(Which::From(u64::MAX), &[]);
    check(Which::Last(u64::MAX), &EVERYTHING);
    check(Which::Days(date(20), date(20)), &EVERYTHING[..3]);
    check(Which::Days(Day::Yesterday, Day::Today), &EVERYTHING[3..]);
    check(Which::Days(date(1), date(30)), &EVERYTHING);
    check(Which::Days(date(23), date(30)), &[]);
    check(Which::Days(date(1), date(19)), &[]);
    for seq in 1..=9 {
        assert_eq!(reader.entry(seq).unwrap().unwrap().seq, seq);
    }
    assert!(reader.entry(10).unwrap().is_none());
}

#[test]
fn a_range_goes_on_where_it_ended() {
    let diary = Diary::new();
    let Opened { mut appender, reader } = diary.open();
    let mut range = reader.from(1).unwrap();
    assert!(reader.next_page(&mut range, 1024).unwrap().is_none());
    let mut walker = Walker::new(range.first, reader.seal());
    let mut seen = Vec::new();
    for (day, text) in ["a", "b", "c", "d"].into_iter().enumerate() {
        append(&mut appender, NOON + DAY * (day as i64 / 2), &[text]);
        reader.extend(&mut range);
        while let Some(page) = reader.next_page(&mut range, 1024).unwrap() {
            walker.walk(&page, |step| seen.push(show(step)));
        }
        assert_eq!(seen.len(), day + 1);
    }
    assert_eq!(seen, ["1 a", "2 b", "3 c", "4 d"]);
}

#[test]
fn bisection_finds_every_seq_in_a_large_file() {
    let diary = Diary::new();
    let Opened { mut appender, reader } = diary.open();
    let long = "x".repeat(60_000);
    for batch in 0..60 {
        let lines: Vec<String> = (0..40).map(|i| format!("{batch}.{i} {}", "y".repeat(i * 20))).collect();
        let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        if batch % 7 == 0 {
            lines.push(&long);
        }
        append(&mut appender, NOON + batch, &lines);
    }
    let head = reader.head().seq;
    for seq in (1..=head).step_by(13).chain([head]) {
        assert_eq!(reader.entry(seq).unwrap().unwrap().seq, seq);
    }
}

#[test]
fn a_clean_stop_and_a_kill_lose_nothing() {
    for clean in [true, false] {
        let diary = Diary::new();
        let opened = three_days(&diary);
        let id = opened.reader.id();
        match clean {
            true => opened.appender.stop().unwrap(),
            false => drop(opened.appender),
        }
        let mut opened = diary.open();
        assert_eq!(opened.reader.id(), id);
        assert_eq!(all(&opened.reader), EVERYTHING);
        append(&mut opened.appender, NOON + 3 * DAY, &["ten"]);
        assert_eq!(all(&opened.reader).len(), 10);
        assert_eq!(diary.files().len(), 4, "nothing went to quarantine");
    }
}

#[test]
fn a_clock_that_jumps_back_is_clamped_and_told() {
    let diary = Diary::new();
    let Opened { mut appender, reader } = diary.open();
    append(&mut appender, NOON + DAY, &["late"]);
    append(&mut appender, NOON, &["early"]);
    append(&mut appender, NOON + DAY - 500_000, &["a little early"]);
    let entries: Vec<_> = (1..=3).map(|seq| reader.entry(seq).unwrap().unwrap()).collect();
    assert!(entries.iter().all(|entry| entry.time == at(NOON + DAY)));
    assert_eq!(
        entries.iter().map(|entry| entry.own.map(|own| own.at)).collect::<Vec<_>>(),
        [None, Some(at(NOON)), None]
    );
    assert_eq!(diary.files(), ["2026-11-21.log"]);
}

#[test]
fn a_retried_key_is_one_entry_across_a_restart() {
    let diary = Diary::new();
    let author = Author::new("bot").unwrap();
    let key = |counter| Some((Key { producer: Producer(7), counter }, true));
    let Opened { mut appender, reader } = diary.open();
    let stage = |appender: &mut Appender, counter, text| {
        appender
            .stage(at(NOON), NewEntry { author: &author, text, key: key(counter), at: None, relation: None })
    };
    assert_eq!(stage(&mut appender, 1, "a"), Staged::New(1));
    assert_eq!(stage(&mut appender, 1, "a"), Staged::Known { seq: 1 });
    assert_eq!(stage(&mut appender, 1, "b"), Staged::Known { seq: 1 }, "texts are not compared");
    assert_eq!(appender.commit(at(NOON)).unwrap().count, 1);
    drop((appender, reader));

    let Opened { mut appender, reader } = diary.open();
    assert_eq!(stage(&mut appender, 1, "a"), Staged::Known { seq: 1 });
    assert_eq!(stage(&mut appender, 1, "b"), Staged::Known { seq: 1 }, "texts are not compared");
    assert_eq!(stage(&mut appender, 2, "b"), Staged::New(2));
    appender.commit(at(NOON)).unwrap();
    assert_eq!(all(&reader), ["1 a", "2 b"]);
}

#[test]
fn a_full_batch_says_so_and_keeps_its_limit() {
    let diary = Diary::new();
    let Opened { mut appender, reader } = diary.open();
    let author = Author::new("a").unwrap();
    let text = "\u{1}".repeat(64 * 1024);
    let entry = NewEntry { author: &author, text: &text, key: None, at: None, relation: None };
    let staged = (0..100).take_while(|_| appender.stage(at(NOON), entry) != Staged::Full).count();
    assert_eq!(staged, 15, "15 times 256 KiB fit into 4 MiB with their fields");
    appender.commit(at(NOON)).unwrap();
    assert!(reader.head().end <= 4 * 1024 * 1024);
    assert_eq!(appender.stage(at(NOON), entry), Staged::New(16));
}

#[test]
fn folders_that_cannot_be_used_say_so() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "x").unwrap();
    let error = open(Arc::new(RealDisk), &folder.path().join("file/diary")).err().unwrap();
    assert!(matches!(error, OpenError::Io { .. }), "{error}");

    let diary = Diary::new();
    let _opened = diary.open();
    let error = open(Arc::new(RealDisk), &diary.dir).err().unwrap();
    assert!(matches!(error, OpenError::Held(_)), "{error}");

    let diary = Diary::new();
    drop(diary.open());
    let mut line = b"# diary 2 x\t".to_vec();
    diary_proto::Seal::PLAIN.write(&mut line, 0);
    fs::write(diary.file("2026-11-20.log"), &line).unwrap();
    let error = open(Arc::new(RealDisk), &diary.dir).err().unwrap();
    assert!(matches!(error, OpenError::Newer(_, 2)), "{error}");
    assert_eq!(fs::read(diary.file("2026-11-20.log")).unwrap(), line);
}

#[test]
fn a_missing_day_is_a_gap() {
    let diary = Diary::new();
    drop(three_days(&diary));
    fs::rename(diary.file("2026-11-21.log"), diary.file("elsewhere")).unwrap();
    let expected = ["1 one", "2 two", "3 三", "gap 4..6", "7 seven", "8 eight", "9 nine"];
    assert_eq!(all(&diary.open().reader), expected);
    fs::rename(diary.file("2026-11-20.log"), diary.file("elsewhere")).unwrap();
    assert_eq!(all(&diary.open().reader), ["gap 1..6", "7 seven", "8 eight", "9 nine"]);
}

#[test]
fn a_cache_gives_the_same_keys_and_is_not_needed() {
    let author = Author::new("bot").unwrap();
    let key = |counter| Some((Key { producer: Producer(7), counter }, true));
    let stage = |appender: &mut Appender, counter: u64| {
        let text = format!("text {counter}");
        appender.stage(
            at(NOON),
            NewEntry { author: &author, text: &text, key: key(counter), at: None, relation: None },
        )
    };
    let diary = Diary::new();
    let Opened { mut appender, reader: _ } = diary.open();
    for counter in 1..=5 {
        stage(&mut appender, counter);
        appender.commit(at(NOON)).unwrap();
    }
    appender.stop().unwrap();
    let Opened { mut appender, reader: _ } = diary.open();
    for counter in 6..=9 {
        stage(&mut appender, counter);
    }
    appender.commit(at(NOON)).unwrap();
    drop(appender);

    // With it, without it, damaged in every byte, and made for another journal.
    let cache = fs::read(diary.file("cache")).unwrap();
    let check = |what: &str| {
        let Opened { mut appender, reader: _ } = diary.open();
        for counter in 1..=9 {
            assert_eq!(stage(&mut appender, counter), Staged::Known { seq: counter }, "{what}");
        }
        assert_eq!(stage(&mut appender, 10), Staged::New(10), "{what}");
    };
    check("with the cache");
    for byte in 0..cache.len() {
        let mut damaged = cache.clone();
        damaged[byte] ^= 1 << (byte % 8);
        fs::write(diary.file("cache"), &damaged).unwrap();
        check("with a damaged cache");
        fs::write(diary.file("cache"), &cache[..byte]).unwrap();
        check("with a cut cache");
    }
    fs::remove_file(diary.file("cache")).unwrap();
    check("without a cache");
    let other = Diary::new();
    drop(three_days(&other));
    fs::write(other.file("cache"), &cache).unwrap();
    let Opened { mut appender, reader: _ } = other.open();
    assert_eq!(stage(&mut appender, 1), Staged::New(10), "with another journal's cache");
}

#[test]
fn a_cache_is_written_as_the_journal_grows() {
    let diary = Diary::new();
    let Opened { mut appender, reader } = diary.open();
    let author = Author::new("a").unwrap();
    let text = "x".repeat(60_000);
    let mut written = Vec::new();
    for batch in 0..20u64 {
        for place in 0..50 {
            let key = Key { producer: Producer(1), counter: batch * 50 + place };
            appender.stage(
                at(NOON),
                NewEntry { author: &author, text: &text, key: Some((key, false)), at: None, relation: None },
            );
        }
        appender.commit(at(NOON)).unwrap();
        if let Some(snapshot) = appender.snapshot() {
            snapshot.write().unwrap();
            written.push(reader.head().end / (1024 * 1024));
        }
    }
    // A journal without a cache gets one with its first batch.
    assert_eq!(written, [2, 11, 20, 28, 37, 45, 54]);
}

#[test]
fn a_day_file_that_was_replaced_gets_no_acks() {
    let diary = Diary::new();
    let Opened { mut appender, reader } = diary.open();
    append(&mut appender, NOON, &["one"]);
    let path = diary.file("2026-11-20.log");
    let bytes = fs::read(&path).unwrap();
    // As an editor saves.
    fs::write(diary.file("edited"), &bytes).unwrap();
    fs::rename(diary.file("edited"), &path).unwrap();
    let author = Author::new("anna").unwrap();
    appender.stage(at(NOON), NewEntry { author: &author, text: "two", key: None, at: None, relation: None });
    let error = appender.commit(at(NOON)).unwrap_err();
    assert!(matches!(error, diary_store::CommitError::Failed(_)), "{error}");
    assert_eq!(reader.head().seq, 1);
}

#[test]
fn damage_longer_than_a_batch_gives_no_seq_out_again() {
    let diary = Diary::new();
    let Opened { mut appender, reader } = diary.open();
    let text = "x".repeat(1000);
    for batch in 0..60 {
        append(&mut appender, NOON + batch, &vec![text.as_str(); 100]);
    }
    drop((appender, reader));
    let path = diary.file("2026-11-20.log");
    let sound = fs::read(&path).unwrap();
    for garbage in [&b"\0"[..], b"garbage\n"] {
        let mut bytes = sound.clone();
        let from = bytes.len() - 5 * 1024 * 1024;
        let rest = garbage.iter().copied().cycle();
        bytes[from..].iter_mut().zip(rest).for_each(|(byte, garbage)| *byte = garbage);
        fs::write(&path, &bytes).unwrap();
        let Opened { mut appender, reader } = diary.open();
        assert!(reader.head().seq >= 6000, "{}", reader.head().seq);
        assert_eq!(fs::read(&path).unwrap(), bytes, "corruption changes no byte");
        append(&mut appender, NOON + 99, &["after"]);
        let seen = all(&reader);
        assert!(seen.last().unwrap().ends_with(" after"), "{:?}", seen.last());
        assert!(seen[seen.len() - 2].starts_with("gap "));
    }
}

#[test]
fn a_torn_tail_behind_a_damaged_line_feed() {
    let diary = Diary::new();
    three_days(&diary).appender.stop().unwrap();
    let path = diary.file("2026-11-22.log");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() = b'J';
    bytes.extend_from_slice(b"torn torn torn");
    fs::write(&path, &bytes).unwrap();
    let Opened { mut appender, reader } = diary.open();
    append(&mut appender, NOON + 2 * DAY + 9, &["ten"]);
    assert_eq!(all(&reader).last().unwrap(), "10 ten");
    drop((appender, reader));
    assert_eq!(all(&diary.open().reader).last().unwrap(), "10 ten");
}

#[test]
fn a_clean_stop_in_a_lost_file_says_that_the_one_before_is_committed() {
    let diary = Diary::new();
    three_days(&diary).appender.stop().unwrap();
    fs::remove_file(diary.file("2026-11-22.log")).unwrap();
    let path = diary.file("2026-11-21.log");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let Opened { reader, .. } = diary.open();
    assert_eq!(fs::read(&path).unwrap(), bytes, "nothing is cut");
    assert_eq!(reader.head().seq, 9);
}

#[test]
fn a_sealed_header_with_impossible_seqs_is_damage() {
    let diary = Diary::new();
    drop(three_days(&diary));
    let path = diary.file("2026-11-20.log");
    let bytes = fs::read(&path).unwrap();
    let mut header = b"# diary 1 2026-11-20 id=0000000000000001 first=0 after=-\t".to_vec();
    diary_proto::Seal::PLAIN.write(&mut header, 0);
    fs::write(&path, [&header[..], &bytes[memchr_all(&bytes)[0] + 1..]].concat()).unwrap();
    assert_eq!(all(&diary.open().reader), EVERYTHING);
}

/// A start that could not read the keys knows none, and spoils nothing for the next.
#[test]
fn keys_that_could_not_be_read_are_read_by_the_next_start() {
    let author = Author::new("bot").unwrap();
    let stage = |appender: &mut Appender, counter, text, retry| {
        let key = Some((Key { producer: Producer(7), counter }, retry));
        appender.stage(at(NOON), NewEntry { author: &author, text, key, at: None, relation: None })
    };
    let diary = Diary::new();
    let Opened { mut appender, reader: _ } = diary.open();
    assert_eq!(stage(&mut appender, 5, "old", false), Staged::New(1));
    appender.commit(at(NOON)).unwrap();
    appender.stop().unwrap();

    let mut opened = open(Arc::new(RealDisk), &diary.dir).unwrap();
    opened.appender.set_derived(Derived::unknown(1));
    assert_eq!(stage(&mut opened.appender, 5, "old", true), Staged::Stale);
    assert_eq!(stage(&mut opened.appender, 6, "new", false), Staged::New(2));
    opened.appender.commit(at(NOON)).unwrap();
    assert_eq!(stage(&mut opened.appender, 5, "old", true), Staged::Stale, "not a second entry");
    opened.appender.stop().unwrap();

    let Opened { mut appender, reader: _ } = diary.open();
    assert!(matches!(stage(&mut appender, 5, "old", true), Staged::Known { seq: 1, .. }));
    assert!(matches!(stage(&mut appender, 6, "new", true), Staged::Known { seq: 2, .. }));
}

/// Without a cache, nobody knows whose key a damaged entry had.
#[test]
fn a_retry_of_what_is_damaged_is_never_a_second_entry() {
    let author = Author::new("bot").unwrap();
    let stage = |appender: &mut Appender, counter: u64, retry| {
        let (text, key) = (format!("text {counter}"), Key { producer: Producer(7), counter });
        appender.stage(
            at(NOON),
            NewEntry { author: &author, text: &text, key: Some((key, retry)), at: None, relation: None },
        )
    };
    let diary = Diary::new();
    let Opened { mut appender, reader: _ } = diary.open();
    for counter in 1..=3 {
        stage(&mut appender, counter, false);
        appender.commit(at(NOON)).unwrap();
    }
    appender.stop().unwrap();
    let path = diary.file("2026-11-20.log");
    let damaged = fs::read_to_string(&path).unwrap().replace("text 2", "texx 2");
    fs::write(&path, damaged).unwrap();
    let check = |expected: [Staged; 4]| {
        let Opened { mut appender, reader: _ } = diary.open();
        let found = [1, 2, 3, 4].map(|counter| stage(&mut appender, counter, true));
        assert_eq!(found, expected);
    };
    let known = |seq| Staged::Known { seq };
    check([known(1), known(2), known(3), Staged::New(4)]);
    fs::remove_file(diary.file("cache")).unwrap();
    check([known(1), Staged::Stale, known(3), Staged::New(4)]);
}
