//! Which entries belong to another day than that of their file: those that have a time of their own.
//!
//! The table is derived from the day files, in the order of seqs. It notes where the day changes, so that days in order
//! take next to nothing, and days in no order four bytes an entry. Its memory is bounded: where there are too many
//! changes, the oldest are forgotten, and what is left says less exactly where to look. So it never misses an entry, and
//! whoever reads what it points at looks at each entry's day.

use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::sync::Arc;

use diary_proto::Date;

/// Most changes, 16 MiB of them: four million entries whose days are in no order.
const CHANGES_MAX: usize = 4 * 1024 * 1024;

/// Most stretches, 6 MiB of them: so many entries that stand alone, far from others with an own time. Beyond this many,
/// two become one.
const STRETCHES_MAX: usize = 64 * 1024;

/// The day may change at so many entries of a stretch.
const STRETCH_ENTRIES: usize = 1 << (u32::BITS - DAY_BITS);

/// What a stretch takes in the table's bytes, beside its changes.
const WRITTEN_STRETCH_BYTES: usize = 8 + 8 + 4 + 4 + 4;

/// Ranges that are closer than this are read as one: to find a place takes as long as to read so many entries.
const NEAR_ENTRIES: u64 = 64;

/// Most ranges of one answer, 64 KiB that wait with it: where there are more, some that are less close become one.
const PLACES_MAX: usize = 4096;

/// First and last seq.
pub(crate) type Seqs = (u64, u64);

/// Entries with consecutive seqs; the first and the last have an own time.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change(u32);

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

    /// The stretch that [`OwnDays::write`] wrote.
    fn read(from: &mut impl Read) -> io::Result<Self> {
        let (first, last) = (read_u64(from)?, read_u64(from)?);
        let (min, max, count) = (read_u32(from)?, read_u32(from)?, read_u32(from)?);
        let mut changes = [0; STRETCH_ENTRIES * size_of::<Change>()];
        let changes = changes.get_mut(..count as usize * size_of::<Change>());
        let changes = changes.ok_or(io::ErrorKind::InvalidData)?;
        from.read_exact(changes)?;
        let changes =
            changes.as_chunks().0.iter().map(|&change| Change(u32::from_le_bytes(change))).collect();
        let stretch = Self { first, last, min, max, changes };
        if stretch.is_sound() { Ok(stretch) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// Whether it is one that can be: what is read may be damaged.
    fn is_sound(&self) -> bool {
        let is_first = |change: &Change| change.place() == 0;
        let is_inside = |change: &Change| change.place() <= self.last - self.first;
        self.first <= self.last
            && self.min <= self.max
            && self.last < u64::MAX
            && self.changes.first().is_none_or(is_first)
            && self.changes.last().is_none_or(is_inside)
            && self.changes.is_sorted_by(|a, b| a.place() < b.place())
    }
}

/// The table. Cheap to clone: whoever looks through it holds up nobody who adds to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OwnDays {
    stretches: Vec<Arc<Stretch>>,
    /// How many changes all of them have.
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

    /// How many bytes [`write`](Self::write) makes.
    pub(crate) fn written_bytes(&self) -> usize {
        let stretches = self.stretches.len() * WRITTEN_STRETCH_BYTES;
        size_of::<u64>() + stretches + self.changes * size_of::<Change>()
    }

    /// The table's bytes, from which [`read`](Self::read) makes it again.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.written_bytes());
        out.extend_from_slice(&(self.stretches.len() as u64).to_le_bytes());
        for stretch in &self.stretches {
            let Stretch { first, last, min, max, changes } = &**stretch;
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&last.to_le_bytes());
            let count = u32::try_from(changes.len()).expect("a stretch has few changes");
            for number in [*min, *max, count].into_iter().chain(changes.iter().map(|change| change.0)) {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
    }

    /// The table that [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// Those of reading, an end in the middle of it, and bytes that are no table.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut table = Self::default();
        let mut before = 0;
        for _ in 0..read_u64(from)? {
            let stretch = Stretch::read(from)?;
            table.changes += stretch.changes.len();
            let is_too_large = table.stretches.len() == STRETCHES_MAX || table.changes > CHANGES_MAX;
            if stretch.first <= before || is_too_large {
                return Err(io::ErrorKind::InvalidData.into());
            }
            before = stretch.last;
            table.stretches.push(Arc::new(stretch));
        }
        Ok(table)
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

fn read_u64(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; size_of::<u64>()];
    from.read_exact(&mut bytes).map(|()| u64::from_le_bytes(bytes))
}

