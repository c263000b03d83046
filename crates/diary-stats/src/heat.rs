//! A year as a calendar: a column per week, a row per weekday, a shade per day.

use std::collections::BTreeMap;

use jiff::ToSpan;
use jiff::civil::{Date, Weekday};

use super::{Count, Counts};
use crate::count;

/// Weeks of a map that ends with a day, including that day's week.
const WEEKS: i64 = 52;

/// Shades of days with entries; 0 is for days without.
pub(crate) const SHADES: u64 = 4;

/// Row names; every other one is blank, for readability.
pub(crate) const ROWS: [&str; 7] = ["Mon", "", "Wed", "", "Fri", "", "Sun"];

/// Width of a month name and a space.
const MONTH_COLUMNS: usize = 4;

/// A calendar with counts.
#[derive(Debug)]
pub struct Heat {
    first: Date,
    last: Date,
    /// Later days are left out, unless they have entries.
    today: Date,
    days: BTreeMap<Date, u64>,
    /// Number of entries from which a day has the darkest shade.
    most: u64,
}

/// A day of a calendar.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Day {
    pub(crate) date: Date,
    pub(crate) entries: u64,
    pub(crate) shade: u64,
}

impl Heat {
    /// Returns the map of the weeks up to that of `last`.
    pub fn up_to(last: Date, today: Date, counts: &Counts) -> Self {
        let first = monday(last).saturating_sub((WEEKS - 1).weeks());
        Self::of(first, last, today, counts)
    }

    /// Returns the map of a calendar year.
    pub fn year(year: i16, today: Date, counts: &Counts) -> Self {
        let first = Date::constant(year, 1, 1);
        Self::of(first, first.last_of_year(), today, counts)
    }

    fn of(first: Date, last: Date, today: Date, counts: &Counts) -> Self {
        let entries = |(day, count): (&Date, &Count)| (*day, count.entries);
        let days: BTreeMap<Date, u64> = counts.days.range(first..=last).map(entries).collect();
        let most = high(days.values().copied().collect()).max(1);
        Self { first, last, today, days, most }
    }

    /// Returns the heading, `2026-01-01 .. 2026-12-31: 3 entries on 1 day`.
    pub(crate) fn heading(&self) -> String {
        let entries = count(self.days.values().sum::<u64>(), "entry", "entries");
        format!("{} .. {}: {entries} on {}", self.first, self.last, count(self.days.len(), "day", "days"))
    }

    /// Returns the legend of the darkest shade.
    pub(crate) fn meaning(&self) -> String {
        format!("{}+ entries a day", self.most)
    }

    /// Returns the columns, each from Monday to Sunday.
    pub(crate) fn weeks(&self) -> Vec<[Option<Day>; 7]> {
        let mondays = monday(self.first).series(1.week()).take_while(|monday| *monday <= self.last);
        // The last day of `Date` is a Friday, so its week is incomplete.
        let day = |monday: Date, day: i64| self.day(monday.checked_add(day.days()).ok()?);
        mondays.map(|monday| [0, 1, 2, 3, 4, 5, 6].map(|number| day(monday, number))).collect()
    }

    fn day(&self, date: Date) -> Option<Day> {
        let entries = self.days.get(&date).copied().unwrap_or(0);
        let is_in = (self.first..=self.last).contains(&date) && (date <= self.today || entries > 0);
        is_in.then(|| Day { date, entries, shade: self.shade(entries) })
    }

    /// Returns a shade from 1, in even steps up to `most`.
    fn shade(&self, entries: u64) -> u64 {
        entries.saturating_mul(SHADES).div_ceil(self.most).min(SHADES)
    }

    /// Returns month names and the columns of their first days. A name that would touch the next one is left
    /// out.
    pub(crate) fn months(&self) -> Vec<(usize, String)> {
        let mut months: Vec<(usize, String)> = Vec::new();
        for (column, week) in self.weeks().iter().enumerate() {
            let Some(day) = week.iter().flatten().find(|day| day.date.day() == 1 || day.date == self.first)
            else {
                continue;
            };
            if months.last().is_some_and(|(last, _)| last + MONTH_COLUMNS > column) {
                months.pop();
            }
            months.push((column, day.date.strftime("%b").to_string()));
        }
        months
    }
}

fn monday(day: Date) -> Date {
    let back = i64::from(Weekday::Monday.until(day.weekday()));
    day.saturating_sub(back.days())
}

/// Returns the 95th percentile, so that one day with thousands of imported entries does not make all others
/// look the same.
fn high(mut counts: Vec<u64>) -> u64 {
    counts.sort_unstable();
    counts.get(counts.len().saturating_sub(1) * 19 / 20).copied().unwrap_or(0)
}
