//! The end of the newest day file: which lines of it are sound, and where a torn tail begins.

use std::io;

use diary_proto::block::Gap;
use diary_proto::entry::{StoredLine, is_note};
use diary_proto::limits::STORED_LINE_MAX_BYTES;
use diary_proto::{Seal, Time};

use super::BATCH_MAX_BYTES;
use super::day_file::{HEADER_MAX_BYTES, Header};
use super::lines::entry_in;
use crate::disk::DiskFile;

/// No batch, its file's header and the line feed before it included, is longer.
pub(crate) const TAIL_MAX_BYTES: u64 = (BATCH_MAX_BYTES + STORED_LINE_MAX_BYTES + HEADER_MAX_BYTES) as u64;

/// How much is searched at a time for the last sound line before long damage.
const SEARCH_BYTES: u64 = 1024 * 1024;

/// The longest line, which may lie across two of those.
const LINE_BYTES: u64 = STORED_LINE_MAX_BYTES as u64;

/// No stored line is shorter: seq, time, author, text, index, key and checksum at their shortest. Where
/// lines cannot be counted, it tells how many there may have been.
const LINE_MIN_BYTES: u64 = 52;

/// What the end of the newest file tells.
pub(crate) struct Tail {
    /// All of the file is known to be committed.
    pub(crate) whole: bool,
    /// Where a torn tail begins.
    pub(crate) torn: Option<u64>,
    /// The last entry that is kept.
    pub(crate) last: Option<Last>,
    /// The highest seq of any sound line, kept or not in the case of corruption.
    pub(crate) max_seq: u64,
    /// Entries that may have been in damage at the very end that is no torn tail.
    pub(crate) lost_at_end: u64,
    /// How many batches have a sound line: 0, 1, or 2 for more.
    pub(crate) batches: u8,
    /// Where the last batch that is kept begins.
    pub(crate) last_batch_at: u64,
}

/// What is known of a file's bytes from elsewhere.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    /// So many bytes are committed.
    pub(crate) committed: u64,
    /// Of so many it is known how many entries they hold.
    pub(crate) evident: u64,
    /// Entries up to this one are committed.
    pub(crate) seq: u64,
}

/// What the next entry goes on from.
#[derive(Clone, Copy)]
pub(crate) struct Last {
    pub(crate) seq: u64,
    pub(crate) crc: u32,
    pub(crate) time: Option<Time>,
}

/// A sound line and where it starts.
struct Sound {
    offset: u64,
    seq: u64,
    batch: u64,
    last: Last,
}

/// A stretch of the tail.
enum Piece {
    Sound(Sound),
    /// From here to the next sound line or note.
    Damage(u64),
    /// Entries up to this one were there, and are committed: a note says that they are missing, or it is in a line that an
    /// editor has changed.
    Known(u64),
}

impl Tail {
    /// Looks at the last bytes of a file of `len` bytes.
    ///
    /// # Errors
    /// Those of reading it.
    pub(crate) fn read(
        file: &dyn DiskFile,
        len: u64,
        known: Known,
        header: Option<Header>,
        seal: Seal,
    ) -> io::Result<Self> {
        let from = len.saturating_sub(TAIL_MAX_BYTES);
        let mut bytes = vec![0; usize::try_from(len - from).unwrap_or(usize::MAX)];
        let read = file.read_full_at(&mut bytes, from)?;
        bytes.truncate(read);
        let pieces = pieces(&bytes, from, known.committed, seal);
        // Where the file begins before the window, no batch is so long that its damage fills the window.
        let seq_before = (from == 0).then(|| header.map_or(0, |header| header.first - 1));
        let torn = torn_at(&pieces, seq_before, known)
            // Without a header, a second batch is all that proves the first one committed: it stays.
            .filter(|&at| {
                header.is_some() || count_batches(&pieces, at) > 1 || count_batches(&pieces, len) < 2
            });
        let mut tail = Self::of_pieces(&pieces, torn, from);
        tail.whole = len > 0 && known.committed >= len;
        if let (Some(Piece::Damage(at)), None) = (pieces.last(), torn) {
            tail.lost_at_end = len.saturating_sub(known.evident.max(*at)).div_ceil(LINE_MIN_BYTES);
        }
        if from > 0 && tail.last.is_none() {
            tail.find_earlier(file, from, len, seal)?;
        }
        Ok(tail)
    }

