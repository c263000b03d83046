//! What people say for a day, a week, a month or a year.

use diary_proto::escape::escape;
use jiff::civil::{Date, Weekday};
use jiff::{Span, ToSpan};

/// Days that follow one another, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Days {
    pub(crate) from: Date,
    pub(crate) to: Date,
}

/// What spans of time are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Day,
    Week,
    Month,
    Year,
}

const UNITS: [(&str, Unit); 12] = [
    ("day", Unit::Day),
    ("days", Unit::Day),
    ("week", Unit::Week),
    ("weeks", Unit::Week),
    ("month", Unit::Month),
    ("months", Unit::Month),
    ("year", Unit::Year),
    ("years", Unit::Year),
    ("天", Unit::Day),
    ("周", Unit::Week),
    ("个月", Unit::Month),
    ("年", Unit::Year),
];

/// Spans that have a name of one word: how many units back.
const NAMES: [(&str, Unit, i64); 15] = [
    ("today", Unit::Day, 0),
    ("yesterday", Unit::Day, 1),
    ("今天", Unit::Day, 0),
    ("昨天", Unit::Day, 1),
    ("前天", Unit::Day, 2),
    ("本周", Unit::Week, 0),
    ("这周", Unit::Week, 0),
    ("上周", Unit::Week, 1),
    ("本月", Unit::Month, 0),
    ("这个月", Unit::Month, 0),
    ("上月", Unit::Month, 1),
    ("上个月", Unit::Month, 1),
    ("今年", Unit::Year, 0),
    ("去年", Unit::Year, 1),
    ("前年", Unit::Year, 2),
];

const WEEKDAYS: [(&[&str], Weekday); 7] = [
    (&["monday", "mon", "周一", "星期一"], Weekday::Monday),
    (&["tuesday", "tue", "周二", "星期二"], Weekday::Tuesday),
    (&["wednesday", "wed", "周三", "星期三"], Weekday::Wednesday),
    (&["thursday", "thu", "周四", "星期四"], Weekday::Thursday),
    (&["friday", "fri", "周五", "星期五"], Weekday::Friday),
    (&["saturday", "sat", "周六", "星期六"], Weekday::Saturday),
    (&["sunday", "sun", "周日", "星期日", "星期天"], Weekday::Sunday),
];

impl Days {
    fn one(day: Date) -> Self {
        Self { from: day, to: day }
    }

    /// Reads what people say, seen from `today`. Case does not matter; weeks begin on Monday; a weekday is
    /// the newest one, today too, and the `last` one is before today.
    ///
    /// # Errors
    /// A sentence with examples.
    pub(crate) fn parse(said: &str, today: Date) -> Result<Self, String> {
        Self::understand(&said.trim().to_lowercase(), today).ok_or_else(|| {
            let shown: String = said.chars().take(40).collect();
            format!(
                "\"{}\" is no date; say 2026-11-21, 2026-11, 2026, yesterday, monday, last week, 3 days ago or 今天",
                escape(&shown)
            )
        })
    }

    fn understand(said: &str, today: Date) -> Option<Self> {
        let words: Vec<&str> = said.split_whitespace().collect();
        match words[..] {
            [word] => calendar(word)
                .or_else(|| {
                    let (_, unit, back) = NAMES.iter().find(|(name, ..)| *name == word)?;
                    whole(*unit, *back, today)
                })
                .or_else(|| Some(Self::one(newest(weekday(word)?, today))))
                .or_else(|| ago_in_chinese(word, today)),
            ["this", unit] => whole(unit_called(unit)?, 0, today),
            ["last", word] => match weekday(word) {
                Some(day) => Some(Self::one(newest(day, today.yesterday().ok()?))),
                None => whole(unit_called(word)?, 1, today),
            },
            [count, unit, "ago"] => {
                let count = if matches!(count, "a" | "an" | "one") { Some(1) } else { number(count) };
                ago(count?, unit_called(unit)?, today)
            }
            _ => None,
        }
    }
}

/// `2026-11-21`, `2026-11` or `2026`.
fn calendar(word: &str) -> Option<Days> {
    let mut parts = word.split('-');
    let year = parts.next()?;
    let (month, day, more) = (parts.next(), parts.next(), parts.next());
    let digits = |part: &str, count| part.len() == count && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(year, 4) || [month, day].into_iter().flatten().any(|part| !digits(part, 2)) || more.is_some() {
        return None;
    }
    let (year, month) = (year.parse().ok()?, month.map(str::parse::<i8>).transpose().ok()?);
    let first = Date::new(year, month.unwrap_or(1), 1).ok()?;
    match (month, day) {
        (_, Some(day)) => Date::new(year, month?, day.parse().ok()?).ok().map(Days::one),
        (Some(_), None) => Some(Days { from: first, to: first.last_of_month() }),
        (None, None) => Some(Days { from: first, to: first.last_of_year() }),
    }
}

/// The whole day, week, month or year that is so many back.
fn whole(unit: Unit, back: i64, today: Date) -> Option<Days> {
    let day = today.checked_sub(span(unit, back)?).ok()?;
    Some(match unit {
        Unit::Day => Days::one(day),
        Unit::Week => {
            let from = newest(Weekday::Monday, day);
            Days { from, to: from.checked_add(6.days()).ok()? }
        }
        Unit::Month => Days { from: day.first_of_month(), to: day.last_of_month() },
        Unit::Year => Days { from: day.first_of_year(), to: day.last_of_year() },
    })
}

/// The one day that was so long ago.
fn ago(count: i64, unit: Unit, today: Date) -> Option<Days> {
    Some(Days::one(today.checked_sub(span(unit, count)?).ok()?))
}

