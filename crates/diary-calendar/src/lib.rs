//! Days and times as people say them, and the days of entries.
//!
//! [`Days`] reads `yesterday`, `last week`, `2026-W47` or 上周一. A [`Calendar`] is that of one reader: it tells which day
//! an entry is of, and reads times such as `yesterday at 6pm`. `chinese` puts what is said in Chinese into English, which
//! `days` and `clock` read.

mod calendar;
mod chinese;
mod clock;
mod days;
mod error;

pub use calendar::Calendar;
pub use days::Days;
pub use error::Error;

const WEEKDAYS: &str = "monday tuesday wednesday thursday friday saturday sunday";
