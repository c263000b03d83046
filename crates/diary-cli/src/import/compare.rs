//! Which entries of the files are not in the diary yet.
//!
//! An entry is known by its time, as exactly as the file says it, its author and its text. What a file has twice is
//! there twice. Files that are read together give what they would give one after the other: what one of them has is
//! there when the next one is looked at.

use std::cell::Cell;
use std::collections::HashMap;

use diary_client::{Entry, Time};
use diary_proto::Date;

use super::{Exactness, Found};

/// What makes an entry the same as another.
type Mark<'f> = (Exactness, i64, &'f str, &'f str);

#[derive(Debug, Default)]
struct Tally {
    /// The file that was counted last, and how often it has the entry so far.
    file: usize,
    in_file: u64,
    /// How often it is in the diary. A cell, because texts that are not of the files find it by shared reference only.
    there: Cell<u64>,
}

/// Entries of files, and how often each is in the diary.
pub(crate) struct Compared<'f> {
    found: &'f [Found<'f>],
    tallies: HashMap<Mark<'f>, Tally>,
    used: Vec<Exactness>,
    /// The author of those who name none.
    author: &'f str,
}

impl<'f> Compared<'f> {
    pub(crate) fn new(found: &'f [Found<'f>], author: &'f str) -> Self {
        let mut used = Vec::new();
        let mut tallies = HashMap::with_capacity(found.len());
        for entry in found {
            let exactness = entry.when.exactness;
            if !used.contains(&exactness) {
                used.push(exactness);
            }
            tallies.entry(mark(entry, author, exactness)).or_insert_with(Tally::default);
        }
        Self { found, tallies, used, author }
    }

    /// The first and the last day of all entries.
    pub(crate) fn days(&self) -> Option<(Date, Date)> {
        let days = || self.found.iter().map(|entry| entry.when.time.date());
        days().min().zip(days().max())
    }

    /// Counts an entry of the diary.
    pub(crate) fn is_there(&self, entry: &Entry) {
        let time = entry.own.map_or(entry.time, |own| own.at);
        for &exactness in &self.used {
            let mark = (exactness, measure(time, exactness), entry.author.as_str(), entry.text.as_str());
            self.count(&mark);
        }
    }

    fn count(&self, mark: &Mark<'_>) {
        if let Some(tally) = self.tallies.get(mark) {
            tally.there.update(|there| there + 1);
        }
    }

    /// Whether each of the entries is to be written. Of several that are the same, the last are: after a run that was
    /// ended, the first are there.
    pub(crate) fn missing(mut self) -> Vec<bool> {
        let mut missing = Vec::with_capacity(self.found.len());
        for entry in self.found {
            let is_missing = self.is_missing(entry);
            if is_missing {
                self.used.iter().for_each(|&exactness| self.count(&mark(entry, self.author, exactness)));
            }
            missing.push(is_missing);
        }
        missing
    }

    fn is_missing(&mut self, entry: &'f Found<'f>) -> bool {
        let Some(tally) = self.tallies.get_mut(&mark(entry, self.author, entry.when.exactness)) else {
            return true;
        };
        if tally.file != entry.file {
            tally.file = entry.file;
            tally.in_file = 0;
        }
        tally.in_file += 1;
        tally.in_file > tally.there.get()
    }
}

fn mark<'f>(entry: &'f Found<'f>, author: &'f str, exactness: Exactness) -> Mark<'f> {
    let author = entry.author.as_ref().map_or(author, |author| author.as_str());
    (exactness, measure(entry.when.time, exactness), author, &entry.text)
}

/// A time as exactly as is asked for.
fn measure(time: Time, exactness: Exactness) -> i64 {
    let clock = time.micros.saturating_add(i64::from(time.offset_minutes) * 60_000_000);
    match exactness {
        Exactness::Moment => time.micros,
        Exactness::Clock => clock,
        Exactness::ClockSecond => clock.div_euclid(1_000_000),
        Exactness::ClockMinute => clock.div_euclid(60_000_000),
    }
}
