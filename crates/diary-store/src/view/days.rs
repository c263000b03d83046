//! The entries of some days: those in the days' files, without the ones that belong to another day, and those
//! elsewhere that belong to these days.

use std::io;
use std::sync::Arc;

use diary_proto::block::{Gap, Step, Walker};
use diary_proto::{Date, Seal, StoredLine};

use super::{Range, Reader, View};
use crate::tables::own_days::Seqs;

/// What an entry takes, roughly: whoever wants few need not read much.
const USUAL_LINE_BYTES: u64 = 256;

/// Bytes that are looked at before whoever asked gets a turn, with what was found so far.
const LOOK_MAX_BYTES: usize = 32 * 1024 * 1024;

/// What a note says of a gap.
pub(super) const GAP_WORDS: &str = "damaged or missing";

/// The least that is read at once.
const PAGE_MIN_BYTES: usize = 4 * 1024;

/// How the entries of some days are picked out of the places where some of them are.
#[derive(Debug, Clone)]
pub(super) struct Picked {
    from: Date,
    to: Date,
    /// Where they are, in order; others are among them.
    places: Arc<[Seqs]>,
    /// How many of the places have been begun.
    begun: usize,
    place: Option<Stretch>,
}

/// The place that is being read.
#[derive(Debug, Clone)]
struct Stretch {
    walker: Walker,
    last: u64,
}

impl Picked {
    /// The same for one place.
    pub(super) fn of_place(&self, place: Seqs) -> Self {
        Self { places: [place].into(), begun: 0, place: None, ..*self }
    }

    /// Leaves the entries from `first` to `last`.
    pub(super) fn narrow(&mut self, first: u64, last: u64) {
        let clipped = self.places.iter().map(|&(from, to)| (from.max(first), to.min(last)));
        self.places = clipped.filter(|(from, to)| from <= to).collect();
        (self.begun, self.place) = (0, None);
    }

    /// The last place with entries up to `last`, as far as they go.
    pub(super) fn last_place(&self, last: u64) -> Option<Seqs> {
        let &(from, to) = self.places[..self.places.partition_point(|&(from, _)| from <= last)].last()?;
        Some((from, to.min(last)))
    }

    /// Whether an entry in the file of the day `file` belongs to one of the days.
    fn takes(&self, line: &StoredLine<'_>, file: Date) -> bool {
        (self.from..=self.to).contains(&line.belongs_to().unwrap_or(file))
    }

    /// Takes the lines of a page in the file of the day `file` that are wanted.
    fn sift(&mut self, page: &[u8], file: Date, taken: &mut Vec<u8>) {
        let Some(mut place) = self.place.take() else { return };
        let seal = place.walker.seal();
        for line in page.split_inclusive(|&b| b == b'\n') {
            let mut entry = None;
            place.walker.walk(line, |step| match step {
                Step::Gap(gap) => note(gap, place.last, taken, seal),
                Step::Entry(met) => entry = Some(met),
            });
            if entry.is_some_and(|entry| entry.seq <= place.last && self.takes(&entry, file)) {
                taken.extend_from_slice(line);
            }
            if place.walker.next_seq() > place.last {
                return;
            }
        }
        self.place = Some(place);
    }
}

/// Notes what is damaged or missing of a place that ends with `last`.
fn note(gap: Gap, last: u64, taken: &mut Vec<u8>, seal: Seal) {
    let gap = Gap { last: gap.last.min(last), ..gap };
    if gap.first <= gap.last {
        gap.write_note(GAP_WORDS, taken, seal);
    }
}

impl Range {
    /// Every entry between its first and its last belongs to it. Where that is not so, notes among its lines
    /// tell what is damaged or missing ([`Gap::of_note`]).
    pub fn is_dense(&self) -> bool {
        self.picked.is_none() && self.thread.is_none()
    }
}

impl Reader {
    /// The entries of these days, both included.
    pub(super) fn days(&self, view: &View, from: Date, to: Date) -> io::Result<Range> {
        let files = self.files_of_days(view, from, to);
        let seqs = (files.first <= files.last).then_some((files.first, files.last));
        let Some(places) = view.own_days.seqs_of(from, to, seqs) else {
            return Ok(files);
        };
        let (Some(&(first, _)), Some(&(_, last))) = (places.first(), places.last()) else {
            return Ok(Range::empty());
        };
        let picked = Picked { from, to, places: places.into(), begun: 0, place: None };
        let mut range = Range::empty();
        (range.first, range.last) = (first.max(self.first()?), last.min(view.head.seq));
        range.picked = Some(Box::new(picked));
        Ok(range)
    }

    /// The next lines of a range whose entries are picked out, of as many places as fit; none of them, if it takes long
    /// to find one.
    pub(super) fn picked_page(
        &self,
        range: &mut Range,
        picked: &mut Picked,
        max_bytes: usize,
        page: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let (mut raw, mut seen) = (Vec::new(), 0);
        page.clear();
        let view = self.view();
        while seen < LOOK_MAX_BYTES && (page.is_empty() || page.len() + PAGE_MIN_BYTES <= max_bytes) {
            let Some(place) = &mut picked.place else {
                let Some(&(first, last)) = picked.places.get(picked.begun) else {
                    return Ok(!page.is_empty());
                };
                let mut begin = self.range_from(&view, first)?;
                picked.begun += 1;
                let last = last.min(begin.last);
                if begin.first <= last {
                    picked.place = Some(Stretch { walker: Walker::new(begin.first, self.seal()), last });
                    (begin.first, begin.last) = (range.first, range.last);
                    *range = begin;
                }
                continue;
            };
            let left = (place.last - place.walker.next_seq() + 1).saturating_mul(USUAL_LINE_BYTES);
            let room = max_bytes.saturating_sub(page.len());
            let bytes = usize::try_from(left).unwrap_or(usize::MAX).min(room).max(PAGE_MIN_BYTES);
            if !self.dense_page(range, bytes, &mut raw)? {
                if let Some(gap) = place.walker.finish(place.last) {
                    note(gap, place.last, page, self.seal());
                }
                picked.place = None;
                continue;
            }
            seen += raw.len();
            if let Some(file) = range.file() {
                picked.sift(&raw, file, page);
            }
        }
        Ok(true)
    }
}
