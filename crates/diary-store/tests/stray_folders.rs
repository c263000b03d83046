//! Any stray files, by a property: whatever somebody did to a folder on a simulated disk, no acked entry is hidden, no seq
//! is given out twice, verify and what is served agree, and a repair takes nothing foreign in and leaves nothing out. Or
//! nothing decides which files belong: then the start is refused, and nothing is changed.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use diary_proto::block::{Step, Walker};
use diary_proto::entry::StoredLine;
use diary_proto::{Date, Seal};
use diary_store::disk::{Disk, How};
use diary_store::sim::SimDisk;
use diary_store::verify::Verified;
use diary_store::{Appender, Reader, open, repair, verify};
use proptest::prelude::*;
use support::*;

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
    /// The last lines of a file stand at the end of another one, too.
    Append {
        from: usize,
        to: usize,
        lines: usize,
    },
    Junk(usize),
    Folder(usize),
    /// A file of a copy that went its own way.
    Diverged(usize),
    /// The head of another journal.
    ForeignHead,
    /// No read of this file succeeds, or of the head or the cache, until they are refused.
    Unreadable(usize),
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
        // Not of the newest: the head vouches for a file that has its last line.
        (2..1 + DAYS, own.clone(), 1..5usize).prop_map(|(from, to, lines)| Doing::Append { from, to, lines }),
        own.clone().prop_map(Doing::ForeignLines),
        own.clone().prop_map(Doing::ForeignHeader),
        name.clone().prop_map(Doing::Junk),
        name.clone().prop_map(Doing::Folder),
        name.prop_map(Doing::Diverged),
        Just(Doing::ForeignHead),
        (0..NAMES + 2).prop_map(Doing::Unreadable),
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

/// Behind the days' files come the two small ones.
fn path_of(place: usize) -> PathBuf {
    let small = ["head", "cache"].get(place.wrapping_sub(NAMES)).copied();
    Path::new(DIR).join(small.map_or_else(|| format!("{}.log", date_of(place)), str::to_owned))
}

fn start(disk: &SimDisk, dir: &str) -> (Appender, Reader) {
    open(Arc::new(disk.clone()), Path::new(dir)).unwrap().with_derived().unwrap()
}

/// A journal whose texts start with this word; some days have few entries and some have many.
fn journal(word: &str, sizes: &[usize]) -> SimDisk {
    let disk = SimDisk::new();
    let (mut appender, _) = start(&disk, DIR);
    (0..).zip(sizes).for_each(|(day, &size)| write_day(&mut appender, word, day, size));
    disk
}

