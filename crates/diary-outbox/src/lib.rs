//! Delivers entries to a diary exactly once, even if the program is offline, loses its connection or is killed.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use diary_outbox::{Delivery, Keys, Outbox, Outcome};
//!
//! let outbox = Outbox::new("/var/lib/thermometer/outbox");
//! let mut delivery = Delivery::new("127.0.0.1:8888".parse()?, None, Keys::Kept(outbox))?;
//! delivery.submit("morning", "21.5 °C")?; // on this disk from here on
//! delivery.finish();
//! while let Some(outcome) = delivery.next().await {
//!     match outcome {
//!         Outcome::Acked { tag, ack } => println!("{tag}: entry {} is in the diary", ack.seq),
//!         Outcome::Held(why) => {
//!             println!("{why}; the next delivery sends it");
//!             delivery.stop();
//!         }
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - A [`Delivery`] sends entries to one server, under one name, in the order in which they were submitted. Each
//!   entry has a key, and retries use the same key, so no entry is stored twice.
//! - An [`Outbox`] is a folder with one file per writing run. An entry is in its file from before it is sent until
//!   it is acked. The next run first delivers what earlier runs left.
//! - An entry that was kept for one journal is never sent to another.
//!
//! Start with `delivery` and its `flight` (entries in flight over one client). Below them are `outbox` (the
//! folder), `tray` (the file of one run), `file` (names and locks) and `record` (the lines of a file).

mod delivery;
mod error;
#[cfg(feature = "testing")]
#[allow(missing_docs, clippy::unwrap_used, reason = "it is part of tests")]
pub mod fake;
mod file;
mod flight;
mod outbox;
mod outcome;
mod record;
#[cfg(test)]
mod tests;
mod tray;

pub use delivery::Delivery;
pub use error::Error;
pub use outbox::{Listed, Listing, Outbox};
pub use outcome::{Held, Keys, Outcome};
pub use record::KeptEntry;
