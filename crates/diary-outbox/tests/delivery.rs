//! Deliveries to an in-memory server: acked, refused, held up, left, and delivered by the next run.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use diary_client::{Address, Author, NewEntry, Secret};
use diary_outbox::fake::{BREAK, Fake, REFUSED, SILENCE, STALE};
use diary_outbox::{Delivery, Held, Keys, Outbox, Outcome};
use tempfile::TempDir;

fn anna() -> Option<Author> {
    Some(Author::new("anna").unwrap())
}

fn address(of: &str) -> Address {
    of.parse().unwrap()
}

fn outbox(state: &TempDir) -> Outbox {
    Outbox::new(state.path())
}

/// Returns a delivery that keeps these texts, each with itself as its tag.
fn kept(state: &TempDir, server: &str, texts: &[&str]) -> Delivery<String> {
    let mut delivery = Delivery::new(address(server), anna(), Keys::Kept(outbox(state))).unwrap();
    submit(&mut delivery, texts);
    delivery
}

fn submit(delivery: &mut Delivery<String>, texts: &[&str]) {
    for text in texts {
        delivery.submit((*text).to_owned(), *text).unwrap();
    }
}

fn show(outcome: Outcome<String>) -> String {
    match outcome {
        Outcome::Arrived(welcome) => format!("arrived {}", welcome.journal_id),
        Outcome::Acked { tag, ack } => format!("{} {tag}", ack.seq),
        Outcome::Refused { tag, refusal, id } => {
            format!("{} {tag}{}", refusal.code, if id.is_some() { ", kept" } else { "" })
        }
        Outcome::Held(Held::Away(_)) => "away".to_owned(),
        Outcome::Held(Held::Silent(_)) => "silent".to_owned(),
        Outcome::Held(Held::Full(_)) => "full".to_owned(),
        Outcome::Held(Held::Ended(_)) => "ended".to_owned(),
        Outcome::Resumed(_) => "resumed".to_owned(),
        Outcome::CaughtUp { entries } => format!("caught up {entries}"),
        Outcome::LeftRefused { kept, refusal, .. } => format!("left {} {}", refusal.code, kept.text),
        Outcome::Trouble(error) => error.to_string(),
        Outcome::Left { tag, text, sent, id } => {
            assert_eq!(text, tag);
            format!(
                "left {text}{}{}",
                if sent { ", sent" } else { "" },
                if id.is_some() { ", kept" } else { "" }
            )
        }
        _ => "?".to_owned(),
    }
}

/// The next outcome. A test that waits for one that never comes fails.
async fn outcome(delivery: &mut Delivery<String>) -> Option<String> {
    let outcome = tokio::time::timeout(Duration::from_secs(60), delivery.next()).await;
    outcome.expect("nothing came of it").map(show)
}

async fn next(delivery: &mut Delivery<String>) -> String {
    outcome(delivery).await.unwrap_or("-".to_owned())
}

/// Collects outcomes until one of `until`, then stops the delivery and collects the rest.
async fn told_until(delivery: &mut Delivery<String>, until: &str) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(outcome) = outcome(delivery).await {
        if outcome == until {
            delivery.stop();
        }
        told.push(outcome);
    }
    told
}

/// Collects outcomes until everything is acked or refused.
async fn finished(mut delivery: Delivery<String>) -> Vec<String> {
    delivery.finish();
    told_until(&mut delivery, "").await
}

fn files(state: &TempDir) -> Vec<PathBuf> {
    fs::read_dir(state.path()).unwrap().map(|file| file.unwrap().path()).collect()
}

fn is_empty(state: &TempDir) -> bool {
    files(state).is_empty()
}

/// Returns an address on which nothing listens yet. Clients connect from 127.0.0.1 only, so none of them takes the
/// port meanwhile.
fn address_to_be() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Returns the texts in the outbox, each with `?` if it may have been sent.
fn left(state: &TempDir) -> Vec<String> {
    let listing = outbox(state).list();
    assert!(listing.troubles.is_empty(), "{:?}", listing.troubles);
    let show = |kept: diary_outbox::KeptEntry| format!("{}{}", kept.text, if kept.sent { "?" } else { "" });
    listing.entries.into_iter().map(|listed| show(listed.kept)).collect()
}

