//! What `tags` and `stats` count, and how it is shown.
//!
//! Entries go through `counts` (and `tag_counts`) one by one, and only the counts stay. `heat` lays the days of a year
//! out as a calendar, which `map` draws in a terminal and `svg` as a picture; `summary` says the rest, and `table` is
//! for one kind of count.

mod counts;
mod heat;
mod map;
mod summary;
mod svg;
mod table;
mod tag_counts;
#[cfg(test)]
mod tests;

pub(crate) use counts::{By, Count, Counts};
pub(crate) use heat::Heat;
pub(crate) use map::{Look, draw};
pub(crate) use summary::{json, sentences};
pub(crate) use svg::svg;
pub(crate) use table::table;
pub(crate) use tag_counts::TagCounts;
