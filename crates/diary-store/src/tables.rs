//! What is derived from the day files: which appends are in them, which entries are about other days or belong to
//! earlier ones, and the file that remembers all of it.

pub(crate) mod cache;
pub(crate) mod keys;
pub(crate) mod own_days;
pub(crate) mod related;
