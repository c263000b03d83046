//! A table of counts.

use textwrap::core::display_width;

use super::{By, Count};

/// A heading, and a row for each name, with names at the left and numbers at the right of their columns.
pub(crate) fn table(by: By, rows: &[(String, Count)]) -> String {
    let heading = match by {
        By::Day => "day",
        By::Week => "week",
        By::Month => "month",
        By::Author => "author",
        By::Tag => "tag",
    };
    let numbers = |count: &Count| [count.entries.to_string(), count.words.to_string()];
    let heading = (heading, ["entries".to_owned(), "words".to_owned()]);
    let rows = rows.iter().map(|(name, count)| (name.as_str(), numbers(count)));
    let lines: Vec<_> = std::iter::once(heading).chain(rows).collect();
    let widest = |width: &dyn Fn(&(&str, [String; 2])) -> usize| lines.iter().map(width).max().unwrap_or(0);
    let name_columns = widest(&|(name, _)| display_width(name));
    let columns = [0, 1].map(|column| widest(&|(_, numbers)| numbers[column].len()));
    let line = |(name, numbers): &(&str, [String; 2])| {
        let padding = name_columns - display_width(name);
        let ([entries, words], [wide, wider]) = (numbers, columns);
        format!("{name}{:padding$}  {entries:>wide$}  {words:>wider$}\n", "")
    };
    lines.iter().map(line).collect()
}
