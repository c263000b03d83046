//! The diary service: sockets in front, a journal behind, and a session for each connection.
//!
//! Read it along the way of an entry:
//!
//! - [`config`]: flags, `DIARY_*` variables and defaults; [`limits`]: every bound, with its reason;
//! - [`server`]: start, serve, drain; `listener`, `unix_socket`: bind; `handed_over`: sockets that
//!   others have bound; `accept`: connections become sessions; `places`: how many may;
//! - `transport`: a connection's bytes, in TLS or not; `tls`: the server's certificate; `peer`: who is at its other end; `guard`: what they may do;
//! - `front`: bytes to requests and answers to bytes, for line mode, frame mode, quiet listeners and UDP;
//! - `session`: one connection's conversation, whichever mode;
//! - `context`: what sessions share; `budget`: memory that they hold because of their peers, bounded in sum;
//! - `maintenance`: journals, verify, repair and archive; `tokens`: adds, lists and removes tokens; both beside serving.
//!
//! The program is [`main`]: `program`, and `outlet`, by which its log holds nothing up. A program that embeds a [`Server`] has a
//! subscriber of its own for `tracing`, and that one must not block: sessions and the writer log on their own threads.
//!
//! The journal itself is behind [`diary_engine`]; nothing here knows a day file.

mod accept;
mod budget;
pub mod config;
mod context;
mod front;
mod guard;
mod handed_over;
pub mod limits;
mod listener;
mod maintenance;
mod outlet;
mod peer;
mod places;
mod program;
pub mod server;
mod session;
mod start_error;
mod tls;
mod tokens;
mod transport;
mod unix_socket;
mod zone;

pub use config::{Config, Listen, TlsFiles};
pub use guard::Rules;
pub use handed_over::HandedOver;
pub use limits::Limits;
pub use program::main;
pub use server::{Reload, Server, Stopped};
pub use start_error::StartError;
pub use tls::TlsError;
pub use zone::UnknownZone;
