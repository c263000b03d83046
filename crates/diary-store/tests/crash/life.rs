//! The life that is ended, and what its writers know.

#![allow(unreachable_pub, reason = "what the tests of this binary use")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use diary_proto::entry::StoredLine;
use diary_proto::seal::id_in_header;
use diary_proto::{Author, DayStart, Key, Producer, Relation, Seal, Time};
use diary_store::disk::{Disk, How};
use diary_store::sim::SimDisk;
use diary_store::{Appender, CommitError, NewEntry, Reader, Staged, archive, open};

pub const DIR: &str = "/data/diary";
pub const DAY: i64 = 24 * 60 * 60 * 1_000_000;
pub const START: i64 = 1_795_168_800_000_000;

#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// One batch of so many entries, on this day. Every second entry has a key.
    Batch {
        entries: usize,
        day: i64,
    },
    /// One batch that meets a full disk.
    Full {
        day: i64,
    },
    CleanStop,
    Kill,
    /// A kill in the middle of a write: the newest file ends in a part of a line.
    Torn,
    Archive {
        day: i64,
    },
}

pub const LIFE: &[Step] = &[
    Step::Batch { entries: 1, day: 0 },
    Step::Batch { entries: 12, day: 0 },
    Step::Full { day: 0 },
    Step::Batch { entries: 3, day: 0 },
    Step::CleanStop,
    Step::Batch { entries: 9, day: 0 },
    Step::Full { day: 1 },
    Step::Batch { entries: 5, day: 1 },
    Step::Kill,
    Step::Batch { entries: 2, day: 1 },
    Step::Batch { entries: 20, day: 2 },
    Step::Torn,
    Step::Batch { entries: 2, day: 2 },
    Step::Kill,
    Step::CleanStop,
    Step::Batch { entries: 1, day: 3 },
    Step::Archive { day: 3 },
    Step::Batch { entries: 4, day: 3 },
    Step::Archive { day: 4 },
    Step::Batch { entries: 7, day: 5 },
    // A clock that is wrong by decades, and is set right.
    Step::Batch { entries: 2, day: FUTURE },
    Step::CleanStop,
    Step::Archive { day: 6 },
    Step::Batch { entries: 2, day: 6 },
];

/// A day in 2099.
const FUTURE: i64 = 26_500;

/// What the writers know.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pub sent: BTreeSet<String>,
    /// Whole lines, by their seqs.
    pub acked: BTreeMap<u64, Vec<u8>>,
    pub refused: BTreeSet<String>,
    /// The texts that were sent with a key, by their counters.
    pub keyed: BTreeMap<u64, String>,
}

/// Lives until the process dies, or to the end.
pub fn live(disk: &SimDisk, record: &mut Record) {
    let mut process = start(disk);
    let mut number = 0;
    for step in LIFE {
        let Some(opened) = &mut process else { return };
        match *step {
            Step::Batch { entries, day } => {
                if !batch(disk, &mut opened.appender, record, &mut number, entries, day) {
                    return;
                }
            }
            Step::Full { day } => {
                disk.set_full(true);
                let goes_on = batch(disk, &mut opened.appender, record, &mut number, 4, day);
                disk.set_full(false);
                if !goes_on {
                    return;
                }
            }
            Step::CleanStop => {
                let Some(opened) = process.take() else { return };
                if opened.appender.stop().is_err() {
                    return;
                }
                process = start(disk);
            }
            Step::Archive { day } => {
                drop(process.take());
                let now = Time { micros: START + day * DAY, offset_minutes: 0 };
                let disk: Arc<dyn Disk> = Arc::new(disk.clone());
                if archive(&disk, Path::new(DIR), now, DayStart::default()).is_err() {
                    return;
                }
                process = start_on(disk).ok();
            }
            Step::Torn => {
                drop(process.take());
                if tear(disk).is_err() {
                    return;
                }
                process = start(disk);
            }
            Step::Kill => {
                // The caller ends it by a call's number; a kill in between keeps counting.
                drop(process.take());
                process = start(disk);
            }
        }
    }
}

pub struct Opened {
    pub appender: Appender,
    pub reader: Reader,
}

pub fn start(disk: &SimDisk) -> Option<Opened> {
    try_start(disk).ok()
}

