//! Files that have a day file's name and do not belong there: old copies, those of another journal, renamed
//! and swapped ones, and what is no file at all.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use diary_proto::block::{Step, Walker};
use diary_proto::entry::StoredLine;
use diary_proto::{Date, Seal};
use diary_store::disk::{Disk, How, RealDisk};
use diary_store::sim::SimDisk;
use diary_store::verify::Verified;
use diary_store::{Appender, OpenError, Reader, open, repair, verify};
use proptest::prelude::*;
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
        if days == 1 {
            // Of two files, nothing but the evidence says which journal it is.
            drop(diary.open());
        }
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
    fs::copy(copy.file("2026-11-22.log"), diary.file("2026-11-22.log")).unwrap();
    let with_gap: Vec<String> = sound.iter().cloned().chain(["gap 421..430".to_owned()]).collect();
    for clean in [true, false] {
        match clean {
            true => diary.open().appender.stop().unwrap(),
            false => forget(&diary),
        }
        assert!(served(&diary) == with_gap, "clean: {clean}");
        let (verified, found) = findings(&diary.dir);
        assert_eq!((verified.entries, found.len()), (420, 2), "{found:?}");
        assert!(found[0].starts_with("2026-11-22.log: it does not belong"), "{found:?}");
        assert!(found[1].ends_with("the entries 421 to 430 are missing behind it"), "{found:?}");
    }
    let repaired = repair(&disk(), &diary.dir, &diary.dir.with_file_name("with the copy's")).unwrap();
    assert_eq!((repaired.entries, &repaired.gaps[..]), (430, &[][..]));
    fs::remove_file(diary.file("2026-11-22.log")).unwrap();
    forget(&diary);

    // A longer version of a day that both have: it belongs as far as it is no other day's.
    fs::copy(copy.file("2026-11-21.log"), diary.file("2026-11-21.log")).unwrap();
    for clean in [true, false] {
        match clean {
            true => diary.open().appender.stop().unwrap(),
            false => forget(&diary),
        }
        assert!(served(&diary) == sound, "clean: {clean}");
        let (verified, found) = findings(&diary.dir);
        assert_eq!((verified.entries, found.len()), (420, 1), "{found:?}");
        assert_eq!(found[0], "2026-11-21.log line 182: from here on, the file has the seqs of a later one");
    }
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

/// Days on which the own journal has a file at first, from 2026-11-20 on.
const DAYS: usize = 5;

/// Names that files get: those of these days, two earlier and three later ones.
const NAMES: usize = DAYS + 5;

/// What somebody did to the folder. Days are places in the list of names.
#[derive(Debug, Clone, Copy)]
enum Doing {
    Copy {
        from: usize,
        to: usize,
    },
    Rename {
        from: usize,
        to: usize,
    },
    Swap(usize, usize),
    /// A file of another journal.
    Foreign {
        from: usize,
        to: usize,
    },
    /// A file as it was so many lines earlier.
    Old {
        from: usize,
        to: usize,
        lines: usize,
    },
    /// A file without its header.
    Headless {
        from: usize,
        to: usize,
    },
    /// The own header, and the lines of another journal.
    ForeignLines(usize),
    /// The header of another journal, and the own lines.
    ForeignHeader(usize),
    Junk(usize),
    Folder(usize),
}

/// What is left to tell how far the journal came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evidence {
    Stopped,
    Killed,
    OnlyCache,
    Nothing,
}

fn doing() -> impl Strategy<Value = Doing> {
    let (own, name) = (2..2 + DAYS, 0..NAMES);
    prop_oneof![
        (own.clone(), name.clone()).prop_map(|(from, to)| Doing::Copy { from, to }),
        (own.clone(), name.clone()).prop_map(|(from, to)| Doing::Rename { from, to }),
        (own.clone(), own.clone()).prop_map(|(one, other)| Doing::Swap(one, other)),
        (own.clone(), name.clone()).prop_map(|(from, to)| Doing::Foreign { from, to }),
        (own.clone(), name.clone(), 1..5usize).prop_map(|(from, to, lines)| Doing::Old { from, to, lines }),
        (own.clone(), name.clone()).prop_map(|(from, to)| Doing::Headless { from, to }),
        own.clone().prop_map(Doing::ForeignLines),
        own.clone().prop_map(Doing::ForeignHeader),
        name.clone().prop_map(Doing::Junk),
        name.prop_map(Doing::Folder),
    ]
}

