//! What the diary promises, tested from outside. One file a property.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails by panicking")]

mod line_mode;
mod support;
