//! Finding an entry in a day file, by bisection: sound lines stand in the order of their seqs.

use std::io;
use std::ops::Range;

use diary_proto::Seal;
use diary_proto::entry::{StoredLine, seq_of};
use diary_proto::limits::STORED_LINE_MAX_BYTES;

use super::lines::entry_in;
use crate::disk::DiskFile;

/// How much is read at a place that bisection looks at; a few lines of usual length.
const PROBE_BYTES: usize = 4 * 1024;

/// Below this distance a scan is cheaper than another probe.
const SCAN_BYTES: u64 = 64 * 1024;

/// How much is read at once to find the last valid line before long damage.
const SEARCH_BYTES: u64 = 1024 * 1024;

/// The first sound entry at or after `offset`, and where its line starts. Looks no further than `end`.
pub(crate) struct Found {
    pub(crate) offset: u64,
    pub(crate) seq: u64,
}

/// Finds the first entry of the open file, below `end`, whose seq is at least `seq`, by bisection:
/// sound lines stand in the order of their seqs. Damaged lines are passed over.
pub(crate) fn find_seq(file: &dyn DiskFile, seal: Seal, end: u64, seq: u64) -> io::Result<Option<Found>> {
    // Entries that start before `low` have smaller seqs; those that start at or after `high` do not.
    let (mut low, mut high) = (0, end);
    while high - low > SCAN_BYTES {
        let middle = low + (high - low) / 2;
        match first_entry_from(file, seal, middle, high, |_| true)? {
            Some(found) if found.seq < seq => low = found.offset + 1,
            _ => high = middle,
        }
    }
    first_entry_from(file, seal, low, end, |found| found >= seq)
}

/// The first sound entry in this part of a file.
pub(crate) fn first_entry_of(file: &dyn DiskFile, seal: Seal, part: Range<u64>) -> io::Result<Option<Found>> {
    first_entry_from(file, seal, part.start, part.end, |_| true)
}

/// The first entry in this part of a file, sound but for what an editor did.
pub(crate) fn first_edited_of(
    file: &dyn DiskFile,
    seal: Seal,
    part: Range<u64>,
) -> io::Result<Option<Found>> {
    first_from(file, part.start, part.end, |line| Some(entry_in(line, seal)?.0.seq))
}

/// The seq of the newest entry near the end of this part of a file, sound but for what an editor did: the
/// highest seq of the last few KiB with an entry in them.
pub(crate) fn last_entry_of(file: &dyn DiskFile, seal: Seal, part: Range<u64>) -> io::Result<Option<u64>> {
    let (mut below, mut size) = (part.end, PROBE_BYTES as u64);
    while below > part.start {
        let from = below.saturating_sub(size).max(part.start);
        // A line that starts below may end behind that.
        let to = part.end.min(below + STORED_LINE_MAX_BYTES as u64);
        let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(usize::MAX)];
        let read = file.read_full_at(&mut bytes, from)?;
        bytes.truncate(read);
        // The first line may start further up, and the last one is not whole.
        let starts = memchr::memchr_iter(b'\n', &bytes).map(|at| at + 1);
        let starts: Vec<usize> = (from == 0).then_some(0).into_iter().chain(starts).collect();
        let lines = starts.windows(2).map(|line| &bytes[line[0]..line[1] - 1]);
        let newest = lines.filter_map(|line| Some(entry_in(line, seal)?.0.seq)).max();
        if newest.is_some() {
            return Ok(newest);
        }
        (below, size) = (from, SEARCH_BYTES);
    }
    Ok(None)
}

/// The first sound entry that begins in this part of a file and whose seq is `wanted`.
pub(crate) fn first_entry_from(
    file: &dyn DiskFile,
    seal: Seal,
    from: u64,
    end: u64,
    wanted: impl Fn(u64) -> bool,
) -> io::Result<Option<Found>> {
    first_from(file, from, end, |line| {
        // Most lines are of other entries, and it is the last one that must be sound.
        seq_of(line).filter(|&seq| wanted(seq))?;
        Some(StoredLine::parse(line, seal).ok()?.seq)
    })
}

/// The first line in which `entry` finds one, and its seq.
fn first_from(
    file: &dyn DiskFile,
    from: u64,
    end: u64,
    entry: impl Fn(&[u8]) -> Option<u64>,
) -> io::Result<Option<Found>> {
    let mut offset = from;
    // Only the file's beginning is certainly that of a line.
    let mut in_middle = from > 0;
    let mut size = PROBE_BYTES;
    while offset < end {
        let size_here = usize::try_from(end - offset).unwrap_or(usize::MAX).min(size);
        let mut bytes = vec![0; size_here];
        let read = file.read_full_at(&mut bytes, offset)?;
        bytes.truncate(read);
        let mut line_start = 0;
        for line_end in memchr::memchr_iter(b'\n', &bytes) {
            let line = &bytes[line_start..line_end];
            if !std::mem::take(&mut in_middle)
                && let Some(seq) = entry(line)
            {
                return Ok(Some(Found { offset: offset + line_start as u64, seq }));
            }
            line_start = line_end + 1;
        }
        if read < size_here || offset + read as u64 == end {
            return Ok(None);
        }
        match line_start {
            // No line ended: look at more at once, or pass over what can be no line.
            0 if size < STORED_LINE_MAX_BYTES => size = STORED_LINE_MAX_BYTES,
            0 => {
                offset += read as u64;
                in_middle = true;
            }
            consumed => offset += consumed as u64,
        }
        size = (size * 2).min(STORED_LINE_MAX_BYTES);
    }
    Ok(None)
}
