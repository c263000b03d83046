//! Tests of what appends and their outcomes take.

use std::sync::Arc;

use diary_proto::{Author, Code, Producer, Refusal};
use diary_store::sim::Fault;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::sim;
use crate::testing::{HookedDisk, permit};

/// Some entries of a kind.
#[derive(Debug, Clone, Copy)]
enum Some {
    Texts { count: usize, bytes: usize, fill: char },
    Refused { count: usize },
}

fn some() -> impl Strategy<Value = Some> {
    let counts = prop_oneof![Just(1_usize), 1..50_usize, 1000..10_000_usize];
    prop_oneof![
        (counts, prop_oneof![Just('x'), Just('\u{1}')]).prop_map(|(count, fill)| Some::Texts {
            count,
            bytes: 1,
            fill
        }),
        (1..40_usize, 10_000..64_000_usize).prop_map(|(count, bytes)| Some::Texts {
            count,
            bytes,
            fill: '\u{1}'
        }),
        (1..4_usize).prop_map(|count| Some::Refused { count }),
    ]
}

fn appends(keyed: bool, all: &[Some]) -> Appends {
    let keys = Keys { producer: Producer(7), first_counter: 0, retry: true };
    let mut appends = Appends::new(Arc::new(Author::new("a").unwrap()), keyed.then_some(keys));
    for (at, some) in all.iter().enumerate() {
        match *some {
            Some::Texts { count, bytes, fill } => {
                let text = fill.to_string().repeat(bytes);
                (0..count).for_each(|_| appends.push(&text));
            }
            Some::Refused { count } => (0..count).for_each(|i| {
                // One of them is said in words of its own.
                let code = Code::ALL[i];
                appends.push_refused(match i {
                    0 => Refusal::new(code, format!("the place {at}")),
                    _ => Refusal::new(code, "refused"),
                });
            }),
        }
    }
    appends
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However texts, refused places, ends of batches and failures fall together.
    #[test]
    fn no_outcome_takes_more_than_it_may(
        before in vec(some(), 0..4),
        all in vec(some(), 0..8),
        again in vec(some(), 0..8),
        keyed: bool,
        fault in proptest::option::of((0..12_u64, prop_oneof![Just(Fault::Io), Just(Fault::Full)])),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let disk = HookedDisk::new();
        let (journal, mut writer) = sim::journal_on(Arc::new(disk.clone()));
        if let Some((after, fault)) = fault {
            disk.disk.fail_at(disk.disk.calls() + after, fault);
        }
        let all = [appends(false, &before), appends(keyed, &all), appends(keyed, &again)];
        let limits: Vec<_> = all.iter().map(|appends| (appends.count(), appends.outcome_max_bytes())).collect();
        let receipts = all.map(|appends| journal.append(appends, permit()));
        while writer.commit() {}
        // What a failed writer left.
        drop(writer);
        for (receipt, (count, max)) in receipts.into_iter().zip(limits) {
            let outcome = runtime.block_on(receipt);
            let answered: usize = outcome.iter().map(|part| part.count() as usize).sum();
            prop_assert_eq!(answered, count);
            let messages = outcome.iter().map(|part| match part {
                Part::Refused { refusal, .. } => message_bytes(refusal),
                _ => 0,
            });
            let bytes = outcome.capacity() * size_of::<Part>() + messages.sum::<usize>();
            prop_assert!(bytes <= max, "{} parts take {} bytes of {}", outcome.len(), bytes, max);
        }
    }
}

#[test]
fn an_entry_is_counted_with_all_that_it_takes() {
    let mut appends = appends(false, &[Some::Texts { count: 3, bytes: 5, fill: 'x' }]);
    assert_eq!(appends.bytes(), 3 * (5 + ENTRY_MIN_BYTES));
    let author = Arc::new(Author::new("anna").unwrap());
    for _ in 0..2 {
        appends.push("x");
        appends.set_own(Own { at: None, author: Option::Some(Arc::clone(&author)) });
    }
    let own = 5 * size_of::<Own>() + OWN_AUTHOR_BYTES + "anna".len();
    assert_eq!(appends.bytes(), 17 + 5 * ENTRY_MIN_BYTES + own);
    appends.push_refused(Refusal::new(Code::Empty, "an entry needs a text"));
    assert_eq!(appends.bytes(), 17 + 6 * ENTRY_MIN_BYTES + own + REFUSED_BYTES);
    assert!(appends.bytes() <= Appends::max_bytes(6, 17 + 2 * "anna".len()));
}

#[test]
fn room_that_is_not_needed_is_given_back() {
    let mut appends = Appends::new(Arc::new(Author::new("a").unwrap()), None);
    appends.texts.reserve(64 * 1024);
    appends.ends.reserve(1024);
    appends.push("x");
    appends.shrink();
    assert!(appends.texts.capacity() <= 2 && appends.ends.capacity() <= 2);
}
