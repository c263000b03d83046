//! Which entries belong to another day than that of their file: those that have a time of their own, and those that
//! were committed on an earlier day than the file's, as after a zone moved west. Here, both have an "own time".
//!
//! The table is derived from the day files, in the order of seqs. It notes where the day changes, so that days in order
//! take next to nothing, and days in no order four bytes an entry. Its memory is bounded: where there are too many
//! changes, the oldest are forgotten, and what is left says less exactly where to look. So it never misses an entry, and
//! whoever reads what it points at looks at each entry's day.

use std::ops::RangeInclusive;
use std::sync::Arc;

use diary_proto::Date;
use serde::{Deserialize, Serialize};

/// Most changes, 16 MiB of them: four million entries whose days are in no order.
const CHANGES_MAX: usize = 4 * 1024 * 1024;

/// Most stretches, 6 MiB of them: so many entries that stand alone, far from others with an own time. Beyond this many,
/// two become one.
const STRETCHES_MAX: usize = 64 * 1024;

/// The day may change at so many entries of a stretch.
const STRETCH_ENTRIES: usize = 1 << (u32::BITS - DAY_BITS);

/// Ranges that are closer than this are read as one: to find a place takes as long as to read so many entries.
const NEAR_ENTRIES: u64 = 64;

/// Most ranges of one answer, 64 KiB that wait with it: where there are more, some that are less close become one.
const PLACES_MAX: usize = 4096;

/// First and last seq.
pub(crate) type Seqs = (u64, u64);

/// Entries with consecutive seqs; the first and the last have an own time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stretch {
    first: u64,
    last: u64,
    /// The first and the last day that one of them belongs to.
    min: u32,
    max: u32,
    /// Where the day changes, the first entry included. If there are none, any of them may have an own time, of any day
    /// between those two.
    changes: Vec<Change>,
}

/// Which entry, counted from a stretch's first, and the day from that one on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Change(#[serde(with = "postcard::fixint::le")] u32);

/// Bits of a day; the others say which entry.
const DAY_BITS: u32 = 22;

/// From here on they have no own time. The last [`number`] of a day is smaller.
const NOT_OWN: u32 = (1 << DAY_BITS) - 1;

impl Change {
    fn new(place: u64, day: u32) -> Self {
        let place = u32::try_from(place).expect("a stretch takes only what is near its first entry");
        Self(place << DAY_BITS | day)
    }

    fn place(self) -> u64 {
        u64::from(self.0 >> DAY_BITS)
    }

    fn day(self) -> u32 {
        self.0 & NOT_OWN
    }
}

impl Stretch {
    /// Entries that all belong to `day`.
    fn of_day((first, last): Seqs, day: u32) -> Self {
        Self { first, last, min: day, max: day, changes: vec![Change::new(0, day)] }
    }

    /// Entries any of which may belong to one of these days.
    fn unsure((first, last): Seqs, min: u32, max: u32) -> Self {
        Self { first, last, min, max, changes: Vec::new() }
    }

    fn touches(&self, days: &RangeInclusive<u32>) -> bool {
        self.min <= *days.end() && *days.start() <= self.max
    }

    /// Whether [`push`](Self::push) may be told of the entry `seq`, which is behind all of them.
    fn takes(&self, seq: u64, day: u32) -> bool {
        let goes_on = |last: &Change| last.day() == day && seq == self.last + 1;
        self.changes.last().is_some_and(|last| goes_on(last) || seq - self.first < STRETCH_ENTRIES as u64)
    }

    /// Adds entries that all belong to `day`.
    fn push(&mut self, (first, last): Seqs, day: u32) {
        if self.last + 1 < first {
            self.changes.push(Change::new(self.last + 1 - self.first, NOT_OWN));
        }
        if self.changes.last().is_none_or(|last| last.day() != day) {
            self.changes.push(Change::new(first - self.first, day));
        }
        self.last = last;
        (self.min, self.max) = (self.min.min(day), self.max.max(day));
    }

    /// Entries with an own time, as far as it is known which have one: consecutive ones of the same day.
    fn runs(&self) -> impl Iterator<Item = (Seqs, u32)> {
        let runs = self.changes.iter().enumerate().filter(|(_, from)| from.day() != NOT_OWN);
        runs.map(|(at, from)| {
            let last = self.changes.get(at + 1).map_or(self.last, |next| self.first + next.place() - 1);
            ((self.first + from.place(), last), from.day())
        })
    }

