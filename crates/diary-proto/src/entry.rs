//! The entry, and the line that stores it (format 1).
//!
//! `seq SP time SP author SP text TAB index SP key [SP name=value …] SP crc LF`
//!
//! Left of the TAB is for people; `index` is the place in the batch, so `seq - index` names the batch;
//! `key` is the writer's own name for the append, or `-`. Names and values that a reader does not know
//! are kept and ignored; `at=TIME` is the entry's own time where it differs from its commit, and
//! `day=DATE` the day that it belongs to where that is not the date of its own time or, without one, of its
//! commit. `re=SEQ`, `corrects=SEQ` and `redacts=SEQ`, of which a line has one at most, say what the entry is to an
//! earlier one.

use std::borrow::Cow;

use jiff::civil::Date;

pub use crate::author::Author;
use crate::author::is_name;
use crate::escape::{escape_into, unescape};
pub use crate::key::{Key, Producer};
use crate::limits::TEXT_MAX_BYTES;
use crate::own_time::OwnTime;
use crate::refusal::{Code, Refusal};
use crate::relation::Relation;
use crate::seal::Seal;
use crate::time::{DATE_BYTES, TIME_BYTES, Time, parse_date};

// Not formatted for each refusal: one frame may bring many.
const TEXT_TOO_LONG: &str = "the text is longer than 65536 bytes; split or shorten it";
const _: () = assert!(TEXT_MAX_BYTES == 65536);

/// One thing written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number: 1, 2, 3, … with no gap.
    pub seq: u64,
    /// When it was committed.
    pub time: Time,
    /// Its own time, where it differs from when it was committed.
    pub own: Option<OwnTime>,
    /// The day that it was committed on, where that is not the date of `time`: days start later than midnight.
    /// `None` if it has a time of its own, which has a day.
    pub day: Option<Date>,
    /// What it is to an earlier entry.
    pub relation: Option<Relation>,
    /// Who wrote it.
    pub author: Author,
    /// What was written, unescaped.
    pub text: String,
}

/// Checks a text before it becomes an entry.
///
/// # Errors
/// A refusal that names the limit.
pub fn check_text(text: &str) -> Result<(), Refusal> {
    if text.len() > TEXT_MAX_BYTES {
        return Err(Refusal::new(Code::TooLong, TEXT_TOO_LONG));
    }
    if text.is_empty() {
        return Err(Refusal::new(Code::Empty, "an entry needs a text"));
    }
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Err(Refusal::new(Code::Nul, "a text cannot contain a NUL byte"));
    }
    Ok(())
}

/// What a new stored line is made of. The caller has checked the text and keeps time and seq in order.
#[derive(Debug, Clone, Copy)]
pub struct NewLine<'a> {
    /// Its number.
    pub seq: u64,
    /// The batch's time, already written out: one per batch.
    pub time: &'a [u8; TIME_BYTES],
    /// The entry's own time, where it differs.
    pub own: Option<OwnTime>,
    /// The day of the commit, where that is not the date of `time`. It is written if there is no own time.
    pub day: Option<Date>,
    /// What it is to an earlier entry.
    pub relation: Option<Relation>,
    /// Who wrote it.
    pub author: &'a Author,
    /// The text, not yet escaped.
    pub text: &'a str,
    /// Place in the batch, from 0.
    pub index: u32,
    /// The writer's name for it.
    pub key: Option<Key>,
}

impl<'a> NewLine<'a> {
    /// A line that says nothing of itself, first in its batch.
    pub fn new(seq: u64, time: &'a [u8; TIME_BYTES], author: &'a Author, text: &'a str) -> Self {
        Self { seq, time, own: None, day: None, relation: None, author, text, index: 0, key: None }
    }

