//! Which entries of the files are not in the diary yet.
//!
//! An entry is known by its time, as exactly as the file says it, its author and its text. What a file has twice is
//! there twice. Files that are read together give what they would give one after the other: what one of them has is
//! there when the next one is looked at.
//!
//! jrnl has two forms of one entry: its file, which may have seconds and a text in one line, and its json, which has
//! the minute, and a text whose first sentence is a line. So blanks and line ends in texts of jrnl do not count; and what
//! the diary has to the minute only is the entry of a file with seconds that is of this minute, if it is no other one's.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use diary_client::{Entry, Time};
use diary_proto::Date;

use super::{Exactness, Found};

const SECOND_MICROS: i64 = 1_000_000;
const MINUTE_MICROS: i64 = 60 * SECOND_MICROS;

/// Which times are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Sameness {
    /// Those that are so as exactly as a file says them.
    As(Exactness),
    /// A time of a file, and the whole minute of it in the diary.
    Minute,
}

/// What makes an entry the same as another.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Mark<'f> {
    sameness: Sameness,
    time: i64,
    author: &'f str,
    text: Text<'f>,
}

#[derive(Debug, Default)]
struct Tally {
    /// The file that was counted last, and how many of its entries are known by this so far.
    file: usize,
    in_file: u64,
    /// How often it is in the diary. A cell, because texts that are not of the files find it by shared reference only.
    there: Cell<u64>,
}

/// Entries of files, and how often each is in the diary.
pub(crate) struct Compared<'f> {
    found: &'f [Found<'f>],
    tallies: HashMap<Mark<'f>, Tally>,
    /// In which ways entries of the files are the same as others: times, and whether they are jrnl's.
    used: Vec<(Sameness, bool)>,
    /// The author of those who name none.
    author: &'f str,
}

impl<'f> Compared<'f> {
    pub(crate) fn new(found: &'f [Found<'f>], author: &'f str) -> Self {
        let marks = found.len() + found.iter().filter(|entry| may_be_known_by_minute(entry)).count();
        let tallies = HashMap::with_capacity(marks);
        let mut compared = Self { found, tallies, used: Vec::new(), author };
        for entry in found {
            compared.await_entry(entry, as_said(entry));
            if may_be_known_by_minute(entry) {
                compared.await_entry(entry, Sameness::Minute);
            }
        }
        compared
    }

    /// Has entries of the diary counted that are the same as this one.
    fn await_entry(&mut self, entry: &'f Found<'f>, sameness: Sameness) {
        if !self.used.contains(&(sameness, entry.of_jrnl)) {
            self.used.push((sameness, entry.of_jrnl));
        }
        self.tallies.entry(mark(entry, self.author, sameness)).or_default();
    }

    /// The first and the last day of all entries.
    pub(crate) fn days(&self) -> Option<(Date, Date)> {
        let days = || self.found.iter().map(|entry| entry.when.time.date());
        days().min().zip(days().max())
    }

    /// Counts an entry of the diary.
    pub(crate) fn is_there(&self, entry: &Entry) {
        self.count(entry.own.map_or(entry.time, |own| own.at), entry.author.as_str(), &entry.text);
    }

    fn count(&self, time: Time, author: &str, text: &str) {
        for &(sameness, of_jrnl) in &self.used {
            if sameness == Sameness::Minute && clock_micros(time) % MINUTE_MICROS != 0 {
                continue;
            }
            let text = Text { said: text, of_jrnl };
            let mark = Mark { sameness, time: measure(time, sameness), author, text };
            if let Some(tally) = self.tallies.get(&mark) {
                tally.there.update(|there| there + 1);
            }
        }
    }

    /// Whether each of the entries is to be written. Of several that are the same, the last are: after a run that was
    /// ended, the first are there.
    pub(crate) fn missing(mut self) -> Vec<bool> {
        let mut missing = Vec::with_capacity(self.found.len());
        for file in self.found.chunk_by(|one, next| one.file == next.file) {
            let start = missing.len();
            missing.extend(file.iter().map(|entry| !self.is_known(entry)));
            // What is known by all of its time has been taken now: what is left may be known by its minute.
            let of_file = || file.iter().zip(start..);
            for (entry, at) in of_file().filter(|(entry, _)| may_be_known_by_minute(entry)) {
                missing[at] = missing[at] && !self.takes(entry, Sameness::Minute);
            }
            for (entry, _) in of_file().filter(|&(_, at)| missing[at]) {
                self.count(entry.when.time, author_of(entry, self.author), &entry.text);
            }
        }
        missing
    }

    fn is_known(&mut self, entry: &'f Found<'f>) -> bool {
        let is_known = self.takes(entry, as_said(entry));
        if is_known && entry.of_jrnl && clock_micros(entry.when.time) % MINUTE_MICROS == 0 {
            // This one may be what the diary has to the minute only.
            self.takes(entry, Sameness::Minute);
        }
        is_known
    }

    /// Whether the diary has one more that is the same than were of this file.
    fn takes(&mut self, entry: &'f Found<'f>, sameness: Sameness) -> bool {
        let Some(tally) = self.tallies.get_mut(&mark(entry, self.author, sameness)) else {
            return false;
        };
        if tally.file != entry.file {
            tally.file = entry.file;
            tally.in_file = 0;
        }
        let takes = tally.in_file < tally.there.get();
        tally.in_file += u64::from(takes);
        takes
    }
}

/// A text. One that may be of jrnl is the same whatever blanks and line ends it has.
#[derive(Debug, Clone, Copy)]
struct Text<'f> {
    said: &'f str,
    of_jrnl: bool,
}

impl Text<'_> {
    fn characters(&self) -> impl Iterator<Item = u8> {
        self.said.bytes().filter(|byte| !byte.is_ascii_whitespace())
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.of_jrnl == other.of_jrnl
            && (self.said == other.said || (self.of_jrnl && self.characters().eq(other.characters())))
    }
}

impl Eq for Text<'_> {}

impl Hash for Text<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.of_jrnl {
            // FNV-1a, because a hasher may take two parts for something else than one whole.
            true => state.write_u64(self.characters().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })),
            false => self.said.hash(state),
        }
    }
}

fn mark<'f>(entry: &'f Found<'f>, author: &'f str, sameness: Sameness) -> Mark<'f> {
    let text = Text { said: &entry.text, of_jrnl: entry.of_jrnl };
    Mark { sameness, time: measure(entry.when.time, sameness), author: author_of(entry, author), text }
}

fn author_of<'f>(entry: &'f Found<'f>, author: &'f str) -> &'f str {
    entry.author.as_ref().map_or(author, |author| author.as_str())
}

fn as_said(entry: &Found<'_>) -> Sameness {
    Sameness::As(entry.when.exactness)
}

/// jrnl's json, which may have come first, has no seconds.
fn may_be_known_by_minute(entry: &Found<'_>) -> bool {
    entry.of_jrnl && entry.when.exactness != Exactness::ClockMinute
}

/// What the clock said, whatever zone it was in.
fn clock_micros(time: Time) -> i64 {
    time.micros.saturating_add(i64::from(time.offset_minutes) * MINUTE_MICROS)
}

/// A time as exactly as is asked for.
fn measure(time: Time, sameness: Sameness) -> i64 {
    let clock = clock_micros(time);
    match sameness {
        Sameness::As(Exactness::Moment) => time.micros,
        Sameness::As(Exactness::Clock) => clock,
        Sameness::As(Exactness::ClockSecond) => clock.div_euclid(SECOND_MICROS),
        Sameness::As(Exactness::ClockMinute) | Sameness::Minute => clock.div_euclid(MINUTE_MICROS),
    }
}
