//! Times in natural language: `2015-03-02 08:15`, `yesterday at 6pm`, `昨晚八点`, `2 hours ago`, `半小时前`.
//!
//! - Calendar dates (`2015-03-02 01:30`, `Nov 21 1:30`) are taken literally.
//! - `today`, `yesterday`, `monday` are days of the diary: if they start at 03:00, `yesterday 1:30` is in the
//!   night after yesterday.
//! - A time alone is today's, or yesterday's if today's is more than half a day ahead: `23:30`, said at 00:10.
//!   The same holds for a time in the small hours, if days start later.
//! - Anything without an hour (`last night`) is not a time.
//!
//! Offsets have whole minutes. Where an offset had seconds, mostly before 1900, the local time is kept and the
//! seconds are dropped.

use diary_proto::time::TIME_BYTES;
use diary_proto::{DayStart, Time};
use jiff::civil::{self, DateTime};
use jiff::fmt::temporal::Pieces;
use jiff::{Span, ToSpan, Zoned};

use crate::chinese::in_english;
use crate::days::{number, on_calendar, seen_from, words};
use crate::error::Error;

/// Time of a day given without one.
const NOON: civil::Time = civil::time(12, 0, 0, 0);

/// Parses a time, relative to `now`, where days start at `day_start`.
///
/// # Errors
/// If it is not a time, or not exact enough.
pub(crate) fn parse(said: &str, now: &Zoned, day_start: DayStart) -> Result<Time, Error> {
    let said = said.trim();
    let english = in_english(said);
    let words = words(&english);
    let no_time = || no_time(said, &english);
    let written = |then, offset| Time::of_clock(then, offset).ok_or_else(no_time);
    let local = |then: DateTime| {
        let then = then.to_zoned(now.time_zone().clone()).map_err(|_| no_time())?;
        written(then.datetime(), then.offset())
    };
    // A date alone parses as well.
    if let Ok(pieces) = Pieces::parse(said)
        && let Some(time) = pieces.time()
    {
        let then = pieces.date().to_datetime(time);
        return pieces.to_numeric_offset().map_or_else(|| local(then), |offset| written(then, offset));
    }
    let written_now = written(now.datetime(), now.offset())?;
    if words == ["now"] {
        return Ok(written_now);
    }
    let today = day_start.day_of(written_now);
    // "3 days ago" is a day, not a time.
    if let Some(ago) = ago(&words).filter(|_| seen_from(today, &words).is_none()) {
        let then = now.checked_sub(ago).map_err(|_| Error::TooLongAgo(said.to_owned()))?;
        return written(then.datetime(), then.offset());
    }
    let time_from = |at: usize| time_of_day(words[at..].strip_prefix(&["at"]).unwrap_or(&words[at..]));
    let split = (0..words.len()).find_map(|at| Some((at, time_from(at)?)));
    let (at, time) = split.unwrap_or((words.len(), NOON));
    let is_bare = at == 0 && split.is_some();
    let day = if is_bare { &["today"][..] } else { &words[..at] };
    let relative = seen_from(today, day);
    // Why there is no such day is more useful than that it is not a time.
    let days = relative.map_or_else(|| on_calendar(day, today).unwrap_or_else(|| Err(no_time())), Ok)?;
    if days.from != days.to {
        return Err(Error::ManyDays { said: said.to_owned(), first: days.from });
    }
    let start = civil::Time::midnight().wrapping_add(i64::from(day_start.minutes()).minutes());
    let is_small_hour = relative.is_some() && time < start;
    let then = days.from.to_datetime(time).saturating_add(i64::from(is_small_hour).days());
    let is_far_ahead = then > now.datetime().saturating_add(12.hours());
    local(then.saturating_sub(i64::from((is_bare || is_small_hour) && is_far_ahead).days()))
}

/// Formats a time for confirmation: `2015-03-02 08:15`, with the offset if it differs from the reader's.
pub(crate) fn in_words(time: Time, now: &Zoned) -> String {
    let is_here = time.in_zone(now.time_zone()).offset_minutes == time.offset_minutes;
    let written = time.to_string();
    let zone = if is_here { "" } else { &written[TIME_BYTES - "+08:00".len()..] };
    let future = if time.micros > now.timestamp().as_microsecond() { ", in the future" } else { "" };
    format!("{}{zone}{future}", time.minute())
}

/// Returns whether a time includes its offset, as in RFC 3339.
pub(crate) fn has_offset(said: &str) -> bool {
    Pieces::parse(said).is_ok_and(|pieces| pieces.time().is_some() && pieces.offset().is_some())
}

/// Parses `2 hours ago`, `an hour ago`, `1h 30m ago`, `half an hour ago`.
fn ago(words: &[&str]) -> Option<Span> {
    let long = words.strip_suffix(&["ago"])?;
    if long == ["half", "an", "hour"] {
        return Some(30.minutes());
    }
    let digits = |word: &&str| number(word).map_or_else(|| (*word).to_owned(), |number| number.to_string());
    let long: Vec<String> = long.iter().map(digits).collect();
    long.join(" ").parse::<Span>().ok().filter(|span| span.is_positive())
}

