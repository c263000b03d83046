//! Files that have a day file's name and do not belong there: old copies, those of another journal, renamed
//! and swapped ones, and what is no file at all.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use diary_store::disk::{Disk, RealDisk};
use diary_store::verify::Verified;
use diary_store::{OpenError, open, repair, verify};
use support::*;

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

fn findings(dir: &Path) -> (Verified, Vec<String>) {
    let mut found = Vec::new();
    let verified = verify(disk(), dir, |finding| found.push(finding.to_string())).unwrap();
    assert_eq!(verified.findings, found.len() as u64);
    (verified, found)
}

/// So many days of 180 entries each, from 2026-11-20 on; the server was killed.
fn killed(days: i64, word: &str) -> Diary {
    let diary = Diary::new();
    let Opened { mut appender, .. } = diary.open();
    for day in 0..days {
        for batch in 0..18 {
            let texts: Vec<String> = (0..10).map(|n| format!("{word} {day}.{batch}.{n}")).collect();
            append(
                &mut appender,
                NOON + day * DAY + batch,
                &texts.iter().map(String::as_str).collect::<Vec<_>>(),
            );
        }
    }
    diary
}

/// Removes what says how far the diary came.
fn forget(diary: &Diary) {
    for evidence in ["head", "cache"] {
        let _ = fs::remove_file(diary.file(evidence));
    }
}

/// Everything that is served.
fn served(diary: &Diary) -> Vec<String> {
    all(&diary.open().reader)
}

/// Starts, appends one entry on this day, and starts again. It must get the seq `expected`, and all that was served
/// before is served again.
fn goes_on(diary: &Diary, day: i64, expected: u64, what: &str) {
    let Opened { mut appender, reader } = diary.open();
    let before = all(&reader);
    append(&mut appender, NOON + day * DAY, &["goes on"]);
    assert_eq!(reader.head().seq, expected, "{what}");
    let after = all(&reader);
    assert_eq!(after.last().unwrap(), &format!("{expected} goes on"), "{what}");
    assert_eq!(after[..after.len() - 1], before, "{what}");
    drop((appender, reader));
    assert_eq!(served(diary), after, "{what}: after a restart");
}

#[test]
fn an_old_day_file_copied_to_a_later_name_does_not_say_where_seqs_go_on() {
    let diary = killed(4, "own");
    let sound = served(&diary);
    assert_eq!(sound.len(), 720);
    forget(&diary);
    fs::copy(diary.file("2026-11-20.log"), diary.file("2026-11-30.log")).unwrap();
    assert_eq!(served(&diary), sound);
    goes_on(&diary, 4, 721, "the day after");
    goes_on(&diary, 10, 722, "on the day of the copy");
    assert_eq!(served(&diary).len(), 722);
}

#[test]
fn a_day_file_of_another_journal_does_not_say_where_seqs_go_on() {
    for days in [1, 4] {
        let (diary, other) = (killed(days, "own"), killed(6, "other"));
        let sound = served(&diary);
        forget(&diary);
        // Every start leaves what says which journal it is.
        drop(diary.open());
        fs::copy(other.file("2026-11-25.log"), diary.file("2026-11-25.log")).unwrap();
        assert_eq!(served(&diary), sound, "{days} days");
        goes_on(&diary, 4, 180 * days as u64 + 1, "the day after");
        goes_on(&diary, 5, 180 * days as u64 + 2, "on the day of the other journal's file");
        assert!(served(&diary).iter().all(|entry| !entry.contains("other")));
    }
}

/// A new machine: the server starts on an empty folder, and then its day files are put back.
#[test]
fn day_files_that_are_put_back_after_a_first_start_are_the_diary() {
    for days in [1, 4] {
        let (diary, old) = (Diary::new(), killed(days, "own"));
        drop(diary.open());
        let sound = served(&old);
        for day in 0..days {
            let name = format!("2026-11-{}.log", 20 + day);
            fs::copy(old.file(&name), diary.file(&name)).unwrap();
        }
        assert_eq!(served(&diary), sound, "{days} days");
        goes_on(&diary, days - 1, 180 * days as u64 + 1, "on the newest day");
        assert_eq!(findings(&diary.dir).1, Vec::<String>::new());
    }
}

