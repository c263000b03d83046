//! Days, weeks, months and years in natural language: `2026-11-21`, `2026-W47`, `Nov 21`, `last monday`,
//! `3 days ago`, 上周一.
//!
//! Weeks begin on Monday. A weekday, or a day or month without a year, is the newest one, including today's.
//! `last` with a weekday is before today, and 上周一 (`last week monday`) is the Monday of the previous week.

use jiff::civil::{Date, ISOWeekDate, Weekday};
use jiff::{Span, ToSpan};

use crate::WEEKDAYS;
use crate::chinese::in_english;
use crate::error::Error;

/// A range of days, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days {
    /// First day.
    pub from: Date,
    /// Last day.
    pub to: Date,
}

const MONTHS: &str = "january february march april may june july august september october november december";
const NUMBERS: &str = "one two three four five six seven eight nine ten eleven twelve";

/// Length of abbreviated month and weekday names.
const SHORT_NAME_BYTES: usize = 3;

/// 29 February recurs within this many years.
const YEARS_BACK_MAX: i16 = 8;

const LEAP_YEAR: i16 = 2024;

impl Days {
    fn one(day: Date) -> Self {
        Self { from: day, to: day }
    }

    /// Parses days in natural language, case-insensitively, relative to `today`.
    ///
    /// # Errors
    /// If it is not a date, or the calendar has no such date.
    pub fn parse(said: &str, today: Date) -> Result<Self, Error> {
        let english = in_english(said);
        let words = words(&english);
        match seen_from(today, &words) {
            Some(days) => Ok(days),
            None => on_calendar(&words, today).unwrap_or_else(|| Err(Error::NoDate(said.to_owned()))),
        }
    }
}

pub(crate) fn words(said: &str) -> Vec<&str> {
    said.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()).collect()
}

/// Parses days relative to today.
pub(crate) fn seen_from(today: Date, words: &[&str]) -> Option<Days> {
    let days = match *words {
        ["today"] => whole(0, "day", today),
        ["yesterday"] => whole(1, "day", today),
        ["tomorrow"] => whole(-1, "day", today),
        ["the", "day", "before", "yesterday"] | ["day", "before", "yesterday"] => whole(2, "day", today),
        [count, unit, "ago"] => {
            ago(number(count)?, unit.strip_suffix('s').unwrap_or(unit), today).map(Days::one)
        }
        [day] | ["week", day] => Some(Days::one(newest(weekday(day)?, today))),
        ["last", day] if weekday(day).is_some() => {
            Some(Days::one(newest(weekday(day)?, today.yesterday().ok()?)))
        }
        ["this", ref rest @ ..] => back(0, rest, today),
        ["next", ref rest @ ..] => back(-1, rest, today),
        _ => {
            let lasts = words.iter().take_while(|word| **word == "last").count();
            back(i64::try_from(lasts).ok()?, &words[lasts..], today)
        }
    };
    days.filter(|days| days.from.year() >= 0)
}

/// Parses `week`, `month`, or `week monday`, `count` weeks or months back.
fn back(count: i64, words: &[&str], today: Date) -> Option<Days> {
    match *words {
        [unit] => whole(count, unit, today),
        ["week", day] => Some(Days::one(newest(weekday(day)?, whole(count, "week", today)?.to))),
        _ => None,
    }
}

/// Returns the whole day, week, month or year, `back` units back.
fn whole(back: i64, unit: &str, today: Date) -> Option<Days> {
    let day = ago(back, unit, today)?;
    Some(match unit {
        "day" => Days::one(day),
        "week" => {
            let from = newest(Weekday::Monday, day);
            Days { from, to: from.checked_add(6.days()).ok()? }
        }
        "month" => Days { from: day.first_of_month(), to: day.last_of_month() },
        _ => Days { from: day.first_of_year(), to: day.last_of_year() },
    })
}

fn ago(count: i64, unit: &str, today: Date) -> Option<Date> {
    let span = match unit {
        "day" => Span::new().try_days(count),
        "week" => Span::new().try_weeks(count),
        "month" => Span::new().try_months(count),
        "year" => Span::new().try_years(count),
        _ => return None,
    };
    today.checked_sub(span.ok()?).ok()
}

/// Returns the newest such weekday up to `day`.
fn newest(weekday: Weekday, day: Date) -> Date {
    day.saturating_sub(i64::from(weekday.until(day.weekday())).days())
}