    /// Whether it is one that can be: what is read may be damaged.
    fn is_sound(&self) -> bool {
        let is_first = |change: &Change| change.place() == 0;
        let is_inside = |change: &Change| change.place() <= self.last - self.first;
        self.first <= self.last
            && self.min <= self.max
            && self.last < u64::MAX
            && self.changes.len() <= STRETCH_ENTRIES
            && self.changes.first().is_none_or(is_first)
            && self.changes.last().is_none_or(is_inside)
            && self.changes.is_sorted_by(|a, b| a.place() < b.place())
    }
}

/// The table. Cheap to clone: whoever looks through it holds up nobody who adds to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnDays {
    stretches: Vec<Arc<Stretch>>,
    /// How many changes all of them have.
    #[serde(skip)]
    changes: usize,
}

impl OwnDays {
    /// Notes that the entry `seq`, the newest so far, belongs to `day`.
    pub(crate) fn insert(&mut self, seq: u64, day: Date) {
        self.push((seq, seq), number(day));
    }

    /// Notes that entries from the first to the last of `seqs`, the newest so far, may belong to any day from `from` to
    /// `to`.
    pub(crate) fn doubt(&mut self, seqs: Seqs, from: Date, to: Date) {
        self.push_unsure(seqs, number(from), number(to));
    }

    /// Adds what a later table says of entries behind `seq`.
    pub(crate) fn extend(&mut self, later: &Self, seq: u64) {
        let behind = |(first, last): Seqs| (first.max(seq + 1), last);
        for stretch in later.stretches.iter().filter(|stretch| stretch.last > seq) {
            if stretch.changes.is_empty() {
                self.push_unsure(behind((stretch.first, stretch.last)), stretch.min, stretch.max);
            }
            for (seqs, day) in stretch.runs() {
                self.push(behind(seqs), day);
            }
        }
    }

    fn push(&mut self, seqs: Seqs, day: u32) {
        let Some(seqs) = self.new_of(seqs) else { return };
        match self.stretches.last_mut().filter(|newest| newest.takes(seqs.0, day)) {
            Some(newest) => {
                let newest = Arc::make_mut(newest);
                self.changes -= newest.changes.len();
                newest.push(seqs, day);
                self.changes += newest.changes.len();
            }
            None => self.begin(Stretch::of_day(seqs, day)),
        }
        if self.changes > CHANGES_MAX {
            self.forget();
        }
    }

    fn push_unsure(&mut self, seqs: Seqs, min: u32, max: u32) {
        if let Some(seqs) = self.new_of(seqs) {
            self.begin(Stretch::unsure(seqs, min, max));
        }
    }

    /// What of these is behind the newest entry; the others are stray copies of lines.
    fn new_of(&self, (first, last): Seqs) -> Option<Seqs> {
        let first = self.stretches.last().map_or(first, |newest| first.max(newest.last + 1));
        (first <= last).then_some((first, last))
    }

    fn begin(&mut self, stretch: Stretch) {
        if let Some(newest) = self.stretches.last_mut() {
            Arc::make_mut(newest).changes.shrink_to_fit();
        }
        self.changes += stretch.changes.len();
        self.stretches.push(Arc::new(stretch));
        if self.stretches.len() > STRETCHES_MAX {
            self.coarsen();
        }
    }

    /// Forgets the oldest changes: of these entries it is known between which days they are.
    fn forget(&mut self) {
        if let Some(oldest) = self.stretches.iter_mut().find(|stretch| !stretch.changes.is_empty()) {
            self.changes -= oldest.changes.len();
            Arc::make_mut(oldest).changes = Vec::new();
        }
    }

    /// Makes one of every two stretches of the older half.
    fn coarsen(&mut self) {
        let newer = self.stretches.split_off(self.stretches.len() / 2);
        let older = self.stretches.chunks(2).map(|pair| match pair {
            [a, b] => Arc::new(Stretch::unsure((a.first, b.last), a.min.min(b.min), a.max.max(b.max))),
            alone => Arc::clone(&alone[0]),
        });
        self.stretches = older.chain(newer).collect();
        self.changes = self.stretches.iter().map(|stretch| stretch.changes.len()).sum();
    }

