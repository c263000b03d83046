//! Verify, repair and archive.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use diary_proto::{Author, Date, Key, Producer};
use diary_store::disk::{Disk, RealDisk};
use diary_store::verify::Verified;
use diary_store::{NewEntry, OpenError, Staged, archive, open, repair, verify};
use support::*;

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

fn findings(dir: &Path) -> (Verified, Vec<String>) {
    let mut findings = Vec::new();
    let verified = verify(disk(), dir, |finding| findings.push(finding.to_string())).unwrap();
    assert_eq!(verified.findings, findings.len() as u64);
    (verified, findings)
}

#[test]
fn a_sound_diary_verifies_also_while_it_is_written() {
    let diary = Diary::new();
    let _open = three_days(&diary);
    let (verified, found) = findings(&diary.dir);
    assert_eq!(found, Vec::<String>::new());
    assert_eq!((verified.files, verified.entries, verified.last, verified.unfinished), (3, 9, 9, None));

    let newest = diary.file("2026-11-22.log");
    let sound = fs::read(&newest).unwrap();
    fs::write(&newest, [&sound[..], b"10 2026-11-22T1"].concat()).unwrap();
    let (verified, found) = findings(&diary.dir);
    assert_eq!(found, Vec::<String>::new(), "a batch in progress is no damage");
    assert_eq!(verified.unfinished.map(|u| (u.from, u.bytes)), Some((sound.len() as u64, 15)));
}

/// Every bit of every file: verify tells the damage, or that the last batch is not finished, and names
/// the line.
#[test]
fn every_flipped_bit_is_found() {
    let diary = Diary::new();
    drop(three_days(&diary));
    for file in ["2026-11-20.log", "2026-11-21.log", "2026-11-22.log"] {
        let path = diary.file(file);
        let sound = fs::read(&path).unwrap();
        for bit in 0..sound.len() * 8 {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).unwrap();
            let (verified, found) = findings(&diary.dir);
            let line = 1 + sound[..bit / 8].iter().filter(|&&b| b == b'\n').count();
            let named = found.iter().any(|f| f.starts_with(&format!("{file} line {line}: ")));
            assert!(named || verified.unfinished.is_some(), "{file} bit {bit}: {found:?}");
        }
        fs::write(&path, &sound).unwrap();
    }
}

/// Cuts every file at every byte. Only the newest may be called unfinished, and only its last batch.
#[test]
fn every_cut_is_found() {
    let diary = Diary::new();
    drop(three_days(&diary));
    for file in ["2026-11-20.log", "2026-11-21.log"] {
        let path = diary.file(file);
        let sound = fs::read(&path).unwrap();
        for cut in 0..sound.len() {
            fs::write(&path, &sound[..cut]).unwrap();
            let (verified, found) = findings(&diary.dir);
            assert!(!found.is_empty() && verified.unfinished.is_none(), "{file} cut at {cut}: {found:?}");
        }
        fs::write(&path, &sound).unwrap();
    }
}

#[test]
fn a_missing_file_and_a_shorter_one_than_a_clean_stop_saw_are_found() {
    let diary = Diary::new();
    three_days(&diary).appender.stop().unwrap();
    let middle = diary.file("2026-11-21.log");
    let bytes = fs::read(&middle).unwrap();
    fs::remove_file(&middle).unwrap();
    let (_, found) = findings(&diary.dir);
    assert!(found[0].ends_with("the header does not fit the file before it"), "{found:?}");
    assert!(found[1].ends_with("the entries 4 to 6 are missing before it"), "{found:?}");
    fs::write(&middle, bytes).unwrap();

    let newest = diary.file("2026-11-22.log");
    let bytes = fs::read(&newest).unwrap();
    let lines = memchr_all(&bytes);
    fs::write(&newest, &bytes[..=lines[2]]).unwrap();
    let (_, found) = findings(&diary.dir);
    assert_eq!(found, ["2026-11-22.log line 4: the entries 9 to 9 are missing before it"]);
}

