//! What decides which files are the journal's: nothing is guessed, what cannot be read is not absent, and where evidence
//! does not decide, nothing is changed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use diary_proto::{DayStart, Time};
use diary_store::disk::{Disk, How, RealDisk};
use diary_store::sim::SimDisk;
use diary_store::{archive, open, repair, verify};
use support::counting::Counting;
use support::*;

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

/// So many days of 20 entries each, from 2026-11-20 on; the server was killed.
fn killed(days: i64, word: &str) -> Diary {
    let diary = Diary::new();
    let Opened { mut appender, .. } = diary.open();
    (0..days).for_each(|day| write(&mut appender, day, word));
    diary
}

fn write(appender: &mut diary_store::Appender, day: i64, word: &str) {
    (0..10).for_each(|batch| append(appender, NOON + day * DAY + batch, &[word, word]));
}

fn stop(diary: &Diary) {
    diary.open().appender.stop().unwrap();
}

fn forget(diary: &Diary) {
    for evidence in ["head", "cache"] {
        let _ = fs::remove_file(diary.file(evidence));
    }
}

/// A copy of the folder, which goes on by itself.
fn copy_of(diary: &Diary) -> Diary {
    let copy = Diary::at(diary.dir.with_file_name("copy"));
    fs::create_dir(&copy.dir).unwrap();
    for name in diary.files() {
        fs::copy(diary.file(&name), copy.file(&name)).unwrap();
    }
    copy
}

fn served(diary: &Diary) -> Vec<String> {
    all(&diary.open().reader)
}

/// Every file with its bytes.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    walk(dir).into_iter().map(|name| (name.clone(), fs::read(dir.join(name)).unwrap())).collect()
}

/// Why neither a start, nor verify, nor a repair uses the diary; each of them leaves everything as it is.
fn refusal(disk: &Arc<dyn Disk>, dir: &Path) -> String {
    let error = open(Arc::clone(disk), dir).map(drop).expect_err("it does not start");
    let verified = verify(Arc::clone(disk), dir, |_| {}).unwrap_err();
    let repaired = repair(disk, dir, &dir.with_file_name("repaired")).unwrap_err();
    assert_eq!((verified.to_string(), repaired.to_string()), (error.to_string(), error.to_string()));
    error.to_string()
}

/// The same; it names these files.
fn is_refused(diary: &Diary, named: &[&str]) {
    let before = contents(&diary.dir);
    let why = refusal(&disk(), &diary.dir);
    assert!(named.iter().all(|name| why.contains(&format!("/diary/{name} "))), "{why}");
    assert!(why.contains("move "), "{why}");
    assert!(contents(&diary.dir) == before);
}

/// Readers wait for nothing but the start.
#[test]
fn no_stray_is_served_after_a_clean_stop() {
    let diary = killed(2, "own");
    let copy = copy_of(&diary);
    write(&mut copy.open().appender, 1, "copy");
    write(&mut copy.open().appender, 2, "copy");
    let Opened { mut appender, .. } = diary.open();
    write(&mut appender, 3, "own");
    write(&mut appender, 5, "own");
    drop(appender);
    let sound = served(&diary);
    stop(&diary);
    fs::copy(copy.file("2026-11-22.log"), diary.file("2026-11-22.log")).unwrap();
    let reader = open(disk(), &diary.dir).unwrap().reader;
    assert_eq!(all(&reader), sound);
    // Where a retry of an entry is looked up.
    assert_eq!(reader.line(61, |line| line.text.to_owned()).unwrap().unwrap(), "own");
}

#[test]
fn an_archived_file_that_was_put_back_says_nothing_of_the_beginning() {
    let diary = killed(2, "own");
    let archived = fs::read(diary.file("2026-11-20.log")).unwrap();
    archive(&disk(), &diary.dir, at(NOON + 2 * DAY), DayStart::default()).unwrap().unwrap();
    write(&mut diary.open().appender, 3, "own");
    stop(&diary);
    fs::write(diary.file("2026-11-20.log"), archived).unwrap();
    let reader = open(disk(), &diary.dir).unwrap().reader;
    assert_eq!(all(&reader).len(), 20);
    assert_eq!(reader.first().unwrap(), 41);
}

