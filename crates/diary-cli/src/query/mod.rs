//! Which entries are wanted, and in which order.

pub(crate) mod by_time;
pub(crate) mod each_year;
pub(crate) mod select;

use diary_client::{Day, Refusal, Which};
use diary_proto::escape::escape;
use jiff::ToSpan;
use jiff::civil::Date;

use diary_calendar::Days;

/// Why it cannot be known which entries are wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    /// No day.
    #[error(transparent)]
    Date(#[from] diary_calendar::Error),
    /// Nothing that a server takes.
    #[error("{}", .0.message)]
    Refused(#[from] Refusal),
    /// No tag.
    #[error("a tag is one word with a letter in it, such as #travel, travel or @anna")]
    Tag,
    /// No number.
    #[error("--last takes a number or all: --last 50")]
    Last,
    /// Days that end before they begin.
    #[error("--from {from} is after --to {to}; the first day of a range comes first")]
    Backwards { from: Date, to: Date },
    /// Several days where one is meant.
    #[error("\"{}\" is more than one day; try 2026-11-21, Nov 21 or yesterday", escape(.0))]
    Several(String),
    /// Days that are over, for a follow.
    #[error("{0} is over, so nothing can follow; use log")]
    Over(Date),
}

/// The first day that a request can name.
const FIRST_DAY: Date = Date::constant(0, 1, 1);
/// The last one.
const LAST_DAY: Date = Date::MAX;

/// The server's days that may hold what a reader anywhere calls `days`.
pub(crate) fn server_days(days: Days) -> Which {
    let from = days.from.saturating_sub(2.days()).max(FIRST_DAY);
    let to = days.to.saturating_add(2.days());
    Which::Days(Day::Date(from), Day::Date(to))
}
