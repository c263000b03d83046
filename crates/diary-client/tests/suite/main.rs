//! The client against a small scripted server.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod appends;
mod connecting;
mod fake;
mod readings;
