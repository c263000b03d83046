//! The terminal, or whatever stands in its place.

use std::env;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) mod above;
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

/// What a thread that panicked left is still what there is to show.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
