//! Days and times as people say them.

pub(crate) mod calendar;
pub(crate) mod clock;
pub(crate) mod days;
