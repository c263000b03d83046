//! Importers: turn the files of this and other programs into entries.
//!
//! One module per format. Each reads the bytes of a file and adds every entry, and every line it cannot read,
//! to a [`Harvest`]. `when` parses times, and `compare` finds the entries that are already in the diary. Texts
//! are borrowed from the files where possible, so a run takes about as much memory as its files, plus a little
//! per entry.

mod compare;
mod daily;
mod exported;
mod jrnl;
mod jrnl_json;
mod lines;
mod log;
mod own_json;
#[cfg(test)]
mod tests;
mod when;
mod zone;

use std::borrow::Cow;
use std::path::Path;

use diary_proto::entry::check_text;
use diary_proto::escape::escape;
use diary_proto::{Author, Time};
use jiff::civil::Date;

pub use self::compare::Compared;
pub use self::jrnl::is_header;
use self::lines::{Span, feeds};
pub use self::when::{Clock, TimeFormat};

/// Format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One JSON object per line, as this diary's client prints it.
    Json,
    /// A jrnl journal file.
    Jrnl,
    /// JSON output of jrnl.
    JrnlJson,
    /// A day file of a diary, or any log: every line is an entry.
    Log,
    /// Lines such as `[Sat Nov 21 08:15:02 2026] text`.
    Daily,
    /// An export in this format, which cannot be imported.
    Exported(&'static str),
}

impl Kind {
    /// Returns the format's name, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Jrnl => "jrnl",
            Self::JrnlJson => "jrnl-json",
            Self::Log => "log",
            Self::Daily => "daily",
            Self::Exported(format) => format,
        }
    }

    /// Detects the format of a file. The fallback is a log.
    pub fn detect(bytes: &[u8], clock: &Clock) -> Self {
        let first = lines::of(bytes).find(|line| !line.is_blank()).map(|line| line.bytes).unwrap_or_default();
        if bytes.trim_ascii_start().starts_with(b"{") {
            return if own_json::is_own(first) { Self::Json } else { Self::JrnlJson };
        }
        if let Some(format) = exported::format_of(bytes) {
            return Self::Exported(format);
        }
        let first = String::from_utf8_lossy(first);
        match () {
            () if daily::stamp(&first, clock).is_some() => Self::Daily,
            () if jrnl::begins_file(&first, clock) => Self::Jrnl,
            () => Self::Log,
        }
    }
}

/// A file or standard input.
#[derive(Debug)]
pub struct Source<'f> {
    /// Its content.
    pub bytes: &'f [u8],
    /// Day of lines without a time: from the file's name, else of its last change.
    pub day: Option<Date>,
}

impl Source<'_> {
    /// Returns the day in a file name: `2026-11-21.log`, `work-20261121.log`, `app.log.2026-11-21`.
    pub fn day_in_name(path: &Path) -> Option<Date> {
        let name = path.file_name()?.to_str()?;
        name.split(|c: char| c != '-' && !c.is_ascii_digit()).find_map(first_day)
    }
}

/// Returns the first day in a run of digits and hyphens.
fn first_day(run: &str) -> Option<Date> {
    let numbers: Vec<&str> = run.split('-').collect();
    let dashed = numbers.windows(3).filter_map(|date| match date {
        [year, month, day] if (year.len(), month.len(), day.len()) == (4, 2, 2) => {
            date.join("-").parse().ok()
        }
        _ => None,
    });
    // Eight digits may be another number, so only years 1900 to 2099 count.
    let compact = numbers.iter().filter(|number| number.len() == 8).filter_map(|number| number.parse().ok());
    dashed.chain(compact.filter(|day: &Date| (1900..2100).contains(&day.year()))).next()
}

/// Precision of a time in a file. Entries are compared at this precision, so that those of a file without a
/// zone or seconds are recognized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exactness {
    /// A point in time.
    Moment,
    /// A local time without a zone.
    Clock,
    /// A local time in whole seconds.
    ClockSecond,
    /// A local time without seconds.
    ClockMinute,
}

/// Time of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    /// The time; if it has no zone, in the [`Clock`]'s.
    pub time: Time,
    /// Precision with which the file gives it.
    pub exactness: Exactness,
}

