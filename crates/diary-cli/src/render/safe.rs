//! Escapes control characters of texts for a terminal.

use diary_proto::escape::{escape, is_escaped};

/// Replacement of a TAB: tab stops would break indents and widths.
const TAB: &str = "    ";

/// Escapes a line for people, as a day file does. Backslashes stay, since the result is never read back.
pub(super) fn safe(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    line.chars().for_each(|c| push_safe(c, &mut out));
    out
}

/// Appends a character, escaped for people.
pub(super) fn push_safe(c: char, out: &mut String) {
    match c {
        '\t' => out.push_str(TAB),
        c if needs_care(c) => out.push_str(&escape(c.encode_utf8(&mut [0; 4]))),
        c => out.push(c),
    }
}

/// Whether a character must be escaped.
pub(super) fn needs_care(c: char) -> bool {
    c != '\\' && is_escaped(c)
}

/// Returns the lines of a text for people, without CR and without empty lines at the end.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.trim_end_matches(['\n', '\r']).split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line))
}