#[tokio::test]
async fn what_was_just_written_is_no_retry_and_what_was_left_is() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    let delivery = kept(&state, fake.address(), &["a", "b"]);
    assert_eq!(left(&state), ["a?", "b?"], "on disk before anything is sent");
    assert_eq!(finished(delivery).await, ["arrived 7", "1 a", "2 b"]);
    assert!(is_empty(&state));

    drop(kept(&state, fake.address(), &["c", "d", "e"]));
    let id = outbox(&state).list().entries.remove(1).id;
    assert_eq!(outbox(&state).drop_entry(&id).unwrap().text, "d");
    let delivery = kept(&state, fake.address(), &["f"]);
    assert_eq!(finished(delivery).await, ["arrived 7", "caught up 2", "5 f"]);
    assert!(is_empty(&state));
    assert_eq!(fake.texts(), ["anna: a", "anna: b", "anna: c", "anna: e", "anna: f"]);
    assert_eq!(fake.appends(), ["1", "2", "1+", "3+", "1"]);
}

/// The earlier run was killed between the ack and its record.
#[tokio::test]
async fn what_is_in_the_diary_already_is_not_there_twice() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    let first = kept(&state, fake.address(), &["a", "b"]);
    let path = first.file().unwrap();
    let before = fs::read(&path).unwrap();
    finished(first).await;
    fs::write(&path, before).unwrap();
    let second = kept(&state, fake.address(), &[]);
    assert_eq!(finished(second).await, ["arrived 7", "caught up 2"]);
    assert_eq!(fake.texts(), ["anna: a", "anna: b"]);
    assert!(is_empty(&state));
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_no_double() {
    let fake = Fake::start().await;
    for keys in [Keys::Fresh, Keys::Derived(Secret::new([7; 32].to_vec()).unwrap())] {
        let mut delivery = Delivery::new(address(fake.address()), anna(), keys).unwrap();
        submit(&mut delivery, &["a", BREAK, "b"]);
        delivery.finish();
        let mut acked = 0;
        while let Some(outcome) = delivery.next().await {
            acked += u32::from(matches!(outcome, Outcome::Acked { .. }));
        }
        assert_eq!(acked, 3);
    }
    let once = ["anna: a", "anna: break", "anna: b"];
    assert_eq!(fake.texts(), [once, once].concat());
}

#[tokio::test]
async fn derived_keys_store_the_same_entries_once() {
    let fake = Fake::start().await;
    for counters in [vec![2, 5, 6], vec![1, 2, 3, 5, 6, 7]] {
        let secret = Secret::new([7; 32].to_vec()).unwrap();
        let mut delivery = Delivery::new(address(fake.address()), anna(), Keys::Derived(secret)).unwrap();
        for counter in counters {
            let text = counter.to_string();
            delivery.submit_at(counter, text.clone(), text).unwrap();
        }
        finished(delivery).await;
    }
    assert_eq!(fake.texts(), ["2", "5", "6", "1", "3", "7"].map(|text| format!("anna: {text}")));
}

#[tokio::test]
async fn a_refusal_stays_for_a_choice_and_the_others_go_on() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    drop(kept(&state, fake.address(), &["a", STALE, "b"]));
    let told = finished(kept(&state, fake.address(), &["c"])).await;
    assert_eq!(told, ["arrived 7", "left stale-key stale", "caught up 2", "3 c"]);
    assert_eq!(left(&state), ["stale?"]);
    let told = finished(kept(&state, fake.address(), &[])).await;
    assert_eq!(told, [""; 0], "it is not tried again, and nothing else waits");

    let id = outbox(&state).list().entries.remove(0).id;
    let delivery = Delivery::as_new(outbox(&state), &id, None, None, STALE.to_owned()).unwrap();
    assert_eq!(finished(delivery).await, ["arrived 7", "4 stale"]);
    assert_eq!(fake.texts(), ["anna: a", "anna: b", "anna: c", "anna: stale"]);
    assert!(is_empty(&state));
}

/// The connection breaks in between, so the second text comes as a retry.
#[tokio::test]
async fn a_refusal_of_what_was_just_written_is_kept() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    let told = finished(kept(&state, fake.address(), &[BREAK, STALE])).await;
    assert!(told.contains(&"stale-key stale, kept".to_owned()), "{told:?}");
    assert_eq!(left(&state), ["stale?"]);
}