pub fn try_start(disk: &SimDisk) -> Result<Opened, Box<dyn std::error::Error>> {
    start_on(Arc::new(disk.clone()))
}

pub fn start_on(disk: Arc<dyn Disk>) -> Result<Opened, Box<dyn std::error::Error>> {
    let (appender, reader) = open(disk, Path::new(DIR))?.with_derived()?;
    Ok(Opened { appender, reader })
}

/// Leaves of a batch what a kill in its write would.
pub fn tear(disk: &SimDisk) -> std::io::Result<()> {
    let days = disk.contents().into_keys().filter(|path| path.parent() == Some(Path::new(DIR)));
    let Some(newest) = days.filter(|path| path.extension().is_some_and(|end| end == "log")).max() else {
        return Ok(());
    };
    let file = disk.open(&newest, How::Write)?;
    let end = file.size()?;
    file.write_all_at(b"4711 2026-11-22T10:00:00.000000+00:00 anna half a li", end)
}

/// What the lines of a day file are sealed with, as its first line says.
fn seal_in(file: &[u8]) -> Seal {
    let header = file.split(|&b| b == b'\n').next().unwrap_or_default();
    id_in_header(header).map_or(Seal::PLAIN, Seal::of_journal)
}

/// The stored line of every entry, as the disk's files have it.
pub fn stored_lines(disk: &SimDisk) -> BTreeMap<u64, Vec<u8>> {
    let mut lines = BTreeMap::new();
    let files = disk.contents().into_iter().filter(|(path, _)| !path.starts_with("/data/diary/quarantine"));
    for (_, bytes) in files {
        let seal = seal_in(&bytes);
        for line in bytes.split(|&b| b == b'\n') {
            if let Ok(stored) = StoredLine::parse(line, seal) {
                lines.insert(stored.seq, line.to_vec());
            }
        }
    }
    lines
}

/// Appends one batch; false if the process has died or must end.
pub fn batch(
    disk: &SimDisk,
    appender: &mut Appender,
    record: &mut Record,
    number: &mut u64,
    entries: usize,
    day: i64,
) -> bool {
    let author = Author::new("anna").unwrap();
    let now = Time { micros: START + day * DAY + *number as i64, offset_minutes: 0 };
    let mut staged = Vec::new();
    for _ in 0..entries {
        *number += 1;
        // Texts of many lengths, so that lines and sectors end everywhere.
        let text = format!("{number}:{}", "今x".repeat((*number as usize * 37) % 90));
        let key = Key { producer: Producer(7), counter: *number };
        let key = number.is_multiple_of(2).then_some((key, false));
        // Every third is about one of two days long ago.
        let at = number.is_multiple_of(3).then(|| long_ago(*number as i64 % 2));
        // Some belong to the oldest one that was acked.
        let relation = record.acked.keys().next().and_then(|&seq| match *number % 5 {
            0 => Some(Relation::Answers(seq)),
            1 => Some(Relation::Corrects(seq)),
            _ => None,
        });
        let entry = NewEntry { author: &author, text: &text, key, at, relation };
        let Staged::New(seq) = appender.stage(now, entry) else { panic!("nothing was sent twice") };
        record.sent.insert(text.clone());
        record.keyed.extend(key.map(|(key, _)| (key.counter, text.clone())));
        staged.push((seq, text));
    }
    match appender.commit(now) {
        Ok(_) => {
            let lines = stored_lines(disk);
            for (seq, text) in staged {
                let line = lines[&seq].clone();
                let left = line.split(|&b| b == b'\t').next().unwrap();
                assert!(left.ends_with(format!(" {text}").as_bytes()));
                assert_eq!(record.acked.insert(seq, line), None, "the seq {seq} was given out twice");
            }
            // A cache is due where there is none.
            appender.snapshot().is_none_or(|snapshot| snapshot.write().is_ok() || !disk.is_dead())
        }
        Err(CommitError::Full(_)) => {
            record.refused.extend(staged.into_iter().map(|(_, text)| text));
            true
        }
        Err(CommitError::Failed(_)) => false,
    }
}

/// So many days after some day in 2015.
pub fn long_ago(days: i64) -> Time {
    Time { micros: 1_425_284_100_000_000 + days * DAY, offset_minutes: 480 }
}
