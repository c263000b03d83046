//! What people see, of every reading, against a model.

#![allow(clippy::cast_possible_truncation, reason = "the seqs are small")]

use std::collections::BTreeSet;
use std::sync::Arc;

use diary_proto::block::Gap;
use diary_proto::{Author, Date, Day, Filter, Relation, Scope, Seal, StoredLine, Time, Which};
use proptest::prelude::*;

use crate::limits::PAGE_BYTES;
use crate::reading::Cursor;
use crate::sim::{self, ManualWriter};
use crate::testing::{HookedDisk, permit};
use crate::{Appends, Journal, Needle, Own};

const AUTHORS: [&str; 2] = ["anna", "ben"];
const WORDS: [&str; 3] = ["Kettle", "rain\n", "天气"];

/// An entry of the model.
#[derive(Debug, Clone)]
struct New {
    author: usize,
    word: usize,
    bytes: usize,
    /// Kind, and which of the earlier entries.
    related: Option<(bool, usize)>,
    /// It has a time of its own, on one of two days.
    day: Option<i8>,
    damaged: bool,
    /// The last one of its batch.
    ends: bool,
}

fn new() -> impl Strategy<Value = New> {
    let bytes = prop_oneof![8 => 0..60_usize, 1 => 0..9_000_usize];
    let related = prop::option::of(any::<(bool, usize)>());
    let (day, damaged) = (prop::option::weighted(0.2, 1..3_i8), prop::bool::weighted(0.05));
    (0..2_usize, 0..3_usize, bytes, related, day, damaged, any::<bool>()).prop_map(
        |(author, word, bytes, related, day, damaged, ends)| New {
            author,
            word,
            bytes,
            related,
            day,
            damaged,
            ends,
        },
    )
}

/// What the model knows of an entry.
#[derive(Debug, Clone)]
struct Known {
    author: &'static str,
    text: String,
    relation: Option<Relation>,
    day: Option<i8>,
    damaged: bool,
}

struct Model(Vec<Known>);

impl Model {
    fn of(news: &[New]) -> Self {
        let mut known: Vec<Known> = Vec::new();
        for (at, new) in news.iter().enumerate() {
            let text = format!("w{at}. {} {}", WORDS[new.word], "x".repeat(new.bytes));
            let relation = new.related.filter(|_| at > 0).map(|(corrects, earlier)| {
                let earlier = earlier % at;
                let seq = known[earlier].relation.filter(|relation| relation.is_correction());
                let seq = seq.map_or(earlier as u64 + 1, Relation::seq);
                if corrects { Relation::Corrects(seq) } else { Relation::Answers(seq) }
            });
            let (author, day, damaged) = (AUTHORS[new.author], new.day, new.damaged);
            known.push(Known { author, text, relation, day, damaged });
        }
        Self(known)
    }

    fn text(&self, seq: u64) -> &str {
        let corrects = |known: &&Known| known.relation == Some(Relation::Corrects(seq)) && !known.damaged;
        let newest = self.0.iter().rfind(corrects);
        &newest.unwrap_or(&self.0[seq as usize - 1]).text
    }

    /// What is shown of the entries that `takes` takes, with their seqs.
    fn shown(&self, takes: impl Fn(u64, &Known) -> bool) -> Vec<(u64, String)> {
        let is_correction = |known: &Known| known.relation.is_some_and(Relation::is_correction);
        let seen = (1..).zip(&self.0).filter(|(_, known)| !known.damaged && !is_correction(known));
        seen.filter(|(seq, known)| takes(*seq, known))
            .map(|(seq, _)| (seq, self.text(seq).to_owned()))
            .collect()
    }

    fn thread(&self, seq: u64, found: &mut Vec<(u64, String)>) {
        if !self.0[seq as usize - 1].damaged {
            found.push((seq, self.text(seq).to_owned()));
        }
        for (answer, known) in (1..).zip(&self.0) {
            if known.relation == Some(Relation::Answers(seq)) {
                self.thread(answer, found);
            }
        }
    }
}

