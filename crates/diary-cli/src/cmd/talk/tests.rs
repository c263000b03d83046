use std::io;

use clap::Parser;
use jiff::tz::TimeZone;

use diary_client::NewEntry;
use diary_outbox::fake::{BREAK, Fake, Paper, REFUSED, SILENCE, STALE, TIME};
use diary_outbox::{Keys, Outbox};

use super::*;
use crate::error::exit;
use crate::term::input::typed;
use crate::term::output::tests::said;

/// A user at a terminal, who types and waits for output.
struct Person {
    keys: mpsc::Sender<io::Result<Vec<u8>>>,
    paper: Paper,
}

impl Person {
    async fn types(&self, text: &str) {
        self.keys.send(Ok(text.as_bytes().to_vec())).await.unwrap();
    }

    async fn sees(&self, part: &str) {
        self.paper.shows(part).await;
    }
}

/// Runs a conversation with `script` as its user. Returns the exit code and what was printed.
async fn talk<F: Future<Output = ()>>(
    fake: &Fake,
    words: &[&str],
    script: impl FnOnce(Person) -> F,
) -> (u8, String) {
    let state = tempfile::tempdir().unwrap();
    let (ended, printed) = talk_in(&state, fake.address(), words, script).await;
    assert!(outbox(&state).list().entries.is_empty(), "all was acked");
    (code(&ended), printed)
}

fn code(ended: &Ended) -> u8 {
    ended.how.as_ref().map_or_else(CliError::code, |()| exit::DONE)
}

fn last_words(ended: &Ended) -> String {
    ended.how.as_ref().map_or_else(ToString::to_string, |()| String::new())
}

fn outbox(state: &tempfile::TempDir) -> Outbox {
    Outbox::new(state.path().join("outbox"))
}

/// Leaves entries of another run in an outbox.
fn leave(state: &tempfile::TempDir, fake: &Fake, author: &str, texts: &[&str]) {
    let keys = Keys::Kept(outbox(state));
    let mut left = Delivery::new(fake.address().parse().unwrap(), Author::new(author).ok(), keys).unwrap();
    for text in texts {
        left.submit((), NewEntry { written: Some(TIME), ..(*text).into() }).unwrap();
    }
}

/// Like [`talk`], with an outbox in `state`, which may have entries.
async fn talk_in<F: Future<Output = ()>>(
    state: &tempfile::TempDir,
    address: &str,
    words: &[&str],
    script: impl FnOnce(Person) -> F,
) -> (Ended, String) {
    let words = [&["diary", address, "--name", "anna"], words].concat();
    let args = crate::cli::Args::try_parse_from(words).unwrap();
    let config =
        Config { state: Some(state.path().to_owned()), ..Config::read(args.server(), &args.settings) };
    let paper = Paper::default();
    let (keys, chunks) = mpsc::channel(1);
    let place = Place {
        config: &config,
        past: args.past(),
        output: Output::new(paper.clone()),
        view: Printer::of(crate::render::Format::Pretty, false, TimeZone::UTC, 0),
        prompt: None,
        bare: false,
    };
    let running = run(place, typed(chunks), Signals::at_a_terminal());
    let (ended, ()) = tokio::join!(running, script(Person { keys, paper: paper.clone() }));
    (ended, paper.text())
}

/// Returns what was printed below the welcome.
fn below_welcome(printed: &str) -> &str {
    printed.split_once('\n').map_or("", |(_, rest)| rest)
}

/// Returns the acks for these seqs.
fn acks(fake: &Fake, seqs: std::ops::RangeInclusive<u64>) -> String {
    seqs.map(|seq| format!("ok {seq} on {}\n", fake.address())).collect()
}

/// Days in the reader's calendar, and single entries.
#[tokio::test]
async fn a_history_of_what_people_say() {
    let fake = Fake::start().await;
    let (_, printed) = talk(&fake, &["-n0"], |person| async move {
        person.types("one\ntwo\n").await;
        person.sees("ok 2 on ").await;
        person.types("/history 2026-11\n/history last year..2026-11-19\n/history 2026..\n").await;
        person.types("/history 3 days ago..3 weeks ago\n/history soon\n/history #1\n/history #0\n").await;
    })
    .await;
    let heading = "── 2026-11-21 Saturday ──\n";
    let both = format!("{heading}00:15 #1 anna one\n00:15 #2 anna two\n2 entries\n");
    let one = format!("{heading}00:15 #1 anna one\n1 entry\n");
    let answers = format!("{both}no entries\n{both}{one}");
    assert_eq!(below_welcome(&printed), acks(&fake, 1..=2) + &answers);
}

