//! Verify, repair and archive.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use diary_proto::{Author, DayStart, Key, Producer};
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
    assert_eq!(found, ["2026-11-22.log line 3: entry 9 is missing behind it"]);
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
    let (mut appender, reader) = open(disk(), &copy).unwrap().with_derived().unwrap();
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
        let (mut appender, reader) = open(disk(), &diary.dir).unwrap().with_derived().unwrap();
        let stage = |appender: &mut diary_store::Appender, counter: u64| {
            let key = Some((Key { producer: Producer(7), counter }, true));
            appender.stage(
                at(NOON + round),
                NewEntry { author: &author, text: &text(counter), key, at: None, relation: None },
            )
        };
        for counter in 1..next {
            assert_eq!(stage(&mut appender, counter), Staged::Known { seq: counter });
            let archived = reader.archive_of(counter).unwrap().expect("it is archived");
            assert_eq!(archived.entry(counter).unwrap().unwrap().text, text(counter));
        }
        for counter in next..next + 3 {
            assert_eq!(stage(&mut appender, counter), Staged::New(counter));
        }
        appender.commit(at(NOON + round)).unwrap();
        let expected: Vec<String> = (next..next + 3).map(|n| format!("{n} text {n}")).collect();
        assert_eq!(all(&reader), expected, "only what was written since the archive, and no gap");
        assert_eq!(findings(&diary.dir).1, Vec::<String>::new());
        let held = archive(&disk(), &diary.dir, at(NOON), DayStart::default()).unwrap_err();
        assert!(matches!(held, OpenError::Held(_)), "{held}");
        drop((appender, reader));
        next += 3;

        let archived = archive(&disk(), &diary.dir, at(NOON), DayStart::default()).unwrap().unwrap();
        let name = ["2026-11-20", "2026-11-20.2", "2026-11-20.3"][usize::try_from(round).unwrap()];
        assert_eq!((archived.head, archived.folder), (next - 1, diary.file("archive").join(name)));
        assert_eq!(findings(&diary.dir).1, Vec::<String>::new());
        assert_eq!(findings(&diary.file("archive").join(name)).1, Vec::<String>::new());
        assert_eq!(archive(&disk(), &diary.dir, at(NOON), DayStart::default()).unwrap(), None);
        if round == 1 {
            // Without its cache, the keys are read from the archives.
            fs::remove_file(diary.file("cache")).unwrap();
        }
    }
    let (mut appender, reader) = open(disk(), &diary.dir).unwrap().with_derived().unwrap();
    append(&mut appender, NOON + 2 * DAY, &["next day"]);
    assert_eq!(all(&reader), ["10 next day"]);
    assert_eq!(findings(&diary.dir).1, Vec::<String>::new());
}

/// An archive that was moved away leaves its keys unknown, and its time in the note that names it.
#[test]
fn without_its_archive_a_diary_guesses_at_nothing() {
    let author = Author::new("bot").unwrap();
    let stage = |appender: &mut diary_store::Appender, micros, text, retry| {
        let key = Some((Key { producer: Producer(7), counter: 1 }, retry));
        appender.stage(at(micros), NewEntry { author: &author, text, key, at: None, relation: None })
    };
    let diary = Diary::new();
    let (mut appender, _) = open(disk(), &diary.dir).unwrap().with_derived().unwrap();
    assert_eq!(stage(&mut appender, NOON, "old", false), Staged::New(1));
    appender.commit(at(NOON)).unwrap();
    drop(appender);
    archive(&disk(), &diary.dir, at(NOON), DayStart::default()).unwrap().unwrap();
    let copy = diary.dir.with_file_name("copy");
    assert_eq!(repair(&disk(), &diary.dir, &copy).unwrap().entries, 0);
    fs::remove_file(diary.file("cache")).unwrap();
    fs::remove_dir_all(diary.file("archive")).unwrap();
    for dir in [&diary.dir, &copy] {
        let (mut appender, reader) = open(disk(), dir).unwrap().with_derived().unwrap();
        assert_eq!(reader.head().time, Some(at(NOON)));
        assert_eq!(stage(&mut appender, NOON - 1, "old", true), Staged::Stale);
        append(&mut appender, NOON - 5, &["new"]);
        assert_eq!(reader.entry(2).unwrap().unwrap().time, at(NOON), "never before the entry above it");
        assert_eq!(all(&reader), ["2 new"]);
    }
}

#[test]
fn where_there_is_no_diary_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = folder.path().join("empty");
    fs::create_dir(&nothing).unwrap();
    let no_folder = folder.path().join("none");
    let said = [
        verify(disk(), &nothing, |_| {}).unwrap_err(),
        repair(&disk(), &nothing, &folder.path().join("copy")).unwrap_err(),
        verify(disk(), &no_folder, |_| {}).unwrap_err(),
        repair(&disk(), &no_folder, &folder.path().join("copy")).unwrap_err(),
        archive(&disk(), &nothing, at(NOON), DayStart::default()).unwrap_err(),
    ];
    assert!(said.iter().all(|error| matches!(error, OpenError::Nothing(_))), "{said:?}");
    assert_eq!(fs::read_dir(&nothing).unwrap().count(), 0);
    assert!(!folder.path().join("copy").exists());
}

/// Batches are written all the while; verify never takes one for damage.
#[test]
fn verify_while_batches_are_written() {
    let diary = Diary::new();
    let Opened { mut appender, reader: _ } = diary.open();
    append(&mut appender, NOON, &["first"]);
    let text = "y".repeat(50_000);
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || {
            for batch in 1..200 {
                let many = vec![text.as_str(); usize::try_from(batch % 37 + 1).unwrap()];
                append(&mut appender, NOON + (batch / 9) * DAY + batch, &many);
            }
        });
        while !writing.is_finished() {
            assert_eq!(findings(&diary.dir).1, Vec::<String>::new());
        }
    });
}
