//! What a reading delivers, and how it is collected: events, or whole blocks.

use bytes::Bytes;
use diary_proto::block::{Gap, Step};

use super::{Hit, Range};
use crate::event::{Block, Event, Stored};
use crate::seen::Seen;

/// Collects what a reading delivers.
pub(crate) trait Gather: Default {
    /// Returns whether there is nothing to deliver.
    fn is_empty(&self) -> bool;

    /// Takes contiguous lines: missing entries become gaps.
    fn take_block(&mut self, range: &mut Range, lines: Bytes, seen: &Seen);

    /// Takes hits, in the range's order: an invalid line does not tell what is missing.
    fn take_hits(&mut self, range: &mut Range, lines: &[u8], seen: &Seen);

    /// Takes a gap of entries that did not come.
    fn take_gap(&mut self, gap: Gap);

    /// Records that the journal was restored from an older copy, and now ends with `head`.
    fn take_restored(&mut self, head: u64);
}

impl Gather for Vec<Event> {
    fn is_empty(&self) -> bool {
        Vec::is_empty(self)
    }

    fn take_gap(&mut self, gap: Gap) {
        self.push(Event::Gap(gap));
    }

    fn take_restored(&mut self, head: u64) {
        self.push(Event::Restored { head });
    }

    fn take_block(&mut self, range: &mut Range, lines: Bytes, seen: &Seen) {
        let last = range.last;
        range.walker.walk(&lines, |step| match step {
            Step::Entry(line) if line.seq <= last => {
                seen.saw(line.seq, line.crc);
                let lost = Event::Gap(Gap { first: line.seq, last: line.seq });
                self.push(Stored::read(&line).map_or(lost, Event::Entry));
            }
            Step::Gap(gap) => self.extend(Range::clip(last, gap).map(Event::Gap)),
            // Entries committed after the first answer began are not part of the range.
            Step::Entry(_) => {}
        });
    }

    fn take_hits(&mut self, range: &mut Range, lines: &[u8], seen: &Seen) {
        let mut damaged = 0;
        range.hits(lines, |hit| match hit {
            Hit::Entry(line) => {
                seen.saw(line.seq, line.crc);
                match Stored::read(&line) {
                    Some(stored) => self.push(Event::Entry(stored)),
                    None => damaged += 1,
                }
            }
            Hit::Gap(gap) => self.take_gap(gap),
            Hit::Damaged => damaged += 1,
        });
        if damaged > 0 {
            self.push(Event::Damaged { lines: damaged });
        }
    }
}

impl Gather for Block {
    fn is_empty(&self) -> bool {
        self.entries == 0 && self.gaps.is_empty()
    }

    fn take_gap(&mut self, gap: Gap) {
        self.gaps.push(gap);
    }

    fn take_restored(&mut self, _head: u64) {
        unreachable!("nobody follows by the block");
    }

    fn take_block(&mut self, range: &mut Range, lines: Bytes, seen: &Seen) {
        let last = range.last;
        let mut newest = None;
        *self = Self { walker: Some(range.walker.clone()), last, ..Self::default() };
        range.walker.pass(
            &lines,
            |_| true,
            |step| match step {
                Step::Entry(line) if line.seq <= last => {
                    self.entries += 1;
                    newest = Some((line.seq, line.crc));
                }
                Step::Gap(gap) => self.gaps.extend(Range::clip(last, gap)),
                Step::Entry(_) => {}
            },
        );
        if let Some((seq, crc)) = newest {
            seen.saw(seq, crc);
        }
        self.lines = lines;
    }

    fn take_hits(&mut self, range: &mut Range, lines: &[u8], seen: &Seen) {
        let walker = Some(range.walker.clone());
        *self = Self { walker, last: range.last, is_sparse: true, ..Self::default() };
        range.hits(lines, |hit| match hit {
            Hit::Entry(line) => {
                self.entries += 1;
                seen.saw(line.seq, line.crc);
            }
            Hit::Gap(gap) => self.gaps.push(gap),
            Hit::Damaged => self.damaged += 1,
        });
        self.lines = Bytes::copy_from_slice(lines);
    }
}
