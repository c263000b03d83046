//! The terminal, or whatever stands in its place.

pub(crate) mod editor;
pub(crate) mod input;
pub(crate) mod output;
pub(crate) mod pager;
pub(crate) mod signals;
pub(crate) mod ui;
pub(crate) mod whole;
