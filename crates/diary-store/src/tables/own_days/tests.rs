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
    let of_day: Vec<_> = (1..=200_000).filter(|seq| seq * 7919 % 365 == 100).map(|seq| (seq, seq)).collect();
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

/// The table that is read where this one was written.
fn read_again(table: &OwnDays) -> Option<OwnDays> {
    let bytes = postcard::to_allocvec(table).unwrap();
    postcard::from_bytes::<OwnDays>(&bytes).unwrap().checked()
}

#[test]
fn tables_that_cannot_be_are_refused() {
    let table = table(&[Some(1), Some(2), None, Some(2), None]);
    assert_eq!(read_again(&table).unwrap(), table);
    let damages: [fn(&mut Stretch); 8] = [
        |stretch| stretch.first = 0,
        |stretch| stretch.last = 0,
        |stretch| stretch.last = u64::MAX,
        |stretch| stretch.min = stretch.max + 1,
        |stretch| stretch.changes[0] = Change::new(1, 5),
        |stretch| stretch.changes[1] = Change::new(0, 5),
        |stretch| *stretch.changes.last_mut().unwrap() = Change::new(1023, 5),
        |stretch| stretch.changes = vec![Change::new(0, 5); STRETCH_ENTRIES + 1],
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let mut damaged = table.clone();
        damage(Arc::make_mut(&mut damaged.stretches[0]));
        assert!(read_again(&damaged).is_none(), "damage {number}");
    }
    let twice = OwnDays { stretches: vec![table.stretches[0].clone(); 2], ..table };
    assert!(read_again(&twice).is_none());
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
        let again = read_again(&table).unwrap();
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
