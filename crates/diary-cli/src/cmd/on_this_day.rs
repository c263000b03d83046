//! `on-this-day`: what is of the same day in the years before this one; of another day than today, in this one too.

use std::collections::BTreeSet;

use diary_client::{Day, DayStart, Event, Which};
use diary_proto::Sieve;
use diary_proto::escape::escape;
use jiff::ToSpan;
use jiff::civil::Date;

use crate::cli::Show;
use crate::config::Config;
use crate::query::select::{Conditions, no_entries};
use crate::time::calendar::Calendar;
use crate::time::days::Days;

use super::read::{connect, print_all, print_held, printer, usage};
use crate::query::by_time::by_time;
use crate::query::pour::Sift;

/// Years before this one are asked for in one piece: few diaries have any entries there.
const YEAR_FIRST: i16 = 1900;

/// The first day that a request can name.
const FIRST_DAY: Date = Date::constant(0, 1, 1);
/// The last one.
const LAST_DAY: Date = Date::MAX;

/// Prints it, the oldest year first, as `log` does.
pub(crate) async fn run(said: Option<&str>, conditions: Conditions, show: &Show, config: &Config) -> u8 {
    print(said, conditions, show, config).await.unwrap_or_else(|code| code)
}

/// The same; either way it is the exit code.
async fn print(said: Option<&str>, conditions: Conditions, show: &Show, config: &Config) -> Result<u8, u8> {
    let wanted = |today| Anniversaries::of(said, today).map_err(|error| usage(&error));
    // What is wrong with it needs no server.
    let filter = conditions.filter().map_err(|error| usage(&error))?;
    wanted(Calendar::here(DayStart::default()).today())?;
    let reader = connect(config).await?;
    let calendar = Calendar::here(reader.welcome().day_start);
    let wanted = wanted(calendar.today())?;
    let printer = printer(&reader, show, config);
    let years = if said.is_some() { "any year" } else { "earlier years" };
    let nothing = format!("{} on {} of {years}", no_entries(&filter), wanted.day.strftime("%B %-d"));
    let ask = || reader.histories(wanted.ranges());
    let pick = || Pick { wanted: &wanted, sieve: Sieve::new(&filter), calendar: calendar.clone() };
    match by_time(&reader, ask(), pick(), calendar.clone()).await? {
        Some(events) => Ok(print_held(&events, printer, &nothing)),
        None => print_all(&reader, std::future::ready(Ok(ask())), pick(), printer, &nothing).await,
    }
}

fn one_day(said: &str, today: Date) -> Result<Date, String> {
    let Days { from, to } = Days::parse(said, today)?;
    match from == to {
        true => Ok(from),
        false => {
            Err(format!("\"{}\" is more than one day; say 2026-11-21, Nov 21 or yesterday", escape(said)))
        }
    }
}

/// A day of a month, in the years in which it is wanted.
#[derive(Debug, PartialEq, Eq)]
struct Anniversaries {
    day: Date,
    /// Those since [`YEAR_FIRST`]. All before are wanted, too.
    days: BTreeSet<Date>,
}

impl Anniversaries {
    /// Today, in earlier years; or the day that is said, in all years up to today's. A day that is still to come is
    /// wanted, too, if it is what is said. The 29th of February is in leap years only.
    ///
    /// # Errors
    /// A sentence, if that is no day.
    fn of(said: Option<&str>, today: Date) -> Result<Self, String> {
        let (day, last_year) = match said {
            Some(said) => (one_day(said, today)?, today.year()),
            None => (today, today.year() - 1),
        };
        let in_year = |year| Date::new(year, day.month(), day.day()).ok();
        let to_come = (day.year() > today.year()).then_some(day);
        let days = (YEAR_FIRST..=last_year).filter_map(in_year).chain(to_come).collect();
        Ok(Self { day, days })
    }

    fn has(&self, date: Date) -> bool {
        let is_early = date.year() < YEAR_FIRST;
        self.days.contains(&date)
            || (is_early && (date.month(), date.day()) == (self.day.month(), self.day.day()))
    }

    /// The server's days that may hold, for a reader anywhere, what is of one of them. No day is in two of them.
    fn ranges(&self) -> Vec<Which> {
        let which = |from: Date, to: Date| Which::Days(Day::Date(from), Day::Date(to));
        let first = self.days.first().copied().unwrap_or(LAST_DAY);
        let before = which(FIRST_DAY, first.saturating_sub(3.days()));
        let around = |day: &Date| which(day.saturating_sub(2.days()), day.saturating_add(2.days()));
        std::iter::once(before).chain(self.days.iter().map(around)).collect()
    }
}

/// Takes what is of one of them and fits.
struct Pick<'a> {
    wanted: &'a Anniversaries,
    sieve: Sieve,
    calendar: Calendar,
}

impl Sift for Pick<'_> {
    fn take(&mut self, event: Event, mut give: impl FnMut(Event)) {
        let wanted = match &event {
            Event::Entry(stored) => {
                let entry = &stored.entry;
                self.wanted.has(self.calendar.day_of(entry))
                    && self.sieve.takes(entry.author.as_str(), &entry.text)
            }
            // It is within two days of one of them, and may have been on it.
            Event::Gap(_) | Event::Damaged { .. } | Event::Restored { .. } => true,
        };
        if wanted {
            give(event);
        }
    }

    fn is_full(&self) -> bool {
        false
    }

    fn end(&mut self, _give: impl FnMut(Event)) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(said: Option<&str>, today: &str) -> Vec<String> {
        let wanted = Anniversaries::of(said, today.parse().unwrap()).unwrap();
        wanted.ranges().iter().map(Which::to_string).collect()
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
            Anniversaries::of(said, "2026-11-21".parse().unwrap()).unwrap().has(day.parse().unwrap())
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
            day("last week").unwrap_err(),
            "\"last week\" is more than one day; say 2026-11-21, Nov 21 or yesterday"
        );
    }
}
