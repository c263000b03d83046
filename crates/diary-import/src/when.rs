//! Times in files.

use std::cell::Cell;
use std::str::FromStr;

use diary_proto::Time;
use jiff::civil::{Date, DateTime};
use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::tz::{AmbiguousOffset, TimeZone};

use super::{Exactness, When, zone};

/// Formats that begin with a year: RFC 3339 and ISO 8601, Python's logging, and jrnl's `%F %r`. All but a day
/// may be followed by a zone.
const ISO: [&str; 9] = [
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %I:%M:%S %p",
    "%Y-%m-%d %I:%M %p",
    "%Y-%m-%d %H:%M:%S,%f",
    "%Y-%m-%dT%H:%M:%S,%f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    DAY,
];

const DAY: &str = "%Y-%m-%d";

/// Format of C's asctime.
const ASCTIME: &str = "%a %b %e %H:%M:%S %Y";

/// A time whose numbers all have two digits.
const SAMPLE: DateTime = DateTime::constant(2010, 10, 10, 10, 10, 10, 0);

/// A time format in strptime syntax: `%d.%m.%Y %H:%M`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeFormat(String);

impl FromStr for TimeFormat {
    type Err = &'static str;

    /// # Errors
    /// If the format is invalid, or does not give the day.
    fn from_str(format: &str) -> Result<Self, Self::Err> {
        let zoned = SAMPLE.to_zoned(TimeZone::UTC).map_err(|_| "no time fits it")?;
        let sample = strtime::format(format, &zoned).map_err(|_| "strptime knows no such format")?;
        let clock = Clock::new(TimeZone::UTC, Some(Self(format.to_owned())));
        let fits = clock.whole(&sample).is_some();
        fits.then(|| Self(format.to_owned())).ok_or("a year, a month and a day are needed: '%d.%m.%Y %H:%M'")
    }
}

/// A parser of times.
#[derive(Debug, Clone)]
pub struct Clock {
    /// Zone of times that name none.
    zone: TimeZone,
    /// Time format given by the user, in strptime syntax.
    format: Option<String>,
    /// A formatted sample time, to recognize others by.
    sample: String,
    /// Index of the format that matched last: a file usually has one.
    last: Cell<usize>,
}

impl Clock {
    /// Creates a parser. Times without a zone are in `zone`. Without a `format`, any known one is accepted.
    pub fn new(zone: TimeZone, format: Option<TimeFormat>) -> Self {
        let format = format.map(|TimeFormat(format)| format);
        let sample = strtime::format(format.as_deref().unwrap_or(DAY), SAMPLE).unwrap_or_default();
        Self { zone, format, sample, last: Cell::new(0) }
    }