    /// Where damage is longer than any batch: the last sound line before it, and how many entries there
    /// may have been behind that.
    fn find_earlier(&mut self, file: &dyn DiskFile, from: u64, len: u64, seal: Seal) -> io::Result<()> {
        let mut end = from;
        while end > 0 {
            let start = end.saturating_sub(SEARCH_BYTES);
            let mut bytes = vec![0; usize::try_from(len.min(end + LINE_BYTES) - start).unwrap_or(usize::MAX)];
            let read = file.read_full_at(&mut bytes, start)?;
            let pieces = pieces(&bytes[..read], start, 0, seal);
            let found = pieces.into_iter().rev().find_map(|piece| match piece {
                Piece::Sound(sound) => Some(sound),
                Piece::Damage(_) | Piece::Known(_) => None,
            });
            if let Some(sound) = found {
                self.last = Some(sound.last);
                self.lost_at_end = (len - sound.offset).div_ceil(LINE_MIN_BYTES);
                return Ok(());
            }
            end = start;
        }
        self.lost_at_end = len.div_ceil(LINE_MIN_BYTES);
        Ok(())
    }

    fn of_pieces(pieces: &[Piece], torn: Option<u64>, from: u64) -> Self {
        let sound = || {
            pieces.iter().filter_map(|piece| match piece {
                Piece::Sound(sound) => Some(sound),
                Piece::Damage(_) | Piece::Known(_) => None,
            })
        };
        let noted = pieces.iter().filter_map(|piece| match piece {
            Piece::Known(last) => Some(*last),
            Piece::Sound(_) | Piece::Damage(_) => None,
        });
        let kept = || sound().filter(|sound| torn.is_none_or(|at| sound.offset < at));
        let last = kept().next_back();
        let batches = count_batches(pieces, u64::MAX);
        // The header belongs to the file's first batch, and was written with it.
        let last_batch_at = match last {
            Some(last) if batches == 2 => {
                kept().find(|sound| sound.batch == last.batch).map_or(from, |sound| sound.offset)
            }
            _ => from,
        };
        let found = sound().filter(|_| torn.is_none()).map(|sound| sound.seq);
        let max_seq = found.chain(noted).max().unwrap_or(0);
        let last = last.map(|sound| sound.last);
        Self { whole: false, torn, last, max_seq, lost_at_end: 0, batches, last_batch_at }
    }
}

/// How many batches have a sound line that starts before `end`: 0, 1, or 2 for more.
fn count_batches(pieces: &[Piece], end: u64) -> u8 {
    // What is known to be committed is more than a first batch.
    if pieces.iter().any(|piece| matches!(piece, Piece::Known(_))) {
        return 2;
    }
    let mut batches = pieces.iter().filter_map(|piece| match piece {
        Piece::Sound(sound) if sound.offset < end => Some(sound.batch),
        _ => None,
    });
    match batches.next() {
        None => 0,
        Some(first) if batches.all(|batch| batch == first) => 1,
        Some(_) => 2,
    }
}

/// Where the torn tail begins: the first damage behind what is committed and behind which no later
/// batch has a sound line. A batch that lies behind the damage proves that what was damaged had been
/// committed. `before` is the seq before the first piece, if the file begins there.
fn torn_at(pieces: &[Piece], before: Option<u64>, known: Known) -> Option<u64> {
    let mut torn = None;
    // From the end, so that the newest batch behind each damage is known.
    let mut newest_batch = 0;
    for (place, piece) in pieces.iter().enumerate().rev() {
        match piece {
            Piece::Sound(sound) => newest_batch = newest_batch.max(sound.batch),
            // A repair syncs its notes with all that lies before, and an editor finds what is there.
            Piece::Known(last) => newest_batch = newest_batch.max(last.saturating_add(1)),
            Piece::Damage(offset) => {
                let sound_before = pieces[..place].iter().rev().find_map(|piece| match piece {
                    Piece::Sound(sound) => Some(sound.seq),
                    Piece::Known(last) => Some(*last),
                    Piece::Damage(_) => None,
                });
                let seq_before = sound_before.or(before);
                let proven = |seq| seq < known.seq || newest_batch > seq + 1;
                if *offset < known.committed || seq_before.is_none_or(proven) {
                    break;
                }
                torn = Some(*offset);
            }
        }
    }
    torn
}

