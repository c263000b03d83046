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
use diary_proto::{Date, seal};

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
pub struct Compared<'f> {
    found: &'f [Found<'f>],
    tallies: HashMap<Mark<'f>, Tally>,
    /// In which ways entries of the files are the same as others: times, and whether they are jrnl's.
    used: Vec<(Sameness, bool)>,
    /// The diary has something to the minute only that may be an entry of the files.
    has_minutes: Cell<bool>,
    /// Of the texts of the files.
    hashes: Vec<u32>,
    /// The author of those who name none.
    author: &'f str,
}

impl<'f> Compared<'f> {
    /// Entries of files, file by file; those that name nobody are by `author`. Nothing of the diary is counted yet.
    pub fn new(found: &'f [Found<'f>], author: &'f str) -> Self {
        let marks = found.len() + found.iter().filter(|entry| may_be_known_by_minute(entry)).count();
        let tallies = HashMap::with_capacity(marks);
        let hashes = found.iter().map(|entry| hash(&entry.text, entry.of_jrnl)).collect();
        let has_minutes = Cell::new(false);
        let mut compared = Self { found, tallies, used: Vec::new(), has_minutes, hashes, author };
        for (at, entry) in found.iter().enumerate() {
            compared.await_entry(at, as_said(entry));
            if may_be_known_by_minute(entry) {
                compared.await_entry(at, Sameness::Minute);
            }
        }
        compared
    }

    /// Has entries of the diary counted that are the same as this one of the files.
    fn await_entry(&mut self, at: usize, sameness: Sameness) {
        let of_jrnl = self.found[at].of_jrnl;
        if !self.used.contains(&(sameness, of_jrnl)) {
            self.used.push((sameness, of_jrnl));
        }
        self.tallies.entry(self.mark(at, sameness)).or_default();
    }

    fn mark(&self, at: usize, sameness: Sameness) -> Mark<'f> {
        let entry = &self.found[at];
        let text = Text { said: &entry.text, of_jrnl: entry.of_jrnl, hash: self.hashes[at] };
        let time = measure(entry.when.time, sameness);
        Mark { sameness, time, author: author_of(entry, self.author), text }
    }

    /// The first and the last day of all entries.
    pub fn days(&self) -> Option<(Date, Date)> {
        let days = || self.found.iter().map(|entry| entry.when.time.date());
        days().min().zip(days().max())
    }

    /// Counts an entry of the diary.
    pub fn is_there(&self, entry: &Entry) {
        self.count(entry.own.map_or(entry.time, |own| own.at), entry.author.as_str(), &entry.text);
    }

    fn count(&self, time: Time, author: &str, text: &str) {
        for &(sameness, of_jrnl) in &self.used {
            if sameness == Sameness::Minute && clock_micros(time) % MINUTE_MICROS != 0 {
                continue;
            }
            let text = Text { said: text, of_jrnl, hash: hash(text, of_jrnl) };
            let mark = Mark { sameness, time: measure(time, sameness), author, text };
            if let Some(tally) = self.tallies.get(&mark) {
                tally.there.update(|there| there + 1);
                self.has_minutes.update(|has| has || sameness == Sameness::Minute);
            }
        }
    }

    /// Whether each of the entries is to be written. Of several that are the same, the last are: after a run that was
    /// ended, the first are there.
    pub fn missing(mut self) -> Vec<bool> {
        let found = self.found;
        let mut missing = Vec::with_capacity(found.len());
        for file in found.chunk_by(|one, next| one.file == next.file) {
            let of_file = missing.len()..missing.len() + file.len();
            missing.extend(of_file.clone().map(|at| !self.is_known(at)));
            // What is known by all of its time has been taken now: what is left may be known by its minute.
            if self.has_minutes.get() {
                for at in of_file.clone().filter(|&at| may_be_known_by_minute(&found[at])) {
                    missing[at] = missing[at] && !self.takes(at, Sameness::Minute);
                }
            }
            // The next file finds it there.
            for at in of_file.filter(|&at| missing[at] && missing.len() < found.len()) {
                let entry = &found[at];
                self.count(entry.when.time, author_of(entry, self.author), &entry.text);
            }
        }
        missing
    }

    fn is_known(&mut self, at: usize) -> bool {
        let entry = &self.found[at];
        let is_known = self.takes(at, as_said(entry));
        if is_known && entry.of_jrnl && clock_micros(entry.when.time) % MINUTE_MICROS == 0 {
            // This one may be what the diary has to the minute only.
            self.takes(at, Sameness::Minute);
        }
        is_known
    }

    /// Whether the diary has one more that is the same than were of this file.
    fn takes(&mut self, at: usize, sameness: Sameness) -> bool {
        let mark = self.mark(at, sameness);
        let Some(tally) = self.tallies.get_mut(&mark) else { return false };
        let entry = &self.found[at];
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
    /// Of what counts in it.
    hash: u32,
}

impl Text<'_> {
    fn characters(&self) -> impl Iterator<Item = u8> {
        self.said.bytes().filter(|byte| !byte.is_ascii_whitespace())
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.of_jrnl, self.hash) == (other.of_jrnl, other.hash)
            && (self.said == other.said || (self.of_jrnl && self.characters().eq(other.characters())))
    }
}

impl Eq for Text<'_> {}

impl Hash for Text<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.hash);
    }
}

/// Of what counts in a text. Where blanks do not, it is weak and fast: it has to tell apart most texts of one time.
fn hash(text: &str, of_jrnl: bool) -> u32 {
    if !of_jrnl {
        return seal::crc(text.as_bytes());
    }
    let characters = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    characters.fold(0, |hash: u32, byte| hash.rotate_left(7).wrapping_add(byte.into()))
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