    /// Appends the whole line, line feed included, and returns its checksum.
    pub fn write(&self, out: &mut Vec<u8>, seal: Seal) -> u32 {
        let start = out.len();
        out.reserve(self.text.len() + 160);
        push_number(out, self.seq);
        out.push(b' ');
        out.extend_from_slice(self.time);
        out.push(b' ');
        out.extend_from_slice(self.author.as_str().as_bytes());
        out.push(b' ');
        if let Some(own) = self.own {
            out.extend_from_slice(own_time_prefix(own.at).as_bytes());
        }
        if let Some(relation) = self.relation {
            out.extend_from_slice(relation_prefix(relation).as_bytes());
        }
        escape_into(self.text, out);
        out.push(b'\t');
        push_number(out, self.index.into());
        out.push(b' ');
        match self.key {
            Some(key) => key.write(out),
            None => out.push(b'-'),
        }
        let day = match self.own {
            Some(OwnTime { at, day }) => {
                out.extend_from_slice(b" at=");
                out.extend_from_slice(&at.to_bytes());
                (day != at.date()).then_some(day)
            }
            None => self.day,
        };
        if let Some(day) = day {
            out.extend_from_slice(format!(" day={day}").as_bytes());
        }
        if let Some(relation) = self.relation {
            out.extend_from_slice(format!(" {}={}", relation.field(), relation.seq()).as_bytes());
        }
        out.push(b' ');
        seal.write(out, start)
    }
}

/// What the left part of an entry with its own time has before the text.
fn own_time_prefix(at: Time) -> String {
    format!("({}) ", at.minute())
}

/// What the left part of an entry that belongs to an earlier one has before the text, behind its own time.
fn relation_prefix(relation: Relation) -> String {
    format!("({relation}) ")
}

/// Appends `number` in decimal.
pub fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The number that a stored line begins with. Whether the line is sound is not looked at.
pub fn seq_of(line: &[u8]) -> Option<u64> {
    parse_number(&line[..memchr::memchr(b' ', line)?])
}

/// A decimal number as it is written here: digits only, no sign, no leading zero, below 2^64.
pub fn parse_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || (digits[0] == b'0' && digits.len() > 1) {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, &b| {
        if !b.is_ascii_digit() {
            return None;
        }
        sum.checked_mul(10)?.checked_add(u64::from(b - b'0'))
    })
}

/// Why bytes are not a sound line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// The checksum does not fit the bytes, or not in this journal.
    #[error("the checksum does not match")]
    Crc,
    /// The checksum fits, but a field cannot be read.
    #[error("the field `{0}` cannot be read")]
    Field(&'static str),
}

/// A sound stored line, borrowed from the bytes that hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredLine<'a> {
    /// Its number.
    pub seq: u64,
    /// When it was committed, as written.
    pub time: &'a str,
    /// Who wrote it.
    pub author: &'a str,
    /// The text, escaped, without the own time and the relation that may stand before it.
    pub text: &'a str,
    /// Place in its batch.
    pub index: u32,
    /// The writer's name for it.
    pub key: Option<Key>,
    /// The entry's own time, where it differs.
    pub own: Option<OwnTime>,
    /// The day of the commit, where that is not the date of `time`, and there is no own time.
    pub day: Option<Date>,
    /// What the entry is to an earlier one.
    pub relation: Option<Relation>,
    /// The line's checksum.
    pub crc: u32,
    /// All that stands left of the TAB.
    pub left: &'a str,
}

