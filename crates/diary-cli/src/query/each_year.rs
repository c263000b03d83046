//! The same day of each year.

use std::collections::BTreeSet;
use std::fmt;

use diary_client::{Day, Scope, Which};
use jiff::ToSpan;
use jiff::civil::Date;

use super::{FIRST_DAY, LAST_DAY, QueryError, server_days};
use diary_calendar::Days;

/// Earlier years are requested in one piece: few diaries have any entries there.
const YEAR_FIRST: i16 = 1900;

/// A day of a month, in the selected years.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EachYear {
    day: Date,
    days: BTreeSet<Date>,
    /// Description of the years.
    years: &'static str,
}

impl EachYear {
    /// Selects today's date in earlier years, or the day that `said` names in all years up to this one. A named day
    /// in a future year is included. 29 February exists in leap years only.
    ///
    /// # Errors
    /// It is not a single day.
    pub(crate) fn of(said: Option<&str>, today: Date) -> Result<Self, QueryError> {
        let (day, last_year, years) = match said {
            Some(said) => (one_day(said, today)?, today.year(), "any year"),
            None => (today, today.year() - 1, "earlier years"),
        };
        let in_year = |year| Date::new(year, day.month(), day.day()).ok();
        let to_come = (day.year() > today.year()).then_some(day);
        let days = (FIRST_DAY.year()..=last_year).filter_map(in_year).chain(to_come).collect();
        Ok(Self { day, days, years })
    }

    pub(crate) fn has(&self, date: Date) -> bool {
        self.days.contains(&date)
    }

    /// Returns the server's days that may hold entries of these days for a reader in any zone. The ranges do not
    /// overlap.
    pub(crate) fn ranges(&self) -> Vec<Scope> {
        let days = || self.days.range(Date::constant(YEAR_FIRST, 1, 1)..);
        let first = days().next().copied().unwrap_or(LAST_DAY);
        let before = Which::Days(Day::Date(FIRST_DAY), Day::Date(first.saturating_sub(3.days())));
        let around = |&day: &Date| server_days(Days { from: day, to: day });
        std::iter::once(before).chain(days().map(around)).map(|which| Scope::from(which).shown()).collect()
    }
}

impl fmt::Display for EachYear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.day.strftime("%B %-d"), self.years)
    }
}

fn one_day(said: &str, today: Date) -> Result<Date, QueryError> {
    let Days { from, to } = Days::parse(said, today)?;
    if from == to { Ok(from) } else { Err(QueryError::Several(said.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(said: Option<&str>, today: &str) -> Vec<String> {
        let wanted = EachYear::of(said, today.parse().unwrap()).unwrap();
        wanted.ranges().iter().map(|scope| scope.which.to_string()).collect()
    }

    #[test]
    fn every_year_is_asked_for_once() {
        let november = asked(None, "2026-11-21");
        assert_eq!(november[..2], ["0000-01-01..1900-11-18", "1900-11-19..1900-11-23"]);
        assert_eq!(november.last().unwrap(), "2025-11-19..2025-11-23");
        assert_eq!(november.len(), 1 + 126);
        let new_year = asked(None, "2026-01-01");
        assert_eq!(
            new_year[..3],
            ["0000-01-01..1899-12-29", "1899-12-30..1900-01-03", "1900-12-30..1901-01-03"]
        );
        let leap = asked(Some("Feb 29"), "2026-11-21");
        assert_eq!(leap[..2], ["0000-01-01..1904-02-26", "1904-02-27..1904-03-02"]);
        assert_eq!((leap.last().unwrap().as_str(), leap.len()), ("2024-02-27..2024-03-02", 32));
        assert_eq!(asked(None, "1900-05-05"), ["0000-01-01..9999-12-28"]);
    }

    #[test]
    fn a_day_that_is_said_is_of_this_year_too() {
        let has = |said: Option<&str>, day: &str| {
            EachYear::of(said, "2026-11-21".parse().unwrap()).unwrap().has(day.parse().unwrap())
        };
        for (said, day, wanted) in [
            (None, "2025-11-21", true),
            (None, "2026-11-21", false),
            (Some("today"), "2026-11-21", true),
            (Some("yesterday"), "2026-11-20", true),
            (Some("2015-11-20"), "2026-11-20", true),
            (Some("2026-12-24"), "2026-12-24", true),
            (Some("2026-12-24"), "1850-12-24", true),
            (Some("2026-12-24"), "1850-12-25", false),
            (Some("2031-05-07"), "2026-05-07", true),
            (Some("2031-05-07"), "2031-05-07", true),
            (Some("2031-05-07"), "2027-05-07", false),
            (Some("1850-05-07"), "1870-05-07", true),
        ] {
            assert_eq!(has(said, day), wanted, "{said:?} {day}");
        }
        let to_come = asked(Some("9999-12-31"), "2026-11-21");
        assert_eq!(to_come.last().unwrap(), "9999-12-29..9999-12-31");
    }

    #[test]
    fn one_day_is_meant() {
        let day = |said| one_day(said, "2026-11-21".parse().unwrap()).map(|day| day.to_string());
        assert_eq!(day("yesterday"), Ok("2026-11-20".to_owned()));
        assert_eq!(day("Nov 22"), Ok("2025-11-22".to_owned()));
        assert_eq!(
            day("last week").unwrap_err().to_string(),
            "\"last week\" is more than one day; try 2026-11-21, Nov 21 or yesterday"
        );
    }
}
