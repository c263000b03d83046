//! The terminal, or whatever stands in its place.

use std::env;

pub(crate) mod editor;
pub(crate) mod input;
pub(crate) mod output;
pub(crate) mod pager;
pub(crate) mod signals;
pub(crate) mod ui;
pub(crate) mod whole;

/// Terminals that show escape sequences instead of obeying them, and what stands for no terminal at all.
const WITHOUT_ESCAPES: [&str; 5] = ["", "dumb", "emacs", "cons25", "unknown"];

/// Whether TERM names a terminal that obeys escape sequences.
pub(crate) fn obeys_escapes() -> bool {
    env::var("TERM").is_ok_and(|kind| !WITHOUT_ESCAPES.contains(&kind.as_str()))
}
