//! Which entries of the files are not in the diary yet.
//!
//! An entry is known by its time, as exactly as the file says it, its author and its text. What a file has twice is
//! there twice. Files that are read together give what they would give one after the other: what one of them has is
//! there when the next one is looked at.
//!
//! jrnl has two forms of one entry: its file, which may have seconds and a text in one line, and its json, which has
//! the minute, and a text whose first sentence is a line. So texts of jrnl are the same if their words are; and what the
//! diary has to the minute only is the entry of a file with seconds that is of this minute, if it is no other one's.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use diary_proto::Date;
use diary_proto::Time;
use diary_proto::entry::Entry;

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
    hashes: Vec<u64>,
    /// Hashes them in a way that no file can foresee.
    hasher: RandomState,
    /// The author of those who name none.
    author: &'f str,
}

impl<'f> Compared<'f> {
    /// Entries of files, file by file; those that name nobody are by `author`. Nothing of the diary is counted yet.
    pub fn new(found: &'f [Found<'f>], author: &'f str) -> Self {
        let marks = found.len() + found.iter().filter(|entry| may_be_known_by_minute(entry)).count();
        let tallies = HashMap::with_capacity(marks);
        let hasher = RandomState::new();
        let hashes = found.iter().map(|entry| hash(&hasher, &entry.text, entry.of_jrnl)).collect();
        let has_minutes = Cell::new(false);
        let mut compared = Self { found, tallies, used: Vec::new(), has_minutes, hashes, hasher, author };
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
        let mut hashes = [None; 2];
        for &(sameness, of_jrnl) in &self.used {
            if sameness == Sameness::Minute && clock_micros(time) % MINUTE_MICROS != 0 {
                continue;
            }
            let hash = *hashes[usize::from(of_jrnl)].get_or_insert_with(|| hash(&self.hasher, text, of_jrnl));
            let text = Text { said: text, of_jrnl, hash };
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

/// A text. One that may be of jrnl is the same if its words are.
#[derive(Debug, Clone, Copy)]
struct Text<'f> {
    said: &'f str,
    of_jrnl: bool,
    /// Of what counts in it.
    hash: u64,
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.of_jrnl, self.hash) == (other.of_jrnl, other.hash)
            && (self.said == other.said || (self.of_jrnl && words(self.said) == words(other.said)))
    }
}

impl Eq for Text<'_> {}

impl Hash for Text<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Of what counts in a text.
fn hash(hasher: &RandomState, text: &str, of_jrnl: bool) -> u64 {
    if of_jrnl { hasher.hash_one(words(text)) } else { hasher.hash_one(text) }
}

/// The words of a text with one blank between them, whichever form of jrnl has it.
fn words(text: &str) -> Vec<u8> {
    let text = star_apart(text);
    let text = sentences_apart(&text);
    let blank_or_byte = |byte: u8| if matches!(byte, b'\t'..=b'\r') { b' ' } else { byte };
    let mut words: Vec<u8> = text.trim().bytes().map(blank_or_byte).collect();
    words.dedup_by(|byte, before| (*byte, *before) == (b' ', b' '));
    words
}

/// jrnl writes a blank before a star at the end of a title, and drops those before it.
fn star_apart(text: &str) -> Cow<'_, str> {
    let (title, body) = text.split_once('\n').unwrap_or((text, ""));
    match title.trim_end().ends_with('*') {
        true => format!("{} *\n{body}", title.trim_matches([' ', '*'])).into(),
        false => text.into(),
    }
}

