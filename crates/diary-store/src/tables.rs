//! What is derived from the day files: which appends are in them, which entries are about other days, and the
//! file that remembers both.

pub(crate) mod cache;
pub(crate) mod keys;
pub(crate) mod own_days;
