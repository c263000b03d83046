//! Output of `jrnl --format json`:
//! `{"tags": {…}, "entries": [{"title", "body", "date", "time", "tags", "starred"}]}`. Title and body become
//! one text as in jrnl's own file, so that both give the same entry. The tags are part of the text.

use std::borrow::Cow;
use std::fmt;

use jiff::civil::{Date, Time as Hour};
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{Clock, Harvest, NOT_UTF8, Span, When, lines, shown};

#[derive(Deserialize)]
struct Entry<'f> {
    #[serde(borrow)]
    title: Cow<'f, str>,
    #[serde(borrow, default)]
    body: Cow<'f, str>,
    #[serde(borrow)]
    date: Cow<'f, str>,
    #[serde(borrow)]
    time: Cow<'f, str>,
    #[serde(default)]
    starred: bool,
}

pub(super) fn read(bytes: &[u8], clock: &Clock, harvest: &mut Harvest<'_>) {
    let text = String::from_utf8_lossy(bytes);
    let mut bad = if matches!(text, Cow::Borrowed(_)) { Vec::new() } else { bad_lines(bytes) };
    let mut counted = Counted { text: &text, up_to: 0, line: 1 };
    let mut give = |raw: &RawValue| {
        // A raw value borrows from the text that it was parsed from.
        let start = raw.get().as_ptr().addr() - text.as_ptr().addr();
        let span = Span { first: counted.line_of(start), last: counted.line_of(start + raw.get().len()) };
        let next_bad = bad.partition_point(|&(line, _)| line < span.first);
        if let Some((_, why)) = bad.get_mut(next_bad).filter(|(line, _)| *line <= span.last) {
            *why = span.left_out(&why);
            return;
        }
        let entry = serde_json::from_str::<Entry<'_>>(raw.get())
            .map_err(|error| format!("not a jrnl entry in JSON: {}", without_place(&error)));
        match entry.and_then(|entry| Ok((when(&entry, clock)?, text_of(&entry)))) {
            Ok((when, text)) => harvest.entry(span, when, None, text.into()),
            Err(why) => harvest.trouble(span.first, span.left_out(why)),
        }
    };
    let mut json = serde_json::Deserializer::from_str(&text);
    let ended = json.deserialize_map(Journal(&mut give)).and_then(|()| json.end());
    let read_up_to = counted.line;
    bad.into_iter().for_each(|(line, why)| harvest.trouble(line, why));
    if let Err(error) = ended {
        let why = format!(
            "not JSON as jrnl writes it; nothing after line {read_up_to} was read: {}",
            without_place(&error)
        );
        harvest.trouble(error.line() as u64, why);
    }
}

/// Returns the lines that are not UTF-8, as JSON must be, and why. Entries on these lines are left out.
fn bad_lines(bytes: &[u8]) -> Vec<(u64, String)> {
    let is_bad = |line: &lines::Line<'_>| std::str::from_utf8(line.bytes).is_err();
    lines::of(bytes).filter(is_bad).map(|line| (line.number, NOT_UTF8.to_owned())).collect()
}

fn without_place(error: &serde_json::Error) -> String {
    error.to_string().split(" at line ").next().unwrap_or_default().to_owned()
}

/// Counts lines, for increasing offsets.
struct Counted<'t> {
    text: &'t str,
    up_to: usize,
    line: u64,
}

impl Counted<'_> {
    fn line_of(&mut self, place: usize) -> u64 {
        self.line += lines::feeds(&self.text.as_bytes()[self.up_to..place]);
        self.up_to = place;
        self.line
    }
}

fn when(entry: &Entry<'_>, clock: &Clock) -> Result<When, String> {
    let date = entry.date.parse::<Date>().ok();
    let hour = entry.time.parse::<Hour>().ok();
    let has_seconds = entry.time.len() > "08:15".len();
    let when = date.zip(hour).and_then(|(date, hour)| clock.civil(date.to_datetime(hour), has_seconds));
    when.ok_or_else(|| format!("\"{} {}\" is not a time", shown(&entry.date), shown(&entry.time)))
}

fn text_of(entry: &Entry<'_>) -> String {
    let star = if entry.starred { " *" } else { "" };
    let feed = if entry.body.is_empty() { "" } else { "\n" };
    format!("{}{star}{feed}{}", entry.title, entry.body)
}

/// Visits the entries of a journal one by one, so that a truncated file loses only its end.
struct Journal<F>(F);

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Journal<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a journal with entries")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut has_entries = false;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if name == "entries" {
                has_entries = true;
                map.next_value_seed(Entries(&mut self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if has_entries { Ok(()) } else { Err(serde::de::Error::missing_field("entries")) }
    }
}

struct Entries<'a, F>(&'a mut F);

impl<'de, F: FnMut(&'de RawValue)> DeserializeSeed<'de> for Entries<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, entries: D) -> Result<(), D::Error> {
        entries.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Entries<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(entry) = entries.next_element::<&'de RawValue>()? {
            (self.0)(entry);
        }
        Ok(())
    }
}