fn write(journal: &Journal, writer: &mut ManualWriter, news: &[New], model: &Model) {
    let author = |name: &str| Arc::new(Author::new(name).unwrap());
    let mut appends = Appends::new(author("nobody"), None);
    for (new, known) in news.iter().zip(&model.0) {
        appends.push(&known.text);
        let at = known.day.map(|day| {
            let date = Date::constant(2020, 1, day);
            Time {
                micros: date.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_microsecond(),
                offset_minutes: 0,
            }
        });
        appends.set_own(Own { at, author: Some(author(known.author)) });
        if let Some(relation) = known.relation {
            appends.relate(relation);
        }
        if new.ends {
            let batch = std::mem::replace(&mut appends, Appends::new(author("nobody"), None));
            let _receipt = journal.append(batch, permit());
            writer.commit();
        }
    }
    let _receipt = journal.append(appends, permit());
    writer.commit();
}

/// Puts lines together as a client does.
#[derive(Default)]
struct Seen {
    newest: Option<(u64, String)>,
    entries: Vec<(u64, String)>,
    gaps: BTreeSet<u64>,
}

impl Seen {
    fn take(&mut self, lines: &[u8], seal: Seal) {
        let mut lines = lines.split(|&b| b == b'\n').filter(|line| !line.is_empty()).peekable();
        while let Some(line) = lines.next() {
            if let Some(gap) = Gap::of_note(line, seal) {
                self.gaps.extend(gap.first..=gap.last);
                continue;
            }
            let Ok(stored) = StoredLine::parse(line, seal) else {
                self.newest = None;
                continue;
            };
            let newest = self.newest.take();
            match stored.relation {
                Some(Relation::Corrects(corrected)) => {
                    let next = lines.peek().expect("a page does not end between a correction and its entry");
                    if super::seq_of(next) == Some(corrected) {
                        self.newest = Some((corrected, stored.unescaped().into_owned()));
                    }
                }
                _ => {
                    let newest =
                        newest.filter(|(corrected, _)| *corrected == stored.seq).map(|(_, text)| text);
                    let text = newest.unwrap_or_else(|| stored.unescaped().into_owned());
                    self.entries.push((stored.seq, text));
                }
            }
        }
    }
}

/// Everything behind a cursor, page by page. A correction of its own place may end a page.
async fn pages(journal: &Journal, mut cursor: Cursor, max_bytes: usize) -> Seen {
    let (mut lines, mut more) = (Vec::new(), max_bytes);
    loop {
        if more == max_bytes
            && let Some(page) = journal.try_page(&mut cursor, max_bytes)
        {
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= max_bytes);
            lines.extend_from_slice(&page);
            continue;
        }
        let (page, ()) = journal.page(cursor, move || (more, ())).await.unwrap();
        assert!(page.lines.len() <= more, "a page has no more than there is room for");
        lines.extend_from_slice(&page.lines);
        more = page.needs_bytes.unwrap_or(max_bytes);
        cursor = page.cursor;
        if page.ended {
            break;
        }
    }
    seen(&lines, journal)
}

async fn hits(journal: &Journal, scope: Scope, filter: &Filter, max_bytes: usize) -> Seen {
    let (needle, searcher) = (Arc::new(Needle::new(filter, journal.seal())), journal.searcher());
    let mut cursor = journal.find(scope).await.unwrap();
    while cursor.is_unsought() {
        cursor = journal.seek(cursor, Arc::clone(&needle), &searcher).await.unwrap();
    }
    let (mut lines, mut more) = (Vec::new(), max_bytes);
    loop {
        let search = journal.search(cursor, Arc::clone(&needle), &searcher, move || (more, ()));
        let (page, ()) = search.await.unwrap();
        assert!(page.lines.len() <= more, "a page has no more than there is room for");
        lines.extend_from_slice(&page.lines);
        more = page.needs_bytes.unwrap_or(max_bytes);
        cursor = page.cursor;
        if page.ended {
            return seen(&lines, journal);
        }
    }
}

