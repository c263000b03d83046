//! The client against a small server that does what a test tells it to.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod appends;
mod connecting;
mod fake;
mod readings;
