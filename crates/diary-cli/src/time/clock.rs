//! Times as people say them: `2015-03-02 08:15`, `yesterday at 6pm`, `昨晚八点`, `2 hours ago`, `半小时前`.
//!
//! A day with a time of day, each as `dates` and `clock` read it; or so many hours and minutes before now. What leaves
//! the hour open (`last night`) is no time. An offset has whole minutes: where clocks had seconds of it, before 1900
//! mostly, what the clock said is kept and they are dropped.

use diary_client::Time;
use diary_proto::time::TIME_BYTES;
use jiff::civil::{self, DateTime};
use jiff::fmt::temporal::{Pieces, PiecesOffset};
use jiff::tz::Offset;
use jiff::{Span, ToSpan, Zoned};

use crate::time::days::{Days, before_ago, counted, number};

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
    // A date alone is one, too.
    if let (true, Ok(then)) = (said.contains(':'), said.parse::<DateTime>()) {
        return local(then, now, said);
    }
    let words = in_full(&said.to_lowercase());
    if words == "now" {
        return written(now, said);
    }
    // So many days ago is a day.
    if let Some(ago) = ago(&words).filter(|_| Days::parse(&words, now.date()).is_err()) {
        let then = now.checked_sub(ago).map_err(|_| format!("{said:?} is too long ago"))?;
        return written(&then, said);
    }
    let (day, time) = day_and_time(&words);
    // Why a date cannot be is worth more than that it is no time.
    let days = Days::parse(day, now.date()).map_err(|why| match why.contains("is no date") {
        true => no_time(said),
        false => why,
    })?;
    if days.from != days.to {
        return Err(format!("{day:?} is more than one day; say which: {}", days.from));
    }
    local(days.from.to_datetime(time), now, said)
}

/// How a time was understood by a reader whose clock says `now`: `2015-03-02 08:15`, with the zone where that is not
/// the reader's.
pub(crate) fn in_words(time: Time, now: &Zoned) -> String {
    let is_here = time.in_zone(now.time_zone()).offset_minutes == time.offset_minutes;
    let written = time.to_string();
    let zone = if is_here { "" } else { &written[TIME_BYTES - "+08:00".len()..] };
    let future = if time.micros > now.timestamp().as_microsecond() { ", in the future" } else { "" };
    format!("{}{zone}{future}", time.minute())
}

/// Chinese that says a day and a part of it in two characters.
const SHORT: [(&str, &str); 3] = [("昨晚", "昨天晚上"), ("今晚", "今天晚上"), ("今早", "今天早上")];

fn in_full(said: &str) -> String {
    SHORT.iter().fold(said.to_owned(), |said, (short, full)| said.replacen(short, full, 1))
}

const HOURS: [&str; 6] = ["hour", "hours", "小时", "个小时", "钟头", "个钟头"];
const MINUTES: [&str; 3] = ["minute", "minutes", "分钟"];
const HALF_AN_HOUR: [&str; 3] = ["half an hour", "半小时", "半个小时"];

/// `2 hours ago`, `an hour ago`, `1h 30m ago`, `两小时前`, `half an hour ago`
fn ago(said: &str) -> Option<Span> {
    let long = before_ago(said)?;
    if HALF_AN_HOUR.contains(&long) {
        return Some(30.minutes());
    }
    match counted(long) {
        Some((count, unit)) if HOURS.contains(&unit) => Span::new().try_hours(count).ok(),
        Some((count, unit)) if MINUTES.contains(&unit) => Span::new().try_minutes(count).ok(),
        _ => long.parse::<Span>().ok().filter(|span| span.is_positive()),
    }
}

/// What is said of the day, and of the time of day.
fn day_and_time(said: &str) -> (&str, civil::Time) {
    let clock_from = |at: usize| {
        let rest = said[at..].trim_start();
        clock(rest.strip_prefix("at ").unwrap_or(rest))
    };
    if let Some(time) = clock_from(0) {
        return ("today", time);
    }
    // In Chinese, nothing need stand between them.
    let part_of_day = PARTS_OF_DAY.iter().filter_map(|(name, _)| said.find(name)).min();
    let spaces = said.match_indices(' ').map(|(at, _)| at);
    let split = part_of_day.into_iter().chain(spaces).find_map(|at| Some((at, clock_from(at)?)));
    split.map_or((said, NOON), |(at, time)| (said[..at].trim_end(), time))
}