/// A slip of an editor, or `cat >>`.
#[test]
fn a_line_that_stands_in_an_earlier_file_too_hides_nothing() {
    for stopped in [0, 1, 3] {
        for (from, to) in [(1, 0), (2, 0), (2, 1)] {
            for lines in [1, 3] {
                let diary = Diary::new();
                for day in 0..3 {
                    write(&mut diary.open().appender, day, "own");
                    if day < stopped {
                        stop(&diary);
                    }
                }
                let sound = served(&diary);
                if stopped == 0 {
                    forget(&diary);
                }
                let path = |day| diary.file(&format!("2026-11-2{day}.log"));
                let bytes = fs::read(path(from)).unwrap();
                let starts = memchr_all(&bytes);
                let copied = &bytes[starts[5] + 1..=starts[5 + lines]];
                fs::OpenOptions::new().append(true).open(path(to)).unwrap().write_all(copied).unwrap();
                let whole = contents(&diary.dir);
                let mut findings = Vec::new();
                verify(disk(), &diary.dir, |found| findings.push(found.to_string())).unwrap();
                assert!(!findings.is_empty());
                let Opened { mut appender, reader } = diary.open();
                assert_eq!(all(&reader), sound, "{stopped} {from} {to} {lines}");
                append(&mut appender, NOON + 3 * DAY, &["own"]);
                assert_eq!(reader.head().seq, 61);
                drop(appender);
                let is_log = |name: &String| name.ends_with(".log");
                assert!(
                    whole
                        .iter()
                        .filter(|(name, _)| is_log(name))
                        .all(|(name, bytes)| contents(&diary.dir)[name] == *bytes)
                );
            }
        }
    }
}

/// However many they are.
#[test]
fn files_of_another_journal_neither_stop_nor_take_a_diary_that_knows_its_own() {
    let other = killed(5, "other");
    for days in [1, 2] {
        for evidence in [&["head", "cache"][..], &["head"], &["cache"]] {
            let diary = killed(days, "own");
            let sound = served(&diary);
            stop(&diary);
            for name in ["head", "cache"].iter().filter(|name| !evidence.contains(name)) {
                fs::remove_file(diary.file(name)).unwrap();
            }
            (days..5).for_each(|day| {
                let name = format!("2026-11-2{day}.log");
                fs::copy(other.file(&name), diary.file(&name)).unwrap();
            });
            for _ in 0..2 {
                assert_eq!(served(&diary), sound, "{days} {evidence:?}");
            }
            forget(&diary);
            is_refused(&diary, &["2026-11-20.log", &format!("2026-11-2{days}.log")]);
        }
    }
}

/// The files of two journals, and nothing that says whose folder it is.
#[test]
fn of_two_journals_none_is_chosen() {
    let (diary, other) = (killed(1, "own"), killed(3, "other"));
    fs::copy(other.file("2026-11-22.log"), diary.file("2026-11-22.log")).unwrap();
    let sound = ["own"; 20].len();
    // Written at the first start, and with a file that has its id.
    assert_eq!(served(&diary).len(), sound);
    let head = fs::read(diary.file("head")).unwrap();
    forget(&diary);
    is_refused(&diary, &["2026-11-20.log", "2026-11-22.log"]);
    // Either is a way out.
    fs::write(diary.file("head"), head).unwrap();
    assert_eq!(served(&diary).len(), sound);
    forget(&diary);
    fs::remove_file(diary.file("2026-11-22.log")).unwrap();
    assert_eq!(served(&diary).len(), sound);
}

#[test]
fn a_head_of_another_journal_is_not_followed() {
    let (diary, other) = (killed(3, "own"), killed(4, "other"));
    stop(&other);
    let sound = served(&diary);
    fs::copy(other.file("head"), diary.file("head")).unwrap();
    is_refused(&diary, &["2026-11-20.log", "head"]);
    fs::remove_file(diary.file("head")).unwrap();
    assert_eq!(served(&diary), sound);
}

/// Both went on from the same entry.
#[test]
fn of_two_copies_that_went_their_own_ways_none_is_chosen() {
    let diary = killed(2, "own");
    let copy = copy_of(&diary);
    write(&mut copy.open().appender, 4, "copy");
    write(&mut diary.open().appender, 3, "own");
    let sound = served(&diary);
    stop(&diary);
    fs::copy(copy.file("2026-11-24.log"), diary.file("2026-11-24.log")).unwrap();
    assert_eq!(served(&diary), sound);
    forget(&diary);
    is_refused(&diary, &["2026-11-23.log", "2026-11-24.log"]);
    fs::remove_file(diary.file("2026-11-24.log")).unwrap();
    assert_eq!(served(&diary), sound);
}

const DIR: &str = "/diary";

/// A journal of four days on a simulated disk, after a clean stop. Two strays lie there: an old file under another name,
/// and in the quarantine what was in the way of the last day's own file.
fn simulated() -> SimDisk {
    let disk = SimDisk::new();
    let start = || open(Arc::new(disk.clone()), Path::new(DIR)).unwrap().with_derived().unwrap().0;
    let mut appender = start();
    (0..3).for_each(|day| write(&mut appender, day, "own"));
    drop(appender);
    for day in ["2026-11-25", "2026-11-29"] {
        let bytes = disk.contents().remove(&in_dir("2026-11-21.log")).unwrap();
        let stray = disk.open(&in_dir(&format!("{day}.log")), How::CreateNew).unwrap();
        stray.write_all_at(&bytes, 0).unwrap();
    }
    disk.kill();
    let mut appender = start();
    write(&mut appender, 5, "own");
    appender.stop().unwrap();
    disk.kill();
    disk
}