fn read_u32(from: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; size_of::<u32>()];
    from.read_exact(&mut bytes).map(|()| u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn date(day: u8) -> Date {
        Date::new(2015, 3, i8::try_from(day).unwrap()).unwrap()
    }

    fn seqs(days: &[Option<u8>], from: u8, to: u8, files: Option<Seqs>) -> Option<Vec<Seqs>> {
        table(days).seqs_of(date(from), date(to), files)
    }

    /// The entries from 1 on: the day of each that has an own time.
    fn table(days: &[Option<u8>]) -> OwnDays {
        let mut table = OwnDays::default();
        for (seq, day) in (1..).zip(days) {
            day.inspect(|&day| table.insert(seq, date(day)));
        }
        table
    }

    #[test]
    fn days_without_own_times_need_no_table() {
        assert_eq!(seqs(&[None; 9], 1, 9, Some((1, 9))), None);
        // All of the file's own times are of its day.
        assert_eq!(seqs(&[None, Some(2), None], 2, 2, Some((1, 3))), None);
        assert_eq!(seqs(&[Some(5), None], 2, 3, None), None);
        assert_eq!(seqs(&[Some(5), None], 2, 3, Some((2, 2))), None);
    }

    #[test]
    fn own_times_are_found_where_they_are_and_not_where_they_were_written() {
        let mut days = vec![Some(5); 100];
        days.extend([None; 100]);
        days.extend([Some(6), Some(7)]);
        assert_eq!(seqs(&days, 5, 5, None), Some(vec![(1, 100)]));
        assert_eq!(seqs(&days, 6, 7, None), Some(vec![(201, 202)]));
        assert_eq!(seqs(&days, 5, 7, None), Some(vec![(1, 100), (201, 202)]));
        assert_eq!(seqs(&days, 9, 9, Some((1, 202))), Some(vec![(101, 200)]));
        assert_eq!(seqs(&days, 7, 9, Some((1, 202))), Some(vec![(101, 202)]));
    }

    #[test]
    fn an_entry_s_day_is_found_where_it_is_among_many_in_no_order() {
        let of_year = |day| Date::constant(2015, 1, 1).saturating_add(jiff::Span::new().days(day));
        let mut table = OwnDays::default();
        for seq in 1..=200_000 {
            table.insert(seq, of_year(i64::try_from(seq).unwrap() * 7919 % 365));
        }
        let of_day: Vec<_> =
            (1..=200_000).filter(|seq| seq * 7919 % 365 == 100).map(|seq| (seq, seq)).collect();
        assert_eq!(of_day.len(), 548);
        assert_eq!(table.seqs_of(of_year(100), of_year(100), None), Some(of_day));
    }

    #[test]
    fn what_is_unknown_may_be_of_any_day() {
        let mut table = OwnDays::default();
        table.doubt((1, 9), Date::MIN, Date::MAX);
        assert_eq!(table.seqs_of(date(5), date(5), None), Some(vec![(1, 9)]));
    }

    #[test]
    fn days_in_order_take_one_change_each() {
        let mut table = OwnDays::default();
        for seq in 1..=100_000 {
            table.insert(seq, Date::new(1900 + i16::try_from(seq / 1000).unwrap(), 1, 1).unwrap());
        }
        assert_eq!((table.changes, table.stretches.len()), (101, 51));
        assert_eq!(table.seqs_of(date(1), date(31), None), None);
        let day = Date::constant(1999, 1, 1);
        assert_eq!(table.seqs_of(day, day, None), Some(vec![(99_000, 99_999)]));
    }

    /// So many that the oldest are known less exactly, and none is missed.
    fn check_bounds(entries: u64, apart: u64) {
        let mut table = OwnDays::default();
        for number in 1..=entries {
            table.insert(number * apart, date(1 + u8::try_from(number % 28).unwrap()));
        }
        assert!(table.stretches.len() <= STRETCHES_MAX && table.changes <= CHANGES_MAX);
        assert_eq!(table.changes, table.stretches.iter().map(|stretch| stretch.changes.len()).sum());
        let found = table.seqs_of(date(5), date(5), None).unwrap();
        assert!(found.len() <= PLACES_MAX, "{}", found.len());
        let mut places = found.iter().peekable();
        for seq in (1..=entries).filter(|number| number % 28 == 4).map(|number| number * apart) {
            while places.next_if(|place| place.1 < seq).is_some() {}
            assert!(places.peek().is_some_and(|place| place.0 <= seq), "{seq} is missed");
        }
    }

    #[test]
    fn many_changes_become_fewer_and_none_is_missed() {
        check_bounds(CHANGES_MAX as u64 + 5000, 1);
    }

    #[test]
    fn many_that_stand_alone_become_fewer_and_none_is_missed() {
        check_bounds(STRETCHES_MAX as u64 * 2, STRETCH_ENTRIES as u64 + 1);
    }

    #[test]
    fn bytes_that_are_no_table_are_refused() {
        let table = table(&[Some(1), Some(2), None, Some(2), None]);
        let mut bytes = Vec::new();
        table.write(&mut bytes);
        assert_eq!(OwnDays::read(&mut &bytes[..]).unwrap(), table);
        for end in 0..bytes.len() {
            assert!(OwnDays::read(&mut &bytes[..end]).is_err(), "cut at {end}");
        }
        // The first seq, the last one, how many changes, and the places of the first, the second and the last.
        for (at, byte) in [(8, 0), (16, 0), (35, 0xff), (39, 1), (42, 0), (51, 0xff)] {
            let mut damaged = bytes.clone();
            damaged[at] = byte;
            assert!(OwnDays::read(&mut &damaged[..]).is_err(), "byte {at}");
        }
    }

    fn is_in(found: &[Seqs], seq: u64) -> bool {
        found.iter().any(|&(first, last)| (first..=last).contains(&seq))
    }

    #[test]
    fn what_another_table_has_too_is_taken_from_it_once() {
        let days = [Some(5); 10];
        let mut first = table(&days[..6]);
        first.extend(&table(&days), 6);
        assert_eq!(first.seqs_of(date(5), date(5), None), Some(vec![(1, 10)]));
        assert_eq!(first, table(&days));
    }

    proptest! {
        #[test]
        fn whatever_it_is_asked_it_misses_nothing(
            days in vec(proptest::option::of(1..9_u8), 0..40),
            (from, to) in (1..9_u8, 1..9_u8),
            (first, last) in (1..40_u64, 0..40_u64),
            apart in prop_oneof![Just(1), 2..STRETCH_ENTRIES as u64 * 2],
            coarse in vec(any::<bool>(), 0..3),
        ) {
            let (to, last) = (from.max(to), last.min(days.len() as u64));
            let files = (first <= last).then_some((first * apart, last * apart));
            let mut table = OwnDays::default();
            for (number, day) in (1..).zip(&days) {
                day.inspect(|&day| table.insert(number * apart, date(day)));
            }
            coarse.iter().for_each(|&coarsen| if coarsen { table.coarsen() } else { table.forget() });
            let mut bytes = Vec::new();
            table.write(&mut bytes);
            let again = OwnDays::read(&mut &bytes[..]).unwrap();
            prop_assert_eq!(&again, &table);
            let found = table.seqs_of(date(from), date(to), files);
            let exact = found.is_none();
            let found = found.unwrap_or_else(|| files.into_iter().collect());
            prop_assert!(found.windows(2).all(|pair| pair[0].1 < pair[1].0));
            let beside = (apart > 1).then_some(&None);
            for (number, day) in (1..).zip(&days) {
              for (seq, day) in [(number * apart, Some(day)), (number * apart + 1, beside)] {
                let Some(day) = day else { continue };
                let wanted = match day {
                    Some(day) => (from..=to).contains(day),
                    None => files.is_some_and(|(first, last)| (first..=last).contains(&seq)),
                };
                prop_assert!(!wanted || is_in(&found, seq), "{seq} is missed");
                prop_assert!(wanted || !exact || !is_in(&found, seq), "{seq} is of another day");
              }
            }
        }
    }
}
