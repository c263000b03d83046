//! What other programs wrote, and this one: files become entries.
//!
//! One module a format. Each goes through the bytes of a file and hands every entry, and every line that it could
//! not read, to a [`Harvest`]; `when` reads times, and `compare` finds out which of the entries are in the diary.
//! Texts are borrowed from the files where they can be, so a run takes about as much memory as its files have
//! bytes, and a little for each entry.

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

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One JSON object a line, as this diary's client prints it.
    Json,
    /// jrnl's own file.
    Jrnl,
    /// What jrnl prints as JSON.
    JrnlJson,
    /// A day file of a diary, or any log: every line is an entry.
    Log,
    /// Lines such as `[Sat Nov 21 08:15:02 2026] text`.
    Daily,
    /// What was exported in this format, and cannot be imported.
    Exported(&'static str),
}

impl Kind {
    /// What is said of a file.
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

    /// What the bytes look like. What looks like nothing else is a log.
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

/// A file, or the input.
#[derive(Debug)]
pub struct Source<'f> {
    /// All that it holds.
    pub bytes: &'f [u8],
    /// The day of lines that have no time: that of the file's name, else that of its last change.
    pub day: Option<Date>,
}

impl Source<'_> {
    /// The day that a file is called after: `2026-11-21.log`, `work-20261121.log`, `app.log.2026-11-21`.
    pub fn day_in_name(path: &Path) -> Option<Date> {
        let name = path.file_name()?.to_str()?;
        name.split(|c: char| c != '-' && !c.is_ascii_digit()).find_map(first_day)
    }
}

/// The first day in a run of digits and hyphens.
fn first_day(run: &str) -> Option<Date> {
    let numbers: Vec<&str> = run.split('-').collect();
    let dashed = numbers.windows(3).filter_map(|date| match date {
        [year, month, day] if (year.len(), month.len(), day.len()) == (4, 2, 2) => {
            date.join("-").parse().ok()
        }
        _ => None,
    });
    // Eight digits may be another number, so they are a day of these two centuries only.
    let compact = numbers.iter().filter(|number| number.len() == 8).filter_map(|number| number.parse().ok());
    dashed.chain(compact.filter(|day: &Date| (1900..2100).contains(&day.year()))).next()
}

/// How exactly a file says when something was; entries are compared as exactly, so that a file without a zone or
/// without seconds is known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exactness {
    /// A moment.
    Moment,
    /// A clock on some wall.
    Clock,
    /// The same in whole seconds.
    ClockSecond,
    /// The same without seconds.
    ClockMinute,
}

/// When an entry was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    /// The moment; of a clock without a zone, in the [`Clock`]'s.
    pub time: Time,
    /// How much of it the file says.
    pub exactness: Exactness,
}

/// An entry of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<'f> {
    /// When it was.
    pub when: When,
    /// Who wrote it, where the file says that.
    pub author: Option<Author>,
    /// What was written.
    pub text: Cow<'f, str>,
    /// It is of jrnl, which writes times and blanks in more than one way.
    pub of_jrnl: bool,
    /// Which of the files.
    pub file: usize,
    /// Where it begins there, from 1.
    pub line: u64,
}

/// A line that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Which of the files, in the order in which they were read.
    pub file: usize,
    /// Its number, from 1.
    pub line: u64,
    /// A sentence for whoever has the file.
    pub why: String,
}

/// What was found in all files so far.
#[derive(Debug, Default)]
pub struct Harvest<'f> {
    /// The entries of all files, file by file.
    pub found: Vec<Found<'f>>,
    /// The lines that could not be read.
    pub troubles: Vec<Trouble>,
    /// How many of them are not in an entry either.
    pub not_readable: usize,
    /// Entries that are of their file's day for want of a time.
    pub of_day: usize,
    file: usize,
    /// The file that is being read is jrnl's.
    of_jrnl: bool,
}

impl<'f> Harvest<'f> {
    /// Reads a file, and says as what.
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

    /// The text in the bytes of an entry, with its lines ended in one way.
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

    /// Something is left out.
    fn trouble(&mut self, line: u64, why: impl Into<String>) {
        self.not_readable += 1;
        self.tell(line, why);
    }

    /// Nothing is.
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

/// Characters of a word that is shown in a sentence about it.
const SHOWN_MAX_CHARS: usize = 40;

/// A word of a file, safe for a terminal and not too long.
fn shown(word: &str) -> String {
    let start: String = word.chars().take(SHOWN_MAX_CHARS).collect();
    let more = if start.len() < word.len() { "…" } else { "" };
    format!("{}{more}", escape(&start))
}
