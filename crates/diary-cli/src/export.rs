//! Entries as other programs take them in.
//!
//! md, csv and txt are those of `log`. The own json has what an entry is wherever it is: time, author and text; and its
//! day, where days start later than midnight and that makes it another one.
//! jrnl's two formats are those that jrnl writes itself: its file, which `jrnl --import` takes, and its json.

use std::collections::BTreeMap;

use clap::ValueEnum;
use diary_client::{DayStart, Event, Stored, Time};
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::commands::Paper;
use crate::output::{count, say};
use crate::show::{Format, Printer, careful, other_day, push_json};
use diary_import::{Clock, is_header};

/// What an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// One JSON object a line: time, author and text; import gives the same entries back
    Json,
    /// Markdown
    Md,
    /// Comma-separated values with a heading line; exact, formulas too: see --csv-safe
    Csv,
    /// Plain text with days as headings
    Txt,
    /// jrnl's own file, for jrnl --import
    Jrnl,
    /// What jrnl --format json prints
    JrnlJson,
}

/// Writes the events of a reading down.
pub(crate) struct Exporter {
    target: Target,
    /// For what is not an entry, and for the formats of `log`.
    printer: Printer,
    /// Knows what jrnl would take for a time.
    clock: Clock,
    /// It goes to a terminal.
    terminal: bool,
    /// Nothing was written yet.
    first: bool,
    /// How often each tag was there, for jrnl.
    tags: BTreeMap<String, u64>,
    /// Lines that jrnl would take for the beginning of an entry.
    indented: u64,
}

/// An entry, wherever it is.
#[derive(Serialize)]
struct Own<'a> {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<String>,
    author: &'a str,
    text: &'a str,
}

/// An entry as jrnl has it.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Jrnl<'a> {
    title: &'a str,
    body: &'a str,
    date: String,
    time: String,
    tags: Vec<String>,
    starred: bool,
}

impl Exporter {
    /// On a terminal it is for a person to look at, so there texts are made safe.
    pub(crate) fn new(target: Target, zone: TimeZone, day_start: DayStart, terminal: bool) -> Self {
        let format = match target {
            Target::Json => Format::Json,
            Target::Md => Format::Md,
            Target::Csv => Format::Csv,
            Target::Txt => Format::Txt,
            // What is missing is told on stderr, since there is no place for it.
            Target::Jrnl | Target::JrnlJson => Format::Csv,
        };
        let mut printer = Printer::of(format, false, zone.clone(), 0).on_terminal(terminal);
        printer.start_days_at(day_start);
        let clock = Clock::new(zone, None);
        Self { target, printer, clock, terminal, first: true, tags: BTreeMap::new(), indented: 0 }
    }

    /// The same, and nothing in a csv is taken for a formula, if `csv_safe`.
    pub(crate) fn without_formulas(self, csv_safe: bool) -> Self {
        Self { printer: self.printer.without_formulas(csv_safe), ..self }
    }

    fn jrnl_json(&mut self, stored: &Stored, out: &mut Vec<u8>) {
        let entry = Jrnl::of(stored);
        for tag in &entry.tags {
            *self.tags.entry(tag.clone()).or_default() += 1;
        }
        out.extend_from_slice(if self.first { b"{\"entries\": [\n" } else { b",\n" });
        push_json(&entry, out);
        out.pop_if(|last| *last == b'\n');
    }

    /// As jrnl writes it, but for lines of a text that would begin another entry: they get a blank before them.
    fn jrnl(&mut self, stored: &Stored, out: &mut Vec<u8>) {
        let feed = if self.first { "" } else { "\n" };
        let time = happened(stored).civil().strftime("%Y-%m-%d %H:%M:%S");
        out.extend_from_slice(format!("{feed}[{time}]").as_bytes());
        for (number, line) in stored.entry.text.trim_end_matches('\n').split('\n').enumerate() {
            let forged = number > 0 && is_header(line, &self.clock);
            self.indented += u64::from(forged);
            out.extend_from_slice(if number == 0 || forged { b" " } else { b"" });
            let line = if self.terminal { careful(line) } else { line.into() };
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
    }
}

impl Paper for Exporter {
    fn begin(&mut self, out: &mut Vec<u8>) {
        if !matches!(self.target, Target::Jrnl | Target::JrnlJson) {
            self.printer.begin(out);
        }
    }

