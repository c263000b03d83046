//! Journal files of jrnl: `[2026-11-21 08:15:02 AM] Title`, the body below it, and an empty line before the
//! next entry. A title that ends in ` *` is starred; the star stays in the text. jrnl 1 wrote no brackets.
//!
//! The format follows jrnl's documentation and the output of versions 2 to 4. The time format is a setting
//! there (`timeformat`), so the user may give it.

use std::borrow::Cow;

use super::lines::{self, Line};
use super::{Clock, Harvest, Span, When, shown};

/// Fewest digits of a date in brackets: anything with fewer is a footnote or a checkbox.
const DATE_MIN_DIGITS: usize = 6;

/// Length of `2015-03-02 08:15`.
const OLD_TIME_LENGTH: usize = 16;

/// Role of a line.
enum Head<'t> {
    /// First line of an entry, with the offset of its title.
    Entry(When, usize),
    /// Has an unreadable time in brackets.
    Unreadable(&'t str),
    /// Continues the entry above.
    Body,
}

/// Returns whether jrnl would begin an entry with this line.
pub fn is_header(line: &str, clock: &Clock) -> bool {
    !matches!(head(line, clock), Head::Body)
}

/// Returns whether a file that begins with this line is jrnl's.
pub(super) fn begins_file(line: &str, clock: &Clock) -> bool {
    match head(line, clock) {
        Head::Entry(..) => true,
        // A log has more than a time in its brackets, or the seconds since boot.
        Head::Unreadable(time) => clock.stamp(time).is_none() && time.trim().parse::<f64>().is_err(),
        Head::Body => is_old_header(line, clock),
    }
}

/// Returns whether jrnl 1 would: its times have no seconds. With seconds it is more likely a log.
fn is_old_header(line: &str, clock: &Clock) -> bool {
    matches!(old_head(line, clock), Head::Entry(..))
}

fn head<'t>(line: &'t str, clock: &Clock) -> Head<'t> {
    let Some((time, rest)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
        return Head::Body;
    };
    if !(rest.is_empty() || rest.starts_with(' ')) {
        return Head::Body;
    }
    match clock.whole(time) {
        Some(when) => Head::Entry(when, line.len() - rest.len()),
        None if time.bytes().filter(u8::is_ascii_digit).count() >= DATE_MIN_DIGITS => Head::Unreadable(time),
        None => Head::Body,
    }
}

fn old_head<'t>(line: &'t str, clock: &Clock) -> Head<'t> {
    // A line of text may begin with a day.
    let minute = match line.as_bytes().get(10..OLD_TIME_LENGTH) {
        Some([b' ', a, b, b':', c, d]) => [a, b, c, d].iter().all(|digit| digit.is_ascii_digit()),
        _ => false,
    };
    if !minute || !matches!(line.as_bytes().get(OLD_TIME_LENGTH), None | Some(b' ')) {
        return Head::Body;
    }
    match clock.stamp(line) {
        Some((when, rest)) => Head::Entry(when, line.len() - rest.len()),
        None if clock.looks_dated(line) => Head::Unreadable(&line[..OLD_TIME_LENGTH]),
        None => Head::Body,
    }
}

/// The current entry.
struct Open {
    line: u64,
    when: When,
    /// Offset of its title in the file.
    start: usize,
}

pub(super) fn read<'f>(bytes: &'f [u8], clock: &Clock, harvest: &mut Harvest<'f>) {
    let first = lines::of(bytes).find(|line| !line.is_blank());
    let old = first.is_some_and(|line| is_old_header(&String::from_utf8_lossy(line.bytes), clock));
    let mut open: Option<Open> = None;
    let mut lost = false;
    for line in lines::of(bytes) {
        match head_of(&line, old, clock) {
            Head::Entry(when, title) => {
                close(open.take(), &bytes[..line.start], harvest);
                open = Some(Open { line: line.number, when, start: line.start + title });
            }
            Head::Unreadable(time) => {
                close(open.take(), &bytes[..line.start], harvest);
                harvest.trouble(line.number, no_time(time));
                lost = true;
            }
            Head::Body if open.is_none() && !line.is_blank() => {
                let why = if lost { "belongs to an unreadable entry above" } else { "no entry above it" };
                harvest.trouble(line.number, why);
            }
            Head::Body => {}
        }
    }
    close(open, bytes, harvest);
}

fn no_time(said: &str) -> String {
    format!("[{}] is not a known time; give its format with --time-format", shown(said))
}

fn head_of<'f>(line: &Line<'f>, old: bool, clock: &Clock) -> Head<'f> {
    let old_too = old && line.bytes.first().is_some_and(u8::is_ascii_digit);
    if !old_too && line.bytes.first() != Some(&b'[') {
        return Head::Body;
    }
    // Invalid UTF-8 further on is in the title, and reported with the text.
    let sound = line.bytes.utf8_chunks().next().map(|chunk| chunk.valid()).unwrap_or_default();
    if old_too { old_head(sound, clock) } else { head(sound, clock) }
}

/// Ends the entry where `before` ends.
fn close<'f>(open: Option<Open>, before: &'f [u8], harvest: &mut Harvest<'f>) {
    let Some(Open { line, when, start }) = open else { return };
    let span = Span::of(line, &before[start..]);
    if let Some(text) = harvest.sound(span, &before[start..]) {
        // jrnl also drops the blanks between a title and its body. Keep them: they were written in its file, or
        // in a diary that was exported.
        let text = match text {
            Cow::Borrowed(text) => text.trim().into(),
            Cow::Owned(text) => text.trim().to_owned().into(),
        };
        harvest.entry(span, when, None, text);
    }
}