    /// Returns the name of the default zone.
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("this machine's zone")
    }

    /// Returns whether the user gave a time format.
    pub(super) fn has_format(&self) -> bool {
        self.format.is_some()
    }

    /// Parses the time at the start of `text`; returns the rest, too.
    pub(super) fn stamp<'t>(&self, text: &'t str) -> Option<(When, &'t str)> {
        self.find(text, false)
    }

    /// Parses `text` as a time.
    pub(super) fn whole(&self, text: &str) -> Option<When> {
        self.find(text, true).map(|(when, _)| when)
    }

    /// Returns whether `text` begins like a time, even an invalid one such as the 30th of February.
    pub(super) fn looks_dated(&self, text: &str) -> bool {
        let alike = |(of_sample, byte): (u8, u8)| match of_sample {
            b'0'..=b'9' => byte.is_ascii_digit(),
            b'a'..=b'z' | b'A'..=b'Z' => byte.is_ascii_alphabetic(),
            _ => byte == of_sample,
        };
        let length = self.sample.len();
        let ends = match text.as_bytes().get(length..) {
            Some([] | [b' ' | b'\t' | b']', ..]) => true,
            Some([b'T', digit, ..]) => self.format.is_none() && digit.is_ascii_digit(),
            _ => false,
        };
        length > 0 && ends && self.sample.bytes().zip(text.bytes()).all(alike)
    }

    /// Parses the asctime at the start of `text`; returns the rest, too.
    pub(super) fn asctime<'t>(&self, text: &'t str) -> Option<(When, &'t str)> {
        if !text.starts_with(|c: char| c.is_ascii_uppercase()) {
            return None;
        }
        self.prefix(ASCTIME, text, false)
    }

    fn find<'t>(&self, text: &'t str, whole: bool) -> Option<(When, &'t str)> {
        let attempt =
            |format: &str| self.prefix(format, text, whole).filter(|(_, rest)| !whole || rest.is_empty());
        if let Some(format) = &self.format {
            return attempt(format);
        }
        // Most lines have no time; skip the nine attempts.
        let begins_with_year = text.len() >= 10
            && text.as_bytes()[..4].iter().all(u8::is_ascii_digit)
            && text.as_bytes()[4] == b'-';
        if !begins_with_year {
            return None;
        }
        let last = self.last.get();
        std::iter::once(last).chain((0..ISO.len()).filter(|&other| other != last)).find_map(|at| {
            let stamp = attempt(ISO[at])?;
            // A day would match the next line as well, whatever its hour.
            if ISO[at] != DAY {
                self.last.set(at);
            }
            Some(stamp)
        })
    }

    fn prefix<'t>(&self, format: &str, text: &'t str, alone: bool) -> Option<(When, &'t str)> {
        let (parts, length) = BrokenDownTime::parse_prefix(format, text).ok()?;
        let rest = text.get(length..)?;
        let (zone, rest) = match parts.offset() {
            Some(offset) => (Some(TimeZone::fixed(offset)), rest),
            None if format.ends_with('Z') => (Some(TimeZone::UTC), rest),
            None if may_have_zone(format, &parts, rest) => {
                zone::behind(rest, alone, parts.second().is_some())
                    .filter(|(_, rest)| is_end(rest))
                    .map_or((None, rest), |(zone, rest)| (Some(zone), rest))
            }
            None => (None, rest),
        };
        if !is_end(rest) || (self.format.is_none() && says_more(&parts, rest)) {
            return None;
        }
        let civil = match parts.to_datetime() {
            Ok(civil) => civil,
            // A day without a time of day stands for its first moment.
            Err(_) if parts.hour().is_none() => parts.to_date().ok()?.into(),
            Err(_) => return None,
        };
        let when = match zone {
            Some(zone) => When { time: time_in(&zone, civil)?, exactness: Exactness::Moment },
            None => self.civil(civil, parts.second().is_some())?,
        };
        Some((when, rest))
    }

    /// Returns a time in the default zone.
    pub(super) fn civil(&self, civil: DateTime, has_seconds: bool) -> Option<When> {
        let exactness = match has_seconds {
            false => Exactness::ClockMinute,
            true if civil.subsec_nanosecond() == 0 => Exactness::ClockSecond,
            true => Exactness::Clock,
        };
        Some(When { time: time_in(&self.zone, civil)?, exactness })
    }

    /// Returns the first moment of a day.
    pub(super) fn day(&self, day: Date) -> Option<When> {
        self.civil(day.into(), false)
    }
}

/// Returns the text after a time, without the blank, or the colon and blank, between them.
pub(super) fn text_behind(rest: &str) -> &str {
    let rest = rest.strip_prefix(':').filter(|rest| is_end(rest)).unwrap_or(rest);
    rest.strip_prefix([' ', '\t']).unwrap_or(rest)
}

/// Returns whether a time may end before `rest`.
fn is_end(rest: &str) -> bool {
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    rest.is_empty() || rest.starts_with([' ', '\t', ']'])
}

/// Returns whether a zone may follow: not after a day, and in `10:30-11:00` the rest is the end of a time span.
fn may_have_zone(format: &str, parts: &BrokenDownTime, rest: &str) -> bool {
    let is_span = rest.starts_with('-') && parts.second().is_none() && !format.contains('T');
    parts.hour().is_some() && !is_span
}

/// Returns whether `rest` continues the time: AM or PM after an hour up to 12, or an invalid time of day after
/// a day.
fn says_more(parts: &BrokenDownTime, rest: &str) -> bool {
    let word = rest.trim_start().split([' ', '\t', ']']).next().unwrap_or_default();
    match parts.hour() {
        Some(1..=12) if parts.meridiem().is_none() => {
            ["am", "pm"].iter().any(|half| word.eq_ignore_ascii_case(half))
        }
        Some(_) => false,
        None => {
            let mut numbers = word.split(':').map(str::parse::<u32>);
            let mut is_over = |most: u32| numbers.next().map(|number| number.map(|number| number > most));
            match (is_over(23), is_over(59), is_over(59)) {
                (Some(Ok(hour)), Some(Ok(minute)), None) => hour || minute,
                (Some(Ok(hour)), Some(Ok(minute)), Some(Ok(second))) => hour || minute || second,
                _ => false,
            }
        }
    }
}

/// Converts a local time. Of an ambiguous time the first is taken; one skipped by the clocks keeps its local
/// time.
fn time_in(zone: &TimeZone, civil: DateTime) -> Option<Time> {
    let offset = match zone.to_ambiguous_timestamp(civil).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset,
        AmbiguousOffset::Gap { before, .. } | AmbiguousOffset::Fold { before, .. } => before,
    };
    Time::of_clock(civil, offset)
}
