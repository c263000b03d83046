//! Days and times in natural language, and the days of entries.
//!
//! [`Days`] parses `yesterday`, `last week`, `2026-W47` or 上周一. A [`Calendar`] belongs to one reader: it
//! returns the day of an entry, and parses times such as `yesterday at 6pm`. `chinese` translates Chinese into
//! English, which `days` and `clock` parse.

mod calendar;
mod chinese;
mod clock;
mod days;
mod error;

pub use calendar::Calendar;
pub use days::Days;
pub use error::Error;

const WEEKDAYS: &str = "monday tuesday wednesday thursday friday saturday sunday";