/// Parses a calendar date; `None` if it is something else.
pub(crate) fn on_calendar(words: &[&str], today: Date) -> Option<Result<Days, Error>> {
    let (said_year, words) = match words {
        [y, "year", rest @ ..] => (Some(year(y)?), rest),
        _ => (None, words),
    };
    let (year, month, day) = match *words {
        [] => (Some(said_year?), None, None),
        [m, "month"] => (said_year, Some(short(m)?), None),
        [m, "month", d, "days"] => (said_year, Some(short(m)?), Some(short(d)?)),
        [word] => match word.split(['-', '/']).collect::<Vec<_>>()[..] {
            [name] if month(name).is_some() => (None, month(name), None),
            [y] => (Some(year(y)?), None, None),
            [y, m] => match m.strip_prefix('w') {
                Some(number) => return Some(week(year(y)?, two_digits(number)?)),
                None => (Some(year(y)?), Some(two_digits(m)?), None),
            },
            [y, m, d] => (Some(year(y)?), Some(two_digits(m)?), Some(two_digits(d)?)),
            _ => return None,
        },
        [m, y] if month(m).is_some() && year(y).is_some() => (year(y), month(m), None),
        [m, d] if month(m).is_some() => (None, month(m), Some(day(d)?)),
        [d, m] => (None, Some(month(m)?), Some(day(d)?)),
        [m, d, y] if month(m).is_some() => (Some(year(y)?), month(m), Some(day(d)?)),
        [d, m, y] => (Some(year(y)?), Some(month(m)?), Some(day(d)?)),
        _ => return None,
    };
    Some(dates(year, month, day, today))
}

fn week(year: i16, week: i8) -> Result<Days, Error> {
    let monday = ISOWeekDate::new(year, week, Weekday::Monday).map(Date::from);
    let from = monday.map_err(|_| Error::NoWeek { year, week })?;
    Ok(Days { from, to: from.saturating_add(6.days()) })
}

/// Returns the days of a year, month or day. The default year is the newest that has one.
fn dates(year: Option<i16>, month: Option<i8>, day: Option<i8>, today: Date) -> Result<Days, Error> {
    let date = |y: i16, month: i8, day: i8| {
        Date::new(y, month, day).map_err(|_| match Date::new(y, month, 1) {
            Ok(first) => {
                let month = first.strftime(if year.is_some() { "%B %Y" } else { "%B" }).to_string();
                Error::NoDay { month, day, last: first.days_in_month() }
            }
            Err(_) => Error::NoMonth(month),
        })
    };
    let Some(month) = month else {
        let first = date(year.unwrap_or(today.year()), 1, 1)?;
        return Ok(Days { from: first, to: first.last_of_year() });
    };
    let Some(day) = day else {
        let first = date(year.unwrap_or(today.year() - i16::from(month > today.month())), month, 1)?;
        return Ok(Days { from: first, to: first.last_of_month() });
    };
    let in_year = |y| Date::new(y, month, day).ok().filter(|day| *day <= today);
    let newest = || (0..=YEARS_BACK_MAX).find_map(|back| in_year(today.year() - back));
    match year.map_or_else(newest, |_| None) {
        Some(newest) => Ok(Days::one(newest)),
        None => date(year.unwrap_or(LEAP_YEAR), month, day).map(Days::one),
    }
}

fn weekday(word: &str) -> Option<Weekday> {
    Weekday::from_monday_one_offset(place(word, WEEKDAYS)?).ok()
}

fn month(word: &str) -> Option<i8> {
    let word = word.strip_suffix('.').unwrap_or(word);
    place(if word == "sept" { "september" } else { word }, MONTHS)
}

/// Returns the index of a name or its abbreviation, from 1.
fn place(word: &str, names: &str) -> Option<i8> {
    let is_named = |name: &str| name == word || (word.len() == SHORT_NAME_BYTES && name.starts_with(word));
    (1..).zip(names.split(' ')).find(|(_, name)| is_named(name)).map(|(place, _)| place)
}

/// Parses `3`, `three`, `a`.
pub(crate) fn number(word: &str) -> Option<i64> {
    match word {
        "no" => Some(0),
        "a" | "an" => Some(1),
        _ if is_number(word) => word.parse().ok(),
        _ => (1..).zip(NUMBERS.split(' ')).find(|(_, name)| *name == word).map(|(number, _)| number),
    }
}

fn year(word: &str) -> Option<i16> {
    word.parse().ok().filter(|_| word.len() == 4 && is_number(word))
}

/// Parses `21`, `21st`.
fn day(word: &str) -> Option<i8> {
    short(["st", "nd", "rd", "th", "."].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word))
}

fn two_digits(word: &str) -> Option<i8> {
    short(word).filter(|_| word.len() == 2)
}

/// Parses one or two digits.
fn short(word: &str) -> Option<i8> {
    word.parse().ok().filter(|_| word.len() <= 2 && is_number(word))
}

