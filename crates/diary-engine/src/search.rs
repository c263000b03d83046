//! Searching: one step at a time, so that others get their turns.

use std::io;
use std::time::Instant;

use diary_proto::block::{Gap, Walker};
use diary_store::{Range, Reader};

use crate::auditor::Auditor;
use crate::limits::{PAGE_BYTES, SEARCH_PART_MIN_BYTES, SEARCH_STEP_BYTES, SEARCH_STEP_TIME};
use crate::needle::{GAP_WORDS, Needle};
use crate::reading::{Cursor, Page};
use crate::shown::{Marks, entry_seq, is_divisible};

/// How much one step of a search has done.
struct Step {
    begun: Instant,
    seen: usize,
}

impl Step {
    fn begin() -> Self {
        Self { begun: Instant::now(), seen: 0 }
    }

    /// At most [`SEARCH_STEP_BYTES`], and little more than [`SEARCH_STEP_TIME`].
    fn goes_on(&self) -> bool {
        self.seen < SEARCH_STEP_BYTES && self.begun.elapsed() < SEARCH_STEP_TIME
    }
}

/// One step of a search.
pub(crate) fn scan(
    reader: &Reader,
    auditor: &Auditor,
    needle: &Needle,
    mut cursor: Cursor,
    max_bytes: usize,
) -> io::Result<Page> {
    let (mut page, mut lines, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ended, mut step) = (false, Step::begin());
    let mut page_bytes = max_bytes.min(PAGE_BYTES);
    while !ended && lines.len() < max_bytes && step.goes_on() {
        let before = (cursor.range.clone(), cursor.walker.clone(), gaps.len());
        ended = !reader.next_page_into(&mut cursor.range, page_bytes, &mut page)?;
        step.seen += page.len();
        if ended {
            break;
        }
        let marks = Marks::of(reader, cursor.shown, &page);
        let (marks, mut found) = (marks.as_ref(), Vec::new());
        if !cursor.is_dense() {
            needle.find_lines_among_notes(&page, marks, &mut found, &mut gaps)?;
        } else if let Some(walker) = &mut cursor.walker {
            needle.find_lines_and_gaps(&page, walker, marks, &mut found, &mut gaps)?;
        } else {
            needle.find_lines(&page, marks, &mut found)?;
        }
        // The last page that cannot be made smaller is taken whole.
        let is_last_resort = lines.is_empty() && !is_divisible(&cursor.range, &page);
        let limit = if is_last_resort { usize::MAX } else { max_bytes - lines.len() };
        let found = match marks {
            Some(marks) => marks.put_corrections(&found, limit)?,
            None => Some(found).filter(|found| found.len() <= limit),
        };
        match found {
            Some(found) if found.len() + lines.len() <= max_bytes => {
                lines.extend_from_slice(&found);
                if cursor.is_dense() && cursor.walker.is_none() {
                    cursor.pass(&page, auditor);
                }
            }
            found => {
                (cursor.range, cursor.walker) = (before.0, before.1);
                gaps.truncate(before.2);
                match found {
                    Some(found) if is_last_resort => return Ok(Page::too_long(cursor, found.len())),
                    _ if lines.is_empty() => page_bytes = page.len() / 2,
                    _ => break,
                }
            }
        }
    }
    let last = cursor.last();
    if ended && let Some(gap) = cursor.walker.as_mut().and_then(|walker| walker.finish(last)) {
        gap.write_note(GAP_WORDS, &mut lines, cursor.seal);
        gaps.push(gap);
    }
    Ok(Page { lines: lines.into(), cursor, ended, gaps, needs_bytes: None })
}

