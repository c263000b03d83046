//! `on-this-day`: what is of the same day in the years before this one.

use diary_client::{Day, DayStart, Event, Which};
use diary_proto::escape::escape;
use jiff::ToSpan;
use jiff::civil::Date;

use crate::args::Show;
use crate::calendar::Calendar;
use crate::config::Config;
use crate::dates::Days;

use super::pour::{Kept, Sift};
use super::read::{connect, print_all, printer, usage};

/// Years before this one are asked for in one piece: few diaries have any entries there.
const YEAR_FIRST: i16 = 1900;

/// The first day that a request can name.
const FIRST_DAY: Date = Date::constant(0, 1, 1);
/// The last one.
const LAST_DAY: Date = Date::MAX;

/// Prints it, the oldest year first, as `log` does.
pub(crate) async fn run(said: Option<&str>, show: &Show, config: &Config) -> u8 {
    print(said, show, config).await.unwrap_or_else(|code| code)
}

/// The same; either way it is the exit code.
async fn print(said: Option<&str>, show: &Show, config: &Config) -> Result<u8, u8> {
    let day = |today| said.map_or(Ok(today), |said| one_day(said, today)).map_err(|error| usage(&error));
    // What is wrong with it needs no server.
    day(Calendar::here(DayStart::default()).today())?;
    let reader = connect(config).await?;
    let calendar = Calendar::here(reader.welcome().day_start);
    let today = calendar.today();
    let day = day(today)?;
    let (history, printer) = (reader.histories(ranges(day, today.year())), printer(&reader, show, config));
    let sift = Anniversaries { day, this_year: today.year(), calendar };
    let nothing = format!("no entries on {} of earlier years", day.strftime("%B %-d"));
    print_all(&reader, history, sift, Kept::nothing(), printer, &nothing).await
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

/// The server's days that may hold, for a reader anywhere, what is of the same day as `day` before `this_year`. No day
/// is in two of them. The 29th of February is in leap years only.
fn ranges(day: Date, this_year: i16) -> Vec<Which> {
    let which = |from: Date, to: Date| Which::Days(Day::Date(from), Day::Date(to));
    let years = YEAR_FIRST..this_year;
    let days: Vec<Date> = years.filter_map(|year| Date::new(year, day.month(), day.day()).ok()).collect();
    let first = days.first().copied().unwrap_or(LAST_DAY);
    let before = which(FIRST_DAY, first.saturating_sub(3.days()));
    let around = |day: Date| which(day.saturating_sub(2.days()), day.saturating_add(2.days()));
    std::iter::once(before).chain(days.into_iter().map(around)).collect()
}

/// Takes what is of one of them.
struct Anniversaries {
    day: Date,
    this_year: i16,
    calendar: Calendar,
}

impl Sift for Anniversaries {
    fn take(&mut self, event: Event, mut give: impl FnMut(Event)) {
        let wanted = match &event {
            Event::Entry(stored) => {
                let day = self.calendar.day_of(&stored.entry);
                (day.month(), day.day()) == (self.day.month(), self.day.day()) && day.year() < self.this_year
            }
            // It is within two days of one of them, and may have been on it.
            Event::Gap(_) | Event::Damaged { .. } => true,
        };
        if wanted {
            give(event);
        }
    }

    fn end(&mut self, _give: impl FnMut(Event)) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(day: &str, this_year: i16) -> Vec<String> {
        ranges(day.parse().unwrap(), this_year).iter().map(Which::to_string).collect()
    }

    #[test]
    fn every_year_is_asked_for_once() {
        let november = asked("2026-11-21", 2026);
        assert_eq!(november[..2], ["0000-01-01..1900-11-18", "1900-11-19..1900-11-23"]);
        assert_eq!(november.last().unwrap(), "2025-11-19..2025-11-23");
        assert_eq!(november.len(), 1 + 126);
        let new_year = asked("2026-01-01", 2026);
        assert_eq!(
            new_year[..3],
            ["0000-01-01..1899-12-29", "1899-12-30..1900-01-03", "1900-12-30..1901-01-03"]
        );
        let leap = asked("2024-02-29", 2026);
        assert_eq!(leap[..2], ["0000-01-01..1904-02-26", "1904-02-27..1904-03-02"]);
        assert_eq!((leap.last().unwrap().as_str(), leap.len()), ("2024-02-27..2024-03-02", 32));
        assert_eq!(asked("1899-05-05", 1900), ["0000-01-01..9999-12-28"]);
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