#[tokio::test]
async fn a_text_that_no_server_takes_is_refused_here() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    let told = finished(kept(&state, fake.address(), &["a", "x\0y", "b"])).await;
    assert_eq!(told, ["nul x\0y", "arrived 7", "1 a", "2 b"]);
    assert!(is_empty(&state));
}

/// Later entries do not overtake the one that found no room.
#[tokio::test]
async fn a_full_disk_holds_up_all_until_there_is_room() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut delivery = kept(&state, fake.address(), &["a", REFUSED, "b"]);
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != "full") {
        told.push(next(&mut delivery).await);
    }
    assert_eq!(told, ["arrived 7", "1 a", "full"]);
    submit(&mut delivery, &["c"]);
    fake.make_room();
    delivery.finish();
    let told = told_until(&mut delivery, "").await;
    assert_eq!(told, ["2 refuse", "resumed", "3 b", "4 c"]);
    assert_eq!(fake.texts(), ["anna: a", "anna: refuse", "anna: b", "anna: c"]);
}

#[tokio::test]
async fn what_a_full_disk_holds_up_is_left_for_the_next_run() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut delivery = kept(&state, fake.address(), &["a", REFUSED, "b"]);
    let told = told_until(&mut delivery, "full").await;
    assert_eq!(told, ["arrived 7", "1 a", "full", "left refuse, kept", "left b, kept"]);
    drop(delivery);
    assert_eq!(left(&state), ["refuse", "b"], "the server has said that it is not stored");
}

/// What was certainly not sent is never a retry, however many runs leave it.
#[tokio::test]
async fn what_was_never_sent_is_no_retry() {
    let server = address_to_be();
    let state = tempfile::tempdir().unwrap();
    let mut delivery = kept(&state, &server, &["a", STALE]);
    assert_eq!(told_until(&mut delivery, "away").await, ["away", "left a, kept", "left stale, kept"]);
    drop(delivery);
    let mut delivery = kept(&state, &server, &[]);
    assert_eq!(delivery.unanswered(), 2);
    assert_eq!(told_until(&mut delivery, "away").await, ["away"]);
    drop(delivery);
    assert_eq!(left(&state), ["a", "stale"]);
    let fake = Fake::start_on(&server).await;
    assert_eq!(finished(kept(&state, &server, &[])).await, ["arrived 7", "caught up 2"]);
    assert_eq!(fake.appends(), ["1", "2"]);
}

/// A run that is killed while it sends leaves no record that nothing was sent.
#[tokio::test]
async fn an_attempt_is_noted_before_it_is_made() {
    let server = address_to_be();
    let state = tempfile::tempdir().unwrap();
    let mut first = kept(&state, &server, &["a"]);
    told_until(&mut first, "away").await;
    drop(first);
    let fake = Fake::start_on(&server).await;
    let mut second = kept(&state, &server, &[]);
    assert_eq!(next(&mut second).await, "arrived 7");
    let copies = copies(&state);
    finished(second).await;
    for (path, bytes) in copies {
        fs::write(path, bytes).unwrap();
    }
    finished(kept(&state, &server, &[])).await;
    assert_eq!(fake.appends(), ["1", "1+"]);
    assert_eq!(fake.texts(), ["anna: a"]);
}

fn copies(state: &TempDir) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |path: &Path| fs::read(path).unwrap();
    files(state).into_iter().map(|path| (path.clone(), read(&path))).collect()
}

/// With the clock paused, time advances whenever every task waits: no real two seconds pass.
#[tokio::test]
async fn a_server_that_answers_nothing_is_told() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut delivery = kept(&state, fake.address(), &["a", SILENCE, "b"]);
    let ending = async {
        fake.stores(1).await;
        tokio::time::pause();
    };
    let (told, ()) = tokio::join!(told_until(&mut delivery, "silent"), ending);
    let expected = ["arrived 7", "1 a", "silent", "left silence, sent, kept", "left b, sent, kept"];
    assert_eq!(told, expected);
    drop(delivery);
    assert_eq!(left(&state), ["silence?", "b?"]);
}

#[tokio::test]
async fn a_server_that_comes_back_gets_all_in_order() {
    let server = address_to_be();
    let state = tempfile::tempdir().unwrap();
    let mut delivery = kept(&state, &server, &["a"]);
    assert_eq!(next(&mut delivery).await, "away");
    submit(&mut delivery, &["b"]);
    let _fake = Fake::start_on(&server).await;
    assert_eq!(finished(delivery).await, ["resumed", "arrived 7", "1 a", "2 b"]);
}

