//! Numbered lines of a file.

use std::fmt::Display;

/// A line without its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'f> {
    /// Line number, from 1.
    pub(super) number: u64,
    pub(super) bytes: &'f [u8],
    /// Offset in the file.
    pub(super) start: usize,
}

impl Line<'_> {
    pub(super) fn is_blank(&self) -> bool {
        self.bytes.trim_ascii().is_empty()
    }

    pub(super) fn span(&self) -> Span {
        Span { first: self.number, last: self.number }
    }
}

/// Lines of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Span {
    /// Returns the lines of an entry that begins on `first` and has these bytes, without blank lines at its
    /// end.
    pub(super) fn of(first: u64, bytes: &[u8]) -> Self {
        Self { first, last: first + feeds(bytes.trim_ascii_end()) }
    }

    /// Returns the message for an entry left out. It names all lines of the entry, since a
    /// [`Trouble`](super::Trouble) has only one number.
    pub(super) fn left_out(self, why: impl Display) -> String {
        let Self { first, last } = self;
        if first == last {
            why.to_string()
        } else {
            format!("{why}; the entry on lines {first}..{last} is left out")
        }
    }
}

/// Counts the line feeds.
pub(super) fn feeds(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Returns all lines. A final line feed starts no further line; a CR before a line feed belongs to it.
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