fn in_dir(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

#[test]
fn what_cannot_be_read_is_not_absent() {
    let whole = simulated();
    let names = ["head", "cache", "2026-11-25.log", "2026-11-29.log", "quarantine/2026-11-25.log.stray"];
    for name in names {
        for forgotten in [None, Some("head"), Some("cache")].into_iter().filter(|gone| *gone != Some(name)) {
            let disk = whole.fork();
            if let Some(gone) = forgotten {
                disk.remove(&in_dir(gone)).unwrap();
            }
            disk.set_unreadable(Some(&in_dir(name)));
            let before = disk.contents();
            let why = refusal(&(Arc::new(disk.clone()) as Arc<dyn Disk>), Path::new(DIR));
            assert!(why.contains(&format!("cannot read {DIR}/{name}: simulated EIO")), "{why}");
            assert!(disk.contents() == before, "{name}");
            disk.set_unreadable(None);
            let reader = open(Arc::new(disk), Path::new(DIR)).unwrap().reader;
            assert_eq!(all(&reader).len(), 80, "{name}");
        }
    }
}

/// A disk loses an old file; where the journal ends is known without.
#[test]
fn an_old_file_that_cannot_be_read_is_damage() {
    let whole = simulated();
    for (name, missing) in [("2026-11-20.log", 1), ("2026-11-21.log", 21)] {
        for forgotten in [None, Some("head"), Some("cache")] {
            let disk = whole.fork();
            if let Some(gone) = forgotten {
                disk.remove(&in_dir(gone)).unwrap();
            }
            disk.set_unreadable(Some(&in_dir(name)));
            let (mut appender, reader) =
                open(Arc::new(disk.clone()), Path::new(DIR)).unwrap().with_derived().unwrap();
            for seq in (1..=80).step_by(20) {
                let text = reader.line(seq, |line| line.text.to_owned());
                assert_eq!(text.is_err(), seq == missing, "{name}: {seq}: {text:?}");
            }
            append(&mut appender, NOON + 6 * DAY, &["own"]);
            assert_eq!(reader.head().seq, 81);
            drop(appender);
            disk.kill();
            let mut findings = Vec::new();
            let verified =
                verify(Arc::new(disk.clone()), Path::new(DIR), |found| findings.push(found.to_string()));
            let told = findings.iter().any(|found| found.contains("cannot be read from here on"));
            assert!(verified.unwrap().entries == 61 && told, "{findings:?}");
            disk.set_unreadable(None);
            assert_eq!(all(&open(Arc::new(disk), Path::new(DIR)).unwrap().reader).len(), 81, "{name}");
        }
        // Nothing says that the later files are all there are.
        let disk = whole.fork();
        ["head", "cache"].iter().for_each(|evidence| disk.remove(&in_dir(evidence)).unwrap());
        disk.set_unreadable(Some(&in_dir(name)));
        let before = disk.contents();
        let why = refusal(&(Arc::new(disk.clone()) as Arc<dyn Disk>), Path::new(DIR));
        assert!(why.contains(&format!("cannot read {DIR}/{name}: simulated EIO")), "{why}");
        assert!(disk.contents() == before, "{name}");
    }
}

#[test]
fn old_files_in_a_row_that_cannot_be_read_are_damage() {
    let disk = simulated();
    ["2026-11-20.log", "2026-11-21.log"].iter().for_each(|name| disk.set_unreadable(Some(&in_dir(name))));
    let reader = open(Arc::new(disk), Path::new(DIR)).unwrap().reader;
    assert_eq!(reader.head().seq, 80);
    assert_eq!(reader.line(41, |line| line.text.to_owned()).unwrap().unwrap(), "own");
}

/// No disk tears a line like that: what an editor has saved was committed, whatever is known beside it.
#[test]
fn what_an_editor_has_saved_is_no_torn_tail() {
    let crlf: fn(&str) -> String = |text| text.replace('\n', "\r\n");
    let marked: fn(&str) -> String = |text| format!("\u{feff}{text}");
    let both: fn(&str) -> String = |text| format!("\u{feff}{}", text.replace('\n', "\r\n"));
    for (days, edited) in [(1, 0), (3, 2), (3, 1), (3, 0)] {
        for (edit, batch) in [(crlf, 1_usize), (marked, 1), (both, 1), (crlf, 9), (marked, 9), (both, 9)] {
            let diary = Diary::new();
            let Opened { mut appender, .. } = diary.open();
            for day in 0..days {
                for n in 0..9 / batch {
                    append(&mut appender, NOON + day * DAY + n as i64, &["own"; 9][..batch]);
                }
            }
            drop(appender);
            forget(&diary);
            let path = diary.file(&format!("2026-11-2{edited}.log"));
            let saved = edit(&fs::read_to_string(&path).unwrap());
            fs::write(&path, &saved).unwrap();
            let mut findings = 0;
            let verified = verify(disk(), &diary.dir, |_| findings += 1).unwrap();
            assert!(findings > 0 && verified.unfinished.is_none(), "{days} {edited}: {verified:?}");
            let Opened { mut appender, reader } = diary.open();
            append(&mut appender, NOON + days * DAY, &["own"]);
            assert_eq!(reader.head().seq as i64, 9 * days + 1, "no seq is given out again");
            drop(appender);
            assert!(fs::read_to_string(&path).unwrap() == saved, "not a byte has changed");
            assert!(!diary.file("quarantine").exists());
            let copy = diary.dir.with_file_name("repaired");
            repair(&disk(), &diary.dir, &copy).unwrap();
            assert_eq!(served(&Diary::at(copy)).len() as i64, 9 * days + 1);
        }
    }
}

/// Large strays cost a start next to nothing.
#[test]
fn a_start_reads_little_of_strays() {
    let (diary, other) = (killed(3, "own"), killed(1, "other"));
    let own = fs::read(diary.file("2026-11-20.log")).unwrap();
    let foreign = fs::read(other.file("2026-11-20.log")).unwrap();
    let line = &foreign[memchr::memchr(b'\n', &foreign).unwrap() + 1..];
    let strays =
        [("2026-11-25.log", &foreign[..]), ("2026-11-26.log", &own[..]), ("2026-11-27.log", b"junk")];
    fs::create_dir(diary.file("quarantine")).unwrap();
    for (name, begin) in strays {
        for path in [diary.file(name), diary.file("quarantine").join(format!("{name}.stray"))] {
            let mut file = fs::File::create(path).unwrap();
            file.write_all(begin).unwrap();
            (0..24).for_each(|_| file.write_all(&line.repeat(1024 * 1024 / line.len())).unwrap());
        }
    }
    for clean in [false, true] {
        if clean {
            stop(&diary);
        }
        let disk = Counting::default();
        drop(open(Arc::new(disk.clone()), &diary.dir).unwrap());
        let read = disk.0.load(Ordering::Relaxed);
        assert!(read < 24 * 1024 * 1024, "{read} bytes of {}", 6 * 24 * 1024 * 1024);
        println!("clean: {clean}, {read} bytes");
    }
}

/// Only a file of the journal shows that the one before it was finished.
#[test]
fn junk_of_a_later_day_makes_no_torn_tail_committed() {
    for junk in [&b"Nov 25 10:00:00 host something\n"[..], b"# diary\n", b"", &[0; 700]] {
        let diary = killed(2, "own");
        let sound = served(&diary);
        let newest = diary.file("2026-11-21.log");
        let whole = fs::read(&newest).unwrap();
        fs::write(&newest, [&whole[..], b"41 2026-11-21T10:00:00.000000+00:00 anna half a li"].concat())
            .unwrap();
        fs::write(diary.file("2026-11-25.log"), junk).unwrap();
        let Opened { mut appender, reader } = diary.open();
        append(&mut appender, NOON + DAY + 20, &["own"]);
        assert_eq!(all(&reader), [&sound[..], &["41 own".to_owned()]].concat());
    }
}

/// The zone moved west, so the file begins with entries of its day and goes on with those of the day before.
#[test]
fn damage_makes_the_file_that_the_head_names_no_other_one() {
    let diary = killed(1, "own");
    let Opened { mut appender, .. } = diary.open();
    let author = diary_proto::Author::new("anna").unwrap();
    let west = Time { micros: NOON + 60_000_000, offset_minutes: -12 * 60 };
    for _ in 0..3 {
        let entry =
            diary_store::NewEntry { author: &author, text: "west", key: None, at: None, relation: None };
        appender.stage(west, entry);
        appender.commit(west).unwrap();
    }
    appender.stop().unwrap();
    let path = diary.file("2026-11-20.log");
    let whole = fs::read(&path).unwrap();
    // An editor has taken the first lines away.
    let from = memchr_all(&whole)[20] + 1;
    fs::write(&path, &whole[from..]).unwrap();
    for _ in 0..2 {
        assert_eq!(served(&diary), ["gap 1..20", "21 west", "22 west", "23 west"]);
    }
    let Opened { mut appender, reader } = diary.open();
    append(&mut appender, NOON + DAY, &["own"]);
    assert_eq!(reader.head().seq, 24);
}
