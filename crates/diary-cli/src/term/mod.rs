//! The terminal or its substitute.

use std::env;
use std::io::{self, IsTerminal};
use std::sync::{Mutex, MutexGuard, PoisonError};

use clap::ValueEnum;
use rustix::termios::tcgetwinsize;
use serde::Deserialize;

pub(crate) mod above;
pub(crate) mod editor;
pub(crate) mod input;
pub(crate) mod output;
pub(crate) mod pager;
pub(crate) mod signals;
pub(crate) mod ui;
pub(crate) mod whole;

/// When to use colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Colour {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Colour {
    /// Whether to colour stdout.
    pub(crate) fn is_on(self) -> bool {
        let unset = |name| env::var_os(name).is_none_or(|value| value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => io::stdout().is_terminal() && unset("NO_COLOR") && obeys_escapes(),
        }
    }
}

/// Values of TERM for terminals that show escape sequences instead of obeying them, or for no terminal at all.
const WITHOUT_ESCAPES: [&str; 5] = ["", "dumb", "emacs", "cons25", "unknown"];

/// Whether TERM names a terminal that obeys escape sequences.
fn obeys_escapes() -> bool {
    env::var("TERM").is_ok_and(|kind| !WITHOUT_ESCAPES.contains(&kind.as_str()))
}

/// Returns the columns of the terminal on stdout; 0 if unknown or not a terminal.
pub(crate) fn width() -> usize {
    tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_col.into())
}

/// Locks a mutex. Data that a panicking thread left is still worth showing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
