//! Statistics of a diary: entries and words by day, author and tag, as sentences, JSON, tables and the calendar
//! of a year.
//!
//! `counts` and `tag_counts` count entries one by one and keep only numbers. `heat` arranges the days of a year
//! as a calendar, which `map` draws on a terminal and `svg` as a picture. `summary` prints the rest.

mod counts;
mod heat;
mod map;
mod summary;
mod svg;
mod tag_counts;
#[cfg(test)]
mod tests;

pub use counts::{By, Count, Counts};
pub use heat::Heat;
pub use map::{Canvas, draw};
pub use summary::{json, sentences, table};
pub use svg::svg;
pub use tag_counts::TagCounts;

/// Formats `1 day`, `2 days`.
fn count<N: std::fmt::Display + PartialEq + From<u8>>(count: N, one: &str, many: &str) -> String {
    let noun = if count == N::from(1) { one } else { many };
    format!("{count} {noun}")
}
