//! The two formats of jrnl: its journal file, for `jrnl --import`, and its JSON output.

use std::collections::{BTreeMap, BTreeSet};

use diary_client::{Stored, Time};
use diary_import::{Clock, is_header};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::machine::safe_json;
use super::{Printer, careful, count};

/// State of the answer so far.
#[derive(Debug, Clone)]
pub(super) struct Jrnl {
    /// Detects what jrnl would take for a time.
    clock: Clock,
    /// Tags with their number of occurrences, for the JSON.
    tags: BTreeMap<String, u64>,
    /// Number of lines that jrnl would take for the start of an entry.
    indented: u64,
}

/// An entry in jrnl's JSON.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct JrnlEntry<'a> {
    title: &'a str,
    body: &'a str,
    date: String,
    time: String,
    tags: BTreeSet<String>,
    starred: bool,
}

impl Jrnl {
    pub(super) fn new(zone: TimeZone) -> Self {
        Self { clock: Clock::new(zone, None), tags: BTreeMap::new(), indented: 0 }
    }
}

impl Printer {
    pub(super) fn jrnl_json(&mut self, stored: &Stored, out: &mut Vec<u8>) {
        let entry = JrnlEntry::of(stored);
        for tag in &entry.tags {
            *self.jrnl.tags.entry(tag.clone()).or_default() += 1;
        }
        out.extend_from_slice(if self.first { b"\n" } else { b",\n" });
        out.extend_from_slice(safe_json(&entry).as_bytes());
    }

    pub(super) fn end_jrnl_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("\n], \"tags\": {}}}\n", safe_json(&self.jrnl.tags)).as_bytes());
    }

    /// Writes an entry as jrnl does. A line that would start another entry gets a space in front.
    pub(super) fn jrnl(&mut self, stored: &Stored, out: &mut Vec<u8>) {
        let feed = if self.first { "" } else { "\n" };
        let time = happened(stored).civil().strftime("%Y-%m-%d %H:%M:%S");
        out.extend_from_slice(format!("{feed}[{time}]").as_bytes());
        for (number, line) in stored.entry.text.trim_end_matches('\n').split('\n').enumerate() {
            let forged = number > 0 && is_header(line, &self.jrnl.clock);
            self.jrnl.indented += u64::from(forged);
            let space = if number == 0 || forged { " " } else { "" };
            let line = if self.terminal { careful(line) } else { line.into() };
            out.extend_from_slice(format!("{space}{line}\n").as_bytes());
        }
    }

    pub(super) fn end_jrnl(&mut self) {
        if self.jrnl.indented > 0 {
            let lines = count(self.jrnl.indented, "line looks", "lines look");
            self.notices.push(format!("{lines} like the start of a jrnl entry and got a space in front"));
        }
    }
}

/// Returns the time of an entry, in the writer's zone.
fn happened(stored: &Stored) -> Time {
    stored.entry.own.map_or(stored.entry.time, |own| own.at)
}

impl<'a> JrnlEntry<'a> {
    /// Takes the first line as the title. A title that ends in an asterisk is starred, as in jrnl's own file.
    fn of(stored: &'a Stored) -> Self {
        let text = stored.entry.text.as_str();
        let (title, body) = text.split_once('\n').unwrap_or((text, ""));
        let starred = title.trim_end().ends_with('*');
        let title = if starred { title.trim_matches([' ', '*']) } else { title };
        let civil = happened(stored).civil();
        let (date, time) = (civil.strftime("%Y-%m-%d").to_string(), civil.strftime("%H:%M").to_string());
        Self { title, body, date, time, tags: tags(text), starred }
    }
}