fn evidence() -> impl Strategy<Value = Evidence> {
    prop_oneof![
        Just(Evidence::Stopped),
        Just(Evidence::Killed),
        Just(Evidence::OnlyCache),
        Just(Evidence::Nothing)
    ]
}

const DIR: &str = "/data/diary";
const COPY: &str = "/data/copy";

fn date_of(place: usize) -> Date {
    at(NOON + (place as i64 - 2) * DAY).date()
}

fn path_of(place: usize) -> PathBuf {
    Path::new(DIR).join(format!("{}.log", date_of(place)))
}

fn start(disk: &SimDisk, dir: &str) -> (Appender, Reader) {
    open(Arc::new(disk.clone()), Path::new(dir)).unwrap().with_derived().unwrap()
}

/// A journal whose texts start with this word; some days have few entries and some have many.
fn journal(word: &str, sizes: &[usize]) -> SimDisk {
    let disk = SimDisk::new();
    let (mut appender, _) = start(&disk, DIR);
    for (day, size) in sizes.iter().enumerate() {
        for batch in 0..*size {
            let texts: Vec<String> = (0..=batch % 3).map(|n| format!("{word} {day}.{batch}.{n}")).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            append(&mut appender, NOON + day as i64 * DAY + batch as i64, &texts);
        }
        if let Some(snapshot) = appender.snapshot() {
            snapshot.write().unwrap();
        }
    }
    disk
}

fn read(disk: &SimDisk, path: &Path) -> Option<Vec<u8>> {
    disk.contents().remove(path)
}

