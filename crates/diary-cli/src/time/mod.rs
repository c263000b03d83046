//! Days and times as people say them.

pub(crate) mod calendar;
mod chinese;
mod clock;
pub(crate) mod days;
