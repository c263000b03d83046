//! Which entries: by day, by number, by author, by what they hold.

use diary_client::Author;

/// Which entries, for every command that reads.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Select {
    /// The entries of one day, month or year: 2026-11-21, 2026-11, yesterday, last monday, 3 days ago, 今天
    #[arg(long, value_name = "DATE")]
    pub(crate) on: Option<String>,
    /// From this day on
    #[arg(long, value_name = "DATE", conflicts_with = "on")]
    pub(crate) from: Option<String>,
    /// Up to this day, with it
    #[arg(long, value_name = "DATE", conflicts_with = "on")]
    pub(crate) to: Option<String>,
    /// Only the newest so many, of those that fit
    #[arg(long, value_name = "N|all")]
    pub(crate) last: Option<String>,
    /// Only by this author
    #[arg(long, value_name = "NAME", value_parser = crate::args::parse_name)]
    pub(crate) author: Option<Author>,
    /// Only with this in their text (smart case); may be given more than once
    #[arg(long, value_name = "TEXT")]
    pub(crate) contains: Vec<String>,
    /// Only without this in their text (smart case); may be given more than once
    #[arg(long, value_name = "TEXT")]
    pub(crate) not: Vec<String>,
    /// The newest first
    #[arg(long)]
    pub(crate) reverse: bool,
}
