//! A calendar of shades on a terminal.

use std::fmt::Write;

use textwrap::core::display_width;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

use super::heat::{Day, Heat, ROWS, SHADES};

/// Shades without colour.
const CHARACTERS: [&str; 5] = ["·", "░", "▒", "▓", "█"];

/// Background colours: greens of the 256-colour palette. A day without entries has none.
const COLOURS: [&str; 5] = ["\x1b[2m", "\x1b[48;5;22m", "\x1b[48;5;28m", "\x1b[48;5;34m", "\x1b[48;5;40m"];

const RESET: &str = "\x1b[0m";

/// Width of a row name and a space.
const NAME_COLUMNS: usize = 4;

/// Properties of the output.
#[derive(Debug, Clone, Copy)]
pub struct Canvas {
    /// Whether it shows colours.
    pub colour: bool,
    /// Width of the terminal in columns; 0 if it is not a terminal.
    pub width: usize,
}

/// Narrower terminals are treated as this wide.
const WIDTH_MIN: usize = 12;

impl Canvas {
    fn columns(self) -> usize {
        if self.width == 0 { usize::MAX } else { self.width.max(WIDTH_MIN) }
    }

    /// Wraps lines to the width.
    pub(crate) fn wrap(self, lines: &str) -> String {
        // Dates and ranges are not split.
        let options = Options::new(self.columns())
            .word_separator(WordSeparator::AsciiSpace)
            .word_splitter(WordSplitter::NoHyphenation)
            .wrap_algorithm(WrapAlgorithm::FirstFit);
        let rows = lines.lines().flat_map(|line| textwrap::wrap(line, &options));
        rows.map(|row| format!("{row}\n")).collect()
    }
}

/// Draws a line of totals, the months, a row per weekday, and the legend.
pub fn draw(heat: &Heat, canvas: Canvas) -> String {
    let weeks = heat.weeks();
    let room = canvas.columns() - NAME_COLUMNS;
    // Two columns are about square.
    let columns = if canvas.width > 0 && 2 * weeks.len() <= room { 2 } else { 1 };
    // Without room for all weeks, leave out the oldest ones.
    let left_out = weeks.len().saturating_sub(room / columns);
    let mut out = canvas.wrap(&heat.heading());
    out.push_str(&months(heat, left_out, columns, canvas));
    for (number, name) in ROWS.iter().enumerate() {
        let mut row = format!("{name:NAME_COLUMNS$}");
        for week in &weeks[left_out..] {
            row.push_str(&cell(week[number].map(|Day { shade, .. }| shade), columns, canvas.colour));
        }
        out.push_str(row.trim_end_matches(' '));
        out.push('\n');
    }
    out.push_str(&legend(heat, columns, canvas));
    out
}

/// Returns the legend, on one line if it fits.
fn legend(heat: &Heat, columns: usize, canvas: Canvas) -> String {
    let shades: Vec<_> = (0..=SHADES).map(|shade| cell(Some(shade), columns, canvas.colour)).collect();
    let shades = shades.join(if canvas.colour { " " } else { "" });
    let (shades, meaning) = (format!("0 {}", shades.trim_end()), heat.meaning());
    let line = format!("{:NAME_COLUMNS$}{shades} {meaning}", "");
    match display_width(&line) <= canvas.columns() {
        true => format!("{line}\n"),
        false => format!("{shades}\n{}", canvas.wrap(&meaning)),
    }
}

/// Returns the line of month names that fit.
fn months(heat: &Heat, left_out: usize, columns: usize, canvas: Canvas) -> String {
    let mut line = String::new();
    for (column, name) in heat.months() {
        let Some(column) = column.checked_sub(left_out) else { continue };
        let start = NAME_COLUMNS + column * columns;
        if start + name.len() <= canvas.columns() {
            let _ = write!(line, "{:1$}{name}", "", start.saturating_sub(line.len()));
        }
    }
    line.push('\n');
    line
}

fn cell(shade: Option<u64>, columns: usize, colour: bool) -> String {
    let blank = " ".repeat(columns);
    let Some(shade) = shade.and_then(|shade| usize::try_from(shade).ok()) else { return blank };
    let what = match (colour, shade) {
        (_, 0) => format!("{:columns$}", CHARACTERS[0]),
        (true, _) => blank,
        (false, shade) => CHARACTERS[shade].repeat(columns),
    };
    if colour { format!("{}{what}{RESET}", COLOURS[shade]) } else { what }
}
