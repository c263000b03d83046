//! A diary on a real disk, for the tests.

#![allow(dead_code, unreachable_pub, reason = "not every test needs every helper")]

pub mod counting;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use diary_proto::block::{Step, Walker};
use diary_proto::entry::StoredLine;
use diary_proto::seal::id_in_header;
use diary_proto::{Author, Date, Seal, Time, Which};
use diary_store::disk::RealDisk;
use diary_store::{Appender, NewEntry, Range, Reader, Staged, open};

/// 2026-11-20T10:00:00Z.
pub const NOON: i64 = 1_795_168_800_000_000;
pub const DAY: i64 = 24 * 60 * 60 * 1_000_000;

pub struct Opened {
    pub appender: Appender,
    pub reader: Reader,
}

pub struct Diary {
    _folder: Option<tempfile::TempDir>,
    pub dir: PathBuf,
}

impl Diary {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { dir: folder.path().join("data/diary"), _folder: Some(folder) }
    }

    /// One that is there already, and stays.
    pub fn at(dir: PathBuf) -> Self {
        Self { _folder: None, dir }
    }

    pub fn open(&self) -> Opened {
        let (appender, reader) = open(Arc::new(RealDisk), &self.dir).unwrap().with_derived().unwrap();
        Opened { appender, reader }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Names of day files and quarantined tails.
    pub fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = walk(&self.dir).into_iter().filter(|n| n.contains(".log")).collect();
        names.sort();
        names
    }
}

pub fn walk(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            names.extend(walk(&entry.path()).into_iter().map(|inner| format!("{name}/{inner}")));
        } else {
            names.push(name);
        }
    }
    names
}

pub fn at(micros: i64) -> Time {
    Time { micros, offset_minutes: 0 }
}

/// Appends one batch.
pub fn append(appender: &mut Appender, micros: i64, texts: &[&str]) {
    let author = Author::new("anna").unwrap();
    for text in texts {
        let staged = appender
            .stage(at(micros), NewEntry { author: &author, text, key: None, at: None, relation: None });
        assert!(matches!(staged, Staged::New(_)), "{staged:?}");
    }
    assert_eq!(appender.commit(at(micros)).unwrap().count, texts.len() as u64);
}

/// Everything in a range: `SEQ text`, or `gap A..B`.
pub fn texts(reader: &Reader, mut range: Range) -> Vec<String> {
    let mut walker = Walker::new(range.first, reader.seal());
    let mut seen = Vec::new();
    while let Some(page) = reader.next_page(&mut range, 256).unwrap() {
        assert_eq!(page.last(), Some(&b'\n'));
        walker.walk(&page, |step| seen.push(show(step)));
    }
    seen.extend(walker.finish(range.last).map(|gap| show(Step::Gap(gap))));
    seen
}

/// What the lines of a day file are sealed with, as its first line says.
pub fn seal_in(file: &[u8]) -> Seal {
    let header = file.split(|&b| b == b'\n').next().unwrap_or_default();
    id_in_header(header).map_or(Seal::PLAIN, Seal::of_journal)
}

pub fn show(step: Step<StoredLine<'_>>) -> String {
    match step {
        Step::Entry(line) => format!("{} {}", line.seq, line.text),
        Step::Gap(gap) => format!("gap {}..{}", gap.first, gap.last),
    }
}

pub fn all(reader: &Reader) -> Vec<String> {
    texts(reader, reader.range(Which::All, Date::constant(2026, 11, 22)).unwrap())
}

pub fn three_days(diary: &Diary) -> Opened {
    let mut opened = diary.open();
    append(&mut opened.appender, NOON, &["one", "two"]);
    append(&mut opened.appender, NOON + 5, &["三"]);
    append(&mut opened.appender, NOON + DAY, &["four\nlines", "five"]);
    append(&mut opened.appender, NOON + DAY + 9, &["six"]);
    append(&mut opened.appender, NOON + 2 * DAY, &["seven"]);
    append(&mut opened.appender, NOON + 2 * DAY + 1, &["eight", "nine"]);
    opened
}

pub const EVERYTHING: [&str; 9] =
    ["1 one", "2 two", "3 三", "4 four\\nlines", "5 five", "6 six", "7 seven", "8 eight", "9 nine"];

pub fn memchr_all(bytes: &[u8]) -> Vec<usize> {
    bytes.iter().enumerate().filter_map(|(at, &b)| (b == b'\n').then_some(at)).collect()
}