/// One step of a search with the newest entries first. It ends before the first hit that is not wanted any more, so that
/// gaps right before the last one are told.
pub(crate) fn scan_back(
    reader: &Reader,
    needle: &Needle,
    mut cursor: Cursor,
    max_bytes: usize,
) -> io::Result<Page> {
    let (mut lines, mut gaps) = (Vec::new(), Vec::new());
    let (mut ended, mut step) = (false, Step::begin());
    let mut part_max_bytes = PAGE_BYTES;
    let has_room = |lines: &[u8]| lines.is_empty() || lines.len() + SEARCH_PART_MIN_BYTES <= max_bytes;
    while !ended && has_room(&lines) && step.goes_on() {
        let part_bytes = (max_bytes - lines.len()).clamp(SEARCH_PART_MIN_BYTES, part_max_bytes);
        let (mut rest, mut left) = (cursor.range.clone(), cursor.left);
        let Some(part) = Hits::of_end(reader, needle, &cursor, &mut rest, part_bytes)? else {
            ended = true;
            break;
        };
        step.seen += part.seen;
        let mut found = Vec::new();
        let mut is_over = false;
        for line in part.backwards() {
            if entry_seq(line).is_some() {
                is_over = left == 0;
                left = left.saturating_sub(1);
            }
            if is_over {
                break;
            }
            found.extend_from_slice(line);
        }
        let is_last_resort = lines.is_empty() && part_bytes == SEARCH_PART_MIN_BYTES;
        let limit = if is_last_resort { usize::MAX } else { max_bytes - lines.len() };
        let found = match Marks::of(reader, cursor.shown, &found) {
            Some(marks) => marks.put_corrections(&found, limit)?,
            None => Some(found).filter(|found| found.len() <= limit),
        };
        match found {
            Some(found) if found.len() + lines.len() <= max_bytes => {
                lines.extend_from_slice(&found);
                ended = is_over;
                gaps.extend(part.gaps);
                (cursor.range, cursor.left) = (rest, left);
            }
            Some(found) if is_last_resort => return Ok(Page::too_long(cursor, found.len())),
            _ if lines.is_empty() => part_max_bytes = (part_bytes / 2).max(SEARCH_PART_MIN_BYTES),
            _ => break,
        }
    }
    Ok(Page { lines: lines.into(), cursor, ended, gaps, needs_bytes: None })
}

/// One step of looking for the first of the newest hits that are wanted: it is behind the newest one that is not.
pub(crate) fn seek(reader: &Reader, needle: &Needle, cursor: &mut Cursor) -> io::Result<()> {
    let Some(mut rest) = cursor.unsought.take() else { return Ok(()) };
    let mut step = Step::begin();
    while step.goes_on() {
        let Some(part) = Hits::of_end(reader, needle, cursor, &mut rest, PAGE_BYTES)? else {
            return Ok(());
        };
        step.seen += part.seen;
        for seq in part.backwards().filter_map(entry_seq) {
            if cursor.left == 0 {
                let last = cursor.range.last;
                reader.narrow(&mut cursor.range, seq + 1, last)?;
                cursor.next = cursor.range.first;
                return Ok(());
            }
            cursor.left -= 1;
        }
    }
    cursor.unsought = Some(rest);
    Ok(())
}

/// What a search has found in a part of a range.
#[derive(Default)]
struct Hits {
    /// Hits and notes, ascending, as they are stored.
    lines: Vec<u8>,
    gaps: Vec<Gap>,
    /// Bytes that were looked at.
    seen: usize,
}

impl Hits {
    /// Those of the last part of a range, which is taken off it. `None` if there is none.
    fn of_end(
        reader: &Reader,
        needle: &Needle,
        cursor: &Cursor,
        range: &mut Range,
        part_bytes: usize,
    ) -> io::Result<Option<Self>> {
        let Some(mut part) = reader.split_end(range, part_bytes)? else { return Ok(None) };
        let (dense, last, mut walker) = (part.is_dense(), part.last, Walker::new(part.first, cursor.seal));
        let (mut hits, mut page) = (Self::default(), Vec::new());
        while reader.next_page_into(&mut part, PAGE_BYTES, &mut page)? {
            hits.seen += page.len();
            let marks = Marks::of(reader, cursor.shown, &page);
            let (marks, lines, gaps) = (marks.as_ref(), &mut hits.lines, &mut hits.gaps);
            match dense {
                true => needle.find_lines_and_gaps(&page, &mut walker, marks, lines, gaps)?,
                false => needle.find_lines_among_notes(&page, marks, lines, gaps)?,
            }
        }
        if let Some(gap) = walker.finish(last).filter(|_| dense) {
            gap.write_note(GAP_WORDS, &mut hits.lines, cursor.seal);
            hits.gaps.push(gap);
        }
        Ok(Some(hits))
    }

    /// Its lines, the last one first.
    fn backwards(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.lines[..];
        std::iter::from_fn(move || {
            let end = rest.len().checked_sub(1)?;
            let begin = memchr::memrchr(b'\n', &rest[..end]).map_or(0, |end| end + 1);
            let line;
            (rest, line) = rest.split_at(begin);
            Some(line)
        })
    }
}