#[test]
fn a_day_file_that_another_journals_replaced_is_not_served() {
    for (name, day) in [("2026-11-20.log", 0), ("2026-11-21.log", 1), ("2026-11-23.log", 3)] {
        for running in [false, true] {
            let (diary, other) = (killed(4, "own"), killed(4, "other"));
            diary.open().appender.stop().unwrap();
            let opened = running.then(|| diary.open());
            fs::copy(other.file(name), diary.file("copied")).unwrap();
            fs::rename(diary.file("copied"), diary.file(name)).unwrap();
            let (first, last) = (180 * day + 1, 180 * day + 180);
            let seen = match &opened {
                Some(opened) => all(&opened.reader),
                None => served(&diary),
            };
            let what = format!("{name}, running: {running}");
            if seen.len() == 720 {
                // Readers keep a file open for a moment, here the one that was there before.
                assert!(running && day == 3, "{what}");
            } else {
                assert!(seen.contains(&format!("gap {first}..{last}")), "{what}: {:?}", &seen[..3]);
                assert_eq!(seen.len(), 541, "{what}");
            }
            assert!(seen.iter().all(|entry| !entry.contains("other")), "{what}");
            drop(opened);
            let (verified, found) = findings(&diary.dir);
            assert_eq!((verified.entries, verified.files), (540, 3), "{what}");
            assert!(found.iter().any(|finding| finding.starts_with(name)), "{what}: {found:?}");

            let copy = diary.dir.with_file_name("copy");
            let repaired = repair(&disk(), &diary.dir, &copy).unwrap();
            assert_eq!((repaired.entries, &repaired.gaps[..]), (540, &[(first, last)][..]), "{what}");
            assert_eq!(findings(&copy).1, [""; 0], "{what}");
            goes_on(&diary, 3, 721, &what);
        }
    }
}

#[test]
fn a_repair_brings_renamed_and_swapped_files_back() {
    type Change = fn(&Diary);
    let changes: [(&str, Change); 3] = [
        ("swapped", |diary| {
            fs::rename(diary.file("2026-11-21.log"), diary.file("x")).unwrap();
            fs::rename(diary.file("2026-11-22.log"), diary.file("2026-11-21.log")).unwrap();
            fs::rename(diary.file("x"), diary.file("2026-11-22.log")).unwrap();
        }),
        ("renamed to a later day", |diary| {
            fs::rename(diary.file("2026-11-21.log"), diary.file("2026-11-30.log")).unwrap();
        }),
        ("the newest renamed to an earlier day", |diary| {
            fs::rename(diary.file("2026-11-23.log"), diary.file("2026-11-10.log")).unwrap();
        }),
    ];
    for (what, change) in changes {
        for clean in [true, false] {
            let diary = killed(4, "own");
            let sound = served(&diary);
            match clean {
                true => diary.open().appender.stop().unwrap(),
                false => forget(&diary),
            }
            change(&diary);
            assert!(!findings(&diary.dir).1.is_empty(), "{what}");
            goes_on(&diary, 12, 721, what);
            let copy = diary.dir.with_file_name("copy");
            let repaired = repair(&disk(), &diary.dir, &copy).unwrap();
            assert_eq!((repaired.entries, &repaired.gaps[..]), (721, &[][..]), "{what}");
            assert_eq!(findings(&copy).1, [""; 0], "{what}");
            let names: Vec<_> = walk(&copy).into_iter().filter(|name| name.ends_with(".log")).collect();
            assert_eq!(names.len(), 5, "each day has its file again: {names:?}");
            let repaired = Diary::at(copy);
            assert_eq!(served(&repaired)[..720], sound, "{what}");
        }
    }
}

/// Two folders with one id that went their own ways from day 2 on: a file of the one comes into the other.
#[test]
fn a_file_of_a_copy_that_went_its_own_way() {
    let diary = killed(2, "own");
    let copy = Diary::at(diary.dir.with_file_name("copy"));
    fs::create_dir(&copy.dir).unwrap();
    for name in diary.files() {
        fs::copy(diary.file(&name), copy.file(&name)).unwrap();
    }
    let write = |diary: &Diary, day: i64, count: usize, word: &str| {
        append(&mut diary.open().appender, NOON + day * DAY + 99, &vec![word; count]);
    };
    write(&copy, 1, 50, "copy");
    write(&copy, 2, 20, "copy");
    write(&diary, 3, 30, "own");
    write(&diary, 4, 30, "own");
    let sound = served(&diary);
    assert_eq!(sound.len(), 420);

    // One of a day that the own journal has none of. Its seqs are not between those of the files around it, and were
    // given out.
    diary.open().appender.stop().unwrap();
    let head = fs::read(diary.file("head")).unwrap();
    fs::copy(copy.file("2026-11-22.log"), diary.file("2026-11-22.log")).unwrap();
    let with_gap: Vec<String> = sound.iter().cloned().chain(["gap 421..430".to_owned()]).collect();
    assert!(served(&diary) == with_gap);
    let (verified, found) = findings(&diary.dir);
    assert_eq!((verified.entries, found.len()), (420, 2), "{found:?}");
    assert!(found[0].starts_with("2026-11-22.log: it does not belong"), "{found:?}");
    assert!(found[1].ends_with("the entries 421 to 430 are missing behind it"), "{found:?}");
    let repaired = repair(&disk(), &diary.dir, &diary.dir.with_file_name("with the copy's")).unwrap();
    assert_eq!((repaired.entries, &repaired.gaps[..]), (430, &[][..]));
    forget(&diary);
    assert!(matches!(open(disk(), &diary.dir), Err(OpenError::Copies(..))));
    fs::remove_file(diary.file("2026-11-22.log")).unwrap();

    // A longer version of a day that both have: it belongs as far as it is no other day's.
    fs::copy(copy.file("2026-11-21.log"), diary.file("2026-11-21.log")).unwrap();
    assert!(matches!(open(disk(), &diary.dir), Err(OpenError::Copies(..))));
    fs::write(diary.file("head"), head).unwrap();
    assert!(served(&diary) == sound);
    let (verified, found) = findings(&diary.dir);
    assert_eq!((verified.entries, found.len()), (420, 1), "{found:?}");
    assert_eq!(found[0], "2026-11-21.log line 182: from here on, the file has the seqs of a later one");
    goes_on(&diary, 5, 421, "a longer version");
    let repaired = repair(&disk(), &diary.dir, &diary.dir.with_file_name("repaired")).unwrap();
    assert_eq!((repaired.entries, &repaired.gaps[..]), (421, &[][..]));
}

