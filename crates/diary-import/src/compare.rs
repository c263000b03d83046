//! Finds the entries of files that are not in the diary yet.
//!
//! An entry is identified by its time, at the file's precision, its author and its text. Duplicates within one
//! file count as separate entries. Reading files together gives the same result as one after the other: entries
//! of one file are in the diary when the next one is compared.
//!
//! jrnl has two forms of an entry. Its file may have seconds, and has the text in one line; its JSON has only
//! minutes, and puts the first sentence of the text on a line of its own. So texts of jrnl are equal if their
//! words are, and an entry of the diary with a whole minute matches an entry of a file with seconds in that
//! minute, unless it matches another one.

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

/// Criterion for equal times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Sameness {
    /// Equal at the precision of a file.
    As(Exactness),
    /// A time of a file, and its whole minute in the diary.
    Minute,
}

/// Identity of an entry.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Mark<'f> {
    sameness: Sameness,
    time: i64,
    author: &'f str,
    text: Text<'f>,
}

#[derive(Debug, Default)]
struct Tally {
    /// File counted last, and how many of its entries this mark has matched so far.
    file: usize,
    in_file: u64,
    /// Occurrences in the diary. A cell, because lookups with texts not borrowed from the files need a shared
    /// reference.
    there: Cell<u64>,
}

/// Entries of files, with their number of occurrences in the diary.
pub struct Compared<'f> {
    found: &'f [Found<'f>],
    tallies: HashMap<Mark<'f>, Tally>,
    /// Criteria in use by entries of the files: times, and whether they are jrnl's.
    used: Vec<(Sameness, bool)>,
    /// Whether the diary has an entry with a whole minute that may match one of the files.
    has_minutes: Cell<bool>,
    /// Hashes of the texts of the files.
    hashes: Vec<u64>,
    /// Randomly seeded, so that no file can provoke collisions.
    hasher: RandomState,
    /// Author of entries that name none.
    author: &'f str,
}

impl<'f> Compared<'f> {
    /// Prepares the entries of files, file by file; those without an author are by `author`. Nothing of the
    /// diary is counted yet.
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

    /// Registers an entry of the files, so that equal entries of the diary are counted.
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

    /// Returns the first and the last day of all entries.
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

    /// Returns whether each entry is missing. Of several equal entries the last ones are: after an interrupted
    /// run, the first ones are in the diary.
    pub fn missing(mut self) -> Vec<bool> {
        let found = self.found;
        let mut missing = Vec::with_capacity(found.len());
        for file in found.chunk_by(|one, next| one.file == next.file) {
            let of_file = missing.len()..missing.len() + file.len();
            missing.extend(of_file.clone().map(|at| !self.is_known(at)));
            // Exact matches are taken now; the rest may match by minute.
            if self.has_minutes.get() {
                for at in of_file.clone().filter(|&at| may_be_known_by_minute(&found[at])) {
                    missing[at] = missing[at] && !self.takes(at, Sameness::Minute);
                }
            }
            // For the next file, these are in the diary.
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
            // This may be the entry that the diary has as a whole minute.
            self.takes(at, Sameness::Minute);
        }
        is_known
    }

    /// Takes one occurrence in the diary, if this file has not taken them all.
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

/// A text. Texts of jrnl are equal if their words are.
#[derive(Debug, Clone, Copy)]
struct Text<'f> {
    said: &'f str,
    of_jrnl: bool,
    /// Hash of the part that is compared.
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

/// Hashes the part of a text that is compared.
fn hash(hasher: &RandomState, text: &str, of_jrnl: bool) -> u64 {
    if of_jrnl { hasher.hash_one(words(text)) } else { hasher.hash_one(text) }
}

/// Returns the words of a text with single blanks between them, the same for both forms of jrnl.
fn words(text: &str) -> Vec<u8> {
    let text = star_apart(text);
    let text = sentences_apart(&text);
    let blank_or_byte = |byte: u8| if matches!(byte, b'\t'..=b'\r') { b' ' } else { byte };
    let mut words: Vec<u8> = text.trim().bytes().map(blank_or_byte).collect();
    words.dedup_by(|byte, before| (*byte, *before) == (b' ', b' '));
    words
}

/// Normalizes the star: jrnl writes a blank before one at the end of a title, and drops those before it.
fn star_apart(text: &str) -> Cow<'_, str> {
    let (title, body) = text.split_once('\n').unwrap_or((text, ""));
    match title.trim_end().ends_with('*') {
        true => format!("{} *\n{body}", title.trim_matches([' ', '*'])).into(),
        false => text.into(),
    }
}

/// Separates sentences: jrnl puts the first one on a line of its own, and these sentence ends need no blank
/// after them (see `SENTENCE_SPLITTER` in jrnl). Blanks other than ASCII become ASCII ones.
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

/// Returns whether jrnl's JSON, which has no seconds, may have been imported first.
fn may_be_known_by_minute(entry: &Found<'_>) -> bool {
    entry.of_jrnl && entry.when.exactness != Exactness::ClockMinute
}

/// Returns the local time, ignoring the zone.
fn clock_micros(time: Time) -> i64 {
    time.micros.saturating_add(i64::from(time.offset_minutes) * MINUTE_MICROS)
}

