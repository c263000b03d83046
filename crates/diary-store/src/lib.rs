//! The journal on disk: day files in a folder, format 1.
//!
//! Blocking code over a small [`Disk`](disk::Disk), so that a simulated disk can stand in; it knows no
//! client and no socket. The way of an entry: [`Appender::stage`] puts its line into the batch,
//! [`Appender::commit`] writes and syncs the batch and moves the [`Head`]; a [`Reader`] gives back
//! whole lines up to the head.
//!
//! In layers; each knows only those below it:
//!
//! - [`mod@open`], [`mod@archive`], [`mod@verify`], [`mod@repair`]: what a program does with a journal;
//! - `append`: the one place that writes entries; `recover`: from a folder in any state to a journal that can
//!   go on; `derive`: the tables of a journal; `plan`: what an archive has still to do; [`scan`]: every line of
//!   every file, with what is wrong in them;
//! - `belong`: which files are the journal's; `quarantine`: the folder for what is set aside;
//! - `view`: what readers see, and the one exit for lines: ranges by seq, by day and from the end, as pages;
//! - `tables`: which appends are in the journal (`keys`), which entries belong to another day than that of
//!   their file (`own_days`), which belong to which earlier ones (`related`), and the file that remembers all
//!   three (`cache`);
//! - `format`: a day file's name, header, lines and end; the small file that a clean stop leaves as evidence;
//! - [`disk`]: the seam to the file system; `sim` (feature `sim`, for tests): a simulated disk that is killed,
//!   cut off and failed at any call.

mod append;
pub mod archive;
mod belong;
mod derive;
pub mod disk;
mod format;
pub mod open;
mod plan;
mod quarantine;
mod recover;
pub mod repair;
pub mod scan;
mod tables;
pub mod verify;
mod view;

pub use append::{Appender, CommitError, Committed, NewEntry, Staged, is_out_of_descriptors};
pub use archive::archive;
pub use derive::{Derived, DerivedLoader};
pub use disk::OpenError;
#[cfg(feature = "sim")]
pub use disk::sim;
pub use format::head::Head;
pub use format::{BATCH_MAX_BYTES, FORMAT};
pub use open::{Opened, is_journal, journals, open};
pub use repair::repair;
pub use tables::cache::Snapshot;
pub use tables::keys::PRODUCER_MAX_RUNS;
pub use verify::verify;
pub use view::{Fresh, Located, Range, Reader};