fn no_time(said: &str) -> String {
    let is_vague =
        said.split_whitespace().any(|word| ["morning", "afternoon", "evening", "night"].contains(&word))
            || PARTS_OF_DAY.iter().any(|(name, _)| in_full(said).ends_with(name));
    if is_vague {
        return format!(
            "{said:?} is not exact enough; say the day and the time: \"yesterday 22:00\", \"today 1:30\" or 昨晚十点"
        );
    }
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
        PiecesOffset::Zulu => Offset::UTC,
        PiecesOffset::Numeric(offset) => offset.offset(),
        _ => return None,
    };
    Some(Time::of_clock(pieces.date().to_datetime(time), offset))
}

fn local(then: DateTime, now: &Zoned, said: &str) -> Result<Time, String> {
    let then = then.to_zoned(now.time_zone().clone()).map_err(|_| no_time(said))?;
    written(&then, said)
}

fn written(then: &Zoned, said: &str) -> Result<Time, String> {
    Time::of_clock(then.datetime(), then.offset()).ok_or_else(|| no_time(said))
}

/// `9:30`, `21:30:05`, `6pm`, `6 pm`, `noon`, `下午六点半`
fn clock(said: &str) -> Option<civil::Time> {
    match said {
        "noon" => return Some(NOON),
        "midnight" => return Some(civil::Time::midnight()),
        _ => {}
    }
    let half = said.strip_suffix("am").map(|said| (said, false));
    let Some((said, late)) = half.or_else(|| said.strip_suffix("pm").map(|said| (said, true))) else {
        return digits(said).or_else(|| in_chinese(said));
    };
    let said = said.trim_end();
    let time = digits(said).or_else(|| digits(&format!("{said}:00")))?;
    (1..=12).contains(&time.hour()).then(|| in_half(time, late))?
}

/// Noon and midnight are the twelfth hour of what comes behind them.
fn in_half(time: civil::Time, late: bool) -> Option<civil::Time> {
    let hour = time.hour() % 12 + if late { 12 } else { 0 };
    civil::Time::new(hour, time.minute(), time.second(), 0).ok()
}

/// Parts of the day, and whether their hours are those behind noon.
const PARTS_OF_DAY: [(&str, bool); 8] = [
    ("凌晨", false),
    ("早上", false),
    ("早晨", false),
    ("上午", false),
    ("中午", true),
    ("下午", true),
    ("傍晚", true),
    ("晚上", true),
];

/// `六点`, `下午3点20分`, `晚上八点半`
fn in_chinese(said: &str) -> Option<civil::Time> {
    let part = PARTS_OF_DAY.iter().find_map(|(name, late)| Some((*name, said.strip_prefix(name)?, *late)));
    let (hour, minute) = part.map_or(said, |(_, rest, _)| rest).split_once(['点', '點'])?;
    let minute = match minute.strip_suffix('分').unwrap_or(minute) {
        "" | "整" => 0,
        "半" => 30,
        minute => number(minute)?,
    };
    let time = civil::Time::new(number(hour)?.try_into().ok()?, minute.try_into().ok()?, 0, 0).ok()?;
    match part {
        // It may be the night before or behind the day.
        Some(("晚上", ..)) if matches!(time.hour(), 0..=4 | 12) => None,
        Some((.., late)) if time.hour() <= 12 => in_half(time, late),
        _ => Some(time),
    }
}

/// `9:30`, `21:30:05`
fn digits(said: &str) -> Option<civil::Time> {
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
            ("21:30", "2026-11-21T21:30:00.000000+08:00"),
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
            // A day, as dates have it.
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
            // Summer time, in which that zone was then.
            ("1988-07-01 12:00", "1988-07-01T12:00:00.000000+09:00"),
            // The sun's time there, +08:05:43.
            ("1890-01-01 12:00", "1890-01-01T12:00:00.000000+08:05"),
            ("1890-01-01T12:00:00+08:05:43", "1890-01-01T12:00:00.000000+08:05"),
        ] {
            assert_eq!(parse(said, &now).map(|time| time.to_string()).as_deref(), Ok(meant), "{said}");
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
        let errors: Vec<String> = errors.iter().map(|said| parse(said, &now).unwrap_err()).collect();
        insta::assert_snapshot!("time_errors", errors.join("\n"));
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
            assert_eq!(in_words(parse(said, &now).unwrap(), &now), words, "{said}");
        }
    }
}