impl<'a> StoredLine<'a> {
    /// Reads a line (without its line feed) of the journal with this seal. A note, which starts with `#`, is no entry: see
    /// [`is_note`].
    ///
    /// # Errors
    /// [`BadLine`]: nothing of an unsound line may be used.
    pub fn parse(line: &'a [u8], seal: Seal) -> Result<Self, BadLine> {
        let (body, crc) = seal.check(line).ok_or(BadLine::Crc)?;
        let body = std::str::from_utf8(body).map_err(|_| BadLine::Field("text"))?;
        let (left, right) = split(body, b'\t').ok_or(BadLine::Field("tab"))?;

        let (seq, rest) = split(left, b' ').ok_or(BadLine::Field("seq"))?;
        // Below the largest number, so that there always is a next one.
        let seq = parse_number(seq.as_bytes()).filter(|n| (1..u64::MAX).contains(n));
        let seq = seq.ok_or(BadLine::Field("seq"))?;
        let (time, rest) = split(rest, b' ').ok_or(BadLine::Field("time"))?;
        if !has_shape_of_time(time) {
            return Err(BadLine::Field("time"));
        }
        let (author, mut text) = split(rest, b' ').ok_or(BadLine::Field("author"))?;
        if author.is_empty() || !is_name(author) {
            return Err(BadLine::Field("author"));
        }

        // Every field on the right is followed by a space, the last one by the space before the crc.
        let right = right.strip_suffix(' ').ok_or(BadLine::Field("crc"))?;
        let (index, rest) = split(right, b' ').ok_or(BadLine::Field("key"))?;
        let index = parse_number(index.as_bytes()).and_then(|n| u32::try_from(n).ok());
        let index = index.filter(|&n| u64::from(n) < seq).ok_or(BadLine::Field("index"))?;
        let (key, more) = split(rest, b' ').map_or((rest, None), |(key, more)| (key, Some(more)));
        let key = if key == "-" { None } else { Some(key.parse()?) };
        let (mut at, mut day, mut relation) = (None, None, None);
        for field in more.into_iter().flat_map(|more| more.split(' ')) {
            let (name, value) = field.split_once('=').ok_or(BadLine::Field("name=value"))?;
            match name {
                "at" => {
                    let own = Time::parse(value.as_bytes()).ok_or(BadLine::Field("at"))?;
                    text = text.strip_prefix(&own_time_prefix(own)).ok_or(BadLine::Field("at"))?;
                    at = Some(own);
                }
                "day" => day = Some(parse_date(value).ok_or(BadLine::Field("day"))?),
                _ => {
                    let Some(read) = Relation::read(name, value, seq) else { continue };
                    let read = read.map_err(BadLine::Field)?;
                    let rest = text.strip_prefix(&relation_prefix(read)).filter(|_| relation.is_none());
                    text = rest.ok_or(BadLine::Field(read.field()))?;
                    relation = Some(read);
                }
            }
        }
        let own = at.map(|at| OwnTime { at, day: day.unwrap_or_else(|| at.date()) });
        let day = day.filter(|_| own.is_none());
        unescape(text).map_err(|_| BadLine::Field("text"))?;
        Ok(Self { seq, time, author, text, index, key, own, day, relation, crc, left })
    }

    /// The seq of the first entry of its batch.
    pub fn batch(&self) -> u64 {
        self.seq - u64::from(self.index)
    }

    /// The day that the entry belongs to: that of its own time, or else of its commit. The name of the file that the
    /// line is in may be another. `None` if `time` is of no calendar.
    pub fn belongs_to(&self) -> Option<Date> {
        match (self.own, self.day) {
            (Some(own), _) => Some(own.day),
            (None, Some(day)) => Some(day),
            (None, None) => parse_date(self.time.get(..DATE_BYTES)?),
        }
    }

    /// The left part as people see it where `correction` is the newest version of the entry.
    pub fn corrected_left(&self, correction: &StoredLine<'_>) -> String {
        let (fields, date) =
            (&self.left[..self.left.len() - self.text.len()], correction.time.get(..DATE_BYTES));
        format!("{fields}(corrected {}) {}", date.unwrap_or_default(), correction.text)
    }

    /// The text as it was written.
    pub fn unescaped(&self) -> Cow<'a, str> {
        unescape(self.text).unwrap_or(Cow::Borrowed(self.text))
    }

    /// The entry, owned.
    ///
    /// # Errors
    /// A time or author that cannot be read.
    pub fn to_entry(&self) -> Result<Entry, BadLine> {
        Ok(Entry {
            seq: self.seq,
            time: Time::parse(self.time.as_bytes()).ok_or(BadLine::Field("time"))?,
            own: self.own,
            day: self.day,
            relation: self.relation,
            author: Author::stored(self.author).ok_or(BadLine::Field("author"))?,
            text: self.unescaped().into_owned(),
        })
    }
}

/// A stored line whose checksum is sound, as far as one needs it to pass it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedLine<'a> {
    /// The entry's number.
    pub seq: u64,
    /// What stands left of the TAB. Whether a terminal may see it is [`is_safe`](crate::escape::is_safe)'s
    /// to say.
    pub left: &'a [u8],
    /// The line's checksum.
    pub crc: u32,
}

