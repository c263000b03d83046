//! Plain logs: every line is an entry. A line of a diary's day file is a complete entry. Any other line may
//! begin with a time (RFC 3339 or ISO 8601, with or without brackets and zone). A line without one has the time
//! of the line above, or the file's day.

use std::borrow::Cow;

use diary_proto::Author;
use diary_proto::Seal;
use diary_proto::entry::{StoredLine, is_note};
use diary_proto::seal::id_in_header;
use jiff::civil::Date;

use super::when::text_behind;
use super::{Clock, Exactness, Harvest, NOT_UTF8, When, lines};

/// Prefix of a day file.
const DAY_FILE: &[u8] = b"# diary 1 ";

pub(super) fn read<'f>(bytes: &'f [u8], day: Option<Date>, clock: &Clock, harvest: &mut Harvest<'f>) {
    match bytes.starts_with(DAY_FILE) {
        true => day_file(bytes, harvest),
        false => any(bytes, day, clock, harvest),
    }
}

fn day_file<'f>(bytes: &'f [u8], harvest: &mut Harvest<'f>) {
    // Day files may be concatenated, each with its header.
    let mut seal = Seal::PLAIN;
    for line in lines::of(bytes).filter(|line| !line.is_blank()) {
        if line.bytes.starts_with(DAY_FILE) {
            // A damaged header may still have the right id: the checksums of the lines tell.
            seal = id_in_header(line.bytes).map_or(seal, Seal::of_journal);
            if Seal::PLAIN.check(line.bytes).is_some() {
                continue;
            }
        }
        if is_note(line.bytes, seal) {
            continue;
        }
        let entry = StoredLine::parse(line.bytes, seal).and_then(|stored| {
            let entry = stored.to_entry()?;
            Ok((entry.own.map_or(entry.time, |own| own.at), entry.author, entry.text))
        });
        match entry {
            Ok((time, author, text)) => {
                let when = When { time, exactness: Exactness::Moment };
                harvest.entry(line.span(), when, Some(author), text.into());
            }
            Err(error) => harvest.trouble(line.number, format!("damaged: {error}")),
        }
    }
}

fn any<'f>(bytes: &'f [u8], day: Option<Date>, clock: &Clock, harvest: &mut Harvest<'f>) {
    // A time format given by the user implies that lines have times.
    let mut above = day.filter(|_| !clock.has_format()).and_then(|day| clock.day(day));
    let (mut has_time, mut lost) = (false, false);
    for line in lines::of(bytes).filter(|line| !line.is_blank()) {
        // A line that is not UTF-8 is left out, but its time counts: the next line may have none.
        let line_text = String::from_utf8_lossy(line.bytes);
        let start = match stamp(&line_text, clock) {
            Some((when, text)) => {
                (above, has_time) = (Some(when), true);
                line_text.len() - text.len()
            }
            None if looks_dated(&line_text, clock) => {
                harvest.trouble(line.number, "starts like a time but is not one; left out");
                (above, lost) = (None, true);
                continue;
            }
            None => 0,
        };
        // Line ends are stripped already; any other CR belongs to the text.
        let Cow::Borrowed(sound) = line_text else {
            harvest.trouble(line.number, NOT_UTF8);
            continue;
        };
        match above {
            Some(when) => {
                harvest.of_day += usize::from(!has_time);
                harvest.entry(line.span(), when, None::<Author>, sound[start..].into());
            }
            None if lost => {
                harvest.trouble(line.number, "no time, and the time of the line above is unreadable");
            }
            None => harvest.trouble(line.number, "no time, here or above"),
        }
    }
}

fn stamp<'t>(line: &'t str, clock: &Clock) -> Option<(When, &'t str)> {
    let (when, rest) = match line.strip_prefix('[') {
        Some(inner) => {
            let whole = inner.split_once(']').and_then(|(time, rest)| Some((clock.whole(time)?, rest)));
            // If the brackets hold more than a time, they stay in the text.
            whole.or_else(|| Some((clock.stamp(inner)?.0, line)))?
        }
        None => clock.stamp(line)?,
    };
    Some((when, text_behind(rest)))
}

fn looks_dated(line: &str, clock: &Clock) -> bool {
    clock.looks_dated(line.strip_prefix('[').unwrap_or(line))
}