/// `3天前`
fn ago_in_chinese(word: &str, today: Date) -> Option<Days> {
    let said = word.strip_suffix('前')?;
    let unit = said.trim_start_matches(|c: char| c.is_ascii_digit());
    ago(number(&said[..said.len() - unit.len()])?, unit_called(unit)?, today)
}

fn span(unit: Unit, count: i64) -> Option<Span> {
    let span = Span::new();
    match unit {
        Unit::Day => span.try_days(count),
        Unit::Week => span.try_weeks(count),
        Unit::Month => span.try_months(count),
        Unit::Year => span.try_years(count),
    }
    .ok()
}

fn unit_called(word: &str) -> Option<Unit> {
    UNITS.iter().find(|(name, _)| *name == word).map(|(_, unit)| *unit)
}

fn weekday(word: &str) -> Option<Weekday> {
    WEEKDAYS.iter().find(|(names, _)| names.contains(&word)).map(|(_, day)| *day)
}

fn number(word: &str) -> Option<i64> {
    word.parse().ok().filter(|_| word.bytes().all(|b| b.is_ascii_digit()))
}

/// The newest such weekday up to `day`.
fn newest(weekday: Weekday, day: Date) -> Date {
    let back = i64::from(weekday.until(day.weekday()));
    // The calendar ends in a week that no diary has.
    day.checked_sub(back.days()).unwrap_or(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Saturday.
    const TODAY: &str = "2026-11-21";

    fn parse(said: &str, today: &str) -> String {
        match Days::parse(said, today.parse().unwrap()) {
            Ok(Days { from, to }) if from == to => from.to_string(),
            Ok(Days { from, to }) => format!("{from} {to}"),
            Err(error) => error,
        }
    }

    #[test]
    fn what_is_no_date_says_so_with_examples() {
        for said in [
            "",
            " ",
            "tomorow",
            "2026-13",
            "2026-02-30",
            "2026-1-2",
            "26-01-02",
            "2026-01-02-03",
            "2026-",
            "-2026",
            "+026",
            "last",
            "last 3 days",
            "3 days",
            "-3 days ago",
            "+3 days ago",
            "three days ago",
            "last tag",
            "99999999999999999999 days ago",
            "999999999 years ago",
            "9000000 days ago",
            "天前",
            "3前",
            "2026-11-21 x",
        ] {
            let error = parse(said, TODAY);
            assert!(
                error.starts_with(&format!("\"{said}\" is no date; say 2026-11-21, ")),
                "{said}: {error}"
            );
        }
        assert!(parse("\u{1b}[2J", TODAY).starts_with("\"\\x1b[2J\" is no date"));
        assert!(parse(&"x".repeat(1000), TODAY).len() < 200);
    }

    #[test]
    fn what_people_say() {
        for (said, days) in [
            ("2026-11-21", "2026-11-21"),
            ("2026-11", "2026-11-01 2026-11-30"),
            ("2024-02", "2024-02-01 2024-02-29"),
            ("2026", "2026-01-01 2026-12-31"),
            ("0000", "0000-01-01 0000-12-31"),
            ("today", TODAY),
            ("  Yesterday ", "2026-11-20"),
            ("今天", TODAY),
            ("昨天", "2026-11-20"),
            ("前天", "2026-11-19"),
            ("saturday", TODAY),
            ("SUNDAY", "2026-11-15"),
            ("Mon", "2026-11-16"),
            ("星期五", "2026-11-20"),
            ("last saturday", "2026-11-14"),
            ("last  Monday", "2026-11-16"),
            ("3 days ago", "2026-11-18"),
            ("0 days ago", TODAY),
            ("a week ago", "2026-11-14"),
            ("2 weeks ago", "2026-11-07"),
            ("9 months ago", "2026-02-21"),
            ("an year ago", "2025-11-21"),
            ("3天前", "2026-11-18"),
            ("2个月前", "2026-09-21"),
            ("this week", "2026-11-16 2026-11-22"),
            ("last week", "2026-11-09 2026-11-15"),
            ("上周", "2026-11-09 2026-11-15"),
            ("this month", "2026-11-01 2026-11-30"),
            ("last month", "2026-10-01 2026-10-31"),
            ("this year", "2026-01-01 2026-12-31"),
            ("last year", "2025-01-01 2025-12-31"),
            ("去年", "2025-01-01 2025-12-31"),
        ] {
            assert_eq!(parse(said, TODAY), days, "{said}");
        }
    }

    #[test]
    fn around_the_ends_of_weeks_months_and_years() {
        for (today, said, days) in [
            ("2026-11-16", "this week", "2026-11-16 2026-11-22"),
            ("2026-11-16", "monday", "2026-11-16"),
            ("2026-11-16", "last monday", "2026-11-09"),
            ("2026-11-22", "this week", "2026-11-16 2026-11-22"),
            ("2027-01-01", "yesterday", "2026-12-31"),
            ("2027-01-01", "last month", "2026-12-01 2026-12-31"),
            ("2027-01-01", "this week", "2026-12-28 2027-01-03"),
            ("2027-01-01", "last year", "2026-01-01 2026-12-31"),
            ("2027-01-01", "thursday", "2026-12-31"),
            ("2026-03-31", "last month", "2026-02-01 2026-02-28"),
            ("2026-03-31", "1 month ago", "2026-02-28"),
            ("2024-02-29", "a year ago", "2023-02-28"),
        ] {
            assert_eq!(parse(said, today), days, "{said} on {today}");
        }
    }
}