#[test]
fn a_repaired_copy_is_sound_and_the_original_is_untouched() {
    let diary = Diary::new();
    three_days(&diary).appender.stop().unwrap();
    let damage = |file: &str, text: &str| {
        let path = diary.file(file);
        let bytes = fs::read(&path).unwrap();
        let at = memchr::memmem::find(&bytes, text.as_bytes()).unwrap();
        let mut damaged = bytes;
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
    };
    damage("2026-11-20.log", "三");
    damage("2026-11-22.log", " nine");
    fs::remove_file(diary.file("2026-11-21.log")).unwrap();
    let before: Vec<_> = diary.files().iter().map(|file| fs::read(diary.file(file)).unwrap()).collect();

    let copy = diary.dir.with_file_name("copy");
    let repaired = repair(&disk(), &diary.dir, &copy).unwrap();
    assert_eq!((repaired.entries, &repaired.gaps[..]), (4, &[(3, 6), (9, 9)][..]));
    let after: Vec<_> = diary.files().iter().map(|file| fs::read(diary.file(file)).unwrap()).collect();
    assert_eq!(before, after);

    assert_eq!(findings(&copy).1, Vec::<String>::new());
    let (mut appender, reader) = open(disk(), &copy).unwrap().with_keys().unwrap();
    append(&mut appender, NOON + 3 * DAY, &["ten"]);
    let expected = ["1 one", "2 two", "gap 3..6", "7 seven", "8 eight", "gap 9..9", "10 ten"];
    assert_eq!(all(&reader), expected);
    assert_eq!(findings(&copy).1, Vec::<String>::new());
    let again = repair(&disk(), &diary.dir, &copy).unwrap_err();
    assert!(matches!(again, OpenError::Io { .. }), "{again}");
}

#[test]
fn an_archive_begins_afresh_and_forgets_no_key() {
    let author = Author::new("bot").unwrap();
    let text = |counter: u64| format!("text {counter}");
    let diary = Diary::new();
    let mut next = 1;
    for round in 0..3 {
        let (mut appender, reader) = open(disk(), &diary.dir).unwrap().with_keys().unwrap();
        let stage = |appender: &mut diary_store::Appender, counter: u64| {
            let key = Some((Key { producer: Producer(7), counter }, true));
            appender.stage(at(NOON + round), NewEntry { author: &author, text: &text(counter), key })
        };
        for counter in 1..next {
            // What is archived cannot be compared any more, but it is known.
            let known = stage(&mut appender, counter);
            assert!(matches!(known, Staged::Known { seq, .. } if seq == counter), "{known:?}");
        }
        for counter in next..next + 3 {
            assert_eq!(stage(&mut appender, counter), Staged::New(counter));
        }
        appender.commit(at(NOON + round)).unwrap();
        let expected: Vec<String> = (next..next + 3).map(|n| format!("{n} text {n}")).collect();
        assert_eq!(all(&reader), expected, "only what was written since the archive, and no gap");
        assert_eq!(findings(&diary.dir).1, Vec::<String>::new());
        let held = archive(&disk(), &diary.dir, Date::constant(2026, 11, 20)).unwrap_err();
        assert!(matches!(held, OpenError::Held(_)), "{held}");
        drop((appender, reader));
        next += 3;

        let archived = archive(&disk(), &diary.dir, Date::constant(2026, 11, 20)).unwrap().unwrap();
        let name = ["2026-11-20", "2026-11-20.2", "2026-11-20.3"][usize::try_from(round).unwrap()];
        assert_eq!((archived.head, archived.folder), (next - 1, diary.file("archive").join(name)));
        assert_eq!(findings(&diary.dir).1, Vec::<String>::new());
        assert_eq!(findings(&diary.file("archive").join(name)).1, Vec::<String>::new());
        assert_eq!(archive(&disk(), &diary.dir, Date::constant(2026, 11, 20)).unwrap(), None);
        if round == 1 {
            // Without its cache, the keys are read from the archives.
            fs::remove_file(diary.file("cache")).unwrap();
        }
    }
    let (mut appender, reader) = open(disk(), &diary.dir).unwrap().with_keys().unwrap();
    append(&mut appender, NOON + 2 * DAY, &["next day"]);
    assert_eq!(all(&reader), ["10 next day"]);
    assert_eq!(findings(&diary.dir).1, Vec::<String>::new());
}
