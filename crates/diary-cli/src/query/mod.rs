//! Which entries are wanted, and in which order.

pub(crate) mod by_time;
pub(crate) mod cursor;
pub(crate) mod each_year;
pub(crate) mod select;
