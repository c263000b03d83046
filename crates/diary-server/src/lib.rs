//! The diary service: sockets in front, one writer behind, and a session for each connection.
//!
//! Read it along the way of an entry:
//!
//! - [`config`]: flags, `DIARY_*` variables and defaults; [`limits`]: every bound, with its reason;
//! - [`server`]: bind, accept, drain;
//! - `front`: bytes to requests and answers to bytes, for line mode, frame mode and UDP;
//! - `session`: one connection's conversation, whichever mode;
//! - [`journal`]: the seam to the engine (commit, read, watch the head);
//! - `writer`: the actor that alone writes day files;
//! - `needle`: what a search looks for;
//! - `upkeep`: verify, repair and archive, beside serving.

pub mod config;
mod context;
mod front;
pub mod journal;
pub mod limits;
mod needle;
mod partial;
mod program;
pub mod server;
mod session;
mod socket;
mod stream;
mod upkeep;
mod writer;
mod zone;

pub use config::{Config, Listen};
pub use limits::Limits;
pub use program::main;
pub use server::{Server, StartError, Stopped};
pub use zone::UnknownZone;
