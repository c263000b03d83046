//! What stands in the files: day files and their lines, and the small file that a clean stop leaves.

pub(crate) mod day_file;
pub(crate) mod find;
pub(crate) mod head;
pub(crate) mod lines;
pub(crate) mod notes;
pub(crate) mod sealed;
pub(crate) mod stray;
pub(crate) mod tail;

/// Longest batch: what one write and one fdatasync commit together. It bounds what can be torn, and so
/// what start-up must look at.
pub const BATCH_MAX_BYTES: usize = 4 * 1024 * 1024;

/// The format of the day files that this crate writes, and the newest that it reads.
pub const FORMAT: u64 = 1;
