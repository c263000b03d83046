//! The engine of a journal, and the seam in front of it: append a batch and get its outcome, read from a cursor, watch
//! the head.
//!
//! Sessions depend on this crate and know no day file. The engine here is a single machine: one thread writes, over
//! `diary-store`. A replicated log can come behind the same calls, so callers may rely only on what the calls promise: a
//! seq is not known before the outcome, the entries of one append need not be consecutive, and an outcome can be unknown.
//!
//! - [`Journals`]: those of a data folder; [`Journal`]: the handle to one;
//! - [`Appends`], [`Receipt`], [`Part`]: entries to append, and what became of them; [`InOrder`]: those of a connection
//!   that must not overtake each other;
//! - [`Cursor`], [`Page`], [`Reading`]: reading; [`Earlier`], [`Unfit`]: an entry that another names;
//! - `writer`: the thread that writes, and `rest`, where it is without a thread; `work`: an outcome in the making; `repeats`: the thread that compares retries;
//! - `recent`: the newest batches, for followers; `shown`: entries as people see them;
//! - `search`: the steps of a search; `needle`: what it looks for; `turns`: whose turn it is to search;
//!   `auditor`: the thread that checks what was read and finds
//!   damaged places for the log;
//! - `common`: what all journals share;
//! - [`maintenance`]: verify, repair and archive, beside serving;
//! - [`limits`]: every bound, with its reason.

mod appends;
mod auditor;
mod common;
mod earlier;
mod in_order;
mod journal;
mod journals;
pub mod limits;

pub mod maintenance;
mod needle;
mod open;
mod outcome;
mod reading;
mod recent;
mod repeats;
mod rest;
mod search;
mod shared;
mod shown;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(test)]
mod testing;
mod turns;
mod work;
mod writer;

pub use appends::{Appends, Keys, Own};
pub use earlier::{Earlier, Found, Unfit};
pub use in_order::InOrder;
pub use journal::{About, Journal};
pub use journals::Journals;
pub use needle::Needle;
pub use open::{OpenError, Options};
pub use outcome::{Outcome, Part, Receipt};
pub use reading::{Cursor, Page, ReadError, Reading};
pub use shared::Progress;
pub use turns::Searcher;
