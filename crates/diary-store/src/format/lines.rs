//! All lines of a file, one after the other.

use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::thread;

use diary_proto::Seal;
use diary_proto::entry::StoredLine;
use diary_proto::limits::STORED_LINE_MAX_BYTES;
use diary_proto::line::without_byte_order_mark;
use diary_proto::seal::SEAL_BYTES;

use crate::disk::DiskFile;

/// How much is read at once.
const READ_BYTES: usize = 1024 * 1024;

/// Gives every line of a file, up to `end`, to `visit`, without its line feed. Returns whether the last
/// one had a line feed.
///
/// # Errors
/// Those of reading it.
pub(crate) fn for_each_line(file: &dyn DiskFile, end: u64, mut visit: impl FnMut(&[u8])) -> io::Result<bool> {
    while_lines(file, 0, end, |_, line| {
        visit(line);
        ControlFlow::Continue(())
    })
}

/// The same from a line that starts at `from` on, until `visit`, which is told where each line starts, has seen
/// enough.
///
/// # Errors
/// Those of reading it.
pub(crate) fn while_lines(
    file: &dyn DiskFile,
    from: u64,
    end: u64,
    mut visit: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> io::Result<bool> {
    // A line that begins in one piece and ends in a later one.
    let mut begun = Vec::new();
    let (mut line_start, mut piece_start) = (from, from);
    while_pieces(file, from, end, |mut piece| {
        let piece_end = piece_start + piece.len() as u64;
        while let Some(line_end) = memchr::memchr(b'\n', piece) {
            if begun.is_empty() {
                visit(line_start, &piece[..line_end])?;
            } else {
                begun.extend_from_slice(&piece[..line_end]);
                visit(line_start, &begun)?;
                begun.clear();
            }
            piece = &piece[line_end + 1..];
            line_start = piece_end - piece.len() as u64;
        }
        piece_start = piece_end;
        // What is longer than any line is damage, of which no more than that need be kept.
        let room = (STORED_LINE_MAX_BYTES + 1).saturating_sub(begun.len());
        begun.extend_from_slice(&piece[..piece.len().min(room)]);
        ControlFlow::Continue(())
    })?;
    Ok(begun.is_empty())
}

/// A line as it was before an editor put a byte order mark before it or a CR behind it; `None` if it did neither. No disk
/// does that to a line that it tears.
pub(crate) fn unedited(line: &[u8]) -> Option<&[u8]> {
    let without = without_byte_order_mark(line);
    let without = without.strip_suffix(b"\r").unwrap_or(without);
    (without.len() < line.len()).then_some(without)
}

/// An entry of the journal, also if an editor has changed its line so, and its line as it was.
pub(crate) fn entry_in(line: &[u8], seal: Seal) -> Option<(StoredLine<'_>, &[u8])> {
    let entry = |line| Some((StoredLine::parse(line, seal).ok()?, line));
    entry(line).or_else(|| entry(unedited(line)?))
}

/// Whether a file has lines of two batches, of whatever journal: a second one is written only once the first is committed.
///
/// # Errors
/// Those of reading it.
pub(crate) fn holds_committed_lines(file: &dyn DiskFile) -> io::Result<bool> {
    let (mut batches, mut resealed) = (BTreeSet::new(), Vec::new());
    while_lines(file, 0, file.size()?, |_, line| {
        // Every field is checked but the checksum, which needs the journal's id.
        resealed.clear();
        resealed.extend_from_slice(&line[..line.len().saturating_sub(SEAL_BYTES)]);
        Seal::PLAIN.write(&mut resealed, 0);
        batches
            .extend(StoredLine::parse(&resealed[..resealed.len() - 1], Seal::PLAIN).map(|line| line.batch()));
        if batches.len() > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(batches.len() > 1)
}

/// Gives a file, from `from` up to `end` or its own, to `visit`, piece by piece. While one is visited, the next is
/// read: a disk that has to wait for whoever looks at its bytes is read at half its speed.
fn while_pieces(
    file: &dyn DiskFile,
    from: u64,
    end: u64,
    mut visit: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<()> {
    let read = |mut piece: Vec<u8>, offset: u64| {
        piece.resize(usize::try_from(end - offset).unwrap_or(usize::MAX).min(READ_BYTES), 0);
        let read = file.read_full_at(&mut piece, offset)?;
        piece.truncate(read);
        io::Result::Ok(piece)
    };
    if end <= from + READ_BYTES as u64 {
        let _ = visit(&read(Vec::new(), from)?);
        return Ok(());
    }
    thread::scope(|scope| {
        let (full, pieces) = mpsc::sync_channel(1);
        let (empty, reusable) = mpsc::channel();
        scope.spawn(move || {
            for offset in (from..end).step_by(READ_BYTES) {
                // Whoever visits has met an error or seen enough if it is gone.
                let piece = reusable.try_recv().unwrap_or_default();
                if full.send(read(piece, offset)).is_err() {
                    return;
                }
            }
        });
        for piece in pieces {
            let piece = piece?;
            if visit(&piece).is_break() {
                break;
            }
            let _ = empty.send(piece);
        }
        Ok(())
    })
}