/// A first sentence becomes a line, and these need no blank behind them: see `SENTENCE_SPLITTER` of jrnl. Blanks that
/// are not ASCII become one that is.
fn sentences_apart(text: &str) -> Cow<'_, str> {
    let ends_word =
        |c: char| !c.is_ascii() && (c.is_whitespace() || matches!(c, '！' | '．' | '？' | '｡' | '。'));
    if text.is_ascii() {
        return text.into();
    }
    let mut apart = String::with_capacity(text.len() + text.len() / 8);
    for part in text.split_inclusive(ends_word) {
        apart.push_str(part.trim_end());
        apart.push(' ');
    }
    apart.into()
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use diary_proto::Author;

    use super::*;
    use crate::tests::clock;
    use crate::{Harvest, Source, When};

    /// How many hashes these texts of one minute have: as many as there are, or a file can be made to take for ever.
    fn hashes(texts: impl Iterator<Item = String>, of_jrnl: bool) -> usize {
        let time = Time::parse(b"2026-11-21T08:15:00.000000+08:00").unwrap();
        let when = When { time, exactness: Exactness::ClockMinute };
        let found =
            texts.map(|text| Found { when, author: None, text: text.into(), of_jrnl, file: 0, line: 1 });
        let found: Vec<_> = found.collect();
        Compared::new(&found, "anna").hashes.iter().collect::<HashSet<_>>().len()
    }

    #[test]
    fn texts_that_are_alike_have_other_hashes() {
        const COUNT: usize = 1024;
        let swapped = |bits: usize| {
            (0..64).map(|at| if bits >> (at % 32) & 1 == at / 32 { 'a' } else { 'b' }).collect()
        };
        let apart = |bits: usize| {
            (0..12).map(|at| if bits >> at & 1 == 0 { "ab" } else { "a b" }).collect::<String>()
        };
        for of_jrnl in [true, false] {
            assert_eq!(hashes((0..COUNT).map(swapped), of_jrnl), COUNT);
            assert_eq!(hashes((0..COUNT).map(apart), of_jrnl), COUNT);
        }
    }

    fn harvested(files: &[&'static str]) -> Harvest<'static> {
        let mut harvest = Harvest::default();
        for file in files {
            harvest.read(&Source { bytes: file.as_bytes(), day: None }, None, &clock(None));
        }
        harvest
    }

    /// The places and texts of what is missing in a diary that has these, by time, author and text.
    fn missing(harvest: &Harvest<'_>, there: &[(&str, &str, &str)]) -> String {
        let compared = Compared::new(&harvest.found, "anna");
        for (time, author, text) in there {
            let (time, author) = (Time::parse(time.as_bytes()).unwrap(), Author::new(author).unwrap());
            compared.is_there(&Entry {
                seq: 1,
                time,
                own: None,
                day: None,
                author,
                text: (*text).to_owned(),
            });
        }
        let missing = compared.missing().into_iter().zip(&harvest.found).enumerate();
        let missing = missing.filter(|(_, (missing, _))| *missing);
        missing
            .map(|(at, (_, found))| format!("{at}{}", found.text.escape_debug()))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn what_is_there_is_known_as_exactly_as_the_file_says() {
        let harvest = harvested(&[
            "[2026-11-21 08:15:02] a\n[2026-11-21 08:15:02] a\n[2026-11-21 08:15:02] b\n",
            "[2026-11-21 08:15:02] a\n[2026-11-21 08:15:02] c\n",
            "{\"entries\":[{\"title\":\"c\",\"date\":\"2026-11-21\",\"time\":\"08:15\"},\
              {\"title\":\"d\",\"date\":\"2026-11-21\",\"time\":\"08:15\"}]}",
            "{\"time\":\"2026-11-21T00:15:02Z\",\"author\":\"ben\",\"text\":\"e\"}\n",
        ]);
        let missing = |there: &[(&str, &str, &str)]| missing(&harvest, there);
        assert_eq!(missing(&[]), "0a 1a 2b 4c 6d 7e");
        // Another zone's clock that says the same; of two, the last is missing.
        assert_eq!(missing(&[("2026-11-21T08:15:02.000000-05:00", "anna", "a")]), "1a 2b 4c 6d 7e");
        assert_eq!(missing(&[("2026-11-21T08:15:02.000000+08:00", "ben", "a")]), "0a 1a 2b 4c 6d 7e");
        // A file in whole seconds says no more of what was written a moment later.
        assert_eq!(missing(&[("2026-11-21T08:15:02.000001+08:00", "anna", "b")]), "0a 1a 4c 6d 7e");
        assert_eq!(missing(&[("2026-11-21T08:15:03.000000+08:00", "anna", "b")]), "0a 1a 2b 4c 6d 7e");
        // Without seconds, any second of the minute; with a zone, the moment in any zone.
        assert_eq!(missing(&[("2026-11-21T08:15:59.999999+08:00", "anna", "d")]), "0a 1a 2b 4c 7e");
        assert_eq!(missing(&[("2026-11-21T08:15:02.000000+08:00", "ben", "e")]), "0a 1a 2b 4c 6d");
        assert_eq!(missing(&[("2026-11-21T00:15:02.000000+08:00", "ben", "e")]), "0a 1a 2b 4c 6d 7e");
    }

    /// jrnl's file has seconds, and its json has not.
    #[test]
    fn both_forms_of_a_jrnl_journal_are_known() {
        let text = "[2026-11-21 08:15:02 AM] a. B\n[2026-11-21 08:15:40 AM] a. B\n[2026-11-21 08:16:00 AM] c\n\n  d\n";
        let json = "{\"entries\":[{\"title\":\"a.\",\"body\":\"B\",\"date\":\"2026-11-21\",\"time\":\"08:15\"},\
                    {\"title\":\"a.\",\"body\":\"B\",\"date\":\"2026-11-21\",\"time\":\"08:15\"},\
                    {\"title\":\"c\",\"body\":\"d\",\"date\":\"2026-11-21\",\"time\":\"08:16\"}]}";
        // In one run, either way round.
        assert_eq!(missing(&harvested(&[text, json]), &[]), "0a. B 1a. B 2c\\n\\n  d");
        assert_eq!(missing(&harvested(&[json, text]), &[]), "0a.\\nB 1a.\\nB 2c\\nd");
        // What the diary has of the one, the other does not add.
        let of_text = [
            ("2026-11-21T08:15:02.000000+08:00", "anna", "a. B"),
            ("2026-11-21T08:15:40.000000+08:00", "anna", "a. B"),
            ("2026-11-21T08:16:00.000000+08:00", "anna", "c\n\n  d"),
        ];
        let of_json = [
            ("2026-11-21T08:15:00.000000+08:00", "anna", "a.\nB"),
            ("2026-11-21T08:15:00.000000+08:00", "anna", "a.\nB"),
            ("2026-11-21T08:16:00.000000+08:00", "anna", "c\nd"),
        ];
        for there in [of_text, of_json] {
            assert_eq!(missing(&harvested(&[text]), &there), "");
            assert_eq!(missing(&harvested(&[json]), &there), "");
        }
        // Each entry of the diary is one of the file.
        assert_eq!(missing(&harvested(&[text]), &of_json[1..]), "1a. B");
        assert_eq!(missing(&harvested(&[text]), &of_text[1..]), "0a. B");
        // Where the diary has seconds, they count.
        let second = [("2026-11-21T08:15:03.000000+08:00", "anna", "a. B")];
        assert_eq!(missing(&harvested(&[text]), &second), "0a. B 1a. B 2c\\n\\n  d");
        // What is known by all of its time leaves nothing for what is known by its minute, wherever it stands.
        let unsorted = "[2026-11-21 08:15:02] a\n[2026-11-21 08:15:00] a\n";
        assert_eq!(
            missing(&harvested(&[unsorted]), &[("2026-11-21T08:15:00.000000+08:00", "anna", "a")]),
            "0a"
        );
        // What is twice in one file, with and without seconds, is so in the diary.
        let mixed = "[2026-11-21 08:15:02] a\n[2026-11-21 08:15] a\n";
        assert_eq!(missing(&harvested(&[mixed]), &[]), "0a 1a");
    }

    /// jrnl puts a line end behind a first sentence, which needs no blank in Chinese and Japanese, and a blank before a star.
    #[test]
    fn jrnl_texts_are_the_same_if_their_words_are() {
        const TIME: &str = "2026-11-21T08:15:00.000000+08:00";
        for (file, there, same) in [
            ("ab c", "a bc", false),
            ("ab c", "abc", false),
            ("a  b\n\nc", "a\nb c", true),
            ("a\u{3000}b", "a b", true),
            ("今天。去", "今天。\n去", true),
            ("今！去", "今！ 去", true),
            ("今．去", "今．\n去", true),
            ("今？去", "今？\n去", true),
            ("今｡去", "今｡\n去", true),
            ("今，去", "今， 去", false),
            ("今天。去", "今。天去", false),
            ("今天。", "今天", false),
            ("a*\nb", "a *\nb", true),
            ("* a *\nb", "a *\nb", true),
            ("a *\nb", "a\nb", false),
            ("a\nb*", "a\nb *", false),
        ] {
            let file = format!("[2026-11-21 08:15] {file}\n");
            let mut harvest = Harvest::default();
            harvest.read(&Source { bytes: file.as_bytes(), day: None }, None, &clock(None));
            let missing = missing(&harvest, &[(TIME, "anna", there)]);
            assert_eq!(missing.is_empty(), same, "{file:?} {there:?}: {missing}");
        }
    }

    /// A log is no other form of something: its seconds and blanks count.
    #[test]
    fn lines_of_logs_are_known_by_all_that_they_have() {
        let log = harvested(&["2026-11-21T08:15:02 tick\n2026-11-21T08:15:03  tick\n"]);
        assert_eq!(missing(&log, &[("2026-11-21T08:15:00.000000+08:00", "anna", "tick")]), "0tick 1 tick");
        assert_eq!(missing(&log, &[("2026-11-21T08:15:03.000000+08:00", "anna", "tick")]), "0tick 1 tick");
        // Without seconds, any second of the minute.
        let log = harvested(&["2026-11-21T08:15 tick\n"]);
        assert_eq!(missing(&log, &[("2026-11-21T08:15:40.000000+08:00", "anna", "tick")]), "");
    }
}
