//! Lines such as `[Sat Nov 21 08:15:02 2026] text`, with or without brackets; the time is that of C's and
//! Python's asctime. A line without a time continues the entry above, since these files hold a text with a line
//! break as two lines.

use super::when::text_behind;
use super::{Clock, Harvest, Span, When, lines};

struct Open {
    line: u64,
    when: When,
    start: usize,
}

/// Parses the time at the start of a line; returns the rest, too.
pub(super) fn stamp<'t>(line: &'t str, clock: &Clock) -> Option<(When, &'t str)> {
    let (when, rest) = match line.strip_prefix('[') {
        Some(inner) => {
            let (when, rest) = clock.asctime(inner)?;
            (when, rest.strip_prefix(']')?)
        }
        None => clock.asctime(line)?,
    };
    Some((when, text_behind(rest)))
}

pub(super) fn read<'f>(bytes: &'f [u8], clock: &Clock, harvest: &mut Harvest<'f>) {
    let mut open: Option<Open> = None;
    for line in lines::of(bytes) {
        let sound = line.bytes.utf8_chunks().next().map(|chunk| chunk.valid()).unwrap_or_default();
        match stamp(sound, clock) {
            Some((when, rest)) => {
                close(open.take(), &bytes[..line.start], harvest);
                let start = line.start + sound.len() - rest.len();
                open = Some(Open { line: line.number, when, start });
            }
            None if open.is_none() && !line.is_blank() => {
                harvest.trouble(
                    line.number,
                    "no time such as [Sat Nov 21 08:15:02 2026], and no entry above it",
                );
            }
            None if looks_dated(sound) => harvest
                .tell(line.number, "starts like a time but is not one; kept as a line of the entry above"),
            None => {}
        }
    }
    close(open, bytes, harvest);
}

/// Returns whether a line has the form of a time: brackets with a colon, ending in a year.
fn looks_dated(line: &str) -> bool {
    let inner = line.strip_prefix('[').and_then(|line| line.split_once(']'));
    inner.is_some_and(|(inner, _)| {
        let year = inner.split_whitespace().next_back().unwrap_or_default();
        inner.contains(':') && year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit())
    })
}

fn close<'f>(open: Option<Open>, before: &'f [u8], harvest: &mut Harvest<'f>) {
    let Some(Open { line, when, start }) = open else { return };
    let bytes = before[start..].trim_ascii_end();
    let span = Span::of(line, bytes);
    if let Some(text) = harvest.sound(span, bytes) {
        harvest.entry(span, when, None, text);
    }
}
