use std::io;

use clap::Parser;
use jiff::tz::TimeZone;

use super::*;
use crate::fake::{BREAK, Fake, Paper, REFUSED, STALE, TIME};
use crate::input::typed;
use crate::output::tests::said;

/// A person at a terminal: types, and waits for what appears.
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

/// Lets `person` talk; the exit code and all that was printed.
async fn talk<F: Future<Output = ()>>(
    fake: &Fake,
    words: &[&str],
    script: impl FnOnce(Person) -> F,
) -> (u8, String) {
    let state = tempfile::tempdir().unwrap();
    let (Ended { code, .. }, printed) = talk_in(&state, fake.address(), words, script).await;
    assert!(Outbox::new(Some(state.path())).list().entries.is_empty(), "all was acked");
    (code, printed)
}

/// The same with an outbox in `state`, where something may be left.
async fn talk_in<F: Future<Output = ()>>(
    state: &tempfile::TempDir,
    address: &str,
    words: &[&str],
    script: impl FnOnce(Person) -> F,
) -> (Ended, String) {
    let words = [&["diary-cli", address, "--name", "anna"], words].concat();
    let args = crate::args::Args::try_parse_from(words).unwrap();
    let config =
        Config { state: Some(state.path().to_owned()), ..Config::read(args.server(), &args.settings) };
    let paper = Paper::default();
    let (keys, chunks) = mpsc::channel(1);
    let place = Place {
        config: &config,
        past: args.past(),
        output: Output::new(paper.clone()),
        view: Printer::of(crate::show::Format::Pretty, false, TimeZone::UTC, 0),
        prompt: None,
        bare: false,
    };
    let running = run(place, typed(chunks), Signals::new().unwrap());
    let (ended, ()) = tokio::join!(running, script(Person { keys, paper: paper.clone() }));
    (ended, paper.text())
}

/// What was printed below the welcome.
fn below_welcome(printed: &str) -> &str {
    printed.split_once('\n').map_or("", |(_, rest)| rest)
}

/// What is said when these are on disk.
fn acks(fake: &Fake, seqs: std::ops::RangeInclusive<u64>) -> String {
    seqs.map(|seq| format!("ok {seq} on {}\n", fake.address())).collect()
}

/// Which days, seen from where the reader is; and one entry alone.
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
    let both = format!("{heading}00:15 anna one\n00:15 anna two\n2 entries\n");
    let one = format!("{heading}00:15 anna one\n1 entry\n");
    let answers = format!("{both}no entries\n{both}{one}");
    assert_eq!(below_welcome(&printed), acks(&fake, 1..=2) + &answers);
}

#[tokio::test]
async fn entries_and_commands() {
    let fake = Fake::start().await;
    let (code, printed) = talk(&fake, &[], |person| async move {
        person.types("hello\n//usr is a path\n/nope\nexit\n/search usr\n/search none\n").await;
        person.sees("no entries\n").await;
        person.types("/quiet\nunseen\n/history 2\n/quit\nnot stored\n").await;
    })
    .await;
    assert!(printed.starts_with("anna writes in diary at 127.0.0.1:"), "{printed}");
    let below = below_welcome(&printed);
    let expected_parts = [
        &acks(&fake, 1..=2),
        &format!("ok 3 on {} (stored as a text; /help lists the commands)\n", fake.address()),
        "── 2026-11-21 Saturday ──\n00:15 anna /usr is a path\n1 entry\n",
    ];
    for part in expected_parts {
        assert!(below.contains(part), "{part:?} is not in {below}");
    }
    assert!(!below.contains("ok 4"), "{below}");
    assert_eq!(code, exit::DONE);
    assert_eq!(fake.texts(), ["anna: hello", "anna: /usr is a path", "anna: exit", "anna: unseen"]);
}

#[tokio::test]
async fn the_past_and_the_end_of_input() {
    let fake = Fake::start().await;
    talk(&fake, &[], |person| async move { person.types("one\ntwo\nlast").await }).await;
    let (code, printed) = talk(&fake, &["-n", "2"], |_| async {}).await;
    let expected = "── 2026-11-21 Saturday ──\n00:15 anna two\n00:15 anna last\n";
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

/// The server has no room: the text stays in the outbox, and what fits goes on.
#[tokio::test]
async fn a_server_whose_disk_is_full() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    let (ended, printed) = talk_in(&state, fake.address(), &["-n0"], |person| async move {
        person.types(&format!("{REFUSED} this\nsmall\n")).await;
        person.sees("ok 1 on ").await;
    })
    .await;
    assert!(said().contains(&"error disk-full: no room; it is kept, and the next run sends it".to_owned()));
    assert_eq!((ended.code, ended.last_words.len()), (exit::NOT_ACKED, 1));
    assert_eq!(below_welcome(&printed), acks(&fake, 1..=1));
    let kept = Outbox::new(Some(state.path())).list().entries;
    assert!(kept.iter().map(|kept| kept.kept.text.as_str()).eq(["refuse this"]));
    assert_eq!(fake.texts(), ["anna: small"]);
}

/// Each sentence that a conversation has, in the order in which a bad day brings them.
#[tokio::test]
async fn what_is_said_in_a_conversation() {
    let fake = Fake::start().await;
    let state = tempfile::tempdir().unwrap();
    said();
    let outbox = Outbox::new(Some(state.path()));
    let anna = Author::new("anna").unwrap();
    let mut left = outbox.begin(&fake.address().parse().unwrap(), Some(&anna)).unwrap();
    left.push(TIME, STALE).kept.unwrap();
    left.push(TIME, "left by another run").kept.unwrap();
    let id = outbox.id(&left, 1);
    drop(left);
    let (ended, printed) = talk_in(&state, fake.address(), &["-n0"], |person| async move {
        person.types("one\n").await;
        person.sees("ok 2 on ").await;
        person.types(&format!("quit\n{REFUSED}\n{BREAK}\n")).await;
        person.sees("ok 4 on ").await;
        for line in ["/nope", "/name a b", "/search", "/history soon", "/follow x", "/quiet now", "/help"] {
            person.types(&format!("{line}\n")).await;
        }
        person.sees("//text").await;
        for line in ["/history #1", "/history", "/search none", "/follow", "/follow off", "/name ben"] {
            person.types(&format!("{line}\n")).await;
        }
        person.sees("you write as ben").await;
    })
    .await;
    let time = TIME.in_zone(&TimeZone::system()).minute();
    let names = [(fake.address(), "[server]"), (&id, "[id]"), (&time, "[time]")];
    check("conversation", &printed, &ended, &names, &state);
}

/// The server never was there, and what is typed waits for it.
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

/// Compares what was printed, what was said beside it, and the last words. What was said is sorted, since the state
/// of the connection and the answers come as they come.
fn check(name: &str, printed: &str, ended: &Ended, names: &[(&str, &str)], state: &tempfile::TempDir) {
    let mut said = said();
    said.sort();
    let mut all = [printed, &said.join("\n"), &ended.last_words.join("\n")].join("\n----\n");
    for (what, name) in names {
        all = all.replace(what, name);
    }
    let all = all.replace(&state.path().display().to_string(), "[state]");
    insta::with_settings!({ snapshot_path => "../snapshots", omit_expression => true }, {
        insta::assert_snapshot!(name, all);
    });
}
