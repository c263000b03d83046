//! Markdown: a heading per day, an item per entry. Texts are escaped, so they look as they were written.

use diary_client::Stored;

use super::Printer;
use super::safe::{lines, needs_care, push_safe};

/// Indent of continuation lines, so that they belong to the item.
const INDENT: &str = "  ";

/// Line break within a paragraph.
const LINE_BREAK: &str = "  ";

impl Printer {
    pub(super) fn markdown(&mut self, stored: &Stored, out: &mut Vec<u8>) {
        if let Some(day) = self.turns_to(stored) {
            let above = if self.first { "" } else { "\n" };
            out.extend_from_slice(format!("{above}## {}\n\n", day.strftime("%Y-%m-%d %A")).as_bytes());
        }
        let (time, author) = (self.clock(stored), inline(stored.entry.author.as_str()));
        out.extend_from_slice(format!("- {time} **{author}** ").as_bytes());
        let text = self.marked_text(stored);
        let mut rest = lines(&text).enumerate().peekable();
        while let Some((number, line)) = rest.next() {
            let line = if number == 0 { inline(line) } else { paragraph_line(line) };
            let line = line.trim_end();
            let goes_on = !line.is_empty() && rest.peek().is_some_and(|(_, next)| !next.trim().is_empty());
            let indent = if number > 0 && !line.is_empty() { INDENT } else { "" };
            let end = if goes_on { LINE_BREAK } else { "" };
            out.extend_from_slice(format!("{indent}{line}{end}\n").as_bytes());
        }
    }
}

/// Escapes a continuation line, including a sign that would make it a heading, an item, a quote or a rule.
fn paragraph_line(line: &str) -> String {
    let text = line.trim_start_matches([' ', '\t']);
    // Markdown drops leading spaces or turns them into code. It keeps no-break spaces.
    let blanks = line[..line.len() - text.len()].replace('\t', "    ").replace(' ', "\u{a0}");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    let signs: &[char] = if number.is_empty() { &['>', '+', '-', '#', '='] } else { &['.', ')'] };
    let escape = if rest.starts_with(signs) { "\\" } else { "" };
    format!("{blanks}{number}{escape}{}", inline(rest))
}

/// Escapes text within a line. Only Markdown's characters get a backslash.
fn inline(line: &str) -> String {
    let mut out = String::with_capacity(line.len() + 16);
    let mut before = ' ';
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        // An underscore within a word has no meaning.
        let joins =
            c == '_' && before.is_alphanumeric() && rest.peek().is_some_and(|next| next.is_alphanumeric());
        if ("\\`*_[~<&".contains(c) && !joins) || (needs_care(c) && c != '\t') {
            out.push('\\');
        }
        push_safe(c, &mut out);
        before = c;
    }
    out
}
