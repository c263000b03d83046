//! Times as files have them.

use std::cell::Cell;
use std::str::FromStr;

use diary_proto::Time;
use jiff::civil::{Date, DateTime};
use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::tz::{AmbiguousOffset, TimeZone};

use super::{Exactness, When, zone};

/// How times are written that begin with a year: RFC 3339 and ISO 8601, Python's logging, and jrnl's `%F %r`. A zone
/// may be behind each but a day.
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

/// C's asctime.
const ASCTIME: &str = "%a %b %e %H:%M:%S %Y";

/// A time whose numbers all have two digits.
const SAMPLE: DateTime = DateTime::constant(2010, 10, 10, 10, 10, 10, 0);

/// How times are written, as strptime has it: `%d.%m.%Y %H:%M`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeFormat(String);

impl FromStr for TimeFormat {
    type Err = &'static str;

    /// # Errors
    /// It is no format, or leaves the day open.
    fn from_str(format: &str) -> Result<Self, Self::Err> {
        let zoned = SAMPLE.to_zoned(TimeZone::UTC).map_err(|_| "no time fits it")?;
        let sample = strtime::format(format, &zoned).map_err(|_| "strptime knows no such format")?;
        let clock = Clock::new(TimeZone::UTC, Some(Self(format.to_owned())));
        let fits = clock.whole(&sample).is_some();
        fits.then(|| Self(format.to_owned())).ok_or("a year, a month and a day are needed: '%d.%m.%Y %H:%M'")
    }
}

/// Reads times.
#[derive(Debug, Clone)]
pub struct Clock {
    /// The zone of times that name none.
    zone: TimeZone,
    /// How the user says that times are written, as strptime has it.
    format: Option<String>,
    /// What a time looks like.
    sample: String,
    /// The form that fitted last: a file has one.
    last: Cell<usize>,
}

impl Clock {
    /// Times that name no zone are of `zone`. Without a `format`, they may have any form that is known.
    pub fn new(zone: TimeZone, format: Option<TimeFormat>) -> Self {
        let format = format.map(|TimeFormat(format)| format);
        let sample = strtime::format(format.as_deref().unwrap_or(DAY), SAMPLE).unwrap_or_default();
        Self { zone, format, sample, last: Cell::new(0) }
    }

    /// What the zone of times that name none is called.
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("this machine's zone")
    }

    /// Times are written as the user says.
    pub(super) fn has_format(&self) -> bool {
        self.format.is_some()
    }

    /// The time that `text` begins with, and what is behind it.
    pub(super) fn stamp<'t>(&self, text: &'t str) -> Option<(When, &'t str)> {
        self.find(text, false)
    }

    /// The time that `text` is.
    pub(super) fn whole(&self, text: &str) -> Option<When> {
        self.find(text, true).map(|(when, _)| when)
    }

    /// Whether `text` begins as if with a time, though it may be none, as the 30th of February.
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

    /// The asctime that `text` begins with, and what is behind it.
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
        // Most lines have none, and are not worth nine attempts.
        let begins_with_year = text.len() >= 10
            && text.as_bytes()[..4].iter().all(u8::is_ascii_digit)
            && text.as_bytes()[4] == b'-';
        if !begins_with_year {
            return None;
        }
        let last = self.last.get();
        std::iter::once(last).chain((0..ISO.len()).filter(|&other| other != last)).find_map(|at| {
            let stamp = attempt(ISO[at])?;
            // A day would fit the next line, too, whatever hour it has.
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
            // A day has no time of its own: it is the day's first moment.
            Err(_) if parts.hour().is_none() => parts.to_date().ok()?.into(),
            Err(_) => return None,
        };
        let when = match zone {
            Some(zone) => When { time: time_in(&zone, civil)?, exactness: Exactness::Moment },
            None => self.civil(civil, parts.second().is_some())?,
        };
        Some((when, rest))
    }

    /// A time without a zone.
    pub(super) fn civil(&self, civil: DateTime, has_seconds: bool) -> Option<When> {
        let exactness = match has_seconds {
            false => Exactness::ClockMinute,
            true if civil.subsec_nanosecond() == 0 => Exactness::ClockSecond,
            true => Exactness::Clock,
        };
        Some(When { time: time_in(&self.zone, civil)?, exactness })
    }

    /// The first moment of a day.
    pub(super) fn day(&self, day: Date) -> Option<When> {
        self.civil(day.into(), false)
    }
}

/// The text of a line, of what is behind its time: a blank, or a colon and a blank, belong to neither.
pub(super) fn text_behind(rest: &str) -> &str {
    let rest = rest.strip_prefix(':').filter(|rest| is_end(rest)).unwrap_or(rest);
    rest.strip_prefix([' ', '\t']).unwrap_or(rest)
}

/// Whether a time may end before this.
fn is_end(rest: &str) -> bool {
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    rest.is_empty() || rest.starts_with([' ', '\t', ']'])
}

/// Days have no zone, and `10:30-11:00` is how long something took.
fn may_have_zone(format: &str, parts: &BrokenDownTime, rest: &str) -> bool {
    let is_span = rest.starts_with('-') && parts.second().is_none() && !format.contains('T');
    parts.hour().is_some() && !is_span
}

/// Whether what was understood is not all of a time: AM or PM follows an hour that it fits, or an hour that is none
/// follows a day.
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

/// What a clock in this zone says. Where clocks went back it is the first of the two; where they went forward it keeps
/// what the clock said.
fn time_in(zone: &TimeZone, civil: DateTime) -> Option<Time> {
    let offset = match zone.to_ambiguous_timestamp(civil).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset,
        AmbiguousOffset::Gap { before, .. } | AmbiguousOffset::Fold { before, .. } => before,
    };
    Time::of_clock(civil, offset)
}
