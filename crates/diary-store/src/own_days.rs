//! Which entries belong to another day than that of their file: those that have a time of their own.
//!
//! The table is derived from the day files, in the order of seqs. Its memory is bounded: when there are too
//! many runs, neighbours become one, which then says less exactly where to look. So it never misses an
//! entry, and whoever reads what it points at looks at each entry's day.

use std::io::{self, Read};

use diary_proto::Date;

/// Most runs, 3 MiB of them. A diary that was moved in has one for each of its days; beyond this many, two
/// become one.
const MAX_RUNS: usize = 128 * 1024;

/// What a run takes in the table's bytes.
const WRITTEN_RUN_BYTES: usize = 8 + 4 + 1 + 4 + 4;

/// Ranges that are closer than this are read as one: to find a place takes as long as to read so many entries.
const NEAR_ENTRIES: u64 = 64;

/// Most ranges of one answer, 64 KiB that wait with it: where there are more, some that are less close become one.
const PLACES_MAX: usize = 4096;

/// Entries with consecutive seqs, some of which have an own time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: u64,
    count: u32,
    /// All of them have.
    whole: bool,
    /// The first and the last day that one of them belongs to, as yyyymmdd.
    min: u32,
    max: u32,
}

impl Run {
    fn last(&self) -> u64 {
        self.first + u64::from(self.count) - 1
    }

    fn touches(&self, days: (u32, u32)) -> bool {
        self.min <= days.1 && days.0 <= self.max
    }
}

/// The table.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnDays {
    runs: Vec<Run>,
}

/// First and last seq.
pub(crate) type Seqs = (u64, u64);

impl OwnDays {
    /// Notes that the entry `seq`, the newest so far, belongs to `day`.
    pub(crate) fn insert(&mut self, seq: u64, day: Date) {
        let day = number(day);
        match self.runs.last_mut() {
            // A stray copy of a line.
            Some(run) if seq <= run.last() => return,
            Some(run) if seq == run.last() + 1 && run.whole && (run.min, run.max) == (day, day) => {
                if let Some(count) = run.count.checked_add(1) {
                    run.count = count;
                    return;
                }
            }
            _ => {}
        }
        if self.runs.len() >= MAX_RUNS {
            self.coarsen();
        }
        self.runs.push(Run { first: seq, count: 1, whole: true, min: day, max: day });
    }

    /// Notes that entries from `first` to `last`, the newest so far, may belong to any day from `from` to `to`.
    pub(crate) fn doubt(&mut self, (mut first, last): Seqs, from: Date, to: Date) {
        while first <= last {
            let count = u32::try_from(last - first + 1).unwrap_or(u32::MAX);
            self.runs.push(Run { first, count, whole: false, min: number(from), max: number(to) });
            first += u64::from(count);
        }
    }

    /// Adds what a later table says of entries behind `seq`.
    pub(crate) fn extend(&mut self, later: Self, seq: u64) {
        let behind = later.runs.into_iter().filter(|run| run.last() > seq).map(|run| {
            let first = run.first.max(seq + 1);
            let before = u32::try_from(first - run.first).expect("less than a run has");
            Run { first, count: run.count - before, ..run }
        });
        self.runs.extend(behind);
    }

    /// Where the entries of these days are, if the files of these days, which hold the seqs `files`, hold
    /// others, or not all of them. In ascending order; entries of other days are among them.
    pub(crate) fn seqs_of(&self, from: Date, to: Date, files: Option<Seqs>) -> Option<Vec<Seqs>> {
        let days = (number(from), number(to));
        let (first, last) = files.unwrap_or((1, 0));
        let is_in_files = |run: &&Run| run.first <= last && first <= run.last();
        let settled = |run: &&Run| {
            let inside = run.whole && days.0 <= run.min && run.max <= days.1;
            let outside = !run.touches(days);
            if is_in_files(run) { inside && first <= run.first && run.last() <= last } else { outside }
        };
        if self.runs.iter().all(|run| settled(&run)) {
            return None;
        }
        let elsewhere = |run: &&Run| run.whole && !run.touches(days) && is_in_files(run);
        let mut found = Vec::new();
        let mut next = first;
        for run in self.runs.iter().filter(elsewhere) {
            if next < run.first {
                found.push((next, run.first - 1));
            }
            next = run.last() + 1;
        }
        if next <= last {
            found.push((next, last));
        }
        found.extend(self.runs.iter().filter(|run| run.touches(days)).map(|run| (run.first, run.last())));
        found.sort_unstable();
        let mut near = NEAR_ENTRIES;
        join(&mut found, near);
        while found.len() > PLACES_MAX {
            near = near.saturating_mul(4);
            join(&mut found, near);
        }
        Some(found)
    }