fn write_day(appender: &mut Appender, word: &str, day: i64, batches: usize) {
    for batch in 0..batches {
        let texts: Vec<String> = (0..=batch % 3).map(|n| format!("{word} {day}.{batch}.{n}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        append(appender, NOON + day * DAY + batch as i64, &texts);
    }
    if let Some(snapshot) = appender.snapshot() {
        snapshot.write().unwrap();
    }
}

/// A copy that was made on this day, whose first entries both have if it was `early`, and has files of most days since.
fn diverged(own: &SimDisk, day: usize, early: bool) -> SimDisk {
    let copy = own.fork();
    copy.kill();
    ["head", "cache"].iter().for_each(|name| copy.remove(&Path::new(DIR).join(name)).unwrap());
    (day + usize::from(early)..DAYS).for_each(|later| copy.remove(&path_of(2 + later)).unwrap());
    if early {
        let path = path_of(2 + day);
        let bytes = read(&copy, &path).unwrap();
        let ends = memchr_all(&bytes);
        write(&copy, &path, &bytes[..=ends[ends.len() / 2]]);
    }
    let (mut appender, _) = start(&copy, DIR);
    (day..NAMES - 2).step_by(2).for_each(|day| write_day(&mut appender, "own copy", day as i64, 1 + day % 4));
    copy
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
    fn carry_out(self, disk: &SimDisk, other: &SimDisk, copy: &SimDisk) {
        let own = |place| read(disk, &path_of(place)).unwrap_or_default();
        let diverged = |place| read(copy, &path_of(place)).unwrap_or_default();
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
            Self::Append { from, to, lines } => {
                let (before, bytes) = (own(to), own(from));
                let ends = memchr_all(&bytes);
                if !before.is_empty() && ends.len() > lines {
                    put(to, &[&before[..], &bytes[ends[ends.len() - 1 - lines] + 1..]].concat());
                }
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
            Self::Diverged(place) => put(place, &diverged(place)),
            Self::ForeignHead => put(NAMES, &foreign(NAMES)),
            Self::Unreadable(place) => disk.set_unreadable(Some(&path_of(place))),
        }
    }

    /// Whether it may leave a folder of which nothing decides what belongs there. `is_known`: its own head or cache says
    /// whose it is.
    fn may_be_refused(self, is_known: bool) -> bool {
        match self {
            Self::Foreign { .. } | Self::ForeignHeader(_) => !is_known,
            Self::Diverged(_) | Self::ForeignHead => true,
            _ => false,
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

/// Own entries in the day files of a folder, and in strays in its quarantine, by their seqs; also those in what a start has
/// cut off, if `cut`.
fn own_entries(disk: &SimDisk, dir: &str, id: u64, cut: bool) -> BTreeMap<u64, BTreeSet<Vec<u8>>> {
    let mut found: BTreeMap<u64, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for (path, bytes) in disk.contents().into_iter().filter(|(path, _)| path.starts_with(dir)) {
        let name = path.to_str().unwrap();
        if !(name.ends_with(".log") || name.ends_with(".stray") || cut && name.contains(".log")) {
            continue;
        }
        for line in bytes.split(|&b| b == b'\n') {
            if let Some(seq) = seq_of_own(line, id) {
                found.entry(seq).or_default().insert(line.to_vec());
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

/// A start that is refused, as are verify and a repair; nothing is changed.
fn is_refused(disk: &SimDisk) -> bool {
    let before = disk.contents();
    let (shared, dir): (Arc<dyn Disk>, _) = (Arc::new(disk.clone()), Path::new(DIR));
    match verify(Arc::clone(&shared), dir, |_| {}) {
        Ok(_) => return false,
        Err(error) => assert!(error.to_string().contains(DIR), "{error}"),
    }
    assert!(open(Arc::clone(&shared), dir).is_err() && repair(&shared, dir, Path::new(COPY)).is_err());
    assert!(disk.contents() == before, "a refused start changes something");
    true
}

/// What was tried.
#[derive(Debug, Clone, Copy)]
struct Case<'a> {
    sizes: &'a [usize],
    /// The day on which the copy was made, and whether before the last entry of that.
    copied: (usize, bool),
    doings: &'a [Doing],
    evidence: Evidence,
    before_stop: bool,
}

fn check(case: Case<'_>) {
    let Case { sizes, doings, evidence, before_stop, .. } = case;
    let disk = journal("own", sizes);
    let copy = diverged(&disk, case.copied.0, case.copied.1);
    let other = journal("other", &[9, 8, 9, 8, 9]);
    other.kill();
    let (appender, reader) = start(&other, DIR);
    let other_id = reader.id();
    appender.stop().unwrap();
    let (appender, reader) = start(&disk, DIR);
    let (acked, id) = (served_lines(&reader), reader.id());
    let untouched = disk.contents();
    let carry_out = || doings.iter().for_each(|doing| doing.carry_out(&disk, &other, &copy));
    if before_stop {
        carry_out();
    }
    match evidence {
        Evidence::Stopped => appender.stop().unwrap(),
        _ => drop(appender),
    }
    if !before_stop {
        carry_out();
    }
    drop(reader);
    disk.kill();
    let gone: &[&str] = match evidence {
        Evidence::Stopped | Evidence::Killed => &[],
        Evidence::OnlyCache => &["head"],
        Evidence::Nothing => &["head", "cache"],
    };
    gone.iter().for_each(|name| disk.remove(&Path::new(DIR).join(name)).unwrap());
    if evidence != Evidence::Stopped && disk.contents().values().any(|bytes| may_be_unfinished(bytes, id)) {
        return;
    }
    // Alone: lines in a wrong place may be all that is left where the right one is gone, too.
    if doings.len() > 1 && doings.iter().any(|doing| matches!(doing, Doing::Append { .. })) {
        return;
    }
    let found = own_entries(&disk, DIR, id, true);
    let newest_found = found.keys().next_back().copied().unwrap_or(0);
    // Nothing that cannot be read is taken for absent: it is refused, or known to lie before others.
    if let Some(path) = (0..NAMES + 2).map(path_of).find(|path| disk.is_unreadable(path))
        && !is_refused(&disk)
    {
        assert!(path.extension() == Some("log".as_ref()), "{} is passed over", path.display());
        let reader = open(Arc::new(disk.fork()), Path::new(DIR)).unwrap().reader;
        // Who moves the newest file to an older name, where it cannot be read any more, hides it.
        let is_itself = untouched.get(&path) == disk.contents().get(&path);
        assert!(
            reader.head().seq >= newest_found || reader.id() != id || !is_itself,
            "seqs are given out again"
        );
    }
    disk.set_unreadable(None);
    if is_refused(&disk) {
        let is_known = evidence != Evidence::Nothing && headers_of(&disk, id) > 0;
        assert!(doings.iter().any(|doing| doing.may_be_refused(is_known)), "it is refused");
        return;
    }
    let (verified_before, findings) = verified(&disk, DIR);

    let (mut appender, reader) = start(&disk, DIR);
    if reader.id() != id {
        // It is another's folder, by all that is there.
        let is_headed = doings.iter().any(|doing| matches!(doing, Doing::ForeignHead));
        assert!(reader.id() == other_id && (is_headed || headers_of(&disk, id) == 0));
        return;
    }
    let served = served_lines(&reader);
    let is_there = |(seq, line): (&u64, &Vec<u8>)| found.get(seq).is_some_and(|lines| lines.contains(line));
    assert!(served.iter().all(is_there), "something else is served");
    // What is where it was is served.
    let contents = disk.contents();
    for (path, bytes) in &untouched {
        if path.extension() == Some("log".as_ref()) && contents.get(path) == Some(bytes) {
            for line in bytes.split(|&b| b == b'\n') {
                if let Some(seq) = seq_of_own(line, id) {
                    let is_served = served.get(&seq).is_some_and(|served| served == line);
                    assert!(is_served, "{seq} in {} is hidden", path.display());
                }
            }
        }
    }
    assert_eq!(verified_before.entries, served.len() as u64, "{findings:?}");
    let whole = served.len() as u64 == reader.head().seq;
    assert!(whole || !findings.is_empty(), "verify says nothing");

    // Nobody gets a seq that somebody else has.
    let head = reader.head().seq;
    assert!(head >= newest_found);
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
    let mixes = |doing: &Doing| matches!(doing, Doing::Diverged(_) | Doing::Append { .. });
    check_repair(&disk, id, doings.iter().any(mixes));
}

/// `is_mixed`: entries of two copies, or of two days, are among each other, and their times are in no order.
fn check_repair(disk: &SimDisk, id: u64, is_mixed: bool) {
    let before = disk.contents();
    let repaired =
        repair(&(Arc::new(disk.clone()) as Arc<dyn Disk>), Path::new(DIR), Path::new(COPY)).unwrap();
    let after = disk.contents().into_iter().filter(|(path, _)| !path.starts_with(COPY)).collect();
    assert!(before == after, "the original is changed");
    let is_of_two = |finding: &String| is_mixed && finding.ends_with("is not in the batch that it names");
    let findings: Vec<_> = verified(disk, COPY).1.into_iter().filter(|finding| !is_of_two(finding)).collect();
    assert_eq!(findings, [""; 0]);
    let found = own_entries(disk, DIR, id, false);
    assert_eq!(repaired.entries, found.len() as u64, "gaps: {:?}", repaired.gaps);
    let (_, reader) = start(disk, COPY);
    let served = served_lines(&reader);
    let is_found = |(seq, line): (&u64, &Vec<u8>)| found[seq].contains(line);
    assert!(served.len() == found.len() && served.iter().all(is_found), "the copy has something else");
    for (seq, line) in served.into_iter().filter(|_| !is_mixed) {
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
        copied in (0..DAYS, any::<bool>()),
        doings in proptest::collection::vec(doing(), 1..5),
        evidence in evidence(),
        before_stop in any::<bool>(),
    ) {
        check(Case { sizes: &sizes, copied, doings: &doings, evidence, before_stop });
    }
}
