//! Which entries are wanted, and in which order.

pub(crate) mod by_time;
pub(crate) mod cursor;
pub(crate) mod each_year;
pub(crate) mod select;

use diary_client::{Day, Which};
use jiff::ToSpan;
use jiff::civil::Date;

use diary_calendar::Days;

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