    /// Where the entries of these days are, if the files of these days, which hold the seqs `files`, hold
    /// others, or not all of them. In ascending order; entries of other days are among them.
    pub(crate) fn seqs_of(&self, from: Date, to: Date, files: Option<Seqs>) -> Option<Vec<Seqs>> {
        let days = number(from)..=number(to);
        let mut places = Places::new(files);
        for stretch in &self.stretches {
            let seqs = (stretch.first, stretch.last);
            let (touches, in_files) = (stretch.touches(&days), places.is_in_files(seqs));
            if !touches && !in_files {
                continue;
            }
            if stretch.changes.is_empty() {
                places.meet_unsure(seqs, touches);
            }
            let told = |(_, day): &(Seqs, u32)| in_files || days.contains(day);
            for (seqs, day) in stretch.runs().filter(told) {
                places.meet(seqs, days.contains(&day));
            }
        }
        places.finish()
    }

    /// Most of its bytes in a cache.
    pub(crate) fn bytes(&self) -> usize {
        self.changes * size_of::<Change>()
    }

    /// A table that was read, if it is one that can be: what is read may be damaged.
    pub(crate) fn checked(mut self) -> Option<Self> {
        self.changes = self.stretches.iter().map(|stretch| stretch.changes.len()).sum();
        let is_in_order = self.stretches.is_sorted_by(|a, b| a.last < b.first);
        let is_sound = self.stretches.iter().all(|stretch| stretch.is_sound() && stretch.first > 0);
        let fits = self.stretches.len() <= STRETCHES_MAX && self.changes <= CHANGES_MAX;
        (is_in_order && is_sound && fits).then_some(self)
    }
}

/// Where the entries of some days are, as far as the table was looked through.
struct Places {
    /// What the files of these days hold.
    files: Seqs,
    /// Of the files, what is before this was looked at.
    next: u64,
    found: Vec<Seqs>,
    /// It is just what the files hold.
    is_files: bool,
}

impl Places {
    fn new(files: Option<Seqs>) -> Self {
        let files = files.unwrap_or((1, 0));
        Self { files, next: files.0, found: Vec::new(), is_files: true }
    }

    fn is_in_files(&self, (first, last): Seqs) -> bool {
        first <= self.files.1 && self.files.0 <= last
    }

    /// Entries with an own time, which are `wanted`, or of other days.
    fn meet(&mut self, seqs: Seqs, wanted: bool) {
        self.reach(seqs.0);
        self.next = self.next.max(seqs.1 + 1);
        if wanted {
            self.add(seqs);
            self.is_files &= self.files.0 <= seqs.0 && seqs.1 <= self.files.1;
        } else {
            self.is_files &= !self.is_in_files(seqs);
        }
    }

    /// Entries some of which may have an own time; if so, it `may_be_wanted`, or is of other days.
    fn meet_unsure(&mut self, seqs: Seqs, may_be_wanted: bool) {
        self.is_files &= !may_be_wanted && !self.is_in_files(seqs);
        if may_be_wanted {
            self.reach(seqs.0);
            self.next = self.next.max(seqs.1 + 1);
            self.add(seqs);
        }
    }

    /// Adds what the files hold before `seq`: entries without an own time.
    fn reach(&mut self, seq: u64) {
        let last = self.files.1.min(seq - 1);
        if self.next <= last {
            self.add((self.next, last));
            self.next = last + 1;
        }
    }

    fn add(&mut self, seqs: Seqs) {
        if !self.found.last_mut().is_some_and(|before| join(before, seqs, NEAR_ENTRIES)) {
            self.found.push(seqs);
        }
    }

    fn finish(mut self) -> Option<Vec<Seqs>> {
        self.reach(self.files.1 + 1);
        let mut near = NEAR_ENTRIES;
        while self.found.len() > PLACES_MAX {
            near *= 4;
            self.found.dedup_by(|next, before| join(before, *next, near));
        }
        (!self.is_files).then_some(self.found)
    }
}

/// Makes one of two ranges between which there are fewer entries than `near`; whether it did.
fn join(before: &mut Seqs, next: Seqs, near: u64) -> bool {
    let is_near = next.0 - before.1 <= near;
    if is_near {
        before.1 = next.1;
    }
    is_near
}

/// A number that keeps the order of days; of days before year 0, in which no entry is, as the first of it.
fn number(day: Date) -> u32 {
    let part = |number: i8| u32::from(number.unsigned_abs()) - 1;
    match u32::try_from(day.year()) {
        Ok(year) => (year * 12 + part(day.month())) * 31 + part(day.day()),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests;
