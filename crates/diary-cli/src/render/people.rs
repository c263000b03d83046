//! The formats for people: pretty, short and txt.

use std::borrow::Cow;
use std::fmt::Display;

use diary_client::{Stored, Time};
use diary_proto::Relation;
use diary_proto::escape::escape;
use textwrap::{Options, WordSplitter, WrapAlgorithm};

use super::safe::{lines, safe};
use super::{DATE_AND_TIME, Format, Printer};

/// Indent of continuation lines, as wide as `HH:MM `.
const INDENT: &str = "      ";

/// Indent of texts in txt.
const TXT_INDENT: &str = "    ";

/// Narrower terminals disable wrapping.
const WIDTH_MIN: usize = 12;

const BOLD: u8 = 1;
const DIM: u8 = 2;
pub(super) const YELLOW: u8 = 33;

/// Colours of authors, from the 16 that terminals let users choose. Without black, white and grey, and without the
/// yellow of missing entries.
const AUTHOR_COLOURS: [u8; 11] = [31, 32, 34, 35, 36, 91, 92, 93, 94, 95, 96];

impl Printer {
    /// Returns the text, behind marks that say what the entry is to an earlier one, unless its place says so, and when it
    /// was corrected.
    pub(super) fn marked_text<'a>(&self, stored: &'a Stored) -> Cow<'a, str> {
        let relation = match stored.entry.relation {
            Some(Relation::Answers(_)) if self.level.is_below => None,
            Some(Relation::Answers(seq)) => Some(format!("↳ {seq} ")),
            relation => relation.map(|relation| format!("({relation}) ")),
        };
        let corrected = stored.correction.as_ref().map(|correction| corrected(correction.time));
        let text = &stored.entry.text;
        match (relation, corrected) {
            (None, None) => Cow::Borrowed(text),
            (relation, corrected) => Cow::Owned(
                [relation.unwrap_or_default(), corrected.unwrap_or_default(), text.clone()].concat(),
            ),
        }
    }

    /// Prints a heading per day, then `HH:MM #N author text`, wrapped with a hanging indent.
    pub(super) fn pretty(&mut self, stored: &Stored, out: &mut Vec<u8>) {
        if let Some(day) = self.turns_to(stored) {
            push_row(&self.painted(BOLD, day.strftime("── %Y-%m-%d %A ──")), out);
        }
        let head = format!("{} {} ", self.when(stored, self.clock(stored)), self.author(stored));
        for (number, line) in lines(&self.marked_text(stored)).enumerate() {
            let (head, indent) = if number == 0 { (head.as_str(), "") } else { ("", INDENT) };
            self.push_wrapped(&format!("{head}{}", safe(line)), indent, out);
        }
    }

    /// Prints local date and time, number, author and text on one line.
    pub(super) fn short(&self, stored: &Stored, out: &mut Vec<u8>) {
        let (when, author) = (self.when(stored, self.time(stored, DATE_AND_TIME)), self.author(stored));
        push_row(&format!("{when} {author} {}", escape(&self.marked_text(stored))), out);
    }

    /// Formats the time and the number, by which other entries can name it.
    fn when(&self, stored: &Stored, time: impl Display) -> String {
        self.painted(DIM, format_args!("{time} #{}", stored.entry.seq))
    }

    /// Prints a heading per day, then time and author, with the text indented below.
    pub(super) fn txt(&mut self, stored: &Stored, out: &mut Vec<u8>) {
        if let Some(day) = self.turns_to(stored) {
            push_row(&format!("{}\n", day.strftime("%Y-%m-%d %A")), out);
        }
        push_row(&format!("{} {}", self.clock(stored), stored.entry.author), out);
        for line in lines(&self.marked_text(stored)) {
            push_row(&format!("{TXT_INDENT}{}", safe(line)), out);
        }
    }

    /// Wraps a line, with a hanging indent.
    fn push_wrapped(&self, line: &str, indent: &str, out: &mut Vec<u8>) {
        let options = Options::new(if self.width < WIDTH_MIN { usize::MAX } else { self.width })
            .initial_indent(indent)
            .subsequent_indent(INDENT)
            .word_splitter(WordSplitter::NoHyphenation)
            .wrap_algorithm(WrapAlgorithm::FirstFit);
        textwrap::wrap(line, options).iter().for_each(|row| push_row(row, out));
    }

    fn author(&self, stored: &Stored) -> String {
        let author = stored.entry.author.as_str();
        self.painted(colour_of(author), author)
    }

    pub(super) fn painted(&self, colour: u8, what: impl Display) -> String {
        match self.colour && self.format != Format::Txt {
            true => format!("\x1b[{colour}m{what}\x1b[0m"),
            false => what.to_string(),
        }
    }
}

fn corrected(time: Time) -> String {
    format!("(corrected {}) ", time.date())
}

pub(super) fn push_row(row: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(row.trim_end_matches(' ').as_bytes());
    out.push(b'\n');
}

/// Returns an author's colour, from the FNV-1a hash of the name, so that it is the same on every computer.
fn colour_of(author: &str) -> u8 {
    let hash =
        author.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    AUTHOR_COLOURS[usize::try_from(hash).unwrap_or_default() % AUTHOR_COLOURS.len()]
}
