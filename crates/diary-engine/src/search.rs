//! Searching: one step at a time, so that others get their turns.

use std::io;
use std::time::Instant;

use bytes::Bytes;
use diary_proto::block::{Gap, Walker};
use diary_proto::entry::{StoredLine, seq_of};
use diary_proto::{Relation, Seal};
use diary_store::{Range, Reader};

use crate::auditor::Auditor;
use crate::limits::{LOOK_UPS_MAX, PAGE_BYTES, SEARCH_PART_MIN_BYTES, SEARCH_STEP_BYTES, SEARCH_STEP_TIME};
use crate::needle::{GAP_WORDS, Needle};
use crate::reading::{Cursor, Page};
use crate::shown::{Marks, text_of};

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

/// What a page of a search has so far.
#[derive(Default)]
struct Found {
    lines: Vec<u8>,
    gaps: Vec<Gap>,
}

/// How far a page was looked at.
enum Looked {
    /// At all of it.
    Whole,
    /// No further than before this entry.
    Before(u64),
    /// The first hit, this entry, takes so many bytes, which are too many.
    TooLong(u64, usize),
}

/// An entry in a page some of whose entries people see otherwise.
struct Met<'a> {
    seq: u64,
    line: &'a [u8],
    /// The line of its newest correction, if it has one.
    newest: Bytes,
    is_hit: bool,
    /// What is missing before it, as far as that is asked for.
    gap: Option<Gap>,
}

/// Visits the entries of such a page, and the gaps that are noted in it, until `visit` says that it is enough: then the
/// entry counts as not met. `next` is the entry that should come next, if what is missing is asked for.
fn each_met<'p>(
    marks: &Marks<'_>,
    needle: &Needle,
    page: &'p [u8],
    seal: Seal,
    next: &mut Option<u64>,
    mut visit: impl FnMut(Result<Met<'p>, Gap>) -> bool,
) -> io::Result<()> {
    for line in page.split_inclusive(|&b| b == b'\n') {
        let bytes = line.strip_suffix(b"\n").unwrap_or(line);
        if let Some(gap) = Gap::of_note(bytes, seal).filter(|_| next.is_none()) {
            if !visit(Err(gap)) {
                break;
            }
            continue;
        }
        let Ok(stored) = StoredLine::parse(bytes, seal) else { continue };
        let seq = stored.seq;
        if next.is_some_and(|next| seq < next) {
            continue;
        }
        let gap = next.filter(|&next| next < seq).map(|first| Gap { first, last: seq - 1 });
        // People do not see it by itself.
        let is_correction = stored.relation.is_some_and(Relation::is_correction);
        let newest = if is_correction { None } else { marks.newest_correction(seq)? };
        let text = text_of(&stored, newest.as_deref(), seal);
        let is_hit = !is_correction && needle.takes(stored.author, &text);
        drop(text);
        if !visit(Ok(Met { seq, line, newest: newest.unwrap_or_default(), is_hit, gap })) {
            break;
        }
        if let Some(next) = next {
            *next = seq + 1;
        }
    }
    Ok(())
}

