//! The lines of a file, with their numbers.

/// A line without its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'f> {
    /// From 1.
    pub(super) number: u64,
    pub(super) bytes: &'f [u8],
    /// Where it begins in the file.
    pub(super) start: usize,
}

impl Line<'_> {
    pub(super) fn is_blank(&self) -> bool {
        self.bytes.trim_ascii().is_empty()
    }
}

/// All lines. A line feed at the end begins no other line; a CR before one belongs to it.
pub(super) fn of(bytes: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut start = 0;
    let mut number = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(start..).filter(|rest| !rest.is_empty())?;
        let end = memchr::memchr(b'\n', rest);
        let line = &rest[..end.unwrap_or(rest.len())];
        let this = start;
        start += end.unwrap_or(rest.len()) + 1;
        number += 1;
        Some(Line { number, bytes: line.strip_suffix(b"\r").unwrap_or(line), start: this })
    })
}