/// Cuts bytes that start at `from` of a file into sound lines and damage. `committed` is a line's end
/// that is known from elsewhere.
fn pieces(bytes: &[u8], from: u64, committed: u64, seal: Seal) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = 0;
    if from > 0 {
        // The window begins in the middle of a line, which is older than the last batch.
        at = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |end| end + 1);
    }
    let known = usize::try_from(committed.saturating_sub(from)).unwrap_or(usize::MAX).min(bytes.len());
    let mut newest = 0;
    while at < bytes.len() {
        let line_end = memchr::memchr(b'\n', &bytes[at..]).map(|end| at + end);
        let mut end = line_end.unwrap_or(bytes.len());
        // Damage may hide the line feed at the known end. A sound line across it was appended after the
        // file had become shorter than that.
        if at < known && end > known && StoredLine::parse(&bytes[at..end], seal).is_err() {
            end = known;
        }
        let line = &bytes[at..end];
        let whole = line_end == Some(end);
        let offset = from + at as u64;
        let before = pieces.len();
        match StoredLine::parse(line, seal) {
            Ok(stored) if whole && stored.seq > newest => pieces.push(Piece::Sound(sound(offset, &stored))),
            Err(_) if whole && offset == 0 && Header::parse_own(line, seal).is_some() => {}
            // The seqs that a repair noted as missing were given out.
            Err(_) if whole && is_note(line, seal) => {
                if let Some(Gap { last, .. }) = Gap::of_note(line, seal) {
                    newest = newest.max(last);
                    pieces.push(Piece::Known(last));
                }
            }
            _ => {
                push_damage(&mut pieces, offset, committed);
                if whole
                    && let Some((edited, _)) = entry_in(line, seal).filter(|(edited, _)| edited.seq > newest)
                {
                    newest = edited.seq;
                    pieces.push(Piece::Known(newest));
                } else if whole && let Some(hidden) = hidden_line(line, offset, newest, seal) {
                    pieces.push(Piece::Sound(hidden));
                }
            }
        }
        for piece in &pieces[before..] {
            if let Piece::Sound(sound) = piece {
                newest = newest.max(sound.seq);
            }
        }
        at = if whole { end + 1 } else { end };
    }
    pieces
}

/// Damage that goes on is one piece, except where what is known committed ends in it.
fn push_damage(pieces: &mut Vec<Piece>, offset: u64, committed: u64) {
    match pieces.last() {
        Some(Piece::Damage(at)) if (*at < committed) == (offset < committed) => {}
        _ => pieces.push(Piece::Damage(offset)),
    }
}

/// A sound line that is hidden behind damage which swallowed the line feed before it.
fn hidden_line(line: &[u8], offset: u64, newest: u64, seal: Seal) -> Option<Sound> {
    (1..line.len())
        .filter(|&at| line[at].is_ascii_digit() && !line[at - 1].is_ascii_digit())
        // Every line has ` YYYY-` right behind its seq; only where that stands is a checksum worth while.
        .filter(|&at| {
            let digits = line[at..].iter().take_while(|b| b.is_ascii_digit()).count();
            line.get(at + digits) == Some(&b' ') && line.get(at + digits + 5) == Some(&b'-')
        })
        .find_map(|at| {
            let stored = StoredLine::parse(&line[at..], seal).ok().filter(|stored| stored.seq > newest)?;
            Some(sound(offset + at as u64, &stored))
        })
}

fn sound(offset: u64, stored: &StoredLine<'_>) -> Sound {
    let last = Last { seq: stored.seq, crc: stored.crc, time: Time::parse(stored.time.as_bytes()) };
    Sound { offset, seq: stored.seq, batch: stored.batch(), last }
}