/// Parses `9:30`, `21:30:05`, `6pm`, `6 pm`, `noon`, `afternoon 6:30`.
fn time_of_day(words: &[&str]) -> Option<civil::Time> {
    match *words {
        ["noon"] => Some(NOON),
        ["midnight"] => Some(civil::Time::midnight()),
        [half @ ("morning" | "afternoon" | "evening"), clock] => {
            let time = on_a_clock(clock, &["%H:%M:%S", "%H:%M", "%H:"])?;
            let hour = match (half, time.hour()) {
                // Ambiguous: the night before or after the day.
                ("evening", 0..=4 | 12) => return None,
                ("morning", 12) => 0,
                ("afternoon" | "evening", hour @ 0..12) => hour + 12,
                (_, hour) => hour,
            };
            time.with().hour(hour).build().ok()
        }
        [_] | [_, "am" | "pm"] => {
            let formats = ["%H:%M:%S", "%H:%M", "%H:", "%I:%M:%S %p", "%I:%M %p", "%I: %p", "%I %p"];
            on_a_clock(&words.join(" "), &formats)
        }
        _ => None,
    }
}

fn on_a_clock(said: &str, formats: &[&str]) -> Option<civil::Time> {
    formats.iter().find_map(|format| civil::Time::strptime(format, said).ok())
}

