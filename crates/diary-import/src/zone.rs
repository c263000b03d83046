//! Zones as files have them behind a time: `Z`, `+01:00`, ` +0100`, ` UTC`, ` Europe/Berlin`, `+01:00[Europe/Berlin]`.
//!
//! Where a text follows, only what is hardly ever one is taken for a zone: ` -10` may be degrees, and ` Japan` a
//! country.

use jiff::tz::{Offset, TimeZone};

/// Zones without a slash that are known before a text, too.
const NAMES: [&str; 5] = ["Z", "UTC", "GMT", "CET", "EET"];

/// The zone that `text` begins with, perhaps behind a blank, and what is behind it. `alone` is a zone with no text
/// behind it, as in brackets.
pub(super) fn behind(text: &str, alone: bool) -> Option<(TimeZone, &str)> {
    let word = text.strip_prefix(' ');
    let apart = word.is_some();
    let word = word.unwrap_or(text);
    let length = word.find([' ', '\t', '[', ']']).unwrap_or(word.len());
    let (word, rest) = word.split_at(word[..length].trim_end_matches(':').len());
    // Most times have nothing behind them, and the zone data is asked last.
    if word.is_empty() {
        return None;
    }
    let zone = match offset(word, alone || !apart) {
        Some(offset) => TimeZone::fixed(offset),
        None => named(word, alone)?,
    };
    Some((zone, without_name(rest)))
}

/// `+01:00`, `+0100`, and `+01` where hours will do.
fn offset(word: &str, hours_will_do: bool) -> Option<Offset> {
    let (sign, digits) = match word.as_bytes() {
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match *digits {
        [a, b] if hours_will_do => ([a, b], [b'0', b'0']),
        [a, b, c, d] | [a, b, b':', c, d] => ([a, b], [c, d]),
        _ => return None,
    };
    let (hours, minutes) = (number(hours, 24)?, number(minutes, 60)?);
    Offset::from_seconds(sign * (hours * 60 + minutes) * 60).ok()
}

fn number(digits: [u8; 2], below: i32) -> Option<i32> {
    let [tens, ones] = digits.map(|digit| char::from(digit).to_digit(10));
    let number = i32::try_from(tens? * 10 + ones?).ok()?;
    (number < below).then_some(number)
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
