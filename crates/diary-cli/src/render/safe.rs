//! Texts of entries on a terminal: whatever they hold, it stays text.

use std::borrow::Cow;

use diary_proto::escape::{escape, is_escaped};

/// What a TAB is shown as: a terminal's own tab stops would break indents and widths.
const TAB: &str = "    ";

/// A line of a text for people: what a terminal could obey is escaped as in a day file. A backslash stays
/// one, since nobody reads this back.
pub(super) fn safe(line: &str) -> Cow<'_, str> {
    if !line.contains(needs_care) {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len() + 16);
    for c in line.chars() {
        push_safe(c, &mut out);
    }
    Cow::Owned(out)
}

/// Appends a character for people.
pub(super) fn push_safe(c: char, out: &mut String) {
    match c {
        '\t' => out.push_str(TAB),
        c if needs_care(c) => out.push_str(&escape(c.encode_utf8(&mut [0; 4]))),
        c => out.push(c),
    }
}

/// Whether it cannot be shown as it is.
pub(super) fn needs_care(c: char) -> bool {
    c != '\\' && is_escaped(c)
}

/// The lines of a text for people. A line that was pasted with CR LF ends as any other, and what follows the
/// last one that has something is left out.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.trim_end_matches(['\n', '\r']).split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line))
}