/// What another run kept while the server was away is sent once it is back.
#[tokio::test]
async fn what_others_kept_meanwhile_goes_out_with_a_new_connection() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut delivery = kept(&state, fake.address(), &["a"]);
    assert_eq!([next(&mut delivery).await, next(&mut delivery).await], ["arrived 7", "1 a"]);
    drop(kept(&state, fake.address(), &["meanwhile"]));
    submit(&mut delivery, &[BREAK]);
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != "caught up 1") {
        told.push(next(&mut delivery).await);
    }
    assert!(told.contains(&"away".to_owned()) && told.contains(&"resumed".to_owned()), "{told:?}");
    assert!(fake.texts().contains(&"anna: meanwhile".to_owned()));
}

/// Waiting entries belong to the journal, whatever the server's address.
#[tokio::test]
async fn the_same_server_under_another_name() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut delivery = kept(&state, fake.address(), &["a"]);
    assert_eq!([next(&mut delivery).await, next(&mut delivery).await], ["arrived 7", "1 a"]);
    submit(&mut delivery, &["b"]);
    drop(delivery);
    let renamed = fake.address().replace("127.0.0.1", "localhost");
    assert_ne!(address(&renamed), address(fake.address()));
    assert_eq!(finished(kept(&state, &renamed, &["c"])).await, ["arrived 7", "caught up 1", "3 c"]);
    assert!(is_empty(&state));
}

/// An entry that met a journal goes to no other by itself; one that met none goes to any.
#[tokio::test]
async fn another_journal_gets_nothing_unasked() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut other = kept(&state, fake.address(), &["before"]);
    other.met(8);
    submit(&mut other, &["behind"]);
    drop(other);
    assert_eq!(finished(kept(&state, fake.address(), &["mine"])).await, ["arrived 7", "1 mine"]);
    assert_eq!(left(&state), ["before?", "behind?"]);
    assert!(outbox(&state).list().entries.iter().all(|listed| listed.kept.journal == Some(8)));

    let id = outbox(&state).list().entries.remove(0).id;
    let delivery = Delivery::as_new(outbox(&state), &id, None, None, "before".to_owned()).unwrap();
    assert_eq!(finished(delivery).await, ["arrived 7", "2 before"]);
    assert_eq!(left(&state), ["behind?"]);
}

/// An entry that may be in a journal stays with it: what a run left without meeting one is bound to the first
/// journal to which it is sent.
#[tokio::test]
async fn what_may_be_in_one_journal_goes_to_no_other() {
    let server = address_to_be();
    let state = tempfile::tempdir().unwrap();
    drop(kept(&state, &server, &[SILENCE]));
    assert_eq!(outbox(&state).list().entries[0].kept.journal, None);
    let fake = Fake::start_on(&server).await;
    let mut second = kept(&state, &server, &[]);
    let ending = async {
        fake.refuses(1).await;
        tokio::time::pause();
    };
    let (told, ()) = tokio::join!(told_until(&mut second, "silent"), ending);
    assert_eq!(told, ["arrived 7", "silent"]);
    tokio::time::resume();
    drop(second);
    fake.end().await;

    let fake = Fake::start_as(&server, 8).await;
    assert_eq!(finished(kept(&state, &server, &["mine"])).await, ["arrived 8", "1 mine"]);
    assert_eq!(fake.texts(), ["anna: mine"]);
    assert_eq!(left(&state), ["silence?"]);
}

/// An idle delivery notices, too.
#[tokio::test]
async fn another_journal_in_the_place_of_the_first_ends_it() {
    let server = address_to_be();
    let state = tempfile::tempdir().unwrap();
    let fake = Fake::start_on(&server).await;
    let mut delivery = kept(&state, &server, &["a"]);
    assert_eq!([next(&mut delivery).await, next(&mut delivery).await], ["arrived 7", "1 a"]);
    fake.end().await;
    let fake = Fake::start_as(&server, 8).await;
    let told = told_until(&mut delivery, "ended").await;
    assert_eq!(told.last().map(String::as_str), Some("ended"), "{told:?}");
    assert!(fake.texts().is_empty());
}

