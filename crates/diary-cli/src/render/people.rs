//! The formats for people: pretty, short and txt.

use std::io::Write;

use diary_client::Stored;
use diary_proto::escape::escape;
use textwrap::{Options, WordSplitter, WrapAlgorithm};

use super::safe::{lines, safe};
use super::{Format, Printer};

/// Indent of later lines, as wide as `HH:MM `.
const INDENT: &str = "      ";

/// Indent of texts in a txt.
const TXT_INDENT: &str = "    ";

/// Narrower terminals get no wrapping.
const WIDTH_MIN: usize = 12;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const YELLOW: &str = "\x1b[33m";
const RESET: &str = "\x1b[0m";

/// Colours for authors, of the 16 that a user can choose: no black, white or grey, and not the yellow of missing entries.
const AUTHOR_COLOURS: [&str; 11] = [
    "\x1b[31m", "\x1b[32m", "\x1b[34m", "\x1b[35m", "\x1b[36m", "\x1b[91m", "\x1b[92m", "\x1b[93m",
    "\x1b[94m", "\x1b[95m", "\x1b[96m",
];

impl Printer {
    /// A heading for each day, then `HH:MM author text`, wrapped with a hanging indent.
    pub(super) fn pretty(&mut self, stored: &Stored, out: &mut Vec<u8>) {
        if let Some(day) = self.turns_to(stored) {
            let heading = format!("── {} ──", day.strftime("%Y-%m-%d %A"));
            self.push_painted(BOLD, &heading, out);
            out.push(b'\n');
        }
        let time = self.calendar.clock(&stored.entry).strftime("%H:%M").to_string();
        let author = stored.entry.author.as_str();
        let head = format!("{time} {author} ");
        let mut texts = lines(&stored.entry.text);
        let first = format!("{head}{}", safe(texts.next().unwrap_or_default()));
        let mut rows = self.wrap(&first, "").into_iter();
        let row = rows.next().unwrap_or_default();
        match row.strip_prefix(head.trim_end()) {
            Some(rest) => {
                self.push_painted(DIM, &time, out);
                out.push(b' ');
                self.push_painted(colour_of(author), author, out);
                push_row(rest, out);
            }
            // Too narrow: the author was wrapped.
            None => push_row(&row, out),
        }
        rows.for_each(|row| push_row(&row, out));
        for line in texts {
            self.wrap(&safe(line), INDENT).iter().for_each(|row| push_row(row, out));
        }
    }

    /// Local date and time, author and text, in one line.
    pub(super) fn short(&self, stored: &Stored, out: &mut Vec<u8>) {
        let time = self.calendar.clock(&stored.entry).strftime("%Y-%m-%d %H:%M").to_string();
        self.push_painted(DIM, &time, out);
        out.push(b' ');
        let author = stored.entry.author.as_str();
        self.push_painted(colour_of(author), author, out);
        let text = escape(&stored.entry.text);
        push_row(&format!(" {text}"), out);
    }

    /// A heading for each day; time and author, and the text indented below.
    pub(super) fn txt(&mut self, stored: &Stored, out: &mut Vec<u8>) {
        if !self.first {
            out.push(b'\n');
        }
        if let Some(day) = self.turns_to(stored) {
            push_row(&format!("{}\n", day.strftime("%Y-%m-%d %A")), out);
        }
        let time = self.calendar.clock(&stored.entry);
        push_row(&format!("{} {}", time.strftime("%H:%M"), stored.entry.author), out);
        for line in lines(&stored.entry.text) {
            push_row(format!("{TXT_INDENT}{}", safe(line)).trim_end(), out);
        }
    }

    /// Missing entries, in a line of their own.
    pub(super) fn missing_for_people(&self, missing: &str, out: &mut Vec<u8>) {
        if self.format == Format::Txt && !self.first {
            out.push(b'\n');
        }
        self.push_painted(YELLOW, missing, out);
        out.push(b'\n');
    }

    /// A line as rows that fit, with a hanging indent.
    fn wrap(&self, line: &str, indent: &str) -> Vec<String> {
        if self.width < WIDTH_MIN {
            return vec![format!("{indent}{line}")];
        }
        let options = Options::new(self.width)
            .initial_indent(indent)
            .subsequent_indent(INDENT)
            .word_splitter(WordSplitter::NoHyphenation)
            .wrap_algorithm(WrapAlgorithm::FirstFit);
        textwrap::wrap(line, options).into_iter().map(|row| row.into_owned()).collect()
    }

    fn push_painted(&self, colour: &str, what: &str, out: &mut Vec<u8>) {
        let (colour, reset) =
            if self.colour && self.format != Format::Txt { (colour, RESET) } else { ("", "") };
        // Writing into memory cannot fail.
        let _ = write!(out, "{colour}{what}{reset}");
    }
}

fn push_row(row: &str, out: &mut Vec<u8>) {
    // No trailing spaces in an empty row.
    let row = if row.trim_matches(' ').is_empty() { "" } else { row };
    out.extend_from_slice(row.as_bytes());
    out.push(b'\n');
}

/// An author's colour, the same on every computer: by FNV-1a of the name.
fn colour_of(author: &str) -> &'static str {
    let hash =
        author.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    AUTHOR_COLOURS[usize::try_from(hash).unwrap_or_default() % AUTHOR_COLOURS.len()]
}
