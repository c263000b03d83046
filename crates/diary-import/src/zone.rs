//! Zones after a time: `Z`, `+01:00`, ` +0100`, ` UTC`, ` Europe/Berlin`, `+01:00[Europe/Berlin]`.
//!
//! If text follows, only unambiguous forms count as a zone: ` -10` may be degrees, ` +2000` steps, and ` Japan`
//! a country.

use std::ops::RangeInclusive;

use jiff::tz::{Offset, TimeZone};

/// Zones without a slash that are accepted before text.
const NAMES: [&str; 5] = ["Z", "UTC", "GMT", "CET", "EET"];

/// UTC offsets in use, in steps of [`OFFSET_STEP_MINUTES`].
const OFFSETS_MINUTES: RangeInclusive<i32> = -12 * 60..=14 * 60;

const OFFSET_STEP_MINUTES: i32 = 15;

/// Parses the zone at the start of `text`, with or without a blank before it; returns the rest, too. `alone`
/// means that no text follows, as in brackets. `has_seconds` tells whether the time before it has seconds.
pub(super) fn behind(text: &str, alone: bool, has_seconds: bool) -> Option<(TimeZone, &str)> {
    let word = text.strip_prefix(' ');
    let apart = word.is_some();
    let word = word.unwrap_or(text);
    let length = word.find([' ', '\t', '[', ']']).unwrap_or(word.len());
    let (word, rest) = word.split_at(word[..length].trim_end_matches(':').len());
    // Most times have nothing after them, and the zone lookup is the slowest part.
    if word.is_empty() {
        return None;
    }
    // The shorter an offset, the more likely it is a number at the start of a text.
    let shortest = match () {
        () if alone || !apart => "+01",
        () if has_seconds || rest.trim().is_empty() => "+0100",
        () => "+01:00",
    };
    let zone = match offset(word, shortest.len()) {
        Some(offset) => TimeZone::fixed(offset),
        None => named(word, alone)?,
    };
    Some((zone, without_name(rest)))
}

/// Parses `+01:00`, `+0100` or `+01`, if it is at least this long.
fn offset(word: &str, min_length: usize) -> Option<Offset> {
    if word.len() < min_length {
        return None;
    }
    let (sign, digits) = match word.as_bytes() {
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match *digits {
        [a, b] => ([a, b], [b'0', b'0']),
        [a, b, c, d] | [a, b, b':', c, d] => ([a, b], [c, d]),
        _ => return None,
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let ahead = sign * (hours * 60 + minutes);
    let is_one = minutes < 60 && OFFSETS_MINUTES.contains(&ahead) && ahead % OFFSET_STEP_MINUTES == 0;
    is_one.then(|| Offset::from_seconds(ahead * 60).ok())?
}

fn number(digits: [u8; 2]) -> Option<i32> {
    let [tens, ones] = digits.map(|digit| char::from(digit).to_digit(10));
    i32::try_from(tens? * 10 + ones?).ok()
}

/// Looks up a zone by its name, case-sensitive.
fn named(word: &str, alone: bool) -> Option<TimeZone> {
    if !(alone || word.contains('/') || NAMES.contains(&word)) {
        return None;
    }
    if word == "Z" {
        return Some(TimeZone::UTC);
    }
    TimeZone::get(word).ok().filter(|zone| zone.iana_name() == Some(word))
}

/// Skips the `[Europe/Berlin]` of RFC 9557, if present: the offset before it suffices.
fn without_name(rest: &str) -> &str {
    let name = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    name.filter(|(name, _)| named(name, true).is_some()).map_or(rest, |(_, rest)| rest)
}