/// An entry of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<'f> {
    /// Time of the entry.
    pub when: When,
    /// Author, if the file names one.
    pub author: Option<Author>,
    /// Text of the entry.
    pub text: Cow<'f, str>,
    /// Whether it comes from jrnl, which writes times and blanks in more than one way.
    pub of_jrnl: bool,
    /// Index of the file.
    pub file: usize,
    /// Line on which it begins, from 1.
    pub line: u64,
}

/// A line that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Index of the file, in reading order.
    pub file: usize,
    /// Line number, from 1.
    pub line: u64,
    /// Reason, as a sentence for the user.
    pub why: String,
}

/// The result of all files read so far.
#[derive(Debug, Default)]
pub struct Harvest<'f> {
    /// Entries of all files, file by file.
    pub found: Vec<Found<'f>>,
    /// Lines that could not be read.
    pub troubles: Vec<Trouble>,
    /// Number of those that are not part of an entry either.
    pub not_readable: usize,
    /// Entries dated to their file's day because they have no time.
    pub of_day: usize,
    file: usize,
    /// Whether the file being read comes from jrnl.
    of_jrnl: bool,
}

impl<'f> Harvest<'f> {
    /// Reads a file and returns its format.
    pub fn read(&mut self, source: &Source<'f>, kind: Option<Kind>, clock: &Clock) -> Kind {
        let bytes = source.bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(source.bytes);
        let kind = kind.unwrap_or_else(|| Kind::detect(bytes, clock));
        self.of_jrnl = matches!(kind, Kind::Jrnl | Kind::JrnlJson);
        match kind {
            Kind::Json => own_json::read(bytes, clock, self),
            Kind::Jrnl => jrnl::read(bytes, clock, self),
            Kind::JrnlJson => jrnl_json::read(bytes, clock, self),
            Kind::Log => log::read(bytes, source.day, clock, self),
            Kind::Daily => daily::read(bytes, clock, self),
            Kind::Exported(format) => self.trouble(1, not_importable(format)),
        }
        self.file += 1;
        kind
    }

    fn entry(&mut self, span: Span, when: When, author: Option<Author>, text: Cow<'f, str>) {
        match check_text(&text) {
            Ok(()) => {
                let (&mut Self { file, of_jrnl, .. }, line) = (&mut *self, span.first);
                self.found.push(Found { when, author, text, of_jrnl, file, line });
            }
            Err(refusal) => self.trouble(span.first, span.left_out(refusal.message)),
        }
    }

    /// Decodes the text of an entry and normalizes its line ends.
    fn sound(&mut self, span: Span, bytes: &'f [u8]) -> Option<Cow<'f, str>> {
        match std::str::from_utf8(bytes) {
            Ok(text) if text.contains('\r') => Some(text.replace("\r\n", "\n").into()),
            Ok(text) => Some(text.into()),
            Err(error) => {
                let above = feeds(&bytes[..error.valid_up_to()]);
                self.trouble(span.first + above, span.left_out(NOT_UTF8));
                None
            }
        }
    }

    /// Records a line that is left out.
    fn trouble(&mut self, line: u64, why: impl Into<String>) {
        self.not_readable += 1;
        self.tell(line, why);
    }

    /// Records a problem with a line that is kept.
    fn tell(&mut self, line: u64, why: impl Into<String>) {
        self.troubles.push(Trouble { file: self.file, line, why: why.into() });
    }
}

const NOT_UTF8: &str = "not UTF-8; convert the file, for example with iconv";

fn not_importable(format: &str) -> String {
    format!(
        "exports in {format} cannot be imported; use export --format json, or take the lines as they are with \
         --format log"
    )
}

/// Most characters of a quoted word.
const SHOWN_MAX_CHARS: usize = 40;

/// Quotes a word of a file, safe for a terminal and not too long.
fn shown(word: &str) -> String {
    let start: String = word.chars().take(SHOWN_MAX_CHARS).collect();
    let more = if start.len() < word.len() { "…" } else { "" };
    format!("{}{more}", escape(&start))
}
