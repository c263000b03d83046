//! The client of the diary as a library.
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
//! What to know about it:
//!
//! - **An entry is written once.** Each gets a key; what was not acked when the connection broke is
//!   sent again with the same key, also to a server that has restarted since.
//! - **A lost connection is no error.** After the first one the client reconnects for ever;
//!   [`Client::state`] tells, [`Client::give_up`] ends it and says what was not acked.
//! - **Appends share one connection; every reading has its own.** Someone who stops reading holds up
//!   nothing but that reading: TCP tells the server to wait, and acks keep coming.
//!
//! Read it in this order: [`client`] (the handle), `writer` (the task behind it) and its `window` of
//! unacked entries; [`reader`] (the handle of those who only read), [`history`] (the readings) and their `cursor`; below
//! both `redial` and `connection`.

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
pub mod state;
mod window;
mod writer;

pub use address::{Address, BadAddress, DEFAULT_PORT};
pub use append::{Ack, NewEntry, NotAcked, Place, Secret};
pub use client::{Client, Options, Pending, Room};
pub use diary_proto::block::Gap;
pub use diary_proto::entry::{Author, Entry, Key, Producer};
pub use diary_proto::message::{Resume, Welcome};
pub use diary_proto::{Code, Day, DayStart, Filter, OwnTime, Refusal, Scope, Time, Which};
pub use error::{Error, ErrorKind};
pub use event::{Block, Event, Stored};
pub use history::{Blocks, History};
pub use reader::Reader;
pub use state::State;
