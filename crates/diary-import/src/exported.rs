//! Exports for people and spreadsheets, recognized only to be refused: JSON is the format to import.

use jiff::civil::Date;

use super::lines;

/// What its first line has begun with since there are exports.
const CSV: &str = "seq,time,at,author,text";

/// Returns the format of an export that cannot be imported.
pub(super) fn format_of(bytes: &[u8]) -> Option<&'static str> {
    let mut lines = lines::of(bytes).filter(|line| !line.is_blank()).map(|line| line.bytes);
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let mut second = || lines.next().unwrap_or_default();
    match first.strip_prefix("## ") {
        _ if first.starts_with(CSV) => Some("csv"),
        Some(day) if is_heading(day) && second().starts_with(b"- ") => Some("md"),
        None if is_heading(first) && is_hour(second()) => Some("txt"),
        _ => None,
    }
}

/// Matches `2026-11-21 Saturday`.
fn is_heading(line: &str) -> bool {
    let day = line.get(..10).and_then(|day| day.parse::<Date>().ok());
    day.is_some_and(|day| day.strftime("%Y-%m-%d %A").to_string() == line)
}

/// Matches `08:15 anna`.
fn is_hour(line: &[u8]) -> bool {
    matches!(line, [a, b, b':', c, d, b' ', ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_digit()))
}