    /// Makes one run of every two.
    fn coarsen(&mut self) {
        let pairs = self.runs.chunks(2).map(|pair| match *pair {
            [a, b] => match u32::try_from(b.last() - a.first + 1) {
                Ok(count) => {
                    let whole = a.whole && b.whole && a.last() + 1 == b.first;
                    (Run { first: a.first, count, whole, min: a.min.min(b.min), max: a.max.max(b.max) }, None)
                }
                Err(_) => (a, Some(b)),
            },
            _ => (pair[0], None),
        });
        self.runs = pairs.flat_map(|(run, far)| std::iter::once(run).chain(far)).collect();
    }

    /// The table's bytes, from which [`read`](Self::read) makes it again.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.reserve(size_of::<u64>() + self.runs.len() * WRITTEN_RUN_BYTES);
        out.extend_from_slice(&(self.runs.len() as u64).to_le_bytes());
        for Run { first, count, whole, min, max } in &self.runs {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
            out.push(u8::from(*whole));
            out.extend_from_slice(&min.to_le_bytes());
            out.extend_from_slice(&max.to_le_bytes());
        }
    }

    /// The table that [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// Those of reading, and an end in the middle of it.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut count = [0; size_of::<u64>()];
        from.read_exact(&mut count)?;
        // It may be damaged: whether it is, is known at the end.
        let count = usize::try_from(u64::from_le_bytes(count)).unwrap_or(usize::MAX);
        let mut runs = Vec::with_capacity(count.min(MAX_RUNS));
        let mut written = [0; WRITTEN_RUN_BYTES];
        for _ in 0..count {
            from.read_exact(&mut written)?;
            let number = |at: usize| {
                u32::from_le_bytes(written[at..at + 4].try_into().expect("four bytes are four bytes"))
            };
            let first = u64::from(number(0)) | u64::from(number(4)) << 32;
            let (count, whole) = (number(8), written[12] != 0);
            runs.push(Run { first, count, whole, min: number(13), max: number(17) });
        }
        Ok(Self { runs })
    }
}

/// Makes one of ranges between which there are fewer entries than `near`.
fn join(ranges: &mut Vec<Seqs>, near: u64) {
    ranges.dedup_by(|next, before| {
        let is_near = next.0 <= before.1.saturating_add(near);
        if is_near {
            before.1 = before.1.max(next.1);
        }
        is_near
    });
}

/// yyyymmdd, which keeps the order of days.
fn number(day: Date) -> u32 {
    let part = |number: i8| u32::from(number.unsigned_abs());
    u32::from(day.year().unsigned_abs()) * 10_000 + part(day.month()) * 100 + part(day.day())
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
    fn many_runs_become_fewer_and_none_is_missed() {
        let mut table = OwnDays::default();
        let runs = u64::try_from(MAX_RUNS).unwrap() + 10;
        for seq in 1..=runs {
            table.insert(seq * 3, date(1 + u8::try_from(seq % 28).unwrap()));
        }
        assert!(table.runs.len() <= MAX_RUNS);
        let found = table.seqs_of(date(5), date(5), None).unwrap();
        assert!(found.len() <= PLACES_MAX, "{}", found.len());
        assert!((1..=runs).filter(|seq| seq % 28 == 4).all(|seq| is_in(&found, seq * 3)));
    }

    fn is_in(found: &[Seqs], seq: u64) -> bool {
        found.iter().any(|&(first, last)| (first..=last).contains(&seq))
    }

    #[test]
    fn what_another_table_has_too_is_taken_from_it_once() {
        let days = [Some(5); 10];
        let mut first = table(&days[..6]);
        first.extend(table(&days), 6);
        assert_eq!(first.seqs_of(date(5), date(5), None), Some(vec![(1, 10)]));
        assert_eq!(first.runs.iter().map(|run| run.count).sum::<u32>(), 10);
    }

    proptest! {
        #[test]
        fn whatever_it_is_asked_it_misses_nothing(
            days in vec(proptest::option::of(1..9_u8), 0..40),
            (from, to) in (1..9_u8, 1..9_u8),
            (first, last) in (1..40_u64, 0..40_u64),
            coarse in 0..3,
        ) {
            let (to, last) = (from.max(to), last.min(days.len() as u64));
            let files = (first <= last).then_some((first, last));
            let mut table = table(&days);
            (0..coarse).for_each(|_| table.coarsen());
            let mut bytes = Vec::new();
            table.write(&mut bytes);
            let again = OwnDays::read(&mut &bytes[..]).unwrap();
            prop_assert_eq!(&again.runs, &table.runs);
            let found = table.seqs_of(date(from), date(to), files);
            let exact = found.is_none();
            let found = found.unwrap_or_else(|| files.into_iter().collect());
            prop_assert!(found.windows(2).all(|pair| pair[0].1 < pair[1].0));
            for (seq, day) in (1..).zip(&days) {
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