fn write(disk: &SimDisk, path: &Path, bytes: &[u8]) {
    let _ = disk.remove(path);
    let file = disk.open(path, How::CreateNew).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

fn header_and_rest(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(memchr::memchr(b'\n', bytes).map_or(0, |end| end + 1))
}

impl Doing {
    fn carry_out(self, disk: &SimDisk, other: &SimDisk) {
        let own = |place| read(disk, &path_of(place)).unwrap_or_default();
        let foreign = |place| read(other, &path_of(place)).unwrap_or_default();
        let put = |place, bytes: &[u8]| {
            if !bytes.is_empty() && disk.list(&path_of(place)).is_err() {
                write(disk, &path_of(place), bytes);
            }
        };
        match self {
            Self::Copy { from, to } => put(to, &own(from)),
            Self::Rename { from, to } => _ = disk.rename(&path_of(from), &path_of(to)),
            Self::Swap(one, other) => _ = disk.exchange(&path_of(one), &path_of(other)),
            Self::Foreign { from, to } => put(to, &foreign(from)),
            Self::Old { from, to, lines } => {
                let bytes = own(from);
                let ends = memchr_all(&bytes);
                let end = ends.len().checked_sub(lines + 1).map_or(0, |last| ends[last] + 1);
                put(to, &bytes[..end]);
            }
            Self::Headless { from, to } => put(to, header_and_rest(&own(from)).1),
            Self::ForeignLines(place) => {
                put(place, &[header_and_rest(&own(place)).0, header_and_rest(&foreign(place)).1].concat());
            }
            Self::ForeignHeader(place) => {
                put(place, &[header_and_rest(&foreign(place)).0, header_and_rest(&own(place)).1].concat());
            }
            Self::Junk(place) => put(place, b"Nov 21 10:00:00 host something else\n# a note\n17 of 35\n"),
            Self::Folder(place) => _ = disk.create_dir(&path_of(place)),
        }
    }
}

/// How many day files have the header of the journal with this id.
fn headers_of(disk: &SimDisk, id: u64) -> usize {
    let is_header = |bytes: &Vec<u8>| {
        let line = header_and_rest(bytes).0;
        line.starts_with(b"# diary ")
            && memchr::memmem::find(line, format!("id={id:016x}").as_bytes()).is_some()
    };
    disk.contents().values().filter(|bytes| is_header(bytes)).count()
}

/// Whether a file without a header may be a first batch that was not finished.
fn may_be_unfinished(bytes: &[u8], id: u64) -> bool {
    let lines = bytes.split(|&b| b == b'\n');
    let batches: BTreeSet<u64> =
        lines.filter_map(|line| Some(StoredLine::parse(line, Seal::of_journal(id)).ok()?.batch())).collect();
    batches.len() == 1 && !bytes.starts_with(b"# diary ")
}

/// Own entries in the day files of a folder, and in strays in its quarantine, by their seqs.
fn own_entries(disk: &SimDisk, dir: &str, id: u64) -> BTreeMap<u64, Vec<u8>> {
    let mut found = BTreeMap::new();
    for (path, bytes) in disk.contents().into_iter().filter(|(path, _)| path.starts_with(dir)) {
        if !path.to_str().unwrap().contains(".log") {
            continue;
        }
        for line in bytes.split(|&b| b == b'\n') {
            if let Some(seq) = seq_of_own(line, id) {
                found.insert(seq, line.to_vec());
            }
        }
    }
    found
}

fn seq_of_own(line: &[u8], id: u64) -> Option<u64> {
    let stored = StoredLine::parse(line, Seal::of_journal(id)).ok()?;
    assert!(stored.text.starts_with("own"));
    Some(stored.seq)
}

/// What is served: lines by their seqs. The rest up to the head is told as gaps.
fn served_lines(reader: &Reader) -> BTreeMap<u64, Vec<u8>> {
    let mut range = reader.from(1).unwrap();
    let (mut walker, mut next, mut seen) =
        (Walker::new(range.first, reader.seal()), range.first, BTreeMap::new());
    while let Some(page) = reader.next_page(&mut range, 300).unwrap() {
        for line in page.split_inclusive(|&b| b == b'\n') {
            walker.walk(line, |step| match step {
                Step::Entry(entry) => {
                    assert_eq!(entry.seq, next);
                    next += 1;
                    seen.insert(entry.seq, line[..line.len() - 1].to_vec());
                }
                Step::Gap(gap) => {
                    assert_eq!(gap.first, next);
                    next = gap.last + 1;
                }
            });
        }
    }
    walker.finish(range.last);
    assert_eq!(walker.next_seq(), reader.head().seq + 1);
    seen
}

fn verified(disk: &SimDisk, dir: &str) -> (Verified, Vec<String>) {
    let mut found = Vec::new();
    let verified =
        verify(Arc::new(disk.clone()), Path::new(dir), |finding| found.push(finding.to_string())).unwrap();
    (verified, found)
}

fn check(sizes: &[usize], doings: &[Doing], evidence: Evidence, before_stop: bool) {
    let disk = journal("own", sizes);
    let other = journal("other", &[9, 8, 9, 8, 9]);
    let other_id = start(&other, DIR).1.id();
    let (appender, reader) = start(&disk, DIR);
    let (acked, id) = (served_lines(&reader), reader.id());
    let untouched = disk.contents();
    if before_stop {
        doings.iter().for_each(|doing| doing.carry_out(&disk, &other));
    }
    match evidence {
        Evidence::Stopped => appender.stop().unwrap(),
        _ => drop(appender),
    }
    if !before_stop {
        doings.iter().for_each(|doing| doing.carry_out(&disk, &other));
    }
    drop(reader);
    disk.kill();
    let gone: &[&str] = match evidence {
        Evidence::Stopped | Evidence::Killed => &[],
        Evidence::OnlyCache => &["head"],
        Evidence::Nothing => &["head", "cache"],
    };
    gone.iter().for_each(|name| disk.remove(&Path::new(DIR).join(name)).unwrap());

    // Without a head, most of the files say which journal it is, and the cache as one of them.
    let cached = usize::from(evidence == Evidence::OnlyCache);
    if !gone.is_empty() && headers_of(&disk, other_id) >= headers_of(&disk, id) + cached {
        return;
    }
    if evidence != Evidence::Stopped && disk.contents().values().any(|bytes| may_be_unfinished(bytes, id)) {
        return;
    }
    let found = own_entries(&disk, DIR, id);
    let (verified_before, findings) = verified(&disk, DIR);

    let (mut appender, reader) = start(&disk, DIR);
    assert_eq!(reader.id(), id);
    let served = served_lines(&reader);
    assert!(served.iter().all(|(seq, line)| acked.get(seq) == Some(line)), "something else is served");
    // What is where it was is served.
    let contents = disk.contents();
    for (path, bytes) in &untouched {
        if path.extension() == Some("log".as_ref()) && contents.get(path) == Some(bytes) {
            for line in bytes.split(|&b| b == b'\n') {
                if let Some(seq) = seq_of_own(line, id) {
                    assert!(served.contains_key(&seq), "{seq} in {} is hidden", path.display());
                }
            }
        }
    }
    assert_eq!(verified_before.entries, served.len() as u64, "{findings:?}");
    let whole = served.len() as u64 == reader.head().seq;
    assert!(whole || !findings.is_empty(), "verify says nothing");

    // Nobody gets a seq that somebody else has.
    let head = reader.head().seq;
    assert!(head >= found.keys().next_back().copied().unwrap_or(0));
    assert!(evidence != Evidence::Stopped || head >= acked.len() as u64);
    for (number, place) in [NAMES - 4, NAMES - 2, NAMES].into_iter().enumerate() {
        append(&mut appender, NOON + (place as i64 - 2) * DAY, &["own goes on"]);
        assert_eq!(reader.head().seq, head + 1 + number as u64);
    }
    let after = served_lines(&reader);
    assert_eq!(after.len(), served.len() + 3);
    drop((appender, reader));
    disk.kill();
    let (_, reader) = start(&disk, DIR);
    assert!(served_lines(&reader) == after, "a restart serves something else");
    assert_eq!(verified(&disk, DIR).0.entries, after.len() as u64);
    drop(reader);

    // What was there is there, byte for byte, if perhaps in the quarantine.
    let now = disk.contents();
    for (path, bytes) in contents.iter().filter(|(path, _)| path.extension() == Some("log".as_ref())) {
        let is_kept = |(at, kept): (&PathBuf, &Vec<u8>)| {
            (at == path || at.to_str().unwrap().contains(path.file_name().unwrap().to_str().unwrap()))
                && kept.starts_with(bytes)
        };
        assert!(now.iter().any(is_kept), "{} is gone or changed", path.display());
    }
    check_repair(&disk, id);
}

fn check_repair(disk: &SimDisk, id: u64) {
    let before = disk.contents();
    let repaired =
        repair(&(Arc::new(disk.clone()) as Arc<dyn Disk>), Path::new(DIR), Path::new(COPY)).unwrap();
    let after = disk.contents().into_iter().filter(|(path, _)| !path.starts_with(COPY)).collect();
    assert!(before == after, "the original is changed");
    assert_eq!(verified(disk, COPY).1, [""; 0]);
    let found = own_entries(disk, DIR, id);
    assert_eq!(repaired.entries, found.len() as u64, "gaps: {:?}", repaired.gaps);
    let (_, reader) = start(disk, COPY);
    let served = served_lines(&reader);
    assert!(served == found, "the copy has something else");
    for (seq, line) in served {
        let day = at_date(&line);
        let file = read(disk, &Path::new(COPY).join(format!("{day}.log"))).unwrap_or_default();
        assert!(memchr::memmem::find(&file, &line).is_some(), "{seq} is not in the file of {day}");
    }
}

/// The date of a line's time.
fn at_date(line: &[u8]) -> String {
    let time = line.split(|&b| b == b' ').nth(1).unwrap();
    String::from_utf8(time[..10].to_vec()).unwrap()
}

/// `DIARY_TEST_BUDGET` multiplies how many folders are tried.
fn cases() -> u32 {
    let budget = std::env::var("DIARY_TEST_BUDGET").map_or(1, |budget| budget.parse().expect("a number"));
    2_000 * budget
}

proptest! {
    // Without a file of failed cases: each prints what replays it.
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever lies in the folder: no acked entry is hidden, no seq is given out twice, verify and what is served agree,
    /// and a repair takes nothing foreign in and leaves nothing out.
    #[test]
    fn stray_old_foreign_swapped_and_renamed_files(
        sizes in proptest::collection::vec(1..7usize, DAYS),
        doings in proptest::collection::vec(doing(), 1..5),
        evidence in evidence(),
        before_stop in any::<bool>(),
    ) {
        check(&sizes, &doings, evidence, before_stop);
    }
}
