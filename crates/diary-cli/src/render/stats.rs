//! The numbers of `tags` and `stats`.
//!
//! `counts` and `tag_counts` take entries one by one and keep only numbers. `heat` arranges the days of a year as a
//! calendar, which `map` draws on a terminal and `svg` as a picture. `summary` prints the rest.

mod counts;
mod heat;
mod map;
mod summary;
mod svg;
mod tag_counts;
#[cfg(test)]
mod tests;

pub(crate) use counts::{By, Count, Counts};
pub(crate) use heat::Heat;
pub(crate) use map::{Canvas, draw};
pub(crate) use summary::{json, sentences, table};
pub(crate) use svg::svg;
pub(crate) use tag_counts::TagCounts;
