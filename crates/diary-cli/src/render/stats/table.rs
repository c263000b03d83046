//! A table of counts.

use std::fmt::Write;

use textwrap::core::display_width;

use super::{By, Count};

/// A header and a row for each name; names are aligned left, numbers right.
pub(crate) fn table(by: By, rows: &[(String, Count)]) -> String {
    let heading = by.name();
    let numbers = |count: &Count| (count.entries.to_string(), count.words.to_string());
    let heading = (heading.as_str(), ("entries".to_owned(), "words".to_owned()));
    let rows = rows.iter().map(|(name, count)| (name.as_str(), numbers(count)));
    let lines: Vec<_> = std::iter::once(heading).chain(rows).collect();
    let (mut columns, mut wide, mut wider) = (0, 0, 0);
    for (name, (entries, words)) in &lines {
        columns = columns.max(display_width(name));
        (wide, wider) = (wide.max(entries.len()), wider.max(words.len()));
    }
    let mut out = String::new();
    for (name, (entries, words)) in lines {
        let padding = columns - display_width(name);
        // Writing into memory cannot fail.
        let _ = writeln!(out, "{name}{:padding$}  {entries:>wide$}  {words:>wider$}", "");
    }
    out
}
