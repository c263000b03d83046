//! Zones as files have them behind a time: `Z`, `+01:00`, ` +0100`, ` UTC`, ` Europe/Berlin`, `+01:00[Europe/Berlin]`.
//!
//! Where a text follows, only what is hardly ever one is taken for a zone: ` -10` may be degrees, ` +2000` steps, and
//! ` Japan` a country.

use std::ops::RangeInclusive;

use jiff::tz::{Offset, TimeZone};

/// Zones without a slash that are known before a text, too.
const NAMES: [&str; 5] = ["Z", "UTC", "GMT", "CET", "EET"];

/// Minutes between UTC and the clocks of the world, in steps of [`OFFSET_STEP_MINUTES`].
const OFFSETS_MINUTES: RangeInclusive<i32> = -12 * 60..=14 * 60;

const OFFSET_STEP_MINUTES: i32 = 15;

/// The zone that `text` begins with, perhaps behind a blank, and what is behind it. `alone` is a zone with no text
/// behind it, as in brackets; `has_seconds` is of the time before it.
pub(super) fn behind(text: &str, alone: bool, has_seconds: bool) -> Option<(TimeZone, &str)> {
    let word = text.strip_prefix(' ');
    let apart = word.is_some();
    let word = word.unwrap_or(text);
    let length = word.find([' ', '\t', '[', ']']).unwrap_or(word.len());
    let (word, rest) = word.split_at(word[..length].trim_end_matches(':').len());
    // Most times have nothing behind them, and the zone data is asked last.
    if word.is_empty() {
        return None;
    }
    // The shorter it is, the more may it be a number that a text begins with.
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

/// `+01:00`, `+0100` or `+01`, of this length at least.
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

/// A zone by the name that it has in the zone data, letter by letter.
fn named(word: &str, alone: bool) -> Option<TimeZone> {
    if !(alone || word.contains('/') || NAMES.contains(&word)) {
        return None;
    }
    if word == "Z" {
        return Some(TimeZone::UTC);
    }
    TimeZone::get(word).ok().filter(|zone| zone.iana_name() == Some(word))
}

/// What is behind the `[Europe/Berlin]` of RFC 9557, if there is one: the offset before it says all.
fn without_name(rest: &str) -> &str {
    let name = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    name.filter(|(name, _)| named(name, true).is_some()).map_or(rest, |(_, rest)| rest)
}
