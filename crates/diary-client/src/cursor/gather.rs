//! What a reading delivers, and how it is collected: events, or whole blocks.

use bytes::Bytes;
use diary_proto::block::{Gap, Step};
use diary_proto::entry::StoredLine;

use super::{Hit, Range, corrects, is_correction};
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
        let take = |events: &mut Self,
                    step: Step<StoredLine<'_>>,
                    newest: Option<&StoredLine<'_>>,
                    is_seen| match step {
            Step::Entry(line) if line.seq <= last => {
                seen.saw(line.seq, line.crc);
                let lost = Event::Gap(Gap { first: line.seq, last: line.seq });
                if is_seen {
                    events.push(Stored::read_corrected(&line, newest).map_or(lost, Event::Entry));
                }
            }
            Step::Gap(gap) => events.extend(Range::clip(last, gap).map(Event::Gap)),
            // Entries committed after the first answer began are not part of the range.
            Step::Entry(_) => {}
        };
        if !range.may_be_corrected(&lines) {
            return range.walker.walk(&lines, |step| take(self, step, None, true));
        }
        let seal = range.walker.seal();
        for line in lines.split_inclusive(|&b| b == b'\n') {
            let bytes = line.strip_suffix(b"\n").unwrap_or(line);
            let Ok(parsed) = StoredLine::parse(bytes, seal) else { continue };
            if let Some(newest) = range.newest.take_if(|newest| corrects(newest, &parsed, seal)) {
                let newest = StoredLine::parse(&newest, seal).ok();
                range.walker.walk(line, |step| take(self, step, newest.as_ref(), true));
                continue;
            }
            range.pass_held(parsed.seq, self);
            if !range.holds(&parsed, bytes) {
                range.walker.walk(line, |step| take(self, step, None, !is_correction(&parsed)));
            }
        }
    }

    fn take_hits(&mut self, range: &mut Range, lines: &[u8], seen: &Seen) {
        let (mut damaged, seal) = (0, range.walker.seal());
        range.hits(lines, |hit| match hit {
            Hit::Entry(line, newest) => {
                seen.saw(line.seq, line.crc);
                let newest = newest.as_deref().and_then(|newest| StoredLine::parse(newest, seal).ok());
                match Stored::read_corrected(&line, newest.as_ref()) {
                    Some(stored) => self.push(Event::Entry(stored)),
                    None => damaged += 1,
                }
            }
            Hit::Gap(gap) => self.take_gap(gap),
            Hit::Unseen => {}
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
            Hit::Entry(line, _) => {
                self.entries += 1;
                seen.saw(line.seq, line.crc);
            }
            Hit::Gap(gap) => self.gaps.push(gap),
            Hit::Unseen => {}
            Hit::Damaged => self.damaged += 1,
        });
        self.lines = Bytes::copy_from_slice(lines);
    }
}
