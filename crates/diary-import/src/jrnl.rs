//! jrnl's own file: `[2026-11-21 08:15:02 AM] Title`, the body below it, and an empty line before the next entry.
//! A title that ends in ` *` is starred; it stays that way in the text. jrnl 1 wrote no brackets.
//!
//! The format is that of jrnl's documentation, and of what its versions 2 to 4 write: how a time looks is a setting
//! there (`timeformat`), so it may be told.

use std::borrow::Cow;

use super::lines::{self, Line};
use super::{Clock, Harvest, Span, When, shown};

/// Digits of a date in brackets: what has fewer is a footnote or a box to tick.
const DATE_MIN_DIGITS: usize = 6;

/// Bytes of `2015-03-02 08:15`.
const OLD_TIME_LENGTH: usize = 16;

/// What a line is.
enum Head<'t> {
    /// The first of an entry, whose title begins at this byte.
    Entry(When, usize),
    /// It has something like a time in brackets that cannot be read.
    Unreadable(&'t str),
    /// It goes on with the entry above.
    Body,
}

/// Whether jrnl would begin an entry with this line.
pub fn is_header(line: &str, clock: &Clock) -> bool {
    !matches!(head(line, clock), Head::Body)
}

/// Whether a file that begins with this line is of jrnl.
pub(super) fn begins_file(line: &str, clock: &Clock) -> bool {
    match head(line, clock) {
        Head::Entry(..) => true,
        // A log has more in its brackets than a time, or seconds since the machine was started.
        Head::Unreadable(time) => clock.stamp(time).is_none() && time.trim().parse::<f64>().is_err(),
        Head::Body => is_old_header(line, clock),
    }
}

/// Whether jrnl 1 did: to the minute. What has seconds is rather a log.
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
    // A line of a text may begin with a day.
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

/// An entry that has begun.
struct Open {
    line: u64,
    when: When,
    /// Where its title begins in the file.
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
    // A bad byte further on is of the title, and told with the text.
    let sound = line.bytes.utf8_chunks().next().map(|chunk| chunk.valid()).unwrap_or_default();
    if old_too { old_head(sound, clock) } else { head(sound, clock) }
}

/// The entry ends where `before` does.
fn close<'f>(open: Option<Open>, before: &'f [u8], harvest: &mut Harvest<'f>) {
    let Some(Open { line, when, start }) = open else { return };
    let span = Span::of(line, &before[start..]);
    if let Some(text) = harvest.sound(span, &before[start..]) {
        // jrnl drops the blanks between a title and its body as well. Whoever wrote them, in its file or in a diary
        // that was exported, gets them back.
        let text = match text {
            Cow::Borrowed(text) => text.trim().into(),
            Cow::Owned(text) => text.trim().to_owned().into(),
        };
        harvest.entry(span, when, None, text);
    }
}
