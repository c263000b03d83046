//! Which entries of the files are not in the diary yet.
//!
//! An entry is known by its time, as exactly as the file says it, its author and its text. What a file has twice is
//! there twice; what two files have both is there as often as the one that has it more often says: files that are
//! read together give what they would give one after the other.

use std::cell::Cell;
use std::collections::HashMap;

use diary_client::{Entry, Time};
use diary_proto::Date;

use super::{Exactness, Found};

/// What makes an entry the same as another.
type Mark<'f> = (Exactness, i64, &'f str, &'f str);

#[derive(Debug, Default)]
struct Tally {
    /// The file that is counted, and how often it has the entry.
    file: usize,
    in_file: u64,
    /// The most that a file has.
    wanted: u64,
    there: Cell<u64>,
}

/// Entries of files, and how often each is in the diary.
pub(crate) struct Compared<'f> {
    tallies: HashMap<Mark<'f>, Tally>,
    used: Vec<Exactness>,
    /// The author of those who name none.
    author: &'f str,
    /// The first and the last day on which the diary may have one of them.
    days: Option<(Date, Date)>,
}

impl<'f> Compared<'f> {
    /// `found` is in the order of the files.
    pub(crate) fn new(found: &'f [Found<'_>], author: &'f str) -> Self {
        let mut compared =
            Self { tallies: HashMap::with_capacity(found.len()), used: Vec::new(), author, days: None };
        for entry in found {
            let exactness = entry.when.exactness;
            if !compared.used.contains(&exactness) {
                compared.used.push(exactness);
            }
            let tally = compared.tallies.entry(mark(entry, author)).or_default();
            if tally.file != entry.file {
                tally.file = entry.file;
                tally.in_file = 0;
            }
            tally.in_file += 1;
            tally.wanted = tally.wanted.max(tally.in_file);
            let day = entry.when.time.date();
            let (from, to) = compared.days.unwrap_or((day, day));
            compared.days = Some((from.min(day), to.max(day)));
        }
        compared
    }

    /// The first and the last day of all entries.
    pub(crate) fn days(&self) -> Option<(Date, Date)> {
        self.days
    }

    /// Counts an entry of the diary.
    pub(crate) fn is_there(&self, entry: &Entry) {
        let time = entry.own.map_or(entry.time, |own| own.at);
        for &exactness in &self.used {
            let mark = (exactness, measure(time, exactness), entry.author.as_str(), entry.text.as_str());
            if let Some(tally) = self.tallies.get(&mark) {
                tally.there.update(|there| there + 1);
            }
        }
    }

    /// Which of `sorted` are to be written; all of them were counted in [`new`](Self::new).
    pub(crate) fn missing(mut self, sorted: &[&'f Found<'_>]) -> Vec<usize> {
        self.tallies.values_mut().for_each(|tally| tally.in_file = 0);
        let author = self.author;
        let mut is_missing = |entry: &&'f Found<'_>| {
            self.tallies.get_mut(&mark(entry, author)).is_some_and(|tally| {
                // Of several, the last: after a run that was ended, the first are there.
                tally.in_file += 1;
                (tally.there.get() + 1..=tally.wanted).contains(&tally.in_file)
            })
        };
        (0..sorted.len()).filter(|&at| is_missing(&sorted[at])).collect()
    }
}

fn mark<'f>(entry: &'f Found<'_>, author: &'f str) -> Mark<'f> {
    let exactness = entry.when.exactness;
    let author = entry.author.as_ref().map_or(author, |author| author.as_str());
    (exactness, measure(entry.when.time, exactness), author, &entry.text)
}

/// A time as exactly as is asked for.
fn measure(time: Time, exactness: Exactness) -> i64 {
    let clock = time.micros.saturating_add(i64::from(time.offset_minutes) * 60_000_000);
    match exactness {
        Exactness::Moment => time.micros,
        Exactness::Clock => clock,
        Exactness::ClockMinute => clock.div_euclid(60_000_000),
    }
}
