//! The edited line, for code outside the editor.

use std::sync::{Arc, Mutex};

use textwrap::core::display_width;

use super::PROMPT;
use crate::term::lock;

/// Columns between tab stops.
const TAB_COLUMNS: usize = 8;

/// State of the editor, shared by its thread.
#[derive(Clone, Default)]
pub(super) struct Editing(Arc<Mutex<Drawn>>);

#[derive(Default)]
struct Drawn {
    text: String,
    /// Position of the cursor, in bytes.
    cursor: usize,
    /// Width of the terminal when this was drawn.
    columns: usize,
    /// Where the editor itself began a new row: after a full one, when it last drew the whole line.
    row_begun: Option<usize>,
    /// Whether the last key was a backslash at the end.
    ends_in_backslash: bool,
    /// The text each time Enter continued after a backslash.
    went_on: Vec<String>,
    /// Whether the editor has ended.
    is_over: bool,
}

impl Editing {
    /// Sets the line. A `\` that was pasted, or comes from the history, is part of the text.
    pub(super) fn set(&self, text: &str, cursor: usize, columns: usize) {
        let mut line = lock(&self.0);
        let is_typed = match text == line.text {
            true => line.ends_in_backslash,
            false => text.strip_suffix('\\') == Some(&line.text),
        };
        line.ends_in_backslash = is_typed && cursor == text.len();
        text.clone_into(&mut line.text);
        (line.cursor, line.columns) = (cursor, columns);
    }

    /// Records that the whole line is drawn again.
    pub(super) fn draw(&self, text: &str, columns: usize) {
        lock(&self.0).row_begun = (position(text, columns, None).1 == columns).then_some(text.len());
    }

    /// Whether Enter continues with another line.
    pub(super) fn goes_on(&self) -> bool {
        let Drawn { text, ends_in_backslash, went_on, .. } = &mut *lock(&self.0);
        went_on.extend(ends_in_backslash.then(|| text.clone()));
        *ends_in_backslash
    }

    /// Takes the line, without the backslashes that continued it, and begins a new one.
    pub(super) fn take(&self) -> String {
        let Drawn { mut text, went_on, .. } = std::mem::take(&mut *lock(&self.0));
        for before in went_on.iter().rev() {
            // If that was edited since, the backslash was visible and is meant.
            if text.strip_prefix(before).is_some_and(|rest| rest.starts_with('\n')) {
                text.remove(before.len() - 1);
            }
        }
        text
    }

    /// Ends the editor, which leaves this text.
    pub(super) fn end(&self, text: String) {
        *lock(&self.0) = Drawn { text, is_over: true, ..Drawn::default() };
    }

    pub(super) fn is_over(&self) -> bool {
        lock(&self.0).is_over
    }

    /// Returns the rows of the cursor and of the end, from 0.
    pub(super) fn rows(&self) -> (usize, usize) {
        let line = lock(&self.0);
        (line.row(line.cursor, line.columns), line.row(line.text.len(), line.columns))
    }

    /// Returns what clears the line on a terminal that now has `columns`, and moves the cursor to where the editor
    /// is about to clear the rows that it knows of.
    ///
    /// Assumes a terminal that rewraps its contents, which moves the cursor; most do.
    pub(super) fn refit(&self, columns: usize) -> String {
        let (cursor, end) = self.rows();
        let mut line = lock(&self.0);
        let drawn_at = std::mem::replace(&mut line.columns, columns);
        if line.text.is_empty() || drawn_at == columns {
            return String::new();
        }
        format!("{}\r\x1b[J{}", up(line.row(line.cursor, columns)), room(cursor, end))
    }
}

impl Drawn {
    /// Returns the row of a byte position.
    fn row(&self, at: usize, columns: usize) -> usize {
        let (row, column) = position(&self.text[..at], columns, self.row_begun);
        row + usize::from(column == columns || self.row_begun == Some(at))
    }
}

/// Returns what makes room for a line that ends in row `end`, with the cursor in row `cursor`.
pub(super) fn room(cursor: usize, end: usize) -> String {
    format!("{}{}", "\n".repeat(end), up(end - cursor))
}

fn up(rows: usize) -> String {
    if rows == 0 { String::new() } else { format!("\x1b[{rows}A") }
}

/// Returns the row and column after a text that follows the prompt, as the editor counts them.
fn position(text: &str, columns: usize, row_begun: Option<usize>) -> (usize, usize) {
    text.char_indices().fold((0, PROMPT.len()), |(row, column), (at, c)| {
        let (row, column) = if row_begun == Some(at) { (row + 1, 0) } else { (row, column) };
        let width = match c {
            '\n' => return (row + 1, 0),
            '\t' => TAB_COLUMNS - column % TAB_COLUMNS,
            _ => display_width(c.encode_utf8(&mut [0; 4])),
        };
        if column + width > columns { (row + 1, width) } else { (row, column + width) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_backslash_that_was_typed_at_the_end_goes_on() {
        let editing = Editing::default();
        for (text, cursor, goes_on) in [
            ("pasted\\", 7, false),
            ("one", 3, false),
            ("one\\", 4, true),
            ("one\\", 4, true),
            ("one\\", 3, false),
            ("one\\ ", 5, false),
            ("\\one", 1, false),
        ] {
            editing.set(text, cursor, 80);
            assert_eq!(editing.goes_on(), goes_on, "{text} {cursor}");
        }
        assert_eq!((editing.take(), editing.take()), ("\\one".to_owned(), String::new()));
        for text in ["a", "a\\", "a\\\nb", "a\\\nb\\", "a\\\nb\\\nc"] {
            editing.set(text, text.len(), 80);
            editing.goes_on();
        }
        editing.set("a\\\nB\\\nc\\\nd", 10, 80);
        assert_eq!(editing.take(), "a\nB\\\nc\\\nd", "what was changed since, or pasted, is the text's own");
    }

    #[test]
    fn a_line_is_wrapped_anew() {
        let editing = Editing::default();
        let at = |text: &str, cursor: usize, from: usize, to: usize| {
            editing.set(text, cursor, from);
            editing.draw(text, from);
            editing.refit(to)
        };
        let long = "x".repeat(200);
        assert_eq!(at(&long, 200, 80, 50), "\x1b[4A\r\x1b[J\n\n");
        assert_eq!(at(&long, 200, 50, 80), "\x1b[2A\r\x1b[J\n\n\n\n");
        assert_eq!(at(&long, 0, 80, 50), "\r\x1b[J\n\n\x1b[2A");
        // Full rows, two of which the editor ended itself.
        assert_eq!(at(&long[..158], 158, 80, 50), "\x1b[4A\r\x1b[J\n\n");
        assert_eq!(at("今天天气\nx", 14, 7, 80), "\x1b[1A\r\x1b[J\n\n");
        // More was typed since: the third row was begun after the second.
        editing.draw(&long[..158], 80);
        editing.set(&long, 200, 80);
        assert_eq!(editing.refit(120), "\x1b[2A\r\x1b[J\n\n");
        assert_eq!((at(&long, 200, 80, 80), at("", 0, 80, 50)), (String::new(), String::new()));
    }
}
