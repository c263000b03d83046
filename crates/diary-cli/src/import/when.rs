//! Times as files have them.

use std::cell::Cell;

use diary_client::Time;
use jiff::civil::{Date, DateTime};
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

use super::{Exactness, When};

/// How times are written that begin with a year: RFC 3339 and ISO 8601, Python's logging, and jrnl's `%F %r`.
const ISO: [&str; 14] = [
    "%Y-%m-%d %H:%M:%S%.f%:z",
    "%Y-%m-%dT%H:%M:%S%.f%:z",
    "%Y-%m-%dT%H:%M:%S%.fZ",
    "%Y-%m-%d %H:%M:%S%.fZ",
    "%Y-%m-%dT%H:%M:%S%.f%z",
    "%Y-%m-%d %H:%M:%S%.f%z",
    "%Y-%m-%d %I:%M:%S %p",
    "%Y-%m-%d %I:%M %p",
    "%Y-%m-%d %H:%M:%S,%f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d",
];

/// C's asctime.
const ASCTIME: &str = "%a %b %e %H:%M:%S %Y";

/// Reads times.
#[derive(Debug)]
pub(crate) struct Clock {
    /// The zone of times that name none.
    zone: TimeZone,
    /// How the user says that times are written, as strptime has it.
    format: Option<String>,
    /// The form that fitted last: a file has one.
    last: Cell<usize>,
}

impl Clock {
    pub(crate) fn new(zone: TimeZone, format: Option<String>) -> Self {
        Self { zone, format, last: Cell::new(0) }
    }

    /// What the zone of times that name none is called.
    pub(crate) fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("this machine's zone")
    }

    /// The time that `text` begins with, and what is behind it.
    pub(super) fn stamp<'t>(&self, text: &'t str) -> Option<(When, &'t str)> {
        if let Some(format) = &self.format {
            return self.prefix(format, text);
        }
        // Most lines have none, and are not worth fourteen attempts.
        let begins_with_year = text.len() >= 10
            && text.as_bytes()[..4].iter().all(u8::is_ascii_digit)
            && text.as_bytes()[4] == b'-';
        if !begins_with_year {
            return None;
        }
        let last = self.last.get();
        std::iter::once(last).chain((0..ISO.len()).filter(|&other| other != last)).find_map(|at| {
            let stamp = self.prefix(ISO[at], text)?;
            self.last.set(at);
            Some(stamp)
        })
    }

    /// The time that `text` is.
    pub(super) fn whole(&self, text: &str) -> Option<When> {
        if let Some(format) = &self.format {
            return self.prefix(format, text).filter(|(_, rest)| rest.is_empty()).map(|(when, _)| when);
        }
        let whole = |format: &str| self.prefix(format, text).filter(|(_, rest)| rest.is_empty());
        let stamp = self.stamp(text)?;
        if stamp.1.is_empty() {
            return Some(stamp.0);
        }
        // The form that fits may say only the first part of it.
        ISO.iter().find_map(|format| whole(format)).map(|(when, _)| when)
    }

    /// The asctime that `text` begins with, and what is behind it.
    pub(super) fn asctime<'t>(&self, text: &'t str) -> Option<(When, &'t str)> {
        if !text.starts_with(|c: char| c.is_ascii_uppercase()) {
            return None;
        }
        self.prefix(ASCTIME, text)
    }

    fn prefix<'t>(&self, format: &str, text: &'t str) -> Option<(When, &'t str)> {
        let (parts, length) = BrokenDownTime::parse_prefix(format, text).ok()?;
        let rest = text.get(length..)?;
        if !(rest.is_empty() || rest.starts_with([' ', '\t', ']'])) {
            return None;
        }
        let civil = match parts.to_datetime() {
            Ok(civil) => civil,
            // A day has no time of its own: it is the day's first moment.
            Err(_) if parts.hour().is_none() => parts.to_date().ok()?.into(),
            Err(_) => return None,
        };
        let offset = if format.ends_with('Z') { Some(Offset::UTC) } else { parts.offset() };
        let when = match offset {
            Some(offset) => When { time: at(civil, offset)?, exactness: Exactness::Moment },
            None => self.civil(civil)?,
        };
        Some((when, rest))
    }

    /// A time without a zone. Where clocks went back it is the first of the two; where they went forward it keeps
    /// what the clock said.
    pub(super) fn civil(&self, civil: DateTime) -> Option<When> {
        let offset = match self.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Gap { before, .. } | AmbiguousOffset::Fold { before, .. } => before,
        };
        let exactness = match civil.subsec_nanosecond() {
            0 => Exactness::ClockSecond,
            _ => Exactness::Clock,
        };
        Some(When { time: at(civil, offset)?, exactness })
    }

    /// The first moment of a day.
    pub(super) fn day(&self, day: Date) -> Option<When> {
        self.civil(day.into())
    }
}

/// The clock's time, with whole minutes of the offset: there is no place for its seconds.
fn at(civil: DateTime, offset: Offset) -> Option<Time> {
    let minutes = offset.seconds() / 60;
    let whole = Offset::from_seconds(minutes * 60).ok()?;
    let micros = whole.to_timestamp(civil).ok()?.as_microsecond();
    Time::checked(micros, i16::try_from(minutes).ok()?)
}