/// They are not kept, so the caller gets them back.
#[tokio::test]
async fn what_is_not_kept_is_given_back_when_the_journal_was_replaced() {
    let server = address_to_be();
    let fake = Fake::start_on(&server).await;
    let mut delivery = Delivery::new(address(&server), anna(), Keys::Fresh).unwrap();
    submit(&mut delivery, &["a", SILENCE]);
    assert_eq!([next(&mut delivery).await, next(&mut delivery).await], ["arrived 7", "1 a"]);
    // The answer never comes, so the next outcome is about the connection.
    let (told, fake) = tokio::join!(next(&mut delivery), async {
        fake.refuses(1).await;
        fake.end().await;
        Fake::start_as(&server, 8).await
    });
    assert_eq!(told, "away");
    let mut told = told_until(&mut delivery, "ended").await;
    told.retain(|told| told.starts_with("left") || told == "ended");
    told.sort();
    assert_eq!(told, ["ended", "left silence, sent"]);
    assert!(fake.texts().is_empty());
}

/// Entries for a journal go to whichever server serves it, even if nothing new is written.
#[tokio::test]
async fn what_was_left_is_sent_to_a_server_with_a_new_name() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut delivery = kept(&state, &address_to_be(), &["a"]);
    delivery.met(7);
    drop(delivery);
    assert_eq!(finished(kept(&state, fake.address(), &[])).await, [""; 0], "nobody said whose it is");
    let mut delivery = kept(&state, fake.address(), &[]);
    delivery.serve(7);
    assert_eq!(finished(delivery).await, ["arrived 7", "caught up 1"]);
    assert!(is_empty(&state));
}

/// The name changes while the server is away; what is written under the new name is for the same journal.
#[tokio::test]
async fn a_successor_writes_to_the_same_journal() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    let mut first = kept(&state, fake.address(), &["a"]);
    assert_eq!([next(&mut first).await, next(&mut first).await], ["arrived 7", "1 a"]);
    let mut second = first.successor(Some(Author::new("ben").unwrap())).unwrap();
    submit(&mut second, &["b"]);
    assert!(outbox(&state).list().entries.iter().all(|listed| listed.kept.journal == Some(7)));
    assert_eq!(finished(first).await, [""; 0]);
    assert_eq!(finished(second).await, ["arrived 7", "2 b"]);
    assert_eq!(fake.texts(), ["anna: a", "ben: b"]);

    let mut stranger = kept(&state, fake.address(), &["c"]);
    stranger.met(8);
    assert_eq!(told_until(&mut stranger, "ended").await, ["ended", "left c, kept"]);
    assert_eq!(fake.texts().len(), 2);
}

/// What could not be kept is reported by itself; what was kept before it stays kept.
#[tokio::test]
async fn each_entry_is_kept_or_not_by_itself() {
    let server = address_to_be();
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("outbox");
    fs::write(&folder, "").unwrap();
    let mut delivery = Delivery::new(address(&server), anna(), Keys::Kept(Outbox::new(&folder))).unwrap();
    let error = delivery.submit("a".to_owned(), "a").unwrap_err();
    assert!(error.to_string().starts_with("cannot write "), "{error}");
    fs::remove_file(&folder).unwrap();
    submit(&mut delivery, &["b"]);
    assert_eq!(told_until(&mut delivery, "away").await, ["away", "left a", "left b, kept"]);
}

#[tokio::test]
async fn many_entries() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    let texts: Vec<_> = (1..=300).map(|number| format!("line {number}")).collect();
    drop(kept(&state, fake.address(), &texts.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!(finished(kept(&state, fake.address(), &[])).await, ["arrived 7", "caught up 300"]);
    assert!(fake.texts().iter().zip(&texts).all(|(stored, text)| *stored == format!("anna: {text}")));
    assert!(is_empty(&state));

    let mut delivery = Delivery::new(address(fake.address()), anna(), Keys::Fresh).unwrap();
    let (mut submitted, mut acked) = (0, 0);
    while acked < 20_000 {
        while submitted < 20_000 && delivery.has_room() {
            submitted += 1;
            delivery.submit(submitted, NewEntry::from(format!("line {submitted}"))).unwrap();
        }
        if let Some(Outcome::Acked { tag, ack }) = delivery.next().await {
            acked += 1;
            assert_eq!((tag, ack.seq), (acked, acked + 300));
        }
    }
}
