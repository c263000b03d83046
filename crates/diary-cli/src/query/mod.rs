//! Which entries are wanted, and reading them.

pub(crate) mod by_time;
pub(crate) mod cursor;
pub(crate) mod pour;
pub(crate) mod select;
