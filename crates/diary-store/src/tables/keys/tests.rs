use super::*;

fn key(producer: u64, counter: u64) -> Key {
    Key { producer: Producer(producer), counter }
}

#[test]
fn runs_are_exact() {
    let mut table = KeyTable::default();
    for (counter, seq) in [(1, 1), (2, 2), (3, 5), (7, 6), (5, 9)] {
        table.insert(key(1, counter), seq);
    }
    let judged: Vec<_> = (0..=8).map(|counter| table.judge(key(1, counter), true)).collect();
    use Judgement::{Known, New};
    assert_eq!(judged, [New, Known(1), Known(2), Known(5), New, Known(9), New, Known(6), New]);
    assert_eq!(table.judge(key(2, 1), true), New);
}

#[test]
fn what_was_not_committed_is_taken_back() {
    let mut table = KeyTable::default();
    for counter in 1..=9 {
        table.insert(key(1, counter), counter + 10);
    }
    table.take_back(Producer(1), 15);
    assert_eq!(table.judge(key(1, 4), true), Judgement::Known(14));
    assert_eq!(table.judge(key(1, 5), true), Judgement::New);
    table.insert(key(1, 5), 15);
    assert_eq!(table.judge(key(1, 5), true), Judgement::Known(15));
    assert_eq!(table.runs, 1);
}

#[test]
fn what_is_forgotten_is_not_guessed_at() {
    let mut table = KeyTable::default();
    let spread = PRODUCER_MAX_RUNS as u64 + 5;
    for counter in 0..spread {
        table.insert(key(1, counter), 1 + counter * 2);
    }
    assert_eq!(table.judge(key(1, 4), false), Judgement::Stale);
    assert_eq!(table.judge(key(1, 5), false), Judgement::Known(11));

    let many = (TABLE_MAX_BYTES / (PRODUCER_BYTES + RUN_BYTES)) as u64 + 10;
    for producer in 0..many {
        table.insert(key(100 + producer, 1), spread * 2 + producer);
    }
    assert!(table.bytes() <= TABLE_MAX_BYTES);
    assert_eq!(table.judge(key(1, spread - 1), true), Judgement::Stale);
    assert_eq!(table.judge(key(100, 1), true), Judgement::Stale);
    assert_eq!(table.judge(key(100, 1), false), Judgement::New);
    assert!(matches!(table.judge(key(99 + many, 1), true), Judgement::Known(_)));
    // One that was forgotten and comes again with something new is known from there on only.
    table.insert(key(100, 6), spread * 2 + many);
    assert_eq!(table.judge(key(100, 5), true), Judgement::Stale);
    assert!(matches!(table.judge(key(100, 6), true), Judgement::Known(_)));
    assert_eq!(table.judge(key(100, 7), true), Judgement::New);
}

/// The table that is read where this one was written.
fn read_again(table: &KeyTable) -> Option<KeyTable> {
    let bytes = postcard::to_allocvec(table).unwrap();
    postcard::from_bytes::<KeyTable>(&bytes).unwrap().checked()
}

#[test]
fn tables_that_cannot_be_are_refused() {
    let with = |first_counter, first_seq, count| {
        let known = ProducerRuns {
            runs: [Run { first_counter, first_seq, count }].into(),
            ..ProducerRuns::default()
        };
        KeyTable { producers: [(1, known)].into(), ..KeyTable::default() }
    };
    assert!(read_again(&with(1, 1, 1)).is_some());
    for (counter, seq, count) in [(u64::MAX, 1, 1), (1, u64::MAX, 1), (1, 1, 0)] {
        assert!(read_again(&with(counter, seq, count)).is_none(), "{counter}, {seq}, {count}");
    }
}

#[test]
fn what_is_in_doubt_is_refused_until_it_is_told() {
    let mut table = KeyTable::default();
    table.insert(key(1, 1), 1);
    table.doubt();
    for table in [&table, &read_again(&table).unwrap()] {
        assert_eq!(table.judge(key(1, 1), true), Judgement::Known(1));
        assert_eq!(table.judge(key(1, 2), true), Judgement::Stale);
        assert_eq!(table.judge(key(1, 2), false), Judgement::New);
        assert_eq!(table.judge(key(2, 1), true), Judgement::Stale);
    }
    table.insert(key(1, 4), 3);
    assert_eq!(table.judge(key(1, 1), true), Judgement::Known(1));
    assert_eq!(table.judge(key(1, 3), true), Judgement::Stale);
    assert_eq!(table.judge(key(1, 4), true), Judgement::Known(3));
    assert_eq!(table.judge(key(1, 5), true), Judgement::New);
}

/// A table, and what has been written of late.
#[derive(Default)]
struct Load {
    table: KeyTable,
    seq: u64,
    cuts: usize,
}

impl Load {
    fn write(&mut self, key: Key) -> u64 {
        let before = self.table.bytes();
        self.seq += 1;
        self.table.insert(key, self.seq);
        assert!(self.table.bytes() <= TABLE_MAX_BYTES);
        self.cuts += usize::from(self.table.bytes() + RUN_BYTES < before);
        self.seq
    }