#[tokio::test]
async fn entries_and_commands() {
    let fake = Fake::start().await;
    let (code, printed) = talk(&fake, &[], |person| async move {
        person.types("hello\n  \t\n//usr is a path\n/nope\nexit\n/search usr\n/search none\n").await;
        person.sees("no entries\n").await;
        person.types("/quiet\nunseen\n/history 2\n/quit\nnot stored\n").await;
    })
    .await;
    assert!(printed.starts_with("anna writes in diary at 127.0.0.1:"), "{printed}");
    let below = below_welcome(&printed);
    let expected_parts = [
        &acks(&fake, 1..=2),
        &format!("ok 3 on {} (stored as a text; /help lists the commands)\n", fake.address()),
        "── 2026-11-21 Saturday ──\n00:15 #2 anna /usr is a path\n1 entry\n",
    ];
    for part in expected_parts {
        assert!(below.contains(part), "{part:?} is not in {below}");
    }
    assert!(!below.contains("ok 4"), "{below}");
    assert!(said().contains(&"nothing was written: the text is blank".to_owned()));
    assert_eq!(code, exit::DONE);
    assert_eq!(fake.texts(), ["anna: hello", "anna: /usr is a path", "anna: exit", "anna: unseen"]);
}

#[tokio::test]
async fn the_past_and_the_end_of_input() {
    let fake = Fake::start().await;
    talk(&fake, &[], |person| async move { person.types("one\ntwo\nlast").await }).await;
    let (code, printed) = talk(&fake, &["-n", "2"], |_| async {}).await;
    let expected = "── 2026-11-21 Saturday ──\n00:15 #2 anna two\n00:15 #3 anna last\n";
    assert_eq!((code, below_welcome(&printed)), (exit::DONE, expected));
    let (_, printed) = talk(&fake, &["-n", "0"], |_| async {}).await;
    assert_eq!(below_welcome(&printed), "");
}

#[tokio::test]
async fn a_follow_shows_others_and_not_what_was_just_typed() {
    let fake = Fake::start().await;
    let other = fake.client("ben").await;
    let (_, printed) = talk(&fake, &["-n0"], |person| async move {
        person.types("before\n").await;
        person.sees("ok 1 on ").await;
        person.types("/follow #1\n").await;
        person.sees("anna before").await;
        person.types("mine\n").await;
        person.sees("ok 2 on ").await;
        other.append("theirs").await.unwrap();
        person.sees("ben theirs\n").await;
        person.types("/follow off\n").await;
        person.sees("not following").await;
    })
    .await;
    assert_eq!(printed.matches("anna before").count(), 1, "{printed}");
    assert!(!printed.contains("anna mine"), "{printed}");
}

#[tokio::test]
async fn another_name_writes_from_there_on() {
    let fake = Fake::start().await;
    let (code, printed) = talk(&fake, &["-n0"], |person| async move {
        person.types("one\n/name 小明\ntwo\n/name a b\n").await;
        person.sees("ok 2 on ").await;
        person.types("/name 小红\n").await;
        person.sees("you write as 小红\n").await;
    })
    .await;
    assert_eq!(fake.texts(), ["anna: one", "小明: two"]);
    let expected = format!("{}you write as 小明\n{}", acks(&fake, 1..=1), acks(&fake, 2..=2));
    assert!(printed.contains(&expected), "{printed}");
    assert_eq!(code, exit::DONE);
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_anew() {
    let fake = Fake::start().await;
    let (code, printed) = talk(&fake, &["-n0"], |person| async move {
        person.types(&format!("{BREAK}\nb\n")).await;
    })
    .await;
    assert_eq!((code, below_welcome(&printed)), (exit::DONE, acks(&fake, 1..=2).as_str()));
    assert_eq!(fake.texts().len(), 2);
}

/// The server has no room: the text stays in the outbox, and later ones do not overtake it.
#[tokio::test]
async fn a_server_whose_disk_is_full() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    let (ended, printed) = talk_in(&state, fake.address(), &["-n0"], async |person| {
        person.types(&format!("{REFUSED} this\n")).await;
        fake.refuses(2).await;
        person.types("small\n/name ben\nother\n").await;
    })
    .await;
    let told = "error disk-full: no room; it and everything after it is saved, and sent once there is room";
    assert_eq!(said().iter().filter(|said| *said == told).count(), 1);
    let words = last_words(&ended);
    assert_eq!((code(&ended), words.lines().count()), (exit::NOT_ACKED, 1));
    assert!(words.contains("; 3 entries were not acked: kept in "), "{words:?}");
    assert!(!printed.contains("ok "), "{printed}");
    let kept = outbox(&state).list().entries;
    assert!(kept.iter().map(|kept| kept.kept.text.as_str()).eq(["refuse this", "small", "other"]));
    assert!(fake.texts().is_empty());
}

