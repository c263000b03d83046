//! Days and times as people say them.

pub(crate) mod calendar;
mod chinese;
mod clock;
pub(crate) mod days;

const WEEKDAYS: &str = "monday tuesday wednesday thursday friday saturday sunday";