/// One step of a search.
pub(crate) fn scan(
    reader: &Reader,
    auditor: &Auditor,
    needle: &Needle,
    mut cursor: Cursor,
    max_bytes: usize,
) -> io::Result<Page> {
    let (mut page, mut found) = (Vec::new(), Found::default());
    let (mut ended, mut step) = (false, Step::begin());
    while !ended && found.lines.len() < max_bytes && step.goes_on() {
        let before = (cursor.range.clone(), cursor.walker.clone(), found.lines.len(), found.gaps.len());
        ended = !reader.next_page_into(&mut cursor.range, max_bytes.min(PAGE_BYTES), &mut page)?;
        step.seen += page.len();
        if ended {
            break;
        }
        if let Some(marks) = Marks::of(reader, cursor.shown, &page) {
            let looked = scan_marked(&marks, needle, &page, &mut cursor, max_bytes, &mut step, &mut found)?;
            let (next, needs_bytes) = match looked {
                Looked::Whole => continue,
                Looked::Before(next) => (next, None),
                Looked::TooLong(next, bytes) => (next, Some(bytes)),
            };
            let last = before.0.last;
            cursor.range = before.0;
            reader.narrow(&mut cursor.range, next, last)?;
            match needs_bytes {
                Some(bytes) => return Ok(Page { needs_bytes: Some(bytes), ..page_of(cursor, found, false) }),
                None => break,
            }
        }
        let Found { lines, gaps } = &mut found;
        if !cursor.is_dense() {
            needle.find_lines_among_notes(&page, lines, gaps);
        } else if let Some(walker) = &mut cursor.walker {
            needle.find_lines_and_gaps(&page, walker, lines, gaps);
        } else {
            needle.find_lines(&page, lines);
            cursor.pass(&page, auditor);
        }
        if lines.len() > max_bytes {
            let needs_bytes = lines.len();
            (cursor.range, cursor.walker) = (before.0, before.1);
            lines.truncate(before.2);
            gaps.truncate(before.3);
            if lines.is_empty() {
                return Ok(Page::too_long(cursor, needs_bytes));
            }
            break;
        }
    }
    let last = cursor.last();
    if ended && let Some(gap) = cursor.walker.as_mut().and_then(|walker| walker.finish(last)) {
        gap.write_note(GAP_WORDS, &mut found.lines, cursor.seal);
        found.gaps.push(gap);
    }
    Ok(page_of(cursor, found, ended))
}

fn page_of(cursor: Cursor, Found { lines, gaps }: Found, ended: bool) -> Page {
    Page { lines: lines.into(), cursor, ended, gaps, needs_bytes: None }
}

/// Looks at a page some of whose entries people see otherwise, until the step or the room is used up.
fn scan_marked(
    marks: &Marks<'_>,
    needle: &Needle,
    page: &[u8],
    cursor: &mut Cursor,
    max_bytes: usize,
    step: &mut Step,
    found: &mut Found,
) -> io::Result<Looked> {
    let Found { lines, gaps } = found;
    let (seal, mut looked) = (cursor.seal, Looked::Whole);
    // Where nobody asks what is missing, the notes of sparse ranges still come.
    let checks = cursor.walker.is_some();
    let mut next = cursor.walker.as_ref().map(Walker::next_seq);
    if cursor.is_dense() && !checks {
        next = Some(0);
    }
    let mut looked_up = 0;
    each_met(marks, needle, page, seal, &mut next, |met| {
        let Met { seq, line, newest, is_hit, gap } = match met {
            Ok(met) => met,
            Err(gap) => {
                let before = lines.len();
                gap.write_note(GAP_WORDS, lines, seal);
                let fits = lines.len() <= max_bytes;
                if fits {
                    gaps.push(gap);
                } else {
                    looked = match before {
                        0 => Looked::TooLong(gap.first, lines.len()),
                        _ => Looked::Before(gap.first),
                    };
                    lines.truncate(before);
                }
                return fits;
            }
        };
        let gap = gap.filter(|_| checks);
        let before = lines.len();
        if let Some(gap) = gap {
            gap.write_note(GAP_WORDS, lines, seal);
        }
        let bytes = lines.len() + if is_hit { newest.len() + line.len() } else { 0 };
        let is_over = looked_up > 0 && !step.goes_on();
        if is_over || bytes > max_bytes {
            lines.truncate(before);
            looked = if is_over || before > 0 { Looked::Before(seq) } else { Looked::TooLong(seq, bytes) };
            return false;
        }
        gaps.extend(gap);
        looked_up += usize::from(!newest.is_empty());
        step.seen += newest.len();
        if is_hit {
            lines.extend_from_slice(&newest);
            lines.extend_from_slice(line);
        }
        true
    })?;
    if checks {
        cursor.walker = next.map(|next| Walker::new(next, seal));
    }
    Ok(looked)
}