    /// So many producers from `first` on write in turn, each its next counter or the one after that.
    fn write_in_turn(&mut self, first: u64, producers: u64, each: u64, step: u64) {
        for counter in (0..each).map(|number| number * step) {
            (first..first + producers).for_each(|producer| _ = self.write(key(producer, counter)));
        }
    }

    /// The table looks at all its producers once for many inserts, not for each.
    fn check_cost(&self) {
        assert!(self.cuts as u64 * 10_000 <= self.seq, "{} cuts in {} inserts", self.cuts, self.seq);
    }
}

const AWAY: u64 = 1;

/// A client writes what it may have in flight, is away while others write, and sends everything again.
fn check_away(in_flight: u64, others: impl FnOnce(&mut Load)) -> Load {
    let mut load = Load::default();
    let mut known = Vec::new();
    for counter in 0..in_flight {
        known.push((counter, load.write(key(AWAY, counter))));
        // Another one's entry between two of its own.
        load.write(key(2, counter));
    }
    others(&mut load);
    for (counter, seq) in known {
        assert_eq!(load.table.judge(key(AWAY, counter), true), Judgement::Known(seq), "{counter}");
    }
    // What it sends next is new, not stale.
    assert_eq!(load.table.judge(key(AWAY, in_flight), true), Judgement::New);
    load.check_cost();
    load
}

#[test]
fn keyed_writers_do_not_push_out_a_client_that_is_away() {
    // 44,000 entries a second for 15 seconds, and for a minute.
    check_away(PRODUCER_MAX_RUNS as u64, |load| load.write_in_turn(100, 64, 15 * 44_000 / 64, 1));
    check_away(500, |load| load.write_in_turn(100, 64, 60 * 44_000 / 64, 1));
    check_away(500, |load| load.write_in_turn(100, 300, 5_000, 1));
}

#[test]
fn hostile_connections_do_not_push_out_a_client_that_is_away() {
    // Counters that make no runs, as fast as the server takes them, for much more than 2 seconds.
    check_away(PRODUCER_MAX_RUNS as u64, |load| load.write_in_turn(100, 24, 40_000, 2));
    check_away(500, |load| {
        for counter in (0..50_000).rev() {
            (100..124).for_each(|producer| _ = load.write(key(producer, counter * 2)));
        }
    });
}

#[test]
fn producers_with_one_entry_each_do_not_push_out_a_client_that_is_away() {
    check_away(500, |load| load.write_in_turn(1000, 45_000, 1, 1));
    // Producers with few entries and with many: the many give way.
    let load = check_away(500, |load| {
        load.write_in_turn(100, 100, 4000, 2);
        load.write_in_turn(1000, 30_000, 1, 1);
        load.write_in_turn(100, 100, 8000, 2);
    });
    assert!((1000..31_000).all(|producer| load.table.producers.contains_key(&producer)));
}

#[test]
fn the_share_is_the_same_for_all_who_need_more() {
    let mut load = Load::default();
    load.write_in_turn(100, 30, 50, 2);
    load.write_in_turn(200, 400, 4000, 2);
    let runs = |producer| load.table.producers[&producer].runs.len();
    assert!((100..130).all(|producer| runs(producer) == 50));
    let (least, most) = ((200..600).map(runs).min(), (200..600).map(runs).max());
    // Between two cuts some have had their turn.
    assert!(most <= least.map(|least| least + 1), "{least:?} to {most:?}");
    assert!(load.table.bytes() > TABLE_CUT_BYTES - 400 * RUN_BYTES, "{}", load.table.bytes());
    load.check_cost();
}

#[test]
fn where_there_are_too_many_producers_the_longest_silent_goes() {
    let mut load = Load::default();
    load.write_in_turn(1000, 200_000, 1, 1);
    assert_eq!(load.table.judge(key(1000, 0), true), Judgement::Stale);
    assert!(matches!(load.table.judge(key(200_999, 0), true), Judgement::Known(_)));
    load.check_cost();
    // With runs too, in turn, so that nobody is silent for long.
    load.write_in_turn(1_000_000, 30_000, 40, 2);
    load.check_cost();
}

#[test]
fn what_an_earlier_version_kept_is_cut_to_a_share() {
    let mut load = Load::default();
    for counter in 0..PRODUCER_MAX_RUNS as u64 {
        load.write(key(1, counter * 2));
    }
    let runs = load.seq + 1;
    let more = Run { first_counter: runs * 2, first_seq: runs, count: 1 };
    load.table.producers.get_mut(&1).unwrap().runs.push_back(more);
    let table = read_again(&load.table).unwrap();
    assert_eq!(table.runs, PRODUCER_MAX_RUNS);
    assert_eq!(table.judge(key(1, 0), true), Judgement::Stale);
    assert_eq!(table.judge(key(1, 2), true), Judgement::Known(2));
    assert_eq!(table.judge(key(1, runs * 2), true), Judgement::Known(runs));
}