fn seen(lines: &[u8], journal: &Journal) -> Seen {
    let mut seen = Seen::default();
    // A line that ends all, so that there always is a next one.
    seen.take(&[lines, b"end\n"].concat(), journal.seal());
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn people_see_the_newest_texts_in_the_old_places(news in prop::collection::vec(new(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let model = Model::of(&news);
        let disk = HookedDisk::new();
        let (journal, mut writer) = sim::journal_on(Arc::new(disk.clone()));
        write(&journal, &mut writer, &news, &model);
        let damaged: Vec<String> =
            (0..).zip(&model.0).filter(|(_, known)| known.damaged).map(|(at, _)| format!("w{at}.")).collect();
        disk.damage(&damaged.iter().map(String::as_str).collect::<Vec<_>>());
        let all = model.shown(|_, _| true);
        let head = news.len() as u64;
        runtime.block_on(async {
            for max_bytes in [1, 700, 10_000, PAGE_BYTES] {
                let read = async |which: Which| {
                    let cursor = journal.find(Scope::from(which).shown()).await.unwrap();
                    pages(&journal, cursor, max_bytes).await.entries
                };
                assert_eq!(read(Which::All).await, all, "{max_bytes}");
                let from = head / 2 + 1;
                assert_eq!(read(Which::From(from)).await, model.shown(|seq, _| seq >= from));
                for count in [0, 1, 3, head, u64::MAX] {
                    // What is damaged counts as an entry, since nobody knows what it was.
                    let newest = read(Which::Last(count)).await;
                    let first = newest.first().map_or(head + 1, |(seq, _)| *seq);
                    assert_eq!(newest, model.shown(|seq, _| seq >= first));
                    assert!(newest.len() as u64 <= count);
                    assert!(!damaged.is_empty() || newest.len() as u64 == count.min(all.len() as u64));
                }
                let day = |day| Day::Date(Date::constant(2020, 1, day));
                assert_eq!(read(Which::Days(day(2), day(2))).await, model.shown(|_, known| known.day == Some(2)));

                for (word, author) in [("", None), ("kettle", None), ("天气", Some("ben"))] {
                    let contains = Some(word.to_owned()).filter(|word| !word.is_empty()).into_iter().collect();
                    let author = author.map(|name| Author::new(name).unwrap());
                    let filter = Filter { contains, author: author.clone(), ..Filter::default() };
                    let takes = |seq: u64, known: &Known| {
                        model.text(seq).to_lowercase().contains(word)
                            && author.as_ref().is_none_or(|author| author.as_str() == known.author)
                    };
                    let mut expected = model.shown(takes);
                    let scope = Scope::from(Which::All).shown();
                    let found = hits(&journal, scope, &filter, max_bytes).await;
                    assert_eq!(found.entries, expected, "{word} {max_bytes}");
                    let newest = hits(&journal, Scope { newest: Some(2), ..scope }, &filter, max_bytes).await;
                    assert_eq!(newest.entries, expected[expected.len().saturating_sub(2)..]);
                    expected.reverse();
                    let back = hits(&journal, Scope { reverse: true, ..scope }, &filter, max_bytes).await;
                    assert_eq!(back.entries, expected);
                    assert_eq!(back.gaps.len(), damaged.len(), "{damaged:?}");
                }

                for seq in 1..=head {
                    if model.0[seq as usize - 1].relation.is_some_and(Relation::is_correction) {
                        continue;
                    }
                    let mut expected = Vec::new();
                    model.thread(seq, &mut expected);
                    let cursor = journal.thread(seq).await.unwrap();
                    assert_eq!(pages(&journal, cursor, max_bytes).await.entries, expected);
                }
            }
            // As they are stored, nothing is otherwise.
            let cursor = journal.find(Which::All).await.unwrap();
            let stored = pages(&journal, cursor, 700).await.entries;
            let is_entry = |known: &&Known| !known.damaged && !known.relation.is_some_and(Relation::is_correction);
            assert_eq!(stored.len(), model.0.iter().filter(is_entry).count());
        });
    }
}

#[test]
fn the_newest_so_many_are_counted_without_corrections() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (journal, mut writer) = sim::journal_on(Arc::new(HookedDisk::new()));
    let new = |related| New { author: 0, word: 0, bytes: 0, related, day: None, damaged: false, ends: false };
    // One entry and a thousand corrections of it behind each other.
    let news: Vec<New> =
        [new(None), new(None)].into_iter().chain((0..1_000).map(|_| new(Some((true, 0))))).collect();
    let model = Model::of(&news);
    write(&journal, &mut writer, &news, &model);
    runtime.block_on(async {
        for (count, expected) in [(0, 0), (1, 1), (2, 2), (3, 2)] {
            let cursor = journal.find(Scope::from(Which::Last(count)).shown()).await.unwrap();
            assert_eq!(pages(&journal, cursor, PAGE_BYTES).await.entries.len(), expected);
        }
    });
}