/// Returns a time at the precision of the criterion.
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

    /// Returns the number of distinct hashes of texts in one minute. Collisions would let a file make the
    /// import take forever.
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

    /// Returns the indexes and texts missing from a diary with these entries, given by time, author and text.
    fn missing(harvest: &Harvest<'_>, there: &[(&str, &str, &str)]) -> String {
        let compared = Compared::new(&harvest.found, "anna");
        for (time, author, text) in there {
            let (time, author) = (Time::parse(time.as_bytes()).unwrap(), Author::new(author).unwrap());
            compared.is_there(&Entry {
                seq: 1,
                time,
                own: None,
                day: None,
                relation: None,
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
        // Equal local time in another zone; of two, the last is missing.
        assert_eq!(missing(&[("2026-11-21T08:15:02.000000-05:00", "anna", "a")]), "1a 2b 4c 6d 7e");
        assert_eq!(missing(&[("2026-11-21T08:15:02.000000+08:00", "ben", "a")]), "0a 1a 2b 4c 6d 7e");
        // A file in whole seconds matches any fraction of the second.
        assert_eq!(missing(&[("2026-11-21T08:15:02.000001+08:00", "anna", "b")]), "0a 1a 4c 6d 7e");
        assert_eq!(missing(&[("2026-11-21T08:15:03.000000+08:00", "anna", "b")]), "0a 1a 2b 4c 6d 7e");
        // Without seconds, any second of the minute matches; with a zone, the same moment in any zone.
        assert_eq!(missing(&[("2026-11-21T08:15:59.999999+08:00", "anna", "d")]), "0a 1a 2b 4c 7e");
        assert_eq!(missing(&[("2026-11-21T08:15:02.000000+08:00", "ben", "e")]), "0a 1a 2b 4c 6d");
        assert_eq!(missing(&[("2026-11-21T00:15:02.000000+08:00", "ben", "e")]), "0a 1a 2b 4c 6d 7e");
    }

    /// jrnl's file has seconds, its JSON has none.
    #[test]
    fn both_forms_of_a_jrnl_journal_are_known() {
        let text = "[2026-11-21 08:15:02 AM] a. B\n[2026-11-21 08:15:40 AM] a. B\n[2026-11-21 08:16:00 AM] c\n\n  d\n";
        let json = "{\"entries\":[{\"title\":\"a.\",\"body\":\"B\",\"date\":\"2026-11-21\",\"time\":\"08:15\"},\
                    {\"title\":\"a.\",\"body\":\"B\",\"date\":\"2026-11-21\",\"time\":\"08:15\"},\
                    {\"title\":\"c\",\"body\":\"d\",\"date\":\"2026-11-21\",\"time\":\"08:16\"}]}";
        // In one run, in either order.
        assert_eq!(missing(&harvested(&[text, json]), &[]), "0a. B 1a. B 2c\\n\\n  d");
        assert_eq!(missing(&harvested(&[json, text]), &[]), "0a.\\nB 1a.\\nB 2c\\nd");
        // Entries of one form in the diary are not added again in the other.
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
        // Each entry of the diary matches one of the file.
        assert_eq!(missing(&harvested(&[text]), &of_json[1..]), "1a. B");
        assert_eq!(missing(&harvested(&[text]), &of_text[1..]), "0a. B");
        // If the diary has seconds, they are compared.
        let second = [("2026-11-21T08:15:03.000000+08:00", "anna", "a. B")];
        assert_eq!(missing(&harvested(&[text]), &second), "0a. B 1a. B 2c\\n\\n  d");
        // Exact matches come first, whatever the order, and leave nothing to match by minute.
        let unsorted = "[2026-11-21 08:15:02] a\n[2026-11-21 08:15:00] a\n";
        assert_eq!(
            missing(&harvested(&[unsorted]), &[("2026-11-21T08:15:00.000000+08:00", "anna", "a")]),
            "0a"
        );
        // Entries that are equal but for seconds within one file are two entries.
        let mixed = "[2026-11-21 08:15:02] a\n[2026-11-21 08:15] a\n";
        assert_eq!(missing(&harvested(&[mixed]), &[]), "0a 1a");
    }

    /// jrnl breaks the line after a first sentence, which needs no blank in Chinese and Japanese, and puts a
    /// blank before a star.
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

    /// A log has no second form: its seconds and blanks are compared.
    #[test]
    fn lines_of_logs_are_known_by_all_that_they_have() {
        let log = harvested(&["2026-11-21T08:15:02 tick\n2026-11-21T08:15:03  tick\n"]);
        assert_eq!(missing(&log, &[("2026-11-21T08:15:00.000000+08:00", "anna", "tick")]), "0tick 1 tick");
        assert_eq!(missing(&log, &[("2026-11-21T08:15:03.000000+08:00", "anna", "tick")]), "0tick 1 tick");
        // Without seconds, any second of the minute matches.
        let log = harvested(&["2026-11-21T08:15 tick\n"]);
        assert_eq!(missing(&log, &[("2026-11-21T08:15:40.000000+08:00", "anna", "tick")]), "");
    }
}
