//! Selects entries and their order.

pub(crate) mod by_time;
pub(crate) mod each_year;
pub(crate) mod select;

use diary_client::{Day, Refusal, Which};
use diary_proto::escape::escape;
use jiff::ToSpan;
use jiff::civil::Date;

use diary_calendar::Days;

/// Why a query is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    /// Not a day.
    #[error(transparent)]
    Date(#[from] diary_calendar::Error),
    /// The server would refuse it.
    #[error("{}", .0.message)]
    Refused(#[from] Refusal),
    /// Not a tag.
    #[error("a tag is one word with a letter in it, such as #travel, travel or @anna")]
    Tag,
    /// Not a number.
    #[error("--last takes a number or all: --last 50")]
    Last,
    /// A range that ends before it begins.
    #[error("the first day of a range comes first: {from} is after {to}")]
    Backwards { from: Date, to: Date },
    /// Several days where one is expected.
    #[error("\"{}\" is more than one day; try 2026-11-21, Nov 21 or yesterday", escape(.0))]
    Several(String),
    /// A follow of days that are over.
    #[error("{0} is over, so nothing can follow; use log")]
    Over(Date),
}

/// First day that a request can name.
const FIRST_DAY: Date = Date::constant(0, 1, 1);
/// Last day that a request can name.
const LAST_DAY: Date = Date::MAX;

/// Returns the server's days that may hold entries of `days` for a reader in any zone.
pub(crate) fn server_days(days: Days) -> Which {
    let from = days.from.saturating_sub(2.days()).max(FIRST_DAY);
    let to = days.to.saturating_add(2.days());
    Which::Days(Day::Date(from), Day::Date(to))
}
