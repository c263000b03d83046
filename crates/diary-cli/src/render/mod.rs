//! Prints entries: formats, colour, and the reader's zone and width.
//!
//! A [`Printer`] turns the events of a reading into bytes. `people` and `markdown` have the formats for people,
//! `machine` those for programs, and `jrnl` those of jrnl. `safe` escapes texts for a terminal.

mod jrnl;
mod machine;
mod markdown;
mod people;
mod safe;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, IsTerminal};

use clap::ValueEnum;
use diary_client::{DayStart, Event, Gap, Level, Levels, Stored};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::{Value, json};

use self::jrnl::Jrnl;
pub(crate) use self::machine::{careful, push_json};
use self::people::{YELLOW, push_row};
use diary_calendar::Calendar;

/// Place of an entry that is in no thread.
const TOP: Level = Level { depth: 0, is_below: false };

/// Local date and time.
const DATE_AND_TIME: &str = "%Y-%m-%d %H:%M";

/// Formats of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Days as headings, times in the reader's zone, long texts wrapped
    Pretty,
    /// As in the day files, one line an entry
    Plain,
    /// One line an entry, for people
    Short,
    /// Markdown
    Md,
    /// Comma-separated values with a header; formulas are kept, see --csv-safe
    Csv,
    /// Plain text with days as headings
    Txt,
    /// One JSON object a line; import reads it back
    Json,
    /// A journal file of jrnl, for jrnl --import
    #[serde(skip_deserializing)]
    Jrnl,
    /// Output of jrnl --format json
    #[serde(skip_deserializing)]
    JrnlJson,
}

impl Format {
    /// Formats of commands that show entries, such as `log`.
    pub(crate) const SHOWN: &[Self] =
        &[Self::Pretty, Self::Plain, Self::Short, Self::Md, Self::Csv, Self::Txt, Self::Json];

    /// Formats of `export`.
    pub(crate) const EXPORTED: &[Self] =
        &[Self::Json, Self::Md, Self::Csv, Self::Txt, Self::Jrnl, Self::JrnlJson];
}

/// Formats the events of a reading.
#[derive(Debug, Clone)]
pub(crate) struct Printer {
    format: Format,
    colour: bool,
    calendar: Calendar,
    /// Columns of the terminal; 0 disables wrapping.
    width: usize,
    /// Whether the output is a terminal, so control characters are escaped.
    pub(crate) terminal: bool,
    /// Whether to defuse formulas in csv.
    pub(crate) csv_safe: bool,
    /// Day of the last heading.
    day: Option<Date>,
    /// Whether nothing was printed yet.
    first: bool,
    /// Notices to print outside the output, where the format has no place for them.
    pub(crate) notices: Vec<String>,
    jrnl: Jrnl,
    /// Set while a thread is printed, whose entries are indented and in no order of days.
    levels: Option<Levels>,
    /// Place of the entry that is being printed.
    level: Level,
}

impl Printer {
    /// Returns a printer for stdout. Without a format, it is pretty on a terminal and plain elsewhere.
    pub(crate) fn stdout(format: Option<Format>, colour: bool, width: usize) -> Self {
        let terminal = io::stdout().is_terminal();
        let format = format.unwrap_or(if terminal { Format::Pretty } else { Format::Plain });
        Self { terminal, ..Self::of(format, colour, TimeZone::system(), width) }
    }

    /// Returns a printer for the plain format.
    pub(crate) fn plain() -> Self {
        Self::of(Format::Plain, false, TimeZone::UTC, 0)
    }

    /// Returns a printer. `width` is in columns; 0 disables wrapping.
    pub(crate) fn of(format: Format, colour: bool, zone: TimeZone, width: usize) -> Self {
        Self {
            format,
            colour,
            jrnl: Jrnl::new(zone.clone()),
            calendar: Calendar::of(zone),
            width,
            terminal: false,
            csv_safe: false,
            day: None,
            first: true,
            notices: Vec::new(),
            levels: None,
            level: TOP,
        }
    }

    /// Sets the server's start of days.
    pub(crate) fn start_days_at(&mut self, day_start: DayStart) {
        self.calendar.start_days_at(day_start);
    }

    /// Sets whether what comes next is a thread.
    pub(crate) fn show_thread(&mut self, is_thread: bool) {
        (self.levels, self.level) = (is_thread.then(Levels::default), TOP);
    }

    /// Sets the width of the terminal.
    pub(crate) fn fit(&mut self, width: usize) {
        self.width = width;
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.format == Format::Plain
    }

    /// Whether to use a pager.
    pub(crate) fn may_be_paged(&self) -> bool {
        self.terminal && matches!(self.format, Format::Pretty | Format::Short | Format::Txt | Format::Md)
    }