    fn event(&mut self, event: &Event, out: &mut Vec<u8>) {
        match (event, self.target) {
            (Event::Entry(stored), Target::Json) => {
                let entry = &stored.entry;
                let time = happened(stored).to_string();
                let (author, text) = (entry.author.as_str(), entry.text.as_str());
                push_json(&Own { time, day: other_day(entry), author, text }, out);
            }
            (Event::Entry(stored), Target::Jrnl) => self.jrnl(stored, out),
            (Event::Entry(stored), Target::JrnlJson) => self.jrnl_json(stored, out),
            _ => return self.printer.event(event, out),
        }
        self.first = false;
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        match self.target {
            Target::JrnlJson => {
                out.extend_from_slice(if self.first { b"{\"entries\": [" } else { b"" });
                out.extend_from_slice(b"\n], \"tags\": ");
                push_json(&self.tags, out);
                out.pop_if(|last| *last == b'\n');
                out.extend_from_slice(b"}\n");
            }
            Target::Jrnl if self.indented > 0 => say(format_args!(
                "{} as entries of jrnl do: a blank stands before now",
                count(self.indented, "line of a text begins", "lines of texts begin")
            )),
            _ => self.printer.end(out),
        }
    }
}

/// When it was, by the clock of who wrote it.
fn happened(stored: &Stored) -> Time {
    stored.entry.own.map_or(stored.entry.time, |own| own.at)
}

impl<'a> Jrnl<'a> {
    /// Its first line is the title, and a title that ends in an asterisk is starred, as in jrnl's own file.
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

/// What jrnl takes for tags, unless its `tagsymbols` are others than the `#@` that it comes with: each once, in small
/// letters. That is more than our tags are, `#42` and `##` for instance.
fn tags(text: &str) -> Vec<String> {
    let is_of_tag = |c: char| c.is_alphanumeric() || "_-+*#/".contains(c);
    let tag = |word: &str| {
        let length = word.strip_prefix(['#', '@'])?.find(|c| !is_of_tag(c)).unwrap_or(word.len() - 1);
        (length > 0).then(|| word[..=length].to_lowercase())
    };
    let mut tags: Vec<String> = text.split_whitespace().filter_map(tag).collect();
    tags.sort_unstable();
    tags.dedup();
    tags
}

#[cfg(test)]
mod tests {
    use diary_client::{Author, Entry, Gap};
    use diary_import::{Harvest, Kind, Source};
    use diary_proto::OwnTime;

    use super::*;

    fn entry(seq: u64, own: Option<&str>, text: &str) -> Event {
        let time = |said: &str| Time::parse(said.as_bytes()).unwrap();
        let own = own.map(|own| OwnTime::new(time(own), DayStart::default()));
        let author = Author::new("小明").unwrap();
        let (time, text) = (time("2026-11-21T08:15:02.123456+08:00"), text.to_owned());
        let entry = Entry { seq, time, own, day: None, author, text };
        Event::Entry(Stored { entry, key: None, crc: 0, left: String::new() })
    }

