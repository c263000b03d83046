//! Entries as people see them: where one was corrected, its newest correction stands right before it.

use std::borrow::Cow;
use std::io;

use bytes::Bytes;
use diary_proto::Seal;
use diary_proto::entry::{SealedLine, StoredLine, seq_of};
use diary_store::{Range, Reader};

use crate::limits::LOOK_UPS_MAX;

/// The first of the newest `count` entries up to `head`, corrections not counted.
pub(crate) fn first_of_newest(reader: &Reader, count: u64, head: u64) -> u64 {
    // Whether there are enough from here on.
    let suffices = |first: u64| head + 1 - first - reader.corrections_from(first, head) >= count;
    let (mut low, mut high) = (1, head + 1);
    if count == 0 || !suffices(low) {
        return if count == 0 { high } else { low };
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if suffices(middle) { low = middle } else { high = middle }
    }
    low
}

/// The next lines of a range, as people see them if `shown` says as of which head. They may be more than `max_bytes` where
/// the first entry takes more with its correction.
///
/// # Errors
/// Those of reading day files. The range stays where it was.
pub(crate) fn next_page(
    reader: &Reader,
    range: &mut Range,
    shown: Option<u64>,
    max_bytes: usize,
) -> io::Result<Option<Vec<u8>>> {
    let before = shown.map(|_| range.clone());
    let Some(lines) = reader.next_page(range, max_bytes)? else { return Ok(None) };
    let marks = Marks::of(reader, shown, &lines).filter(Marks::has_corrected);
    let Some((marks, before)) = marks.zip(before) else { return Ok(Some(lines)) };
    let mut page = Vec::with_capacity(lines.len());
    match marks.put_corrections(&lines, max_bytes, &mut page) {
        Ok(None) => {}
        // Behind its last entry there is only damage, which tells nothing.
        Ok(Some(taken)) if taken >= before.last => {}
        Ok(Some(taken)) => {
            *range = before;
            let last = range.last;
            reader.narrow(range, taken + 1, last)?;
        }
        Err(error) => {
            *range = before;
            return Err(error);
        }
    }
    Ok(Some(page))
}

/// What people see otherwise than it is stored, of some lines.
pub(crate) struct Marks<'a> {
    reader: &'a Reader,
    head: u64,
    /// Those of the entries that are corrected, ascending.
    corrected: Vec<u64>,
}

impl<'a> Marks<'a> {
    /// What of these lines people see otherwise; `None` if nothing.
    pub(crate) fn of(reader: &'a Reader, shown: Option<u64>, lines: &[u8]) -> Option<Self> {
        let head = shown.filter(|&head| reader.corrections_from(1, head) > 0)?;
        let seqs = || lines.split(|&b| b == b'\n').filter_map(seq_of);
        let mut corrected = reader.corrected((seqs().min()?, seqs().max()?), seqs(), head);
        corrected.sort_unstable();
        let has_corrections = || memchr::memmem::find(lines, b" corrects=").is_some();
        (!corrected.is_empty() || has_corrections()).then_some(Self { reader, head, corrected })
    }

    /// Whether an entry among them is corrected; otherwise there are only corrections in their own places.
    pub(crate) fn has_corrected(&self) -> bool {
        !self.corrected.is_empty()
    }

    /// Adds these lines to a page, each newest correction before its entry, as many as fit; at least one entry. Returns the
    /// last entry that it took, if it did not take all.
    fn put_corrections(&self, lines: &[u8], max_bytes: usize, page: &mut Vec<u8>) -> io::Result<Option<u64>> {
        let (mut at, mut looked_up) = (0, 0);
        for line in lines.split_inclusive(|&b| b == b'\n') {
            let newest = match seq_of(line).filter(|seq| self.corrected.binary_search(seq).is_ok()) {
                // Where the number of a damaged line is another's, that would get the correction.
                Some(seq) if self.sound_seq(line) == Some(seq) => self.newest_correction(seq)?,
                _ => None,
            };
            looked_up += usize::from(newest.is_some());
            let newest = newest.unwrap_or_default();
            let is_full = page.len() + newest.len() + line.len() > max_bytes || looked_up > LOOK_UPS_MAX;
            // Only behind a sound line can be gone on.
            let taken = || lines[..at].rsplit(|&b| b == b'\n').find_map(|line| self.sound_seq(line));
            if is_full && let Some(taken) = taken() {
                return Ok(Some(taken));
            }
            page.extend_from_slice(&newest);
            page.extend_from_slice(line);
            at += line.len();
        }
        Ok(None)
    }

    fn sound_seq(&self, line: &[u8]) -> Option<u64> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        Some(SealedLine::check(line, self.reader.seal())?.seq)
    }

    /// The line of an entry's newest correction, with its line feed.
    pub(crate) fn newest_correction(&self, seq: u64) -> io::Result<Option<Bytes>> {
        if self.corrected.binary_search(&seq).is_err() {
            return Ok(None);
        }
        self.reader.newest_correction(seq, self.head)
    }
}

/// The text of an entry with this line, as people see it.
pub(crate) fn text_of<'l>(line: &StoredLine<'l>, newest: Option<&'l [u8]>, seal: Seal) -> Cow<'l, str> {
    let newest = newest.and_then(|newest| {
        let newest = newest.strip_suffix(b"\n").unwrap_or(newest);
        StoredLine::parse(newest, seal).ok()
    });
    newest.unwrap_or(*line).unescaped()
}

#[cfg(test)]
mod tests;
