//! What people say for a day, a week, a month or a year.
//!
//! `calendar` reads what names a day, month or year by its number or name; the rest is seen from today.

mod calendar;

use diary_proto::escape::escape;
use jiff::civil::{Date, Weekday};
use jiff::{Span, ToSpan};

use calendar::Named;

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

const UNITS: [(&[&str], Unit); 4] = [
    (&["day", "days", "天", "日"], Unit::Day),
    (&["week", "weeks", "周", "星期", "个星期", "礼拜", "个礼拜"], Unit::Week),
    (&["month", "months", "月", "个月"], Unit::Month),
    (&["year", "years", "年"], Unit::Year),
];

/// Spans that have a name of one word: how many units back.
const NAMES: [(&[&str], Unit, i64); 8] = [
    (&["tomorrow", "明天", "明日"], Unit::Day, -1),
    (&["today", "今天", "今日"], Unit::Day, 0),
    (&["yesterday", "昨天", "昨日"], Unit::Day, 1),
    (&["前天", "前日"], Unit::Day, 2),
    (&["大前天"], Unit::Day, 3),
    (&["今年"], Unit::Year, 0),
    (&["去年"], Unit::Year, 1),
    (&["前年"], Unit::Year, 2),
];

/// What stands before a Chinese unit: how many of them back.
const BACK: [(&str, i64); 7] =
    [("上上", 2), ("上个", 1), ("上", 1), ("本", 0), ("这个", 0), ("这", 0), ("下", -1)];

const WEEKDAYS: [(&[&str], Weekday); 7] = [
    (&["monday", "mon", "一"], Weekday::Monday),
    (&["tuesday", "tue", "二"], Weekday::Tuesday),
    (&["wednesday", "wed", "三"], Weekday::Wednesday),
    (&["thursday", "thu", "四"], Weekday::Thursday),
    (&["friday", "fri", "五"], Weekday::Friday),
    (&["saturday", "sat", "六"], Weekday::Saturday),
    (&["sunday", "sun", "日", "天"], Weekday::Sunday),
];

/// What stands before the number of a Chinese weekday.
const WEEK: [&str; 3] = ["周", "星期", "礼拜"];

/// Numbers as words: their place is their value.
const NUMBERS: [&str; 13] =
    ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];

const DIGITS: [char; 10] = ['零', '一', '二', '三', '四', '五', '六', '七', '八', '九'];

impl Days {
    fn one(day: Date) -> Self {
        Self { from: day, to: day }
    }

    /// Reads what people say, seen from `today`. Case does not matter; weeks begin on Monday. A weekday, or a day or
    /// month without a year, is the newest one, today's too; the `last` weekday is before today, and 上周一 the Monday
    /// of the week before this.
    ///
    /// # Errors
    /// A sentence that says why there is no such day, or with examples.
    pub(crate) fn parse(said: &str, today: Date) -> Result<Self, String> {
        let words = said.trim().to_lowercase();
        let days = match Named::read(&words) {
            Some(named) => Some(named.days(today)?),
            None => understand(&words, today),
        };
        days.filter(|days| days.from.year() >= 0).ok_or_else(|| {
            let shown: String = said.chars().take(40).collect();
            format!(
                "\"{}\" is no date; say 2026-11-21, 2026-11, 2026, Nov 21, yesterday, monday, last week, 3 days ago or 今天",
                escape(&shown)
            )
        })
    }
}

/// What is seen from today.
fn understand(said: &str, today: Date) -> Option<Days> {
    if let Some((count, unit)) = before_ago(said).and_then(counted) {
        return ago(count, unit_called(unit)?, today);
    }
    let words: Vec<&str> = said.split_whitespace().collect();
    match words[..] {
        [word] => {
            if let Some((_, unit, back)) = NAMES.iter().find(|(names, ..)| names.contains(&word)) {
                return whole(*unit, *back, today);
            }
            if let Some(day) = weekday(word) {
                return Some(Days::one(newest(day, today)));
            }
            back_in_chinese(word, today)
        }
        ["this", unit] => whole(unit_called(unit)?, 0, today),
        ["last", word] => match weekday(word) {
            Some(day) => Some(Days::one(newest(day, today.yesterday().ok()?))),
            None => whole(unit_called(word)?, 1, today),
        },
        ["the", "day", "before", "yesterday"] | ["day", "before", "yesterday"] => whole(Unit::Day, 2, today),
        _ => None,
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

/// What is before the `ago` of `3 days ago` or `三个月前`.
pub(crate) fn before_ago(said: &str) -> Option<&str> {
    [" ago", "以前", "之前", "前"].iter().find_map(|end| said.strip_suffix(end)).map(str::trim_end)
}

/// How many of what: `3 days`, `三个月`.
pub(crate) fn counted(said: &str) -> Option<(i64, &str)> {
    if let Some((count, unit)) = said.split_once(' ') {
        return Some((number(count)?, unit.trim_start()));
    }
    let is_digit = |c: char| c.is_ascii_digit() || c == '十' || c == '两' || DIGITS.contains(&c);
    let unit = said.trim_start_matches(is_digit);
    Some((number(&said[..said.len() - unit.len()])?, unit))
}

/// `上周`, `这个月`, and `上周一`, a day of that week
fn back_in_chinese(word: &str, today: Date) -> Option<Days> {
    let split = |(name, back): &(&str, i64)| Some((word.strip_prefix(name)?, *back));
    BACK.iter().filter_map(split).find_map(|(rest, back)| match weekday(rest) {
        Some(day) => {
            let monday = whole(Unit::Week, back, today)?.from;
            Some(Days::one(newest(day, monday.checked_add(6.days()).ok()?)))
        }
        None => whole(unit_called(rest).filter(|unit| *unit != Unit::Day)?, back, today),
    })
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
    UNITS.iter().find(|(names, _)| names.contains(&word)).map(|(_, unit)| *unit)
}

fn weekday(word: &str) -> Option<Weekday> {
    let name = match WEEK.iter().find_map(|week| word.strip_prefix(week)) {
        Some(number) => number,
        // A number alone is no weekday.
        None if word.is_ascii() => word,
        None => return None,
    };
    WEEKDAYS.iter().find(|(names, _)| names.contains(&name)).map(|(_, day)| *day)
}

/// `3`, `three`, `三`, `二十一`
pub(crate) fn number(word: &str) -> Option<i64> {
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        return word.parse().ok();
    }
    let place = NUMBERS.iter().position(|number| *number == word);
    let place = place.or_else(|| matches!(word, "a" | "an").then_some(1)).or_else(|| chinese_number(word))?;
    i64::try_from(place).ok()
}

/// Up to 九十九.
fn chinese_number(word: &str) -> Option<usize> {
    let one = |digit: &str| match digit {
        "两" => Some(2),
        _ => DIGITS.iter().position(|d| digit.chars().eq([*d])),
    };
    match word.split_once('十') {
        None => one(word),
        Some((tens, ones)) => {
            let tens = if tens.is_empty() { 1 } else { one(tens)? };
            Some(tens * 10 + if ones.is_empty() { 0 } else { one(ones)? })
        }
    }
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
                error.starts_with(&format!("\"{said}\" is no date; say 2026-11-21, ")),
                "{said}: {error}"
            );
        }
        assert!(parse("\u{1b}[2J", TODAY).starts_with("\"\\x1b[2J\" is no date"));
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
