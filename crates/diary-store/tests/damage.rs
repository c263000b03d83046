//! Every bit and every byte: whatever is flipped or cut, everything sound beside it is served, the damage is
//! told with file, line and seqs, and nothing wrong is ever given out.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use diary_proto::entry::StoredLine;
use diary_store::disk::{Disk, RealDisk};
use diary_store::{open, repair, verify};
use support::*;

fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

/// A diary of three days whose files are kept in memory, so that each case can begin with fresh ones.
struct Kept {
    _diary: Diary,
    dir: PathBuf,
    files: Vec<(String, Vec<u8>)>,
}

impl Kept {
    fn new(clean: bool) -> Self {
        let diary = Diary::new();
        let opened = three_days(&diary);
        if clean {
            opened.appender.stop().unwrap();
        } else {
            drop(opened);
        }
        let read =
            |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
        let mut files: Vec<_> = fs::read_dir(&diary.dir).unwrap().map(|entry| read(entry.unwrap())).collect();
        files.sort();
        Self { dir: diary.dir.clone(), _diary: diary, files }
    }

    /// Puts everything back, and other bytes into one file.
    fn with(&self, name: &str, bytes: &[u8]) -> &Path {
        for entry in fs::read_dir(&self.dir).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => fs::remove_dir_all(entry.path()).unwrap(),
                false => fs::remove_file(entry.path()).unwrap(),
            }
        }
        for (file, sound) in &self.files {
            fs::write(self.dir.join(file), if file == name { bytes } else { sound }).unwrap();
        }
        &self.dir
    }
}

fn findings(dir: &Path) -> (diary_store::verify::Verified, Vec<String>) {
    let mut found = Vec::new();
    let verified = verify(disk(), dir, |finding| found.push(finding.to_string())).unwrap();
    (verified, found)
}

fn entries_of(seen: &[String]) -> Vec<&str> {
    seen.iter().map(String::as_str).filter(|step| !step.starts_with("gap")).collect()
}

/// The entry on a line of a file, from 1.
fn entry_on(bytes: &[u8], line: usize) -> Option<String> {
    let (seal, line) = (seal_in(bytes), bytes.split(|&b| b == b'\n').nth(line - 1)?);
    StoredLine::parse(line, seal).ok().map(|stored| format!("{} {}", stored.seq, stored.text))
}

#[test]
fn a_flip_of_every_bit() {
    for clean in [true, false] {
        let kept = Kept::new(clean);
        for (name, sound) in &kept.files {
            for bit in 0..sound.len() * 8 {
                flip(&kept, clean, name, sound, bit);
            }
        }
    }
}

fn flip(kept: &Kept, clean: bool, name: &str, sound: &[u8], bit: usize) {
    let what = format!("{name} bit {bit}, stopped {}", if clean { "clean" } else { "by a kill" });
    let mut bytes = sound.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    let dir = kept.with(name, &bytes);
    let is_day = name.ends_with(".log");
    let line = 1 + sound[..bit / 8].iter().filter(|&&b| b == b'\n').count();
    // Only the last batch of an unclean diary may be taken for one that was not finished.
    let may_be_torn = !clean && name == "2026-11-22.log" && line >= 3;

    let (verified, found) = findings(dir);
    if is_day {
        let named = found.iter().any(|finding| finding.starts_with(&format!("{name} line {line}: ")));
        assert!(named || (may_be_torn && verified.unfinished.is_some()), "{what}: {found:?}");
    } else {
        assert!(found.is_empty(), "{what}: {found:?}");
    }

    let (mut appender, reader) = open(disk(), dir).unwrap().with_derived().unwrap();
    let seen = all(&reader);
    let entries = entries_of(&seen);
    assert!(entries.iter().all(|entry| EVERYTHING.contains(entry)), "{what}: {seen:?}");
    let mut touched: Vec<String> = if is_day { entry_on(sound, line).into_iter().collect() } else { vec![] };
    if is_day && sound[bit / 8] == b'\n' {
        touched.extend(entry_on(sound, line + 1));
    }
    let lost: Vec<&str> = EVERYTHING.into_iter().filter(|entry| !entries.contains(entry)).collect();
    let quarantined = dir.join("quarantine").exists();
    if may_be_torn && quarantined {
        // Everything whole before the damage is there.
        let before = (1..line).filter_map(|line| entry_on(sound, line));
        assert!(before.clone().all(|entry| entries.contains(&&*entry)), "{what}: {seen:?}");
    } else {
        assert!(lost.iter().all(|entry| touched.iter().any(|touched| touched == entry)), "{what}: {seen:?}");
        assert!(!quarantined, "{what}");
        // A head that cannot be read is replaced by a later one.
        let same = fs::read(dir.join(name)).unwrap() == bytes;
        assert!(same || name == "head", "{what}: corruption changes no byte");
        assert!(reader.head().seq >= 9, "{what}: no seq is given out again");
        let gaps = seen.iter().any(|step| step.starts_with("gap"));
        assert_eq!(gaps, !lost.is_empty(), "{what}: {seen:?}");
    }

    let (head, id) = (reader.head().seq, reader.id());
    append(&mut appender, NOON + 2 * DAY + 5, &["again"]);
    drop((appender, reader));
    let (_, reader) = open(disk(), dir).unwrap().with_derived().unwrap();
    let again = all(&reader);
    let mut expected: Vec<String> = entries.iter().map(|&entry| entry.to_owned()).collect();
    expected.push(format!("{} again", head + 1));
    assert_eq!(entries_of(&again), expected, "{what}");
    assert_eq!(reader.id(), id, "{what}");
}

