//! Errors of days and times.

use diary_proto::escape::escape;
use jiff::civil::Date;

/// Most characters quoted of an invalid date.
const QUOTED_MAX_CHARS: usize = 40;

/// Why a day or time cannot be used. Displays as a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a date.
    #[error(
        "\"{}\" is not a date; try 2026-11-21, 2026-11, 2026, Nov 21, yesterday, monday, last week, 3 days ago or 今天",
        quoted(.0)
    )]
    NoDate(String),
    /// The year does not have this week.
    #[error("{year:04} has no week {week}")]
    NoWeek {
        /// ISO 8601 year.
        year: i16,
        /// Number of the missing week.
        week: i8,
    },
    /// The month does not have this day.
    #[error("{month} has no day {day}; its last is {last}")]
    NoDay {
        /// Name of the month, with the year if it was given.
        month: String,
        /// Number of the missing day.
        day: i8,
        /// Last day of the month.
        last: i8,
    },
    /// No year has this month.
    #[error("there is no month {0}; a year has 12")]
    NoMonth(i8),
    /// Not a time.
    #[error(
        "{0:?} is not a time; try \"2015-03-02 08:15\", \"yesterday 18:00\", \"昨天 9:30\", \"2 hours ago\", 21:30 or \
         2015-03-02T08:15:00+08:00"
    )]
    NoTime(String),
    /// The day or the hour is missing.
    #[error("{0:?} needs a day and a time: \"yesterday 22:00\", \"today 1:30\" or 昨晚十点")]
    NotExact(String),
    /// More than one day.
    #[error("{said:?} is more than one day; name one: {first}")]
    ManyDays {
        /// The input.
        said: String,
        /// First of the days.
        first: Date,
    },
    /// Beyond the start of the calendar.
    #[error("{0:?} is too long ago")]
    TooLongAgo(String),
}

fn quoted(said: &str) -> String {
    escape(&said.chars().take(QUOTED_MAX_CHARS).collect::<String>()).into_owned()
}
