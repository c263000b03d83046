//! Markdown: a heading for each day, an item for each entry. Texts are escaped, so they look as they were written.

use diary_client::Stored;

use super::safe::{lines, needs_care, push_safe};
use super::{Missing, Printer};

/// Indent of later lines, so that they belong to the item.
const INDENT: &str = "  ";

/// Ends a line within a paragraph.
const LINE_BREAK: &str = "  ";

impl Printer {
    pub(super) fn markdown(&mut self, stored: &Stored, out: &mut Vec<u8>) {
        if let Some(day) = self.turns_to(stored) {
            let above = if self.first { "" } else { "\n" };
            out.extend_from_slice(format!("{above}## {}\n\n", day.strftime("%Y-%m-%d %A")).as_bytes());
        }
        let author = inline(stored.entry.author.as_str());
        let time = self.calendar.clock(&stored.entry);
        let head = format!("- {} **{author}** ", time.strftime("%H:%M"));
        out.extend_from_slice(head.as_bytes());
        let mut rest = lines(&stored.entry.text).enumerate().peekable();
        while let Some((number, line)) = rest.next() {
            let line = if number == 0 { inline(line) } else { paragraph_line(line) };
            let line = line.trim_end();
            let goes_on = !line.is_empty() && rest.peek().is_some_and(|(_, next)| !next.trim().is_empty());
            let indent = if number > 0 && !line.is_empty() { INDENT } else { "" };
            let end = if goes_on { LINE_BREAK } else { "" };
            out.extend_from_slice(format!("{indent}{line}{end}\n").as_bytes());
        }
    }

    /// Missing entries, as an item.
    pub(super) fn missing_in_markdown(&self, missing: &Missing, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("- *{missing}*\n").as_bytes());
    }
}

/// A line that could start a block: what makes it a heading, a list, a quote or code is escaped.
fn paragraph_line(line: &str) -> String {
    let text = line.trim_start_matches([' ', '\t']);
    // Markdown drops leading spaces or makes code of them. It keeps no-break spaces.
    let blanks = line[..line.len() - text.len()].replace('\t', "    ").replace(' ', "\u{a0}");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let text = match text.as_bytes().get(digits) {
        Some(b'.' | b')') if digits > 0 => format!("{}\\{}", &text[..digits], inline(&text[digits..])),
        _ if begins_block(text) => format!("\\{}", inline(text)),
        _ => inline(text),
    };
    blanks + &text
}

/// Whether it starts a heading, an item without a number, a quote or a rule. The rest is left to `inline`.
fn begins_block(text: &str) -> bool {
    let Some(sign) = text.chars().next() else { return false };
    let blank_follows = |rest: &str| rest.is_empty() || rest.starts_with([' ', '\t']);
    match sign {
        '>' => true,
        '+' | '-' => blank_follows(&text[1..]) || text.trim_end().bytes().all(|byte| byte == b'-'),
        '#' => blank_follows(text.trim_start_matches('#')),
        '=' => text.trim_end().bytes().all(|byte| byte == b'='),
        _ => false,
    }
}

/// Text inside a line. Only Markdown gets a backslash.
fn inline(line: &str) -> String {
    let mut out = String::with_capacity(line.len() + 16);
    let mut before = ' ';
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        let behind = rest.as_str();
        let next = behind.chars().next().unwrap_or(' ');
        let special = match c {
            '\\' | '`' | '*' | '[' => true,
            // Inside a word it means nothing.
            '_' => !(before.is_alphanumeric() && next.is_alphanumeric()),
            '~' => before == '~' || next == '~',
            '<' => next.is_ascii_alphabetic() || matches!(next, '/' | '!' | '?'),
            '&' => is_reference(behind),
            _ => false,
        };
        if special || (needs_care(c) && c != '\t') {
            out.push('\\');
        }
        push_safe(c, &mut out);
        before = c;
    }
    out
}

/// Whether `&` before it makes a character reference, such as `&amp;`.
fn is_reference(behind: &str) -> bool {
    let name = behind.strip_prefix('#').unwrap_or(behind);
    let length = name.bytes().take_while(u8::is_ascii_alphanumeric).count();
    length > 0 && name.as_bytes().get(length) == Some(&b';')
}
