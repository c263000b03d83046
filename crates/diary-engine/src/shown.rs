//! Entries as people see them: where one was corrected, its newest correction stands right before it.

use std::borrow::Cow;
use std::io;

use diary_proto::StoredLine;
use diary_proto::entry::parse_number;
use diary_store::{Range, Reader};

use crate::limits::SEARCH_PART_MIN_BYTES;

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
/// a few entries take more with their corrections.
///
/// # Errors
/// Those of reading day files. The range stays where it was.
pub(crate) fn next_page(
    reader: &Reader,
    range: &mut Range,
    shown: Option<u64>,
    max_bytes: usize,
) -> io::Result<Option<Vec<u8>>> {
    let mut page_bytes = max_bytes;
    loop {
        let before = range.clone();
        let Some(lines) = reader.next_page(range, page_bytes)? else { return Ok(None) };
        let Some(marks) = Marks::of(reader, shown, &lines) else { return Ok(Some(lines)) };
        let limit = if is_divisible(range, &lines) { max_bytes } else { usize::MAX };
        match marks.put_corrections(&lines, limit) {
            Ok(Some(lines)) => return Ok(Some(lines)),
            Ok(None) => page_bytes = lines.len() / 2,
            Err(error) => {
                *range = before;
                return Err(error);
            }
        }
        *range = before;
    }
}

/// Whether a page of fewer bytes would have fewer of these lines.
pub(crate) fn is_divisible(range: &Range, lines: &[u8]) -> bool {
    let may_be_smaller = range.has_small_pages() || lines.len() > SEARCH_PART_MIN_BYTES;
    may_be_smaller && memchr::memchr(b'\n', lines).is_some_and(|end| end + 1 < lines.len())
}

/// The seq of a line that is no note.
pub(crate) fn entry_seq(line: &[u8]) -> Option<u64> {
    parse_number(&line[..memchr::memchr(b' ', line)?])
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
        let seqs = || lines.split(|&b| b == b'\n').filter_map(entry_seq);
        let corrected = reader.corrected(seqs().min()?, seqs().max()?, head);
        let has_corrections = || memchr::memmem::find(lines, b" corrects=").is_some();
        (!corrected.is_empty() || has_corrections()).then_some(Self { reader, head, corrected })
    }

    /// The lines, each newest correction before its entry; `None` if they would take more than `limit` bytes.
    pub(crate) fn put_corrections(&self, lines: &[u8], limit: usize) -> io::Result<Option<Vec<u8>>> {
        let mut shown = Vec::with_capacity(lines.len());
        for line in lines.split_inclusive(|&b| b == b'\n') {
            if let Some(seq) = entry_seq(line)
                && let Some(correction) = self.newest_correction(seq)?
            {
                shown.extend_from_slice(&correction);
            }
            shown.extend_from_slice(line);
            if shown.len() > limit {
                return Ok(None);
            }
        }
        Ok(Some(shown))
    }

    /// Whether people see an entry whose author and text `takes` takes. Of corrections they see none by itself.
    pub(crate) fn take(&self, line: &StoredLine<'_>, takes: impl Fn(&str, &str) -> bool) -> io::Result<bool> {
        if line.relation.is_some_and(|relation| relation.is_correction()) {
            return Ok(false);
        }
        let correction = self.newest_correction(line.seq)?;
        let newest = correction.as_deref().and_then(|correction| {
            let line = correction.strip_suffix(b"\n").unwrap_or(correction);
            StoredLine::parse(line, self.reader.seal()).ok()
        });
        let text: Cow<'_, str> = newest.unwrap_or(*line).unescaped();
        Ok(takes(line.author, &text))
    }

    fn newest_correction(&self, seq: u64) -> io::Result<Option<Vec<u8>>> {
        if self.corrected.binary_search(&seq).is_err() {
            return Ok(None);
        }
        self.reader.newest_correction(seq, self.head)
    }
}

#[cfg(test)]
mod tests;
