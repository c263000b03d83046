//! Diaries to read: written by the store itself, in batches as large as they may be, with keys; the newest day
//! file is today's, so that what a server appends goes behind all of it.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::bail;
use diary_proto::{Author, Date, Key, Producer, Time};
use diary_store::disk::RealDisk;
use diary_store::{NewEntry, Staged};

use crate::load::text;

const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// The beginning of 1880.
const LONG_AGO_MICROS: i64 = -2_840_140_800_000_000;

/// So many days have a file.
const DAYS: u64 = 5;

/// So many days, from 1880 on, have all entries of a [scattered](Filled::scattered) diary.
const SCATTERED_DAYS: u64 = 365;

/// Writers whose keys the entries have.
const PRODUCERS: u64 = 64;

/// Entries of one writer that are committed one behind the other.
const RUN: u64 = 128;

/// One entry in so many has this word in it.
pub(crate) const NEEDLE: &str = "Nadel";
const NEEDLE_EVERY: u64 = 10_000;

/// A diary with many entries, in a folder that goes with it.
pub(crate) struct Filled {
    folder: tempfile::TempDir,
    pub(crate) entries: u64,
}

impl Filled {
    /// Entries of one day in a diary that [moved in](Self::moved_in).
    pub(crate) const OWN_A_DAY: u64 = 20;

    pub(crate) fn new(entries: u64) -> anyhow::Result<Self> {
        Self::of(entries, |_| None)
    }

    /// The same, of entries that are all about other days, from 1880 on.
    pub(crate) fn moved_in(entries: u64) -> anyhow::Result<Self> {
        Self::of(entries, |number| Some(Self::own_time(number)))
    }

    /// The day that an entry of such a diary is about.
    pub(crate) fn own_day(&self, number: u64) -> Date {
        Self::own_time(number % self.entries).date()
    }

    fn own_time(number: u64) -> Time {
        Self::long_ago(number / Self::OWN_A_DAY)
    }

    /// The same, of entries that are about the days of one year, in no order.
    pub(crate) fn scattered(entries: u64) -> anyhow::Result<Self> {
        Self::of(entries, |number| Some(Self::scattered_time(number)))
    }

    /// A day of such a diary, and how many entries are about it.
    pub(crate) fn scattered_day(&self, number: u64) -> (Date, u64) {
        let day = Self::long_ago(number % SCATTERED_DAYS).date();
        let entries = (0..self.entries).filter(|&number| Self::scattered_time(number).date() == day).count();
        (day, entries as u64)
    }

    fn scattered_time(number: u64) -> Time {
        let any = BuildHasherDefault::<DefaultHasher>::default().hash_one(number);
        Self::long_ago(any % SCATTERED_DAYS)
    }

    fn long_ago(days: u64) -> Time {
        let days = i64::try_from(days).expect("a diary has fewer days");
        Time { micros: LONG_AGO_MICROS + days * DAY_MICROS, offset_minutes: 0 }
    }

    fn of(entries: u64, own_time: impl Fn(u64) -> Option<Time>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let opened = diary_store::open(Arc::new(RealDisk), &folder.path().join("diary"))?;
        let (mut appender, _reader) = opened.with_derived()?;
        let author = Author::new("local")?;
        let (plain, found) = (text(), format!("{NEEDLE} {}", &text()[NEEDLE.len() + 1..]));
        let today = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())? / DAY_MICROS;
        let first_day = (today + 1 - i64::try_from(DAYS)?) * DAY_MICROS;
        for number in 0..entries {
            let day = i64::try_from(number * DAYS / entries)?;
            let now =
                Time { micros: first_day + day * DAY_MICROS + i64::try_from(number)?, offset_minutes: 0 };
            let text = if number % NEEDLE_EVERY == NEEDLE_EVERY / 2 { &found } else { &plain };
            let run = number / RUN;
            let counter = run / PRODUCERS * RUN + number % RUN;
            let key = Key { producer: Producer(run % PRODUCERS + 1), counter };
            let entry = NewEntry {
                author: &author,
                text,
                key: Some((key, false)),
                at: own_time(number),
                relation: None,
            };
            // A batch has one day.
            if number * DAYS / entries != number.saturating_sub(1) * DAYS / entries {
                appender.commit(now)?;
            }
            while appender.stage(now, entry) == Staged::Full {
                appender.commit(now)?;
            }
        }
        appender.commit(Time { micros: today * DAY_MICROS, offset_minutes: 0 })?;
        appender.stop()?;
        Ok(Self { folder, entries })
    }

    /// What a server is told as its data folder.
    pub(crate) fn data(&self) -> &Path {
        self.folder.path()
    }

    /// The day files, oldest first.
    pub(crate) fn files(&self) -> anyhow::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(self.folder.path().join("diary"))?;
        let mut files = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
        files.retain(|file| file.extension().is_some_and(|end| end == "log"));
        files.sort();
        if files.is_empty() {
            bail!("the diary has no day files");
        }
        Ok(files)
    }

    pub(crate) fn bytes(&self) -> anyhow::Result<u64> {
        self.files()?.iter().map(|file| Ok(file.metadata()?.len())).sum()
    }
}
