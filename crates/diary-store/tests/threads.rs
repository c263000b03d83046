//! Threads: an entry with all that answers it, whatever has happened to the journal meanwhile.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;

use diary_proto::block::Gap;
use diary_proto::{Author, Relation, StoredLine};
use diary_store::{Appender, NewEntry, Reader, Staged};
use proptest::prelude::*;
use support::{DAY, Diary, NOON, Opened, at};

/// Appends one batch, each entry of which answers another or none.
fn append(appender: &mut Appender, micros: i64, answered: &[Option<u64>]) {
    let author = Author::new("anna").unwrap();
    for &answered in answered {
        let relation = answered.map(Relation::Answers);
        let entry = NewEntry { author: &author, text: "x", key: None, at: None, relation };
        assert!(matches!(appender.stage(at(micros), entry), Staged::New(_)));
    }
    appender.commit(at(micros)).unwrap();
}

/// The seqs of a thread, with a minus before those that are missing. Pages have at most so many bytes.
fn thread(reader: &Reader, root: u64, page_bytes: usize) -> Vec<i64> {
    let mut range = reader.thread(root).unwrap();
    let mut seen = Vec::new();
    while let Some(page) = reader.next_page(&mut range, page_bytes).unwrap() {
        assert!(page.len() <= page_bytes || page.iter().filter(|&&b| b == b'\n').count() == 1);
        for line in page[..page.len() - 1].split(|&b| b == b'\n') {
            seen.push(match StoredLine::parse(line, reader.seal()) {
                Ok(line) => i64::try_from(line.seq).unwrap(),
                Err(_) => -i64::try_from(Gap::of_note(line, reader.seal()).unwrap().first).unwrap(),
            });
        }
    }
    seen
}

#[test]
fn what_is_damaged_is_noted_in_its_place() {
    let diary = Diary::new();
    let Opened { mut appender, reader } = diary.open();
    append(&mut appender, NOON, &[None, None, Some(1), Some(2)]);
    append(&mut appender, NOON + DAY, &[Some(3), Some(1)]);
    let day = diary.file("2026-11-20.log");
    let bytes = String::from_utf8(fs::read(&day).unwrap()).unwrap();
    fs::write(&day, bytes.replace("anna (re 1)", "anne (re 1)")).unwrap();
    assert_eq!(thread(&reader, 1, 4096), [1, -3, 5, 6]);
    assert_eq!(thread(&reader, 1, 1), [1, -3, 5, 6], "page by page");
    // Who wrote it down knows nothing of what it was.
    drop((appender, reader));
    fs::remove_file(diary.file("cache")).ok();
    let Opened { reader, .. } = diary.open();
    assert_eq!(thread(&reader, 1, 4096), [1, 6]);
    assert_eq!(thread(&reader, 3, 4096), [-3, 5]);
}

#[test]
fn a_batch_that_is_given_up_answers_nothing() {
    let diary = Diary::new();
    let Opened { mut appender, reader } = diary.open();
    append(&mut appender, NOON, &[None]);
    let author = Author::new("anna").unwrap();
    let relation = Some(Relation::Answers(1));
    appender.stage(at(NOON), NewEntry { author: &author, text: "x", key: None, at: None, relation });
    assert_eq!(thread(&reader, 1, 4096), [1], "it is not committed");
}

/// What happens to a journal.
#[derive(Debug, Clone)]
enum Step {
    /// One batch, so many days after the one before; which entry each answers, of those that there are then.
    Append(i64, Vec<Option<u64>>),
    /// It is stopped, or killed, and started again, maybe without its cache.
    Restart { clean: bool, cache: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let answered = prop::collection::vec(prop::option::of(any::<u64>()), 1..6);
    prop_oneof![
        4 => (0..2_i64, answered).prop_map(|(days, answered)| Step::Append(days, answered)),
        1 => any::<(bool, bool)>().prop_map(|(clean, cache)| Step::Restart { clean, cache }),
    ]
}

fn search(answered: &[Option<u64>], root: u64, found: &mut Vec<i64>) {
    found.push(i64::try_from(root).unwrap());
    for (seq, _) in (1..).zip(answered).filter(|(_, answered)| **answered == Some(root)) {
        search(answered, seq, found);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_every_thread_is_whole(steps in prop::collection::vec(step(), 1..14)) {
        let diary = Diary::new();
        let mut opened = Some(diary.open());
        let (mut all, mut now) = (Vec::new(), NOON);
        for step in steps {
            match step {
                Step::Append(days, answered) => {
                    now += days * DAY;
                    let head = all.len() as u64;
                    let answered: Vec<Option<u64>> =
                        answered.iter().map(|any| any.filter(|_| head > 0).map(|any| any % head + 1)).collect();
                    append(&mut opened.as_mut().unwrap().appender, now, &answered);
                    all.extend(answered);
                }
                Step::Restart { clean, cache } => {
                    let Opened { appender, .. } = opened.take().unwrap();
                    if clean {
                        appender.stop().unwrap();
                    } else {
                        drop(appender);
                    }
                    if !cache {
                        fs::remove_file(diary.file("cache")).ok();
                    }
                    opened = Some(diary.open());
                }
            }
            let reader = &opened.as_ref().unwrap().reader;
            for root in 1..=all.len() as u64 {
                let mut found = Vec::new();
                search(&all, root, &mut found);
                prop_assert_eq!(thread(reader, root, 300), found);
            }
        }
    }
}