/// The copy's file begins between the entries that `head` says were committed.
#[test]
fn a_later_file_of_a_copy_hides_nothing_that_the_head_knows() {
    let (diary, copy) = (killed(1, "own"), Diary::new());
    append(&mut diary.open().appender, NOON + DAY, &["both"; 50]);
    fs::create_dir_all(&copy.dir).unwrap();
    for name in ["2026-11-20.log", "2026-11-21.log"] {
        fs::copy(diary.file(name), copy.file(name)).unwrap();
    }
    append(&mut copy.open().appender, NOON + 2 * DAY, &["copy"; 20]);
    let Opened { mut appender, reader } = diary.open();
    append(&mut appender, NOON + DAY + 1, &["own"; 50]);
    let sound = all(&reader);
    appender.stop().unwrap();
    assert_eq!(sound.len(), 280);
    fs::copy(copy.file("2026-11-22.log"), diary.file("2026-11-22.log")).unwrap();
    assert!(served(&diary) == sound, "{:?}", &served(&diary)[225..]);
    goes_on(&diary, 3, 281, "the day after");
    let (verified, found) = findings(&diary.dir);
    assert_eq!((verified.entries, found.len()), (281, 1), "{found:?}");
}

#[test]
fn a_diary_that_nothing_says_the_id_of_is_left_as_it_is() {
    let damages: [fn(&mut Vec<u8>); 3] = [
        |bytes| *bytes.iter_mut().find(|byte| **byte == b'=').unwrap() = b'+',
        |bytes| {
            let at = memchr::memmem::find(bytes, b"id=").unwrap() + 3;
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
        },
        |bytes| drop(bytes.drain(..=memchr::memchr(b'\n', bytes).unwrap())),
    ];
    for damage in damages {
        let diary = killed(1, "own");
        let (sound, path) = (served(&diary), diary.file("2026-11-20.log"));
        let whole = fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        damage(&mut damaged);
        fs::write(&path, &damaged).unwrap();
        let head = fs::read(diary.file("head")).unwrap();
        forget(&diary);
        for _ in 0..2 {
            let error = open(disk(), &diary.dir).map(drop).unwrap_err();
            assert!(matches!(error, OpenError::NoId(_)), "{error}");
            assert!(verify(disk(), &diary.dir, |_| {}).is_err());
        }
        assert!(fs::read(&path).unwrap() == damaged && diary.files() == ["2026-11-20.log"]);
        // Either is a way out.
        fs::write(diary.file("head"), head).unwrap();
        assert_eq!(served(&diary), sound);
        fs::write(&path, &whole).unwrap();
        forget(&diary);
        assert_eq!(served(&diary), sound);
    }
}

#[test]
fn what_is_no_file_blocks_nothing() {
    type Make = fn(&Path);
    let makes: [(&str, Make); 5] = [
        ("folder", |path| fs::create_dir(path).unwrap()),
        ("fifo", |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success())),
        ("socket", |path| drop(UnixListener::bind(path).unwrap())),
        ("dangling link", |path| std::os::unix::fs::symlink("nowhere", path).unwrap()),
        ("link to itself", |path| std::os::unix::fs::symlink(path.file_name().unwrap(), path).unwrap()),
    ];
    for (what, make) in makes {
        for clean in [true, false] {
            let diary = killed(2, "own");
            let sound = served(&diary);
            if clean {
                diary.open().appender.stop().unwrap();
            }
            for name in ["2026-11-10.log", "2026-11-25.log"] {
                make(&diary.file(name));
                assert_eq!(served(&diary), sound, "{what}");
                let (verified, found) = findings(&diary.dir);
                assert_eq!((verified.files, verified.entries), (2, 360), "{what}: {found:?}");
                assert!(found.iter().any(|finding| finding.starts_with(name)), "{what}: {found:?}");
            }
            goes_on(&diary, 4, 361, what);
            goes_on(&diary, 5, 362, what);
            let copy = diary.dir.with_file_name("copy");
            assert_eq!(repair(&disk(), &diary.dir, &copy).unwrap().entries, 362, "{what}");
        }
    }
}
