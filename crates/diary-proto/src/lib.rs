//! What travels between the diary and its clients, and what a stored line looks like.
//!
//! This crate knows no socket and no file; it turns bytes into messages and back. Read it in this
//! order:
//!
//! - [`entry`]: the entry and the line that stores it ([`escape`] for its text, [`seal`] for its
//!   checksum, [`time`] for its clock reading, [`own_time`] for when it happened); [`block`] walks over many such lines and finds gaps;
//! - [`line`](mod@line): line mode, from bytes to lines ([`telnet`] is filtered out on the way, requests of web
//!   browsers are told apart), then [`command`] for lines that start with `/`, and [`answer`] for what the server says;
//! - [`syslog`]: what quiet listeners take, from bytes to messages;
//! - [`frame`] and [`message`]: frame mode, length-prefixed; [`filter`]: which entries are wanted, [`tags`] among what they may have;
//! - [`journal`]: names of journals;
//! - [`proxy`]: the header that a proxy may send before either;
//! - [`refusal`]: why something was not taken, in both modes;
//! - [`limits`]: every bound of the protocol.
//!
//! The protocol itself, byte by byte, is this crate's README.

pub mod answer;
mod author;
pub mod block;
pub mod command;
mod credential;
pub mod entry;
mod erase;
pub mod escape;
pub mod filter;
pub mod frame;
mod http;
pub mod journal;
mod key;
pub mod limits;
pub mod line;
pub mod message;
pub mod own_time;
pub mod proxy;
pub mod refusal;
pub mod relation;
pub mod seal;
pub mod syslog;
pub mod tags;
pub mod telnet;
pub mod time;

pub use command::{Command, Day, Scope, Which};
pub use credential::Credential;
pub use entry::{Author, Entry, Key, Producer, StoredLine};
pub use filter::{Filter, Sieve};
pub use jiff::civil::Date;
pub use journal::JournalName;
pub use own_time::{DayStart, OwnTime};
pub use refusal::{Code, Refusal};
pub use relation::Relation;
pub use seal::Seal;
pub use time::Time;