fn no_time(said: &str, english: &str) -> Error {
    let is_vague =
        ["morning", "afternoon", "evening", "night"].iter().any(|part| words(english).contains(part));
    let why = if is_vague && !english.ends_with(':') { Error::NotExact } else { Error::NoTime };
    why(said.to_owned())
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn now() -> Zoned {
        civil::date(2026, 11, 21).at(8, 15, 2, 0).to_zoned(TimeZone::get("Asia/Shanghai").unwrap()).unwrap()
    }

    #[test]
    fn times_as_people_say_them() {
        let now = now();
        for (said, meant) in [
            ("2015-03-02 08:15", "2015-03-02T08:15:00.000000+08:00"),
            ("2015-03-02T08:15:07.25", "2015-03-02T08:15:07.250000+08:00"),
            ("2015-03-02T08:15:00-03:30", "2015-03-02T08:15:00.000000-03:30"),
            ("2015-03-02 08:15Z", "2015-03-02T08:15:00.000000+00:00"),
            ("2015-03-02", "2015-03-02T12:00:00.000000+08:00"),
            ("yesterday 18:00", "2026-11-20T18:00:00.000000+08:00"),
            ("昨天 9:30", "2026-11-20T09:30:00.000000+08:00"),
            ("last monday 7:05:09", "2026-11-16T07:05:09.000000+08:00"),
            ("20:15", "2026-11-21T20:15:00.000000+08:00"),
            ("21:30", "2026-11-20T21:30:00.000000+08:00"),
            ("2 hours ago", "2026-11-21T06:15:02.000000+08:00"),
            ("1h 30m ago", "2026-11-21T06:45:02.000000+08:00"),
            ("an hour ago", "2026-11-21T07:15:02.000000+08:00"),
            ("Half an hour ago", "2026-11-21T07:45:02.000000+08:00"),
            ("twelve minutes ago", "2026-11-21T08:03:02.000000+08:00"),
            ("两小时前", "2026-11-21T06:15:02.000000+08:00"),
            ("2 个小时前", "2026-11-21T06:15:02.000000+08:00"),
            ("半个小时前", "2026-11-21T07:45:02.000000+08:00"),
            ("十五分钟之前", "2026-11-21T08:00:02.000000+08:00"),
            ("9 hours ago", "2026-11-20T23:15:02.000000+08:00"),
            // A day, as for dates.
            ("three days ago", "2026-11-18T12:00:00.000000+08:00"),
            ("3 days ago", "2026-11-18T12:00:00.000000+08:00"),
            ("3天前", "2026-11-18T12:00:00.000000+08:00"),
            ("3 days ago 18:00", "2026-11-18T18:00:00.000000+08:00"),
            ("yesterday at 6pm", "2026-11-20T18:00:00.000000+08:00"),
            ("Yesterday at 6 PM", "2026-11-20T18:00:00.000000+08:00"),
            ("Nov 20 at noon", "2026-11-20T12:00:00.000000+08:00"),
            ("at 7:30", "2026-11-21T07:30:00.000000+08:00"),
            ("昨晚八点", "2026-11-20T20:00:00.000000+08:00"),
            ("今早7点半", "2026-11-21T07:30:00.000000+08:00"),
            ("半小时前", "2026-11-21T07:45:02.000000+08:00"),
            ("last week friday at 6:30 pm", "2026-11-13T18:30:00.000000+08:00"),
            ("11月20日下午3点20分", "2026-11-20T15:20:00.000000+08:00"),
            ("now", "2026-11-21T08:15:02.000000+08:00"),
            ("yesterday 6pm", "2026-11-20T18:00:00.000000+08:00"),
            ("12am", "2026-11-21T00:00:00.000000+08:00"),
            ("yesterday 12:30pm", "2026-11-20T12:30:00.000000+08:00"),
            ("yesterday noon", "2026-11-20T12:00:00.000000+08:00"),
            ("昨天下午六点", "2026-11-20T18:00:00.000000+08:00"),
            ("昨天 晚上八点半", "2026-11-20T20:30:00.000000+08:00"),
            ("上周一上午9点5分", "2026-11-09T09:05:00.000000+08:00"),
            ("十点", "2026-11-21T10:00:00.000000+08:00"),
            ("中午12点", "2026-11-21T12:00:00.000000+08:00"),
            // Daylight saving time, which that zone had then.
            ("1988-07-01 12:00", "1988-07-01T12:00:00.000000+09:00"),
            // Local mean time, +08:05:43.
            ("1890-01-01 12:00", "1890-01-01T12:00:00.000000+08:05"),
            ("1890-01-01T12:00:00+08:05:43", "1890-01-01T12:00:00.000000+08:05"),
        ] {
            assert_eq!(
                parse(said, &now, DayStart::default()).map(|time| time.to_string()).as_deref(),
                Ok(meant),
                "{said}"
            );
        }
        let errors = [
            "soon",
            "",
            "2026-11",
            "last week",
            "last night",
            "last night 11pm",
            "昨晚",
            "昨天晚上",
            "昨天晚上十二点",
            "昨晚一点",
            "hours ago",
            "-2 hours ago",
            "25:00",
            "13pm",
            "下午二十五点",
            "2026-02-30 08:15",
            "9999999 years ago",
            "-0001-01-01 00:00",
        ];
        let errors: Vec<String> = errors
            .iter()
            .map(|said| parse(said, &now, DayStart::default()).unwrap_err().to_string())
            .collect();
        insta::assert_snapshot!("time_errors", errors.join("\n"));
    }

    #[test]
    fn days_that_start_in_the_night() {
        let at =
            |hour, minute| civil::date(2026, 11, 22).at(hour, minute, 0, 0).to_zoned(TimeZone::UTC).unwrap();
        for (now, day_start, said, meant) in [
            (at(0, 10), "00:00", "23:30", "2026-11-21 23:30"),
            (at(0, 10), "00:00", "today 23:30", "2026-11-22 23:30"),
            (at(12, 0), "00:00", "23:59", "2026-11-22 23:59"),
            (at(11, 0), "00:00", "23:30", "2026-11-21 23:30"),
            (at(2, 0), "04:00", "today 18:00", "2026-11-21 18:00"),
            (at(2, 0), "04:00", "today 1:30", "2026-11-22 01:30"),
            (at(2, 0), "04:00", "1:30", "2026-11-22 01:30"),
            (at(2, 0), "04:00", "23:30", "2026-11-21 23:30"),
            (at(10, 0), "04:00", "today 1:30", "2026-11-22 01:30"),
            (at(10, 0), "04:00", "1:30", "2026-11-22 01:30"),
            (at(10, 0), "04:00", "yesterday 1:30", "2026-11-22 01:30"),
            (at(10, 0), "04:00", "昨天 18:00", "2026-11-21 18:00"),
            (at(10, 0), "04:00", "2026-11-21 1:30", "2026-11-21 01:30"),
            (at(10, 0), "04:00", "Nov 21 1:30", "2026-11-21 01:30"),
        ] {
            let time = parse(said, &now, day_start.parse().unwrap()).unwrap();
            assert_eq!(time.minute().to_string(), meant, "{said} at {now}");
        }
    }

    #[test]
    fn how_a_time_was_understood() {
        let now = now();
        for (said, words) in [
            ("yesterday 18:00", "2026-11-20 18:00"),
            ("1890-01-01 12:00", "1890-01-01 12:00"),
            ("1988-07-01 12:00", "1988-07-01 12:00"),
            ("2015-03-02T08:15:00-03:30", "2015-03-02 08:15-03:30"),
            ("2015-03-02T08:15:00+08:00", "2015-03-02 08:15"),
            ("2015-03-02T08:15:00Z", "2015-03-02 08:15+00:00"),
            ("now", "2026-11-21 08:15"),
            ("8:16", "2026-11-21 08:16, in the future"),
            ("2026-11-21T00:16:00Z", "2026-11-21 00:16+00:00, in the future"),
        ] {
            assert_eq!(in_words(parse(said, &now, DayStart::default()).unwrap(), &now), words, "{said}");
        }
    }
}
