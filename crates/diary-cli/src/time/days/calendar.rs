//! Days, months and years by number or name: `2026-11-21`, `2026-11`, `Nov 21`, `21 November 2026`, `11月21日`,
//! `2026-W47`.

use jiff::ToSpan;
use jiff::civil::{Date, ISOWeekDate, Weekday};

use super::Days;

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// The shortest name of a month: its first letters.
const MONTH_MIN_BYTES: usize = 3;

/// The 29th of February comes again within so many years.
const YEARS_BACK_MAX: i16 = 8;

/// What was said, whether there is such a day or not. What was not said is the newest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Year(i16),
    Week(i16, i8),
    Month(Option<i16>, i8),
    Day(Option<i16>, i8, i8),
}

impl Named {
    /// Reads it, in lower case; `None` if it is something else.
    pub(super) fn read(said: &str) -> Option<Self> {
        let words: Vec<&str> = said.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        match words[..] {
            [word] => {
                dashed(word).or_else(|| chinese(word)).or_else(|| Some(Self::Month(None, month(word)?)))
            }
            [first, second] => match (month(first), month(second)) {
                (Some(month), None) => match year(second) {
                    Some(year) => Some(Self::Month(Some(year), month)),
                    None => Some(Self::Day(None, month, day(second)?)),
                },
                (None, Some(month)) => Some(Self::Day(None, month, day(first)?)),
                _ => None,
            },
            [first, second, last] => {
                let (month, day) = match month(first) {
                    Some(month) => (month, day(second)?),
                    None => (month(second)?, day(first)?),
                };
                Some(Self::Day(Some(year(last)?), month, day))
            }
            _ => None,
        }
    }

    /// The days of it, seen from `today`.
    ///
    /// # Errors
    /// A sentence, if there are none.
    pub(super) fn days(self, today: Date) -> Result<Days, String> {
        match self {
            Self::Year(year) => {
                let first = self.date(year, 1, 1)?;
                Ok(Days { from: first, to: first.last_of_year() })
            }
            Self::Week(year, week) => {
                let monday = ISOWeekDate::new(year, week, Weekday::Monday).map(Date::from);
                let monday = monday.map_err(|_| format!("{year:04} has no week {week}"))?;
                Ok(Days { from: monday, to: monday.saturating_add(6.days()) })
            }
            Self::Month(year, month) => {
                let year = year.unwrap_or(today.year() - i16::from(month > today.month()));
                let first = self.date(year, month, 1)?;
                Ok(Days { from: first, to: first.last_of_month() })
            }
            Self::Day(Some(year), month, day) => self.date(year, month, day).map(Days::one),
            Self::Day(None, month, day) => {
                let years = (0..=YEARS_BACK_MAX).map(|back| today.year() - back);
                let newest =
                    years.filter_map(|year| Date::new(year, month, day).ok()).find(|day| *day <= today);
                newest.map_or_else(|| self.date(LEAP_YEAR, month, day), Ok).map(Days::one)
            }
        }
    }

    fn date(self, year: i16, month: i8, day: i8) -> Result<Date, String> {
        Date::new(year, month, day).map_err(|_| {
            let Ok(first) = Date::new(year, month, 1) else {
                return format!("there is no month {month}; a year has 12");
            };
            let month = first.strftime("%B");
            let last = first.last_of_month().day();
            match self {
                Self::Day(None, ..) => format!("{month} has no day {day}; its last is {last}"),
                _ => format!("{month} {year:04} has no day {day}; its last is {last}"),
            }
        })
    }
}

/// One whose February is as long as it can be.
const LEAP_YEAR: i16 = 2024;

/// `2026-11-21`, `2026-11`, `2026`, `2026-w47`; the sign may also be a slash
fn dashed(word: &str) -> Option<Named> {
    let parts: Vec<&str> = word.split(['-', '/']).collect();
    match parts[..] {
        [y] => Some(Named::Year(year(y)?)),
        [y, m] => match m.strip_prefix('w') {
            Some(week) => Some(Named::Week(year(y)?, two_digits(week)?)),
            None => Some(Named::Month(Some(year(y)?), two_digits(m)?)),
        },
        [y, m, d] => Some(Named::Day(Some(year(y)?), two_digits(m)?, two_digits(d)?)),
        _ => None,
    }
}

/// `2026年11月21日`, and what of it is left without a part at either end
fn chinese(word: &str) -> Option<Named> {
    let (said_year, rest) = match word.split_once('年') {
        Some((said, "")) => return Some(Named::Year(year(said)?)),
        Some((said, rest)) => (Some(year(said)?), rest),
        None => (None, word),
    };
    let (month, rest) = rest.split_once('月')?;
    let month = short(month)?;
    if rest.is_empty() {
        return Some(Named::Month(said_year, month));
    }
    let day = rest.strip_suffix('日').or_else(|| rest.strip_suffix('号'))?;
    Some(Named::Day(said_year, month, short(day)?))
}

fn year(word: &str) -> Option<i16> {
    word.parse().ok().filter(|_| word.len() == 4 && is_number(word))
}

fn two_digits(word: &str) -> Option<i8> {
    short(word).filter(|_| word.len() == 2)
}

/// One or two digits.
fn short(word: &str) -> Option<i8> {
    word.parse().ok().filter(|_| word.len() <= 2 && is_number(word))
}

fn is_number(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit())
}

/// `21`, `21st`
fn day(word: &str) -> Option<i8> {
    short(["st", "nd", "rd", "th", "."].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word))
}

fn month(word: &str) -> Option<i8> {
    let word = word.strip_suffix('.').unwrap_or(word);
    let is_named = |name: &&str| {
        *name == word
            || (word == "sept" && *name == "september")
            || (word.len() == MONTH_MIN_BYTES && name.starts_with(word))
    };
    (1..).zip(MONTHS).find(|(_, name)| is_named(name)).map(|(number, _)| number)
}
