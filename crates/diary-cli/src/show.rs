//! How entries are printed: formats, colour, the reader's zone and width.

use clap::ValueEnum;
use serde::Deserialize;

/// Whether to print in colour.
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

/// How entries look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Days as headings, times in the reader's zone, long texts wrapped
    Pretty,
    /// As the server keeps them, one line an entry
    Plain,
    /// One line an entry, for people
    Short,
    /// Markdown
    Md,
    /// Comma-separated values with a heading line
    Csv,
    /// Plain text with days as headings
    Txt,
    /// One JSON object a line
    Json,
}