/// Once there is room, everything is sent in the order in which it was typed.
#[tokio::test]
async fn a_disk_that_is_freed() {
    let fake = Fake::start().await;
    let (code, printed) = talk(&fake, &["-n0"], async |person| {
        person.types(&format!("one\n{REFUSED} two\nthree {REFUSED}\n")).await;
        fake.refuses(4).await;
        person.types("four\n/name ben\nfive\n").await;
        fake.make_room();
        fake.stores(5).await;
        person.types("six\n").await;
        person.sees("ok 6 on ").await;
    })
    .await;
    assert_eq!(code, exit::DONE, "{printed}");
    let texts =
        ["anna: one", "anna: refuse two", "anna: three refuse", "anna: four", "ben: five", "ben: six"];
    assert_eq!(fake.texts(), texts);
}

/// Acks are shown as they arrive, however long an answer takes, and no silence is reported.
#[tokio::test]
async fn a_long_search_hides_no_ack() {
    let fake = Fake::start().await;
    said();
    let (_, printed) = talk(&fake, &["-n0"], async |person| {
        person.types(&format!("/search {SILENCE}\none\n")).await;
        person.sees("ok 1 on ").await;
        tokio::time::pause();
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        tokio::time::resume();
        person.types("two\n").await;
        person.sees("no entries\n").await;
    })
    .await;
    assert!(!printed.contains("acked nothing") && said().is_empty(), "{printed}");
}

/// A command sees the entries typed before it, and acks that arrive during an answer are printed after it.
#[tokio::test]
async fn a_command_sees_what_was_typed_before_it() {
    let fake = Fake::start().await;
    let (_, printed) = talk(&fake, &["-n0"], async |person| {
        person.types("one\n/search one\ntwo\n/search two\n").await;
        person.sees("anna two").await;
    })
    .await;
    assert_eq!(printed.matches("1 entry").count(), 2, "{printed}");
}

/// What another run kept while the server was away is sent once it is back.
#[tokio::test]
async fn what_others_kept_meanwhile_goes_out_with_a_new_connection() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    let (ended, _) = talk_in(&state, fake.address(), &["-n0"], async |person| {
        person.types("one\n").await;
        person.sees("ok 1 on ").await;
        leave(&state, &fake, "ben", &["meanwhile"]);
        person.types(&format!("{BREAK}\n")).await;
        fake.stores(3).await;
    })
    .await;
    assert_eq!(code(&ended), exit::DONE);
    assert_eq!(fake.texts()[2], "ben: meanwhile");
}

/// Every sentence of a conversation, in the order in which a bad day brings them.
#[tokio::test]
async fn what_is_said_in_a_conversation() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    said();
    leave(&state, &fake, "anna", &[STALE, "left by another run"]);
    let id = outbox(&state).list().entries[0].id.clone();
    let (ended, printed) = talk_in(&state, fake.address(), &["-n0"], |person| async move {
        person.types("one\n").await;
        person.sees("ok 2 on ").await;
        person.types(&format!("quit\n{BREAK}\n")).await;
        person.sees("ok 4 on ").await;
        for line in ["/nope", "/name a b", "/search", "/history soon", "/follow x", "/quiet now", "/help"] {
            person.types(&format!("{line}\n")).await;
        }
        person.sees("//text").await;
        for line in ["/history #1", "/history", "/search none", "/follow", "/follow off", "/name ben"] {
            person.types(&format!("{line}\n")).await;
        }
        person.sees("you write as ben").await;
        person.types(&format!("{REFUSED}\n")).await;
    })
    .await;
    let time = TIME.in_zone(&TimeZone::system()).minute();
    let names = [(fake.address(), "[server]"), (&id, "[id]"), (&time, "[time]")];
    check("conversation", &printed, &ended, &names, &state);
}

/// The server was never reached, and typed entries wait for it.
#[tokio::test]
async fn what_is_said_without_a_server() {
    let listener = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let state = tempfile::tempdir().unwrap();
    said();
    let (ended, printed) = talk_in(&state, &address, &[], |person| async move {
        person.types("too early\n/history\n").await;
    })
    .await;
    check("no_server", &printed, &ended, &[(&address, "[server]")], &state);
}

/// Compares what was printed and said, and the final report. What was said is sorted, since connection states and
/// answers arrive in any order.
fn check(name: &str, printed: &str, ended: &Ended, names: &[(&str, &str)], state: &tempfile::TempDir) {
    let mut said = said();
    said.sort();
    let mut all = [printed, &said.join("\n"), &last_words(ended)].join("\n----\n");
    for (what, name) in names {
        all = all.replace(what, name);
    }
    let all = all.replace(&state.path().display().to_string(), "[state]");
    insta::with_settings!({ snapshot_path => "../snapshots", omit_expression => true }, {
        insta::assert_snapshot!(name, all);
    });
}