impl<'a> SealedLine<'a> {
    /// Checks a line (without its line feed) of the journal with this seal, and reads its seq; `None` if it is not
    /// sound, or a note.
    pub fn check(line: &'a [u8], seal: Seal) -> Option<Self> {
        let (body, crc) = seal.check(line)?;
        let left = &body[..memchr::memchr(b'\t', body)?];
        let digits = left.iter().position(|&b| b == b' ')?;
        let seq = parse_number(&left[..digits]).filter(|seq| (1..u64::MAX).contains(seq))?;
        Some(Self { seq, left, crc })
    }
}

/// What is before and behind the first `byte`, which is ASCII.
fn split(text: &str, byte: u8) -> Option<(&str, &str)> {
    let at = memchr::memchr(byte, text.as_bytes())?;
    Some((&text[..at], &text[at + 1..]))
}

/// Whether a field can be shown as a time. Whether it is one is left to who needs the number.
fn has_shape_of_time(field: &str) -> bool {
    // Without an early end, so that the compiler looks at many bytes at once.
    let fits = |b: u8| b.is_ascii_digit() | matches!(b, b'-' | b'T' | b':' | b'.' | b'+');
    field.len() == TIME_BYTES && field.bytes().fold(true, |all, b| all & fits(b))
}

/// Whether a line (without its line feed) is a note: it starts with `#` and its checksum is sound.
/// Readers skip it. A day file's header is none, as it is not bound to a journal.
pub fn is_note(line: &[u8], seal: Seal) -> bool {
    line.first() == Some(&b'#') && seal.check(line).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::own_time::DayStart;
    use crate::seal;
    use proptest::prelude::*;

    const SEAL: Seal = Seal::PLAIN;

    fn anna() -> Author {
        Author::new("anna").unwrap()
    }

    fn line(text: &str, own: Option<OwnTime>, key: Option<Key>) -> Vec<u8> {
        line_of(None, text, own, key)
    }

    fn line_of(relation: Option<Relation>, text: &str, own: Option<OwnTime>, key: Option<Key>) -> Vec<u8> {
        let time = Time { micros: 1_795_220_102_123_456, offset_minutes: 480 }.to_bytes();
        let mut out = Vec::new();
        NewLine { seq: 413, time: &time, own, day: None, relation, author: &anna(), text, index: 2, key }
            .write(&mut out, SEAL);
        out
    }

    #[test]
    fn the_example_of_the_design() {
        let seal = Seal::of_journal(0x5f0c_9e27_a1b3_4d68);
        let key = Some(Key { producer: Producer(0x6b1f_09c2_d4e8_a735), counter: 17 });
        let time = Time::parse(b"2026-11-21T08:15:02.123456+08:00").unwrap().to_bytes();
        let mut out = Vec::new();
        let author = anna();
        NewLine { key, ..NewLine::new(413, &time, &author, "今天天气很好") }.write(&mut out, seal);
        let local = Author::new("local").unwrap();
        NewLine { index: 1, ..NewLine::new(414, &time, &local, "hello from telnet") }.write(&mut out, seal);
        assert_eq!(
            std::str::from_utf8(&out).unwrap(),
            "413 2026-11-21T08:15:02.123456+08:00 anna 今天天气很好\t0 6b1f09c2d4e8a735.17 9c585c28\n\
             414 2026-11-21T08:15:02.123456+08:00 local hello from telnet\t1 - 24619956\n"
        );
    }

    #[test]
    fn an_own_time_stands_before_the_text_and_is_taken_off() {
        let at = Time { micros: 1_425_284_100_000_000, offset_minutes: 480 };
        for (start, day, right) in [
            ("03:00", "2015-03-02", " at=2015-03-02T16:15:00.000000+08:00 "),
            ("18:00", "2015-03-01", " at=2015-03-02T16:15:00.000000+08:00 day=2015-03-01 "),
        ] {
            let own = OwnTime::new(at, start.parse().unwrap());
            let bytes = line("(1) first", Some(own), None);
            let stored = StoredLine::parse(&bytes[..bytes.len() - 1], SEAL).unwrap();
            assert!(stored.left.ends_with(" anna (2015-03-02 16:15) (1) first"), "{}", stored.left);
            assert!(std::str::from_utf8(&bytes).unwrap().contains(right));
            let entry = stored.to_entry().unwrap();
            assert_eq!((entry.text.as_str(), entry.own), ("(1) first", Some(own)));
            assert_eq!(own.day.to_string(), day);
        }
    }

    #[test]
    fn the_day_of_a_commit_is_written_where_no_own_time_has_one() {
        let time = Time::parse(b"2026-11-22T01:30:00.000000+08:00").unwrap();
        let evening: Date = "2026-11-21".parse().unwrap();
        let own = OwnTime::new(time, DayStart::default());
        for (own, right) in
            [(None, "\t2 - day=2026-11-21 "), (Some(own), "\t2 - at=2026-11-22T01:30:00.000000+08:00 ")]
        {
            let mut bytes = Vec::new();
            let (time, author) = (time.to_bytes(), anna());
            let day = Some(evening);
            NewLine {
                seq: 413,
                time: &time,
                own,
                day,
                relation: None,
                author: &author,
                text: "x",
                index: 2,
                key: None,
            }
            .write(&mut bytes, SEAL);
            assert!(std::str::from_utf8(&bytes).unwrap().contains(right));
            let line = StoredLine::parse(&bytes[..bytes.len() - 1], SEAL).unwrap();
            assert_eq!(line.belongs_to(), own.map(|own| own.day).or(day));
            let entry = line.to_entry().unwrap();
            assert_eq!((entry.own, entry.day), (own, day.filter(|_| own.is_none())));
        }
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let mut bytes = line("x", None, None);
        bytes.truncate(bytes.len() - seal::SEAL_BYTES - 1);
        bytes.extend_from_slice(b"mood=good ");
        SEAL.write(&mut bytes, 0);
        let line = StoredLine::parse(&bytes[..bytes.len() - 1], SEAL).unwrap();
        assert_eq!((line.text, line.belongs_to()), ("x", Some(Date::constant(2026, 11, 21))));
    }

    #[test]
    fn a_sound_checksum_does_not_excuse_bad_fields() {
        for (body, field) in [
            ("x 2026-11-21T08:15:02.123456+08:00 a t\t0 - ", "seq"),
            ("0 2026-11-21T08:15:02.123456+08:00 a t\t0 - ", "seq"),
            ("18446744073709551615 2026-11-21T08:15:02.123456+08:00 a t\t0 - ", "seq"),
            ("01 2026-11-21T08:15:02.123456+08:00 a t\t0 - ", "seq"),
            ("5 2026-11-21 a t\t0 - ", "time"),
            ("5 2026-11-21T08:15:02.123456\u{1b}[31;m a t\t0 - ", "time"),
            ("5 2026-11-21T08:15:02.123456+08:00  t\t0 - ", "author"),
            ("5 2026-11-21T08:15:02.123456+08:00 a\u{1b}c t\t0 - ", "author"),
            ("5 2026-11-21T08:15:02.123456+08:00 a \\q\t0 - ", "text"),
            ("5 2026-11-21T08:15:02.123456+08:00 a t\t5 - ", "index"),
            ("5 2026-11-21T08:15:02.123456+08:00 a t\t0 abc.1 ", "key"),
            ("5 2026-11-21T08:15:02.123456+08:00 a t\t0 -", "crc"),
            ("5 2026-11-21T08:15:02.123456+08:00 a t\t0 - at=now ", "at"),
            ("5 2026-11-21T08:15:02.123456+08:00 a t\t0 - day=2026-02-30 ", "day"),
            ("5 2026-11-21T08:15:02.123456+08:00 a t 0 - ", "tab"),
            ("5 2026-11-21T08:15:02.123456+08:00 a t\t0 - re=3 ", "re"),
            ("5 2026-11-21T08:15:02.123456+08:00 a (re 3)t\t0 - re=3 ", "re"),
            ("5 2026-11-21T08:15:02.123456+08:00 a (re 4) t\t0 - re=3 ", "re"),
            ("5 2026-11-21T08:15:02.123456+08:00 a (re 5) t\t0 - re=5 ", "re"),
            ("5 2026-11-21T08:15:02.123456+08:00 a (re 0) t\t0 - re=0 ", "re"),
            ("5 2026-11-21T08:15:02.123456+08:00 a (corrects 03) t\t0 - corrects=03 ", "corrects"),
            ("5 2026-11-21T08:15:02.123456+08:00 a (redacts 3) t\t0 - redacts=+3 ", "redacts"),
            ("5 2026-11-21T08:15:02.123456+08:00 a (re 3) (re 3) t\t0 - re=3 re=3 ", "re"),
            ("5 2026-11-21T08:15:02.123456+08:00 a (re 3) (corrects 3) t\t0 - re=3 corrects=3 ", "corrects"),
        ] {
            let mut bytes = body.as_bytes().to_vec();
            SEAL.write(&mut bytes, 0);
            assert_eq!(
                StoredLine::parse(&bytes[..bytes.len() - 1], SEAL),
                Err(BadLine::Field(field)),
                "{body}"
            );
        }
    }

    #[test]
    fn a_line_of_another_journal_is_not_valid() {
        let (own, other) = (Seal::of_journal(1), Seal::of_journal(2));
        let mut bytes = b"5 2026-11-21T08:15:02.123456+08:00 a t\t0 - ".to_vec();
        let mut note = b"# a note\t".to_vec();
        own.write(&mut bytes, 0);
        own.write(&mut note, 0);
        let (line, note) = (&bytes[..bytes.len() - 1], &note[..note.len() - 1]);
        assert!(StoredLine::parse(line, own).is_ok() && SealedLine::check(line, own).is_some());
        assert!(is_note(note, own));
        for seal in [other, Seal::PLAIN] {
            assert_eq!(StoredLine::parse(line, seal), Err(BadLine::Crc));
            assert_eq!(SealedLine::check(line, seal), None);
            assert!(!is_note(note, seal));
        }
    }

    #[test]
    fn a_stored_name_that_cannot_be_seen_is_read_all_the_same() {
        let mut bytes = "5 2026-11-21T08:15:02.123456+08:00 \u{200b} t\t0 - ".as_bytes().to_vec();
        SEAL.write(&mut bytes, 0);
        let stored = StoredLine::parse(&bytes[..bytes.len() - 1], SEAL).unwrap();
        assert_eq!(stored.to_entry().unwrap().author.as_str(), "\u{200b}");
    }

    proptest! {
        #[test]
        fn round_trip(text in "[^\0]{1,80}", counter in any::<u64>(), producer in any::<u64>(), own in proptest::option::of((0i64..4_000_000_000_000_000, 0..24 * 60_u16)), relation in proptest::option::of((0..3usize, 1..413u64))) {
            let key = Key { producer: Producer(producer), counter };
            let own = own.map(|(micros, start)| {
                OwnTime::new(Time { micros, offset_minutes: -90 }, DayStart::from_minutes(start).unwrap())
            });
            let relations = [Relation::Answers, Relation::Corrects, Relation::Redacts];
            let relation = relation.map(|(which, seq)| relations[which](seq));
            let bytes = line_of(relation, &text, own, Some(key));
            prop_assert_eq!(memchr::memchr(b'\n', &bytes), Some(bytes.len() - 1));
            let stored = StoredLine::parse(&bytes[..bytes.len() - 1], SEAL).unwrap();
            let sealed = SealedLine::check(&bytes[..bytes.len() - 1], SEAL).unwrap();
            prop_assert_eq!((sealed.seq, sealed.left, sealed.crc), (413, stored.left.as_bytes(), stored.crc));
            prop_assert_eq!(stored.batch(), 411);
            prop_assert_eq!(stored.key, Some(key));
            let entry = stored.to_entry().unwrap();
            prop_assert_eq!(entry.text, text);
            prop_assert_eq!((entry.own, entry.relation), (own, relation));
        }

        #[test]
        fn any_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut sealed = bytes.clone();
            let _ = StoredLine::parse(&bytes, SEAL);
            SEAL.write(&mut sealed, 0);
            let _ = StoredLine::parse(&sealed[..sealed.len() - 1], SEAL);
        }
    }
}
