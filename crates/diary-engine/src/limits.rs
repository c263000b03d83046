//! Every bound of the engine, unit last in the name, with its reason.

use diary_store::BATCH_MAX_BYTES;

/// Shortest stored line: a one-digit seq, a time, and one byte each of author and text.
const LINE_MIN_BYTES: usize = 52;

/// Entries that the writer judges for one batch, staged or not: as many as fit one if they are all stored. Entries that
/// are refused or were sent before take time and none of the batch's bytes; whoever is in the batch must not wait for
/// any number of them.
pub const BATCH_MAX_ENTRIES: usize = BATCH_MAX_BYTES / LINE_MIN_BYTES;

/// What an entry costs at least, beside its text. It takes about as much in a batch, and without this a budget of bytes
/// would not bound the work: one of 8 MiB would hold 1.6 million texts of one byte.
pub const ENTRY_MIN_BYTES: usize = 32;

/// What one page of a reading may hold.
pub const PAGE_BYTES: usize = 128 * 1024;

/// Batches that are kept in memory for those who follow: one who is further behind reads the disk.
pub const RECENT_MAX_BYTES: usize = 1024 * 1024;
/// See [`RECENT_MAX_BYTES`].
pub const RECENT_MAX_BATCHES: usize = 64;

/// Threads that read the disk: more would only contend for it. The runtime that sessions run on is built with as many
/// threads for blocking work.
pub const READER_THREADS: usize = 16;

/// Searches that look at the disk at once: the other threads are for those who read.
pub const SEARCHES_MAX: usize = READER_THREADS / 4;

/// Bytes that one step of a search looks at: some milliseconds of work, so that handing it over costs nothing beside it.
pub const SEARCH_STEP_BYTES: usize = 32 * 1024 * 1024;

/// Gaps that are told in the log, each once; beyond that, `verify` is the way to see them all.
pub const GAPS_TOLD: usize = 1024;