/// What is sound in another journal's day files is damage in this one's: told, a gap, never served.
#[test]
fn a_line_of_another_journal_is_never_served() {
    let other = Diary::new();
    let mut opened = other.open();
    append(&mut opened.appender, NOON, &["one", "forged"]);
    append(&mut opened.appender, NOON + DAY, &["x", "y", "six"]);
    drop(opened);
    let lines_of = |name: &str| {
        let file = fs::read(other.file(name)).unwrap();
        file.split_inclusive(|&b| b == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    for clean in [true, false] {
        let kept = Kept::new(clean);
        // In the place of an entry, and right behind the newest one of a day.
        for (name, place, foreign, what, lost) in [
            ("2026-11-20.log", 2..3, &lines_of("2026-11-20.log")[2], "line 3: the line is damaged", Some(2)),
            ("2026-11-20.log", 4..4, &lines_of("2026-11-21.log")[2], "line 5: the line is damaged", None),
        ] {
            let (_, sound) = kept.files.iter().find(|(file, _)| file == name).unwrap();
            let mut lines: Vec<&[u8]> = sound.split_inclusive(|&b| b == b'\n').collect();
            lines.splice(place, [&foreign[..]]);
            let bytes = lines.concat();
            let dir = kept.with(name, &bytes);
            let (_, found) = findings(dir);
            assert!(found[0].starts_with(&format!("{name} {what}")), "{found:?}");
            let expected: Vec<String> = (1..)
                .zip(EVERYTHING)
                .map(|(seq, entry)| match lost {
                    Some(lost) if lost == seq => format!("gap {lost}..{lost}"),
                    _ => entry.to_owned(),
                })
                .collect();
            let (_, reader) = open(disk(), dir).unwrap().with_derived().unwrap();
            assert_eq!(all(&reader), expected);
            for seq in 1..=9 {
                let text = reader.entry(seq).unwrap().map(|entry| entry.text.replace('\n', "\\n"));
                let of_it = EVERYTHING[seq as usize - 1].split_once(' ').unwrap().1;
                assert_eq!(text.as_deref(), Some(of_it).filter(|_| lost != Some(seq)));
            }
            assert_eq!(fs::read(dir.join(name)).unwrap(), bytes, "no existing byte is changed");
            let copy = dir.with_file_name("copy");
            let _ = fs::remove_dir_all(&copy);
            repair(&disk(), dir, &copy).unwrap();
            assert_eq!(findings(&copy).1, Vec::<String>::new());
        }
    }
}

/// A whole file of another journal says nothing of this one, neither its id nor its seqs.
#[test]
fn a_day_file_of_another_journal_does_not_take_over() {
    let other = Diary::new();
    let mut opened = other.open();
    for _ in 0..20 {
        append(&mut opened.appender, NOON, &["forged"]);
    }
    drop(opened);
    let foreign = fs::read(other.file("2026-11-20.log")).unwrap();
    for name in ["2026-11-01.log", "2026-11-25.log"] {
        let kept = Kept::new(true);
        let dir = kept.with("", b"");
        let id = open(disk(), dir).unwrap().reader.id();
        fs::write(dir.join(name), &foreign).unwrap();
        let (verified, found) = findings(dir);
        assert!(!found.is_empty() || verified.unfinished.is_some(), "{name}: {found:?}");
        let (mut appender, reader) = open(disk(), dir).unwrap().with_derived().unwrap();
        assert_eq!((reader.id(), reader.head().seq), (id, 9), "{name}");
        assert_eq!(all(&reader), EVERYTHING, "{name}");
        append(&mut appender, NOON + 6 * DAY, &["ten"]);
        drop((appender, reader));
        let (_, reader) = open(disk(), dir).unwrap().with_derived().unwrap();
        assert_eq!(reader.id(), id, "{name}");
        assert_eq!(all(&reader).last().unwrap(), "10 ten", "{name}");
    }
}

/// The only thing that says which journal the only day file is of is its header, and that is damaged.
#[test]
fn a_damaged_header_still_says_the_id() {
    let diary = Diary::new();
    let mut opened = diary.open();
    append(&mut opened.appender, NOON, &["one"]);
    append(&mut opened.appender, NOON, &["two"]);
    let id = opened.reader.id();
    drop(opened);
    let path = diary.file("2026-11-20.log");
    let sound = fs::read(&path).unwrap();
    for damaged in [0, 12, 48, memchr_all(&sound)[0] - 1] {
        let mut bytes = sound.clone();
        bytes[damaged] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let Opened { reader, .. } = diary.open();
        assert_eq!(all(&reader), ["1 one", "2 two"], "byte {damaged}");
        assert_eq!(reader.id(), id, "byte {damaged}");
    }
}

/// A copy that a repair makes is sound, whatever was damaged, and has all that is sound.
#[test]
fn a_repair_of_every_damaged_byte() {
    let kept = Kept::new(true);
    for (name, sound) in kept.files.iter().filter(|(name, _)| name.ends_with(".log")) {
        for byte in 0..sound.len() {
            let what = format!("{name} byte {byte}");
            let mut bytes = sound.clone();
            bytes[byte] ^= 1;
            let dir = kept.with(name, &bytes);
            let copy = dir.with_file_name("copy");
            let _ = fs::remove_dir_all(&copy);
            repair(&disk(), dir, &copy).unwrap();
            assert_eq!(findings(&copy).1, Vec::<String>::new(), "{what}");
            let (_, served) = open(disk(), dir).unwrap().with_derived().unwrap();
            let (_, repaired) = open(disk(), &copy).unwrap().with_derived().unwrap();
            assert_eq!(all(&repaired), all(&served), "{what}");
            assert_eq!(repaired.head().seq, served.head().seq, "{what}");
        }
    }
}

/// Cuts the newest file at every byte: whole lines before the cut are kept, the rest goes to quarantine,
/// and every earlier day is there. Without a whole header, the file goes there whole.
#[test]
fn a_cut_at_every_byte_of_the_newest_file() {
    let diary = Diary::new();
    drop(three_days(&diary));
    let newest = diary.file("2026-11-22.log");
    let bytes = fs::read(&newest).unwrap();
    let lines: Vec<usize> = memchr_all(&bytes);
    for cut in 0..bytes.len() {
        fs::write(&newest, &bytes[..cut]).unwrap();
        let _ = fs::remove_dir_all(diary.file("quarantine"));
        let Opened { mut appender, reader } = diary.open();
        let kept = 6 + lines[1..].iter().filter(|&&end| end < cut).count();
        assert_eq!(all(&reader), EVERYTHING[..kept], "cut at {cut}");
        let torn = cut > 0 && lines.iter().all(|&end| end + 1 != cut);
        assert_eq!(diary.file("quarantine").exists(), torn, "cut at {cut}");
        append(&mut appender, NOON + 2 * DAY + 5, &["again"]);
        assert_eq!(all(&reader).last().unwrap(), &format!("{} again", kept + 1));
        drop((appender, reader));
        assert_eq!(all(&diary.open().reader).len(), kept + 1, "cut at {cut}");
    }
}

/// Behind a clean stop nothing is torn: every cut is damage, and no seq is given out again.
#[test]
fn a_cut_at_every_byte_behind_a_clean_stop() {
    let kept = Kept::new(true);
    for (name, sound) in kept.files.iter().filter(|(name, _)| name.ends_with(".log")) {
        for cut in 0..sound.len() {
            let what = format!("{name} cut at {cut}");
            let dir = kept.with(name, &sound[..cut]);
            let (verified, found) = findings(dir);
            assert!(!found.is_empty() && verified.unfinished.is_none(), "{what}: {found:?}");
            let (mut appender, reader) = open(disk(), dir).unwrap().with_derived().unwrap();
            assert_eq!(reader.head().seq, 9, "{what}");
            append(&mut appender, NOON + 2 * DAY + 5, &["ten"]);
            let seen = all(&reader);
            assert_eq!(seen.last().unwrap(), "10 ten", "{what}");
            let whole = sound[..cut].iter().filter(|&&b| b == b'\n').count();
            let mut kept_whole = (1..=whole).filter_map(|line| entry_on(sound, line));
            assert!(kept_whole.all(|entry| seen.contains(&entry)), "{what}: {seen:?}");
            drop((appender, reader));
            assert_eq!(all(&open(disk(), dir).unwrap().reader), seen, "{what}");
        }
    }
}

#[test]
fn without_its_day_files_a_diary_goes_on_behind_them() {
    let kept = Kept::new(true);
    for evidence in ["head", "cache"] {
        let dir = kept.with("", b"");
        let (_, reader) = open(disk(), dir).unwrap().with_derived().unwrap();
        let id = reader.id();
        drop(reader);
        for (name, _) in kept.files.iter().filter(|(name, _)| name != evidence) {
            fs::remove_file(dir.join(name)).unwrap();
        }
        let (_, found) = findings(dir);
        assert_eq!(found, ["there is no day file: the entries 1 to 9 are missing behind it"], "{evidence}");
        let (mut appender, reader) = open(disk(), dir).unwrap().with_derived().unwrap();
        append(&mut appender, NOON + 3 * DAY, &["ten"]);
        assert_eq!(all(&reader), ["gap 1..9", "10 ten"], "{evidence}");
        assert!(evidence == "head" || reader.id() == id, "the cache says which journal it is");
        drop((appender, reader));
        let copy = dir.with_file_name(format!("copy of {evidence}"));
        assert_eq!(repair(&disk(), dir, &copy).unwrap().gaps, [(1, 9)]);
        assert_eq!(all(&open(disk(), &copy).unwrap().reader), ["gap 1..9", "10 ten"], "{evidence}");
    }
}

#[test]
fn what_an_editor_did_to_line_ends_or_their_order_is_repaired() {
    let kept = Kept::new(true);
    let (_, sound) = kept.files.iter().find(|(name, _)| name == "2026-11-21.log").unwrap();
    let text = String::from_utf8(sound.clone()).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.swap(1, 3);
    let swapped = lines.join("\n") + "\n";
    for (what, bytes) in [("CR LF", text.replace('\n', "\r\n")), ("swapped", swapped)] {
        let dir = kept.with("2026-11-21.log", bytes.as_bytes());
        let (_, found) = findings(dir);
        assert!(!found.is_empty(), "{what}");
        let copy = dir.with_file_name(format!("copy {what}"));
        let repaired = repair(&disk(), dir, &copy).unwrap();
        assert_eq!((repaired.entries, &repaired.gaps[..]), (9, &[][..]), "{what}: {found:?}");
        assert_eq!(all(&open(disk(), &copy).unwrap().reader), EVERYTHING, "{what}");
        assert_eq!(findings(&copy).1, Vec::<String>::new(), "{what}");
    }
}

/// Somebody else writes into the day file of a server that runs.
#[test]
fn a_day_file_that_somebody_changes_gets_no_acks_and_keeps_its_seqs() {
    type Change = fn(&mut Vec<u8>);
    let changes: [Change; 4] = [
        |bytes| bytes.truncate(bytes.len() - 9),
        Vec::clear,
        |bytes| bytes.extend_from_slice(b"by hand\n"),
        |bytes| _ = bytes.remove(60),
    ];
    for change in changes {
        let diary = Diary::new();
        let Opened { mut appender, reader } = diary.open();
        append(&mut appender, NOON, &["one", "two"]);
        let path = diary.file("2026-11-20.log");
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        let author = diary_proto::Author::new("anna").unwrap();
        appender.stage(
            at(NOON),
            diary_store::NewEntry { author: &author, text: "three", key: None, at: None, relation: None },
        );
        let error = appender.commit(at(NOON)).unwrap_err();
        assert!(error.to_string().contains("2026-11-20.log was changed"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "nothing is written into it");
        drop((appender, reader));
        let Opened { mut appender, reader } = diary.open();
        append(&mut appender, NOON, &["three"]);
        assert_eq!(all(&reader).last().unwrap(), "3 three");
    }
}