    /// Begins an answer: its first entry gets a heading.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        self.day = None;
        self.first = true;
        match self.format {
            Format::Csv => machine::push_record(machine::CSV_FIELDS, out),
            Format::JrnlJson => out.extend_from_slice(b"{\"entries\": ["),
            _ => {}
        }
    }

    /// Appends an event.
    pub(crate) fn event(&mut self, event: &Event, out: &mut Vec<u8>) {
        let before = out.len();
        if self.format == Format::Txt && !self.first {
            out.push(b'\n');
        }
        match event {
            Event::Entry(stored) => self.indented(stored, out),
            Event::Gap(Gap { first, last }) => {
                let sentence = format!("gap {first}..{last}: these entries are damaged or missing");
                self.missing(&sentence, &json!({ "gap": { "first": first, "last": last } }), out);
            }
            Event::Damaged { lines } => {
                let sentence = format!("damaged: {} left out", count(*lines, "line is", "lines are"));
                self.missing(&sentence, &json!({ "damaged": { "lines": lines } }), out);
            }
            // Whoever follows reports it to the user.
            Event::Restored { .. } => {}
        }
        self.first &= out.len() == before;
    }

    /// Ends an answer.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) {
        match self.format {
            Format::Jrnl => self.end_jrnl(),
            Format::JrnlJson => self.end_jrnl_json(out),
            _ => {}
        }
    }

    /// Prints an entry as deep as it is in its thread.
    fn indented(&mut self, stored: &Stored, out: &mut Vec<u8>) {
        let Some(levels) = &mut self.levels else { return self.entry(stored, out) };
        self.level = levels.next(stored.entry.seq, stored.entry.relation);
        if matches!(self.format, Format::Csv | Format::Json | Format::Jrnl | Format::JrnlJson) {
            return self.entry(stored, out);
        }
        let (width, indent) = (self.width, "  ".repeat(self.level.depth));
        self.width = width.saturating_sub(indent.len());
        let mut rows = Vec::new();
        self.entry(stored, &mut rows);
        self.width = width;
        for row in rows.split_inclusive(|&byte| byte == b'\n') {
            out.extend_from_slice(if row == b"\n" { b"" } else { indent.as_bytes() });
            out.extend_from_slice(row);
        }
    }

    fn entry(&mut self, stored: &Stored, out: &mut Vec<u8>) {
        match self.format {
            Format::Pretty => self.pretty(stored, out),
            Format::Short => self.short(stored, out),
            Format::Txt => self.txt(stored, out),
            Format::Md => self.markdown(stored, out),
            Format::Csv => machine::csv(stored, self.terminal, self.csv_safe, out),
            Format::Json => machine::json(stored, out),
            Format::Jrnl => self.jrnl(stored, out),
            Format::JrnlJson => self.jrnl_json(stored, out),
            Format::Plain => {
                out.extend_from_slice(stored.left.as_bytes());
                out.push(b'\n');
            }
        }
    }

    /// Prints missing entries, as a sentence or as JSON.
    fn missing(&mut self, sentence: &str, object: &Value, out: &mut Vec<u8>) {
        match self.format {
            Format::Plain => out.extend_from_slice(format!("{sentence}\n").as_bytes()),
            Format::Json => push_json(object, out),
            Format::Csv | Format::Jrnl | Format::JrnlJson => self.notices.push(sentence.to_owned()),
            Format::Md => out.extend_from_slice(format!("- *{sentence}*\n").as_bytes()),
            Format::Pretty | Format::Short | Format::Txt => push_row(&self.painted(YELLOW, sentence), out),
        }
    }

    /// Formats the reader's clock time of an entry.
    fn time(&self, stored: &Stored, format: &'static str) -> impl fmt::Display {
        self.calendar.clock(&stored.entry).strftime(format)
    }

    /// Formats the time of an entry below the heading of its day; with the date where there are no headings.
    fn clock(&self, stored: &Stored) -> impl fmt::Display {
        self.time(stored, if self.levels.is_some() { DATE_AND_TIME } else { "%H:%M" })
    }

    /// Returns the day of an entry if it needs a heading.
    fn turns_to(&mut self, stored: &Stored) -> Option<Date> {
        if self.levels.is_some() {
            return None;
        }
        let date = self.calendar.day_of(&stored.entry);
        (self.day.replace(date) != Some(date)).then_some(date)
    }
}

/// Formats a count, as in `1 day` and `2 days`.
pub(crate) fn count<N: fmt::Display + PartialEq + From<u8>>(count: N, one: &str, many: &str) -> String {
    let noun = if count == N::from(1) { one } else { many };
    format!("{count} {noun}")
}