/// One step of a search with the newest entries first. It ends before the first hit that is not wanted any more, so that
/// gaps right before the last one are told.
pub(crate) fn scan_back(
    reader: &Reader,
    needle: &Needle,
    mut cursor: Cursor,
    max_bytes: usize,
) -> io::Result<Page> {
    let mut found = Found::default();
    let (mut ended, mut step) = (false, Step::begin());
    let has_room = |lines: &[u8]| lines.is_empty() || lines.len() + SEARCH_PART_MIN_BYTES <= max_bytes;
    while !ended && has_room(&found.lines) && step.goes_on() {
        let part_bytes = (max_bytes - found.lines.len()).clamp(SEARCH_PART_MIN_BYTES, PAGE_BYTES);
        let mut rest = cursor.range.clone();
        let Some(part) = Hits::of_end(reader, needle, &cursor, &mut rest, part_bytes)? else {
            ended = true;
            break;
        };
        step.seen += part.seen;
        let marks = Marks::of(reader, cursor.shown, &part.lines);
        let mut stopped = None;
        for line in part.backwards() {
            let seq = seq_of(line);
            if seq.is_some() && cursor.left == 0 {
                ended = true;
                break;
            }
            let newest = match (seq, &marks) {
                (Some(seq), Some(marks)) => marks.newest_correction(seq)?.unwrap_or_default(),
                _ => Bytes::new(),
            };
            let bytes = found.lines.len() + newest.len() + line.len();
            let gap = Gap::of_note(line.strip_suffix(b"\n").unwrap_or(line), cursor.seal);
            if bytes > max_bytes {
                stopped = seq.or(gap.map(|gap| gap.last)).map(|last| (last, bytes));
                break;
            }
            cursor.left -= u64::from(seq.is_some());
            found.lines.extend_from_slice(&newest);
            found.lines.extend_from_slice(line);
            found.gaps.extend(gap);
        }
        let Some((seq, bytes)) = stopped else {
            cursor.range = rest;
            continue;
        };
        let first = cursor.range.first;
        reader.narrow(&mut cursor.range, first, seq)?;
        let needs_bytes = Some(bytes).filter(|_| found.lines.is_empty());
        return Ok(Page { needs_bytes, ..page_of(cursor, found, false) });
    }
    Ok(page_of(cursor, found, ended))
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
        for seq in part.backwards().filter_map(seq_of) {
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
        mut part_bytes: usize,
    ) -> io::Result<Option<Self>> {
        let mut part = loop {
            let mut rest = range.clone();
            let Some(part) = reader.split_end(&mut rest, part_bytes)? else {
                *range = rest;
                return Ok(None);
            };
            // Each is looked up.
            let has_many =
                cursor.shown.is_some() && reader.corrects_more_than(LOOK_UPS_MAX, (part.first, part.last));
            if !has_many || part_bytes <= SEARCH_PART_MIN_BYTES {
                *range = rest;
                break part;
            }
            part_bytes = (part_bytes / 4).max(SEARCH_PART_MIN_BYTES);
        };
        let (dense, last, mut walker) = (part.is_dense(), part.last, Walker::new(part.first, cursor.seal));
        let (mut hits, mut page, mut gaps) = (Self::default(), Vec::new(), Vec::new());
        while reader.next_page_into(&mut part, PAGE_BYTES, &mut page)? {
            hits.seen += page.len();
            let lines = &mut hits.lines;
            if let Some(marks) = Marks::of(reader, cursor.shown, &page) {
                let mut next = dense.then(|| walker.next_seq());
                each_met(&marks, needle, &page, cursor.seal, &mut next, |met| {
                    let (gap, hit) = match met {
                        Err(gap) => (Some(gap), None),
                        Ok(met) => {
                            hits.seen += met.newest.len();
                            (met.gap, met.is_hit.then_some(met.line))
                        }
                    };
                    if let Some(gap) = gap {
                        gap.write_note(GAP_WORDS, lines, cursor.seal);
                    }
                    lines.extend_from_slice(hit.unwrap_or_default());
                    true
                })?;
                if let Some(next) = next {
                    walker = Walker::new(next, cursor.seal);
                }
                continue;
            }
            match dense {
                true => needle.find_lines_and_gaps(&page, &mut walker, lines, &mut gaps),
                false => needle.find_lines_among_notes(&page, lines, &mut gaps),
            }
        }
        if let Some(gap) = walker.finish(last).filter(|_| dense) {
            gap.write_note(GAP_WORDS, &mut hits.lines, cursor.seal);
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
