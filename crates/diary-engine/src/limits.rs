//! Every bound of the engine, unit last in the name, with its reason.

use std::time::Duration;

use diary_store::BATCH_MAX_BYTES;

/// Shortest stored line: a one-digit seq, a time, and one byte each of author and text.
const LINE_MIN_BYTES: usize = 52;

/// Entries that the writer judges for one batch, staged or not: as many as a full batch can hold. Refused and repeated
/// entries take time but none of the batch's bytes, and the rest of the batch must not wait for any number of them.
pub const BATCH_MAX_ENTRIES: usize = BATCH_MAX_BYTES / LINE_MIN_BYTES;

/// What an entry costs a budget at least, beside its text. Without this a budget of bytes would not bound the work: 8 MiB
/// would hold 1.6 million texts of one byte.
pub const ENTRY_MIN_BYTES: usize = 32;

/// What one page of a reading may hold.
pub const PAGE_BYTES: usize = 128 * 1024;

/// Batches kept in memory for followers. One that is further behind reads the disk.
pub const RECENT_MAX_BYTES: usize = 1024 * 1024;
/// See [`RECENT_MAX_BYTES`].
pub const RECENT_MAX_BATCHES: usize = 64;

/// The same of all journals together. Past it, followers read the disk.
pub const RECENT_ALL_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Threads that read the disk; more would only contend for it. The runtime of the sessions is built with as many threads
/// for blocking work.
pub const READER_THREADS: usize = 16;

/// Searches that scan at once. The other threads are for reading, and never for searches.
pub const SEARCHES_MAX: usize = READER_THREADS / 4;

/// Readings that take a thread at once, so that searches have theirs whatever these wait for.
pub const READINGS_MAX: usize = READER_THREADS - SEARCHES_MAX;

/// Bytes that one step of a search scans: what a disk without much in memory reads in a tenth of a second.
pub const SEARCH_STEP_BYTES: usize = 32 * 1024 * 1024;

/// The least that a search from the end looks at together: finding a place costs as much as reading so much.
pub const SEARCH_PART_MIN_BYTES: usize = 4 * 1024;

/// How long one step of a search lasts, where others may wait for theirs: so long that the hand-over costs little beside
/// it. A full step takes as long where nothing is found and nothing waits for the disk.
pub const SEARCH_STEP_TIME: Duration = Duration::from_millis(8);

/// What a searcher that has used less than others may use before them: some steps, for those that it could not take while
/// its hits were sent. Whoever waits for long gets no more.
pub const SEARCH_CREDIT_MAX: Duration = Duration::from_millis(100);

/// A reading as people see it waits so long for what is derived. With a cache that takes some hundredths of a second;
/// without one, as long as it takes to read the whole journal.
pub const SHOWN_WAIT_MAX: Duration = Duration::from_secs(1);

/// Earlier entries that are looked up in one step: each takes some tens of microseconds where nothing waits for the disk.
pub const LOOK_UPS_MAX: usize = 64;

pub use diary_store::PRODUCER_MAX_RUNS;

/// Gaps that are logged, each once. `verify` lists them all.
pub const GAPS_TOLD: usize = 1024;

/// Appends whose retried entries wait to be compared: as much as may wait for the writer, so that they leave its budget to
/// others.
pub const REPEATS_MAX_BYTES: usize = 8 * 1024 * 1024;

/// A writer gives its thread back when nothing has come for so long: journals that are written now and then keep theirs,
/// and a thousand that were written once have none.
pub const WRITER_IDLE: Duration = Duration::from_secs(30);

/// Journals that are stopped at once: each writes two small files, if it has written anything.
pub const STOPS_AT_ONCE: usize = 64;

/// Between two pages that are checked after they were read: with [`PAGE_BYTES`] it makes 64 MiB a second, which takes less
/// than a thirtieth of one core.
pub const AUDIT_PAUSE: Duration = Duration::from_millis(2);

/// Ranges of entries that are remembered as checked, or as to be checked: readers far apart make many. It takes less than
/// 1 MiB.
pub const AUDIT_RANGES_MAX: usize = 8 * 1024;

/// A stop waits so long for damage to be logged. To find its places may take a walk through large day files.
pub const AUDIT_STOP_MAX: Duration = Duration::from_millis(500);
