//! A start beside a cache that holds anything. If the first byte is odd, the rest of the data is the tables of one that
//! fits the diary, with right checksums: what is derived may be wrong then, and nothing else may.
#![no_main]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use diary_proto::{Author, Date, Day, Key, Producer, Seal, Time, Which, seal};
use diary_store::disk::{Disk, How};
use diary_store::sim::SimDisk;
use diary_store::{Appender, NewEntry, Reader, Staged, open};
use libfuzzer_sys::fuzz_target;

const DIR: &str = "/diary";
const CACHE: &str = "/diary/cache";
const NOON: Time = Time { micros: 1_795_168_800_000_000, offset_minutes: 0 };
const HOUR: i64 = 3_600_000_000;

/// So many of them are about days of their own.
const OWN: u64 = 6;

fn start(disk: &SimDisk) -> (Appender, Reader) {
    let opened = open(Arc::new(disk.clone()), Path::new(DIR)).expect("the day files are sound");
    opened.with_derived().expect("the disk reads")
}

fn append(appender: &mut Appender, counter: u64, retry: bool, own_hours: Option<i64>) -> Staged {
    let author = Author::new("anna").expect("a name");
    let at = own_hours.map(|hours| Time { micros: NOON.micros - hours * HOUR, ..NOON });
    let key = Key { producer: Producer(counter % 2), counter };
    let staged = appender.stage(NOON, NewEntry { author: &author, text: "x", key: Some((key, retry)), at, relation: None });
    appender.commit(NOON).expect("the disk writes");
    staged
}

/// A diary that was stopped, and so has a cache.
struct Stopped {
    disk: SimDisk,
    cache: Vec<u8>,
    /// The lines of each of its days, and of all of them.
    days: Vec<Vec<u8>>,
}

static STOPPED: LazyLock<Stopped> = LazyLock::new(|| {
    let disk = SimDisk::new();
    let (mut appender, _reader) = start(&disk);
    for counter in 1..=OWN {
        append(&mut appender, counter, false, Some((counter * 31 % 4 * 30) as i64 + 30));
    }
    append(&mut appender, OWN + 1, false, None);
    appender.stop().expect("the disk writes");
    let cache = disk.contents()[Path::new(CACHE)].clone();
    let days = all_days(&start(&disk).1);
    Stopped { disk, cache, days }
});

/// A cache with these tables in the place of its own.
fn with_tables(cache: &[u8], tables: &[u8]) -> Vec<u8> {
    let line = cache.split(|&b| b == b'\n').next().expect("it has a first line");
    let line = std::str::from_utf8(line).expect("it is text");
    let (place, _) = line.split_once(" length=").expect("it says how long its tables are");
    let crc = String::from_utf8_lossy(&seal::hex(seal::crc(tables))).into_owned();
    let mut cache = format!("{place} length={} table={crc}\t", tables.len()).into_bytes();
    Seal::PLAIN.write(&mut cache, 0);
    cache.extend_from_slice(tables);
    cache
}

/// The lines of some days.
fn days(reader: &Reader, from: i8, to: i8) -> Vec<u8> {
    let day = |day| Day::Date(Date::new(2026, 11, day).expect("a day of November"));
    let mut range = reader.range(Which::Days(day(from), day(to)), NOON.date()).expect("the disk reads");
    let mut lines = Vec::new();
    while let Some(page) = reader.next_page(&mut range, 4096).expect("the disk reads") {
        lines.extend(page);
    }
    lines
}

fn all_days(reader: &Reader) -> Vec<Vec<u8>> {
    (14..=21).map(|day| days(reader, day, day)).chain([days(reader, 1, 30)]).collect()
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, data)) = data.split_first() else { return };
    let (disk, known) = (STOPPED.disk.fork(), &STOPPED.days);
    let fits = first % 2 == 1;
    let other = if fits { with_tables(&STOPPED.cache, data) } else { data.to_vec() };
    let file = disk.open(Path::new(CACHE), How::Overwrite).expect("the disk writes");
    file.set_len(0).expect("the disk writes");
    file.write_all_at(&other, 0).expect("the disk writes");
    drop(file);

    let (mut appender, reader) = start(&disk);
    let seen = all_days(&reader);
    if !fits {
        assert_eq!(&seen, known, "what does not fit changes something");
    }
    let is_known = |line: &[u8]| {
        line.starts_with(b"#")
            || known.iter().any(|day| day.split(|&b| b == b'\n').any(|known| known == line))
    };
    assert!(seen.iter().all(|day| day.split(|&b| b == b'\n').all(is_known)), "a line of no entry");
    for (counter, retry) in [(OWN, true), (OWN + 2, true), (OWN + 4, false)] {
        append(&mut appender, counter, retry, Some(30));
    }
    all_days(&reader);
    appender.stop().expect("the disk writes");
    all_days(&start(&disk).1);
});
