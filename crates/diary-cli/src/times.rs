//! Times as people say them: `2015-03-02 08:15`, `yesterday 18:00`, `昨天 9:30`, `2 hours ago`.

use diary_client::Time;
use jiff::civil::{self, DateTime};
use jiff::fmt::temporal::{Pieces, PiecesOffset};
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};

use crate::dates::{Days, number};

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
    if said == "now" {
        return written(now, said);
    }
    let (day, time) = day_and_time(said);
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

/// What is said of the day, and of the time of day.
fn day_and_time(said: &str) -> (&str, civil::Time) {
    if let Some(time) = clock(said) {
        return ("today", time);
    }
    // In Chinese, nothing need stand between them.
    let part_of_day = PARTS_OF_DAY.iter().filter_map(|(name, _)| said.find(name)).min();
    [part_of_day, said.rfind(' ')]
        .into_iter()
        .flatten()
        .find_map(|at| Some((said[..at].trim_end(), clock(said[at..].trim_start())?)))
        .unwrap_or((said, NOON))
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

/// `9:30`, `21:30:05`, `6pm`, `noon`, `下午六点半`
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
    let part = PARTS_OF_DAY.iter().find_map(|(name, late)| Some((said.strip_prefix(name)?, *late)));
    let (hour, minute) = part.map_or(said, |(rest, _)| rest).split_once(['点', '點'])?;
    let minute = match minute.strip_suffix('分').unwrap_or(minute) {
        "" | "整" => 0,
        "半" => 30,
        minute => number(minute)?,
    };
    let time = civil::Time::new(number(hour)?.try_into().ok()?, minute.try_into().ok()?, 0, 0).ok()?;
    match part {
        Some((_, late)) if time.hour() <= 12 => in_half(time, late),
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
        ] {
            assert_eq!(parse(said, &now).map(|time| time.to_string()).as_deref(), Ok(meant), "{said}");
        }
        let errors = [
            "soon",
            "",
            "2026-11",
            "last week",
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
}
