//! Times as people say them: `2015-03-02 08:15`, `yesterday 18:00`, `昨天 9:30`, `2 hours ago`.

use diary_client::Time;
use jiff::civil::{self, DateTime};
use jiff::fmt::temporal::{Pieces, PiecesOffset};
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};

use crate::dates::Days;

/// What a day without a time of day means.
const NOON: civil::Time = civil::time(12, 0, 0, 0);

/// The time that is meant, seen from `now`, which also says in which zone.
///
/// # Errors
/// A sentence.
pub(crate) fn parse(said: &str, now: &Zoned) -> Result<Time, String> {
    let said = said.trim();
    if let Some(time) = with_offset(said) {
        return time.ok_or_else(|| format!("{said:?} is no time that can be written"));
    }
    if let Some(ago) = said.strip_suffix("ago").and_then(|_| said.parse::<Span>().ok()) {
        let then = now.checked_add(ago).map_err(|_| format!("{said:?} is too long ago"))?;
        return written(&then, said);
    }
    // A date alone is one, too.
    if let (true, Ok(then)) = (said.contains(':'), said.parse::<DateTime>()) {
        return local(then, now, said);
    }
    let (day, time) = match said.rsplit_once(' ').map(|(day, time)| (day, clock(time))) {
        Some((day, Some(time))) => (day, time),
        _ => match clock(said) {
            Some(time) => ("today", time),
            None => (said, NOON),
        },
    };
    let days = Days::parse(day, now.date()).map_err(|_| no_time(said))?;
    if days.from != days.to {
        return Err(format!("{day:?} is more than one day; say which: {}", days.from));
    }
    local(days.from.to_datetime(time), now, said)
}

fn no_time(said: &str) -> String {
    format!(
        "{said:?} is no time; say \"2015-03-02 08:15\", \"yesterday 18:00\", \"昨天 9:30\", \"2 hours ago\", \
         21:30 or 2015-03-02T08:15:00+08:00"
    )
}

/// RFC 3339, with an offset that is kept; the inner `None` for one that cannot be.
fn with_offset(said: &str) -> Option<Option<Time>> {
    let pieces = Pieces::parse(said).ok()?;
    let time = pieces.time()?;
    let offset = match pieces.offset()? {
        PiecesOffset::Zulu => jiff::tz::Offset::UTC,
        PiecesOffset::Numeric(offset) => offset.offset(),
        _ => return None,
    };
    let moment = offset.to_timestamp(pieces.date().to_datetime(time)).ok();
    Some(moment.and_then(|moment| writable(Time::at(moment, &TimeZone::fixed(offset)))))
}

fn local(then: DateTime, now: &Zoned, said: &str) -> Result<Time, String> {
    let then = then.to_zoned(now.time_zone().clone()).map_err(|_| no_time(said))?;
    written(&then, said)
}

fn written(then: &Zoned, said: &str) -> Result<Time, String> {
    writable(Time::at(then.timestamp(), then.time_zone())).ok_or_else(|| no_time(said))
}

fn writable(time: Time) -> Option<Time> {
    Time::checked(time.micros, time.offset_minutes)
}

/// `9:30`, `21:30:05`
fn clock(said: &str) -> Option<civil::Time> {
    let mut parts = said.split(':').map(|part| match part.len() {
        1 | 2 if part.bytes().all(|b| b.is_ascii_digit()) => part.parse().ok(),
        _ => None,
    });
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = match parts.next() {
        Some(second) => second?,
        None => 0,
    };
    parts.next().is_none().then(|| civil::Time::new(hour, minute, second, 0).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_say_them() {
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let now = civil::date(2026, 11, 21).at(8, 15, 2, 0).to_zoned(zone).unwrap();
        for (said, meant) in [
            ("2015-03-02 08:15", "2015-03-02T08:15:00.000000+08:00"),
            ("2015-03-02T08:15:07.25", "2015-03-02T08:15:07.250000+08:00"),
            ("2015-03-02T08:15:00-03:30", "2015-03-02T08:15:00.000000-03:30"),
            ("2015-03-02 08:15Z", "2015-03-02T08:15:00.000000+00:00"),
            ("2015-03-02", "2015-03-02T12:00:00.000000+08:00"),
            ("yesterday 18:00", "2026-11-20T18:00:00.000000+08:00"),
            ("昨天 9:30", "2026-11-20T09:30:00.000000+08:00"),
            ("last monday 7:05:09", "2026-11-16T07:05:09.000000+08:00"),
            ("21:30", "2026-11-21T21:30:00.000000+08:00"),
            ("2 hours ago", "2026-11-21T06:15:02.000000+08:00"),
            ("1h 30m ago", "2026-11-21T06:45:02.000000+08:00"),
            ("three days ago", "2026-11-18T12:00:00.000000+08:00"),
            // Summer time, in which that zone was then.
            ("1988-07-01 12:00", "1988-07-01T12:00:00.000000+09:00"),
        ] {
            assert_eq!(parse(said, &now).map(|time| time.to_string()).as_deref(), Ok(meant), "{said}");
        }
        let errors = [
            "soon",
            "",
            "2026-11",
            "last week",
            "25:00",
            "2026-02-30 08:15",
            "9999999 years ago",
            "-0001-01-01 00:00",
        ];
        let errors: Vec<String> = errors.iter().map(|said| parse(said, &now).unwrap_err()).collect();
        insta::assert_snapshot!("time_errors", errors.join("\n"));
    }
}
