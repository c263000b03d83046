//! Why what was said is no day or time.

use diary_proto::escape::escape;
use jiff::civil::Date;

/// Most characters that are quoted of a date that is none.
const QUOTED_MAX_CHARS: usize = 40;

/// Why what was said cannot be used. Displays as a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is no date.
    #[error(
        "\"{}\" is not a date; try 2026-11-21, 2026-11, 2026, Nov 21, yesterday, monday, last week, 3 days ago or 今天",
        quoted(.0)
    )]
    NoDate(String),
    /// The year has no such week.
    #[error("{year:04} has no week {week}")]
    NoWeek {
        /// The year of ISO 8601.
        year: i16,
        /// The week that it does not have.
        week: i8,
    },
    /// The month has no such day.
    #[error("{month} has no day {day}; its last is {last}")]
    NoDay {
        /// Its name, with the year if that was said.
        month: String,
        /// The day that it does not have.
        day: i8,
        /// Its last day.
        last: i8,
    },
    /// No year has such a month.
    #[error("there is no month {0}; a year has 12")]
    NoMonth(i8),
    /// It is no time.
    #[error(
        "{0:?} is not a time; try \"2015-03-02 08:15\", \"yesterday 18:00\", \"昨天 9:30\", \"2 hours ago\", 21:30 or \
         2015-03-02T08:15:00+08:00"
    )]
    NoTime(String),
    /// It leaves the day or the hour open.
    #[error("{0:?} needs a day and a time: \"yesterday 22:00\", \"today 1:30\" or 昨晚十点")]
    NotExact(String),
    /// It is of more than one day.
    #[error("{said:?} is more than one day; name one: {first}")]
    ManyDays {
        /// What was said.
        said: String,
        /// The first of the days.
        first: Date,
    },
    /// No calendar goes back so far.
    #[error("{0:?} is too long ago")]
    TooLongAgo(String),
}

fn quoted(said: &str) -> String {
    escape(&said.chars().take(QUOTED_MAX_CHARS).collect::<String>()).into_owned()
}