/// Returns the tags that jrnl finds with its default `tagsymbols`, `#@`: each once, in lower case. Some of them are
/// not tags of a diary, such as `#42` and `##`.
fn tags(text: &str) -> BTreeSet<String> {
    let is_of_tag = |c: char| c.is_alphanumeric() || "_-+*#/".contains(c);
    let tag = |word: &str| {
        let length = word.strip_prefix(['#', '@'])?.find(|c| !is_of_tag(c)).unwrap_or(word.len() - 1);
        (length > 0).then(|| word[..=length].to_lowercase())
    };
    text.split_whitespace().filter_map(tag).collect()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use diary_client::{Author, DayStart, Entry, Event, Gap};
    use diary_import::{Harvest, Kind, Source};
    use diary_proto::OwnTime;

    use super::*;
    use crate::render::Format;

    fn entry(seq: u64, own: Option<&str>, text: &str) -> Event {
        let time = |said: &str| Time::parse(said.as_bytes()).unwrap();
        let own = own.map(|own| OwnTime::new(time(own), DayStart::default()));
        let author = Author::new("小明").unwrap();
        let (time, text) = (time("2026-11-21T08:15:02.123456+08:00"), text.to_owned());
        let entry = Entry { seq, time, own, day: None, relation: None, author, text };
        Event::Entry(Stored { entry, key: None, crc: 0, left: String::new(), correction: None })
    }

    fn exported(format: Format, events: &[Event]) -> String {
        on(false, format, events)
    }

    fn on(terminal: bool, format: Format, events: &[Event]) -> String {
        let mut printer = Printer { terminal, ..Printer::of(format, false, TimeZone::UTC, 0) };
        let mut out = Vec::new();
        printer.begin(&mut out);
        events.iter().for_each(|event| printer.event(event, &mut out));
        printer.end(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// Import does not take formats for people and spreadsheets for logs.
    #[test]
    fn import_takes_or_refuses_what_is_exported() {
        let event = entry(1, None, "two\nlines");
        let read = |format, kind| {
            let file = exported(format, std::slice::from_ref(&event));
            let (mut harvest, clock) = (Harvest::default(), Clock::new(TimeZone::UTC, None));
            let day = Some(jiff::civil::Date::constant(2026, 11, 21));
            let kind = harvest.read(&Source { bytes: file.as_bytes(), day }, kind, &clock);
            let troubles = harvest.troubles.into_iter().map(|trouble| trouble.why).collect::<Vec<_>>();
            (kind, harvest.found.len(), troubles)
        };
        for (format, kind) in
            [(Format::Json, Kind::Json), (Format::Jrnl, Kind::Jrnl), (Format::JrnlJson, Kind::JrnlJson)]
        {
            assert_eq!(read(format, None), (kind, 1, vec![]));
        }
        for (format, name) in [(Format::Csv, "csv"), (Format::Md, "md"), (Format::Txt, "txt")] {
            let refused = format!(
                "exports in {name} cannot be imported; use export --format json, or take the lines as they are with \
                 --format log"
            );
            assert_eq!(read(format, None), (Kind::Exported(name), 0, vec![refused]));
            let (kind, _, troubles) = read(format, Some(Kind::Log));
            assert_eq!((kind, troubles), (Kind::Log, vec![]));
        }
    }

    #[test]
    fn every_format() {
        let events = [
            entry(1, None, "今天天气很好 *\n[2015-03-02 08:15] not an entry\n[x] done\n"),
            entry(
                2,
                Some("2015-03-02T08:15:00.000000-03:30"),
                "With @Work and @home/garden, and an a@b.c #Lake, (#no) C#\n\n@work # ## #42",
            ),
            Event::Gap(Gap { first: 3, last: 4 }),
            entry(5, None, "Three. Sentences. \u{1b}[2J"),
        ];
        let all = Format::EXPORTED.iter().map(|&format| {
            let name =
                format.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            format!("--- {name}\n{}", exported(format, &events).replace('\r', "␍"))
        });
        insta::assert_snapshot!("export", all.collect::<Vec<_>>().join("\n"));
    }

    /// Output of jrnl 4.6 for this text.
    #[test]
    fn tags_are_those_that_jrnl_finds() {
        let text = "A #tag and @Person, @a/b @x+y (@paren) a@b.c \"@q\" @42 @a-b- @é今 #Foo@bar @x.y\n\
                    body @two #three @two";
        let found =
            ["#foo", "#tag", "#three", "@42", "@a-b-", "@a/b", "@person", "@two", "@x", "@x+y", "@é今"];
        assert!(tags(text).iter().eq(&found));
    }

    #[test]
    fn no_control_character_reaches_a_terminal() {
        let event = entry(1, None, "a\u{1b}[2J\n\u{202e}b");
        for &format in Format::EXPORTED {
            let out = on(true, format, std::slice::from_ref(&event));
            assert!(!out.contains(['\u{1b}', '\u{202e}']), "{format:?}: {out:?}");
        }
    }

    #[test]
    fn nothing_is_something_too() {
        assert_eq!(exported(Format::JrnlJson, &[]), "{\"entries\": [\n], \"tags\": {}}\n");
        for format in [Format::Json, Format::Jrnl, Format::Md, Format::Txt] {
            assert_eq!(exported(format, &[]), "");
        }
    }
}