    fn exported(target: Target, events: &[Event]) -> String {
        let mut exporter = Exporter::new(target, TimeZone::UTC, DayStart::default(), false);
        let mut out = Vec::new();
        exporter.begin(&mut out);
        events.iter().for_each(|event| exporter.event(event, &mut out));
        exporter.end(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// What is for people and spreadsheets does not come in as a log.
    #[test]
    fn import_takes_or_refuses_what_is_exported() {
        let event = entry(1, None, "two\nlines");
        let read = |target, kind| {
            let file = exported(target, std::slice::from_ref(&event));
            let (mut harvest, clock) = (Harvest::default(), Clock::new(TimeZone::UTC, None));
            let day = Some(jiff::civil::Date::constant(2026, 11, 21));
            let kind = harvest.read(&Source { bytes: file.as_bytes(), day }, kind, &clock);
            let troubles = harvest.troubles.into_iter().map(|trouble| trouble.why).collect::<Vec<_>>();
            (kind, harvest.found.len(), troubles)
        };
        for (target, kind) in
            [(Target::Json, Kind::Json), (Target::Jrnl, Kind::Jrnl), (Target::JrnlJson, Kind::JrnlJson)]
        {
            assert_eq!(read(target, None), (kind, 1, vec![]));
        }
        for (target, format) in [(Target::Csv, "csv"), (Target::Md, "md"), (Target::Txt, "txt")] {
            let refused = format!(
                "this is an export in {format}, which cannot be imported; export --format json writes what can, and \
                 --format log would take its lines as they are"
            );
            assert_eq!(read(target, None), (Kind::Exported(format), 0, vec![refused]));
            let (kind, _, troubles) = read(target, Some(Kind::Log));
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
        let all = Target::value_variants().iter().map(|&target| {
            let name =
                target.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            format!("--- {name}\n{}", exported(target, &events).replace('\r', "␍"))
        });
        insta::assert_snapshot!("export", all.collect::<Vec<_>>().join("\n"));
    }

    /// What jrnl 4.6 prints of this text, as it comes.
    #[test]
    fn tags_are_those_that_jrnl_finds() {
        let text = "A #tag and @Person, @a/b @x+y (@paren) a@b.c \"@q\" @42 @a-b- @é今 #Foo@bar @x.y\n\
                    body @two #three @two";
        let found =
            ["#foo", "#tag", "#three", "@42", "@a-b-", "@a/b", "@person", "@two", "@x", "@x+y", "@é今"];
        assert_eq!(tags(text), found);
    }

    #[test]
    fn json_says_a_day_that_its_time_does_not() {
        let time = Time::parse(b"2015-03-02T01:30:00.000000+08:00").unwrap();
        let json = |day_start: &str| {
            let mut event = entry(1, None, "home late");
            if let Event::Entry(stored) = &mut event {
                stored.entry.own = Some(OwnTime::new(time, day_start.parse().unwrap()));
            }
            exported(Target::Json, &[event])
        };
        let said =
            |day: &str| format!("{{\"time\":\"{time}\",{day}\"author\":\"小明\",\"text\":\"home late\"}}\n");
        assert_eq!(json("03:00"), said("\"day\":\"2015-03-01\","));
        assert_eq!(json("00:00"), said(""));
        let mut event = entry(1, None, "home later");
        let Event::Entry(stored) = &mut event else { unreachable!("it is an entry") };
        stored.entry.day = Some("2026-11-20".parse().unwrap());
        assert!(exported(Target::Json, &[event]).contains("\"day\":\"2026-11-20\","));
    }

    #[test]
    fn no_control_character_reaches_a_terminal() {
        let event = entry(1, None, "a\u{1b}[2J\n\u{202e}b");
        for &target in Target::value_variants() {
            let mut exporter = Exporter::new(target, TimeZone::UTC, DayStart::default(), true);
            let mut out = Vec::new();
            exporter.begin(&mut out);
            exporter.event(&event, &mut out);
            let out = String::from_utf8(out).unwrap();
            assert!(!out.contains(['\u{1b}', '\u{202e}']), "{target:?}: {out:?}");
        }
    }

    #[test]
    fn nothing_is_something_too() {
        assert_eq!(exported(Target::JrnlJson, &[]), "{\"entries\": [\n], \"tags\": {}}\n");
        for target in [Target::Json, Target::Jrnl, Target::Md, Target::Txt] {
            assert_eq!(exported(target, &[]), "");
        }
    }
}
