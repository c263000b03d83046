//! A calendar of shades as SVG 1.1, in light or dark colours to match the page or system. The tooltip of a day
//! shows its date and entries.

use std::fmt::Write;

use super::heat::{Heat, ROWS, SHADES};
use crate::count;

/// Distance between days in pixels.
const STEP: usize = 13;
/// Side of a day in pixels.
const SIDE: usize = 10;
/// Left margin in pixels, for weekday names.
const LEFT: usize = 36;
/// Top margin in pixels, for the heading and month names.
const TOP: usize = 44;
/// Bottom margin in pixels, for the legend.
const BOTTOM: usize = 30;

const STYLE: &str = "\
text{font:10px sans-serif;fill:#57606a}\
.s0{fill:#ebedf0}.s1{fill:#9be9a8}.s2{fill:#40c463}.s3{fill:#30a14e}.s4{fill:#216e39}\
@media(prefers-color-scheme:dark){text{fill:#8b949e}\
.s0{fill:#21262d}.s1{fill:#0e4429}.s2{fill:#006d32}.s3{fill:#26a641}.s4{fill:#39d353}}";

/// Returns the whole file. Entries contribute only numbers, so nothing needs escaping.
pub fn svg(heat: &Heat) -> String {
    let weeks = heat.weeks();
    let (width, height) = (LEFT + weeks.len() * STEP + STEP, TOP + 7 * STEP + BOTTOM);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\">\n<style>{STYLE}</style>\n"
    );
    text(LEFT, 14, &heat.heading(), &mut out);
    for (column, name) in heat.months() {
        text(LEFT + column * STEP, TOP - 8, &name, &mut out);
    }
    for (row, name) in ROWS.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        text(4, TOP + row * STEP + SIDE - 1, name, &mut out);
    }
    for (column, week) in weeks.iter().enumerate() {
        for (row, day) in week.iter().enumerate() {
            let Some(day) = day else { continue };
            let title = format!("{}: {}", day.date, count(day.entries, "entry", "entries"));
            square(LEFT + column * STEP, TOP + row * STEP, day.shade, &title, &mut out);
        }
    }
    legend(heat, &mut out);
    out.push_str("</svg>\n");
    out
}

fn legend(heat: &Heat, out: &mut String) {
    let top = TOP + 7 * STEP + 8;
    text(LEFT, top + SIDE - 1, "0", out);
    let mut left = LEFT + STEP;
    for shade in 0..=SHADES {
        square(left, top, shade, if shade == 0 { "no entries" } else { "" }, out);
        left += STEP;
    }
    text(left + 4, top + SIDE - 1, &heat.meaning(), out);
}

fn text(x: usize, y: usize, text: &str, out: &mut String) {
    // Writing into memory cannot fail.
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\">{text}</text>");
}

fn square(x: usize, y: usize, shade: u64, title: &str, out: &mut String) {
    let title = if title.is_empty() { String::new() } else { format!("<title>{title}</title>") };
    let _ = writeln!(
        out,
        "<rect class=\"s{shade}\" x=\"{x}\" y=\"{y}\" width=\"{SIDE}\" height=\"{SIDE}\" rx=\"2\">{title}</rect>"
    );
}
