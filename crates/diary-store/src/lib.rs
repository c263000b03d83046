//! The journal on disk: day files in a folder, format 1.
//!
//! Blocking code over a small [`Disk`](disk::Disk), so that a simulated disk can stand in; it knows no
//! client and no socket. The way of an entry: [`Appender::stage`] puts its line into the batch,
//! [`Appender::commit`] writes and syncs the batch and moves the [`Head`]; a [`Reader`] gives back
//! whole lines up to the head.
//!
//! - [`disk`]: the seam to the file system;
//! - [`day_file`]: a day file's name and header, and finding a seq in it by bisection;
//! - [`head`]: the small file that a clean stop leaves as evidence;
//! - [`recover`]: from a folder in any state to a journal that can go on; `tail`: what its end tells;
//! - [`append`]: the one place that writes entries;
//! - [`read`]: ranges by seq, by day (`days`) and from the end, as pages of whole lines;
//! - [`scan`]: every line of every file, with what is wrong in them;
//! - [`mod@verify`]: the same, as a report; [`mod@repair`]: a sound copy; [`mod@archive`]: a fresh beginning;
//! - [`keys`]: which appends are in the journal already; `own_days`: which entries belong to another day than
//!   that of their file; [`cache`]: the file that remembers both;
//! - `sim` (feature `sim`, for tests): a simulated disk that is killed, cut off and failed at any call.

pub mod append;
pub mod archive;
pub mod cache;
pub mod day_file;
mod days;
pub mod disk;
pub mod head;
pub mod keys;
mod own_days;
pub mod read;
pub mod recover;
pub mod repair;
pub mod scan;
#[cfg(feature = "sim")]
pub mod sim;
mod tail;
pub mod verify;

pub use append::{Appender, CommitError, Committed, NewEntry, Staged};
pub use archive::archive;
pub use cache::{Derived, DerivedLoader, Snapshot};
pub use head::Head;
pub use keys::PRODUCER_MAX_RUNS;
pub use read::{Fresh, Located, Range, Reader};
pub use recover::{OpenError, Opened, open};
pub use repair::repair;
pub use verify::verify;

/// Longest batch: what one write and one fdatasync commit together. It bounds what can be torn, and so
/// what start-up must look at.
pub const BATCH_MAX_BYTES: usize = 4 * 1024 * 1024;

/// The format of the day files that this crate writes, and the newest that it reads.
pub const FORMAT: u64 = 1;
