//! Client library of the diary service.
//!
//! ```no_run
//! # async fn example() -> Result<(), diary_client::Error> {
//! use diary_client::{Client, Event, Options, Which};
//!
//! let client = Client::connect("127.0.0.1:8888".parse()?, Options::default()).await?;
//! let ack = client.append("今天天气很好").await?;
//! println!("entry {} is on disk", ack.seq);
//!
//! let mut history = client.history(Which::Last(20));
//! while let Some(event) = history.next().await {
//!     match event? {
//!         Event::Entry(stored) => println!("{}", stored.left),
//!         Event::Gap(gap) => println!("{}..{} are missing", gap.first, gap.last),
//!         Event::Damaged { lines } => println!("{lines} damaged lines were left out"),
//!         Event::Restored { head } => println!("an older copy was restored; it ends with {head}"),
//!     }
//! }
//! client.close().await
//! # }
//! ```
//!
//! Guarantees:
//!
//! - **An entry is written once.** Each entry has a key. Entries that were not acked when the connection broke
//!   are sent again with the same key, even to a server that has restarted since.
//! - **A lost connection is not an error.** After the first connection the client reconnects, until an error
//!   [is final](Error::is_final).
//!   [`Client::state`] reports it; [`Client::give_up`] stops and returns what was not acked.
//! - **Appends share one connection; every reading has its own.** A consumer that stops reading delays only its
//!   own reading: TCP back-pressure makes the server wait, and acks keep coming.
//! - **Nothing is sent to the wrong server.** On a `tls:` address, the server proves who it is before the first byte.
//!   A token never leaves this machine unencrypted.
//!
//! Reading order: [`client`] (the handle), `writer` (the task behind it) and its `window` of unacked entries;
//! [`reader`] (the read-only handle), [`history`] (the readings) and their `cursor`; below both, `redial`,
//! `connection` with [`tls`], and `seen` (what the connections know of the journal).

pub mod address;
mod append;
pub mod client;
mod connection;
mod cursor;
pub mod error;
mod event;
pub mod history;
pub mod reader;
mod redial;
mod seen;
pub mod state;
pub mod tls;
mod window;
mod writer;

pub use address::{Address, At, BadAddress, DEFAULT_PORT};
pub use append::{Ack, NewEntry, NotAcked, Place, Secret};
pub use client::{Client, Options, Pending, Room};
pub use connection::identify;
pub use diary_proto::block::Gap;
pub use diary_proto::entry::{Author, Entry, Key, Producer};
pub use diary_proto::message::{Resume, Welcome};
pub use diary_proto::relation::{Level, Levels, Relation};
pub use diary_proto::{
    Code, Credential, Day, DayStart, Filter, JournalName, OwnTime, Refusal, Scope, Time, Which,
};
pub use error::{Error, ErrorKind};
pub use event::{Block, Correction, Event, Stored};
pub use history::{Blocks, History};
pub use reader::Reader;
pub use state::State;
pub use tls::{Access, BadFingerprint, Fingerprint, Trust};