fn is_number(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit())
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
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_no_date_says_so_with_examples() {
        for said in [
            "",
            " ",
            "tomorow",
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
            "last tag",
            "99999999999999999999 days ago",
            "999999999 years ago",
            "9000000 days ago",
            "2030 years ago",
            "天前",
            "3前",
            "2026-11-21 x",
            "前",
            "百天前",
            "十十天前",
            "上",
            "上天",
            "上周八",
            "一",
            "2026年11",
            "2026-W",
            "nove",
            "21",
            "nov 002",
            "nov nov",
            "21 21 2026",
            "nov 21 26",
        ] {
            let error = parse(said, TODAY);
            assert!(
                error.starts_with(&format!("\"{said}\" is not a date; try 2026-11-21, ")),
                "{said}: {error}"
            );
        }
        assert!(parse("\u{1b}[2J", TODAY).starts_with("\"\\x1b[2J\" is not a date"));
        assert!(parse(&"x".repeat(1000), TODAY).len() < 200);
    }

    #[test]
    fn a_day_that_cannot_be_is_told_why() {
        for (said, sentence) in [
            ("2026-02-30", "February 2026 has no day 30; its last is 28"),
            ("2024-02-30", "February 2024 has no day 30; its last is 29"),
            ("2026-11-00", "November 2026 has no day 0; its last is 30"),
            ("31 nov", "November has no day 31; its last is 30"),
            ("2月30日", "February has no day 30; its last is 29"),
            ("2026年13月", "there is no month 13; a year has 12"),
            ("2026-13", "there is no month 13; a year has 12"),
            ("2026-00-01", "there is no month 0; a year has 12"),
            ("2026-W54", "2026 has no week 54"),
            ("2025-W53", "2025 has no week 53"),
        ] {
            assert_eq!(parse(said, TODAY), sentence, "{said}");
        }
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
            ("今日", TODAY),
            ("昨日", "2026-11-20"),
            ("大前天", "2026-11-18"),
            ("明天", "2026-11-22"),
            ("Tomorrow", "2026-11-22"),
            ("the day before yesterday", "2026-11-19"),
            ("三天前", "2026-11-18"),
            ("3 天前", "2026-11-18"),
            ("两周前", "2026-11-07"),
            ("十天前", "2026-11-11"),
            ("二十一天前", "2026-10-31"),
            ("两个星期以前", "2026-11-07"),
            ("一年前", "2025-11-21"),
            ("three days ago", "2026-11-18"),
            ("上周一", "2026-11-09"),
            ("上周六", "2026-11-14"),
            ("上周日", "2026-11-15"),
            ("上星期一", "2026-11-09"),
            ("上个星期天", "2026-11-15"),
            ("上上周五", "2026-11-06"),
            ("本周一", "2026-11-16"),
            ("这周日", "2026-11-22"),
            ("下周", "2026-11-23 2026-11-29"),
            ("上星期", "2026-11-09 2026-11-15"),
            ("上个月", "2026-10-01 2026-10-31"),
            ("这个月", "2026-11-01 2026-11-30"),
            ("礼拜三", "2026-11-18"),
            ("2026/11/21", TODAY),
            ("2026年11月21日", TODAY),
            ("2026年2月3号", "2026-02-03"),
            ("2026年11月", "2026-11-01 2026-11-30"),
            ("2025年", "2025-01-01 2025-12-31"),
            ("11月21日", TODAY),
            ("11月22日", "2025-11-22"),
            ("12月", "2025-12-01 2025-12-31"),
            ("2月29日", "2024-02-29"),
            ("Nov 21", TODAY),
            ("nov 22", "2025-11-22"),
            ("21 Nov 2026", TODAY),
            ("Nov 21, 2026", TODAY),
            ("21st november 2025", "2025-11-21"),
            ("Sept. 3", "2026-09-03"),
            ("May", "2026-05-01 2026-05-31"),
            ("december", "2025-12-01 2025-12-31"),
            ("november 2026", "2026-11-01 2026-11-30"),
            ("2026-W47", "2026-11-16 2026-11-22"),
            ("last week monday", "2026-11-09"),
            ("next month", "2026-12-01 2026-12-31"),
            ("前年", "2024-01-01 2024-12-31"),
            ("十一月二十日", "2026-11-20"),
            ("周日", "2026-11-15"),
            (
                "这个周末",
                "\"这个周末\" is not a date; try 2026-11-21, 2026-11, 2026, Nov 21, yesterday, monday, last week, 3 days ago or 今天",
            ),
            ("2020-w53", "2020-12-28 2021-01-03"),
            ("2027-01-01", "2027-01-01"),
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
