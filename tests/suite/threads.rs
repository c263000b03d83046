//! Entries that answer others, and the threads that they make.

use std::fs;

use diary_client::{Client, Event, Levels, NewEntry, Options, Pending};
use diary_proto::Code;
use diary_proto::message::{Append, ClientMessage, NewText, RELATED_MAX_ENTRIES, ServerMessage, Texts};

use crate::access::maintain;
use crate::cli_add::{Home, address_to_be, server_at};
use crate::support::{Frames, Lines, Server, day_files, pairs, soon, text};

/// The texts of a thread in line mode, as far indented as they come.
async fn thread(client: &mut Lines, root: u64) -> Vec<String> {
    assert_eq!(client.ask(&format!("/thread {root}")).await, "ok thread");
    let mut shown = Vec::new();
    loop {
        let line = client.line().await;
        if let Some(count) = line.strip_prefix("end ") {
            let entries = shown.iter().filter(|line: &&String| !line.starts_with("gap")).count();
            assert_eq!(count, entries.to_string());
            return shown;
        }
        let indent = line.len() - line.trim_start().len();
        shown.push(match line.starts_with("gap") {
            true => line,
            false => format!("{}{}", " ".repeat(indent), text(line.trim_start())),
        });
    }
}

#[tokio::test]
async fn an_answer_stands_below_what_it_answers() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    // A command sees the lines before it, also in one packet.
    client
        .send("lunch?\n/re 1 at noon\n/re #2 no, at one\nrain\n/re 1  where? \n/re 4 (re 1) literally\n")
        .await;
    for seq in 1..=6 {
        assert!(client.line().await.starts_with(&format!("ok {seq} ")));
    }
    assert_eq!(
        thread(&mut client, 1).await,
        ["lunch?", "  (re 1) at noon", "    (re 2) no, at one", "  (re 1)  where? "]
    );
    assert_eq!(thread(&mut client, 2).await, ["(re 1) at noon", "  (re 2) no, at one"]);
    assert_eq!(thread(&mut client, 4).await, ["rain", "  (re 4) (re 1) literally"]);
    assert_eq!(
        client.history("1").await.iter().map(|line| text(line)).collect::<Vec<_>>(),
        ["(re 4) (re 1) literally"]
    );
    // The text alone is searched.
    assert_eq!(client.ask("/search re 4").await, "ok search");
    assert_eq!(client.line().await, "end 0");
    client.send("/quiet\n/re 1 quietly\n/re 99 nothing\n").await;
    assert_eq!(client.line().await, "ok quiet");
    assert_eq!(client.line().await, "error no-entry: there is no entry with that number");
    let folder = server.stop().await;

    // It is all in the day files.
    let server = Server::on(folder, |_| {}).await;
    for file in ["cache", "head"] {
        fs::metadata(server.journal().join(file)).unwrap();
    }
    let folder = server.stop().await;
    fs::remove_file(folder.path().join("diary/cache")).unwrap();
    let server = Server::on(folder, |_| {}).await;
    let mut client = server.lines().await;
    assert_eq!(thread(&mut client, 1).await.len(), 5);
    server.stop().await;
}

#[tokio::test]
async fn what_answers_nothing_is_refused_and_the_rest_is_stored() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    for line in ["/re 1 to nothing", "/re 18446744073709551615 x", "/thread 1"] {
        assert_eq!(client.ask(line).await, "error no-entry: there is no entry with that number", "{line}");
    }
    for (line, error) in [
        ("/re", "error bad-argument"),
        ("/re 0 x", "error bad-argument"),
        ("/re one x", "error bad-argument"),
        ("/re 18446744073709551616 x", "error bad-argument"),
        ("/re 1", "error empty"),
        ("/re 1 \t", "error empty"),
        ("/re 1 a\0b", "error nul"),
        ("/thread", "error bad-argument"),
        ("/thread 0", "error bad-argument"),
    ] {
        let answer = client.ask(line).await;
        assert!(answer.starts_with(error), "{line:?}: {answer}");
    }
    let long = "x".repeat(65_536);
    assert!(client.ask(&format!("/re 1 {long}")).await.starts_with("error "));
    assert!(client.ask("one").await.starts_with("ok 1 "));
    let answer = client.ask(&format!("/re 1 {}", &long[8..])).await;
    assert!(answer.starts_with("ok 2 "), "{answer}");

    // In a frame, each in its place.
    let mut frames = Frames::hello(server.address(), 7).await;
    let new = |text, answers| NewText { text, answers, ..NewText::default() };
    let texts = [
        new(b"two", Some(1)),
        new(b"to the future", Some(4)),
        new(b"three", None),
        new(b"to nothing", Some(0)),
        new(b"four", Some(2)),
    ];
    let append = |retry| {
        let texts = Texts::own(texts);
        ClientMessage::Append(Append { first_counter: 1, retry, texts })
    };
    frames.send(&append(false)).await;
    let mut outcomes = Vec::new();
    for _ in 0..5 {
        outcomes.push(match soon("an answer comes", frames.message()).await {
            ServerMessage::Acks(runs) => format!("{}: {}", runs[0].first_counter, runs[0].first_seq),
            ServerMessage::Refused { first_counter, refusal, .. } => {
                format!("{first_counter}: {}", refusal.code)
            }
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(outcomes, ["1: 3", "2: no-entry", "3: 4", "4: no-entry", "5: 5"]);

    // Sent again, what was stored is acked; what was not is taken if it can be by now.
    frames.send(&append(true)).await;
    let mut outcomes = Vec::new();
    while outcomes.len() < 5 {
        match soon("an answer comes", frames.message()).await {
            ServerMessage::Acks(runs) => outcomes.extend(pairs(&runs)),
            ServerMessage::Refused { first_counter, .. } => outcomes.push((first_counter, 0)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(outcomes, [(1, 3), (2, 6), (3, 4), (4, 0), (5, 5)]);

    // The same key with another answered entry is another entry.
    let texts = Texts::own([new(b"two", Some(2))]);
    frames.send(&ClientMessage::Append(Append { first_counter: 1, retry: true, texts })).await;
    match frames.message().await {
        ServerMessage::Refused { refusal, .. } => assert_eq!(refusal.code, Code::Conflict),
        other => panic!("{other:?}"),
    }

    // More than a frame may have.
    let texts = |count| Texts::own((0..count).map(|_| new(b"x", Some(1))));
    let append = |first_counter, count| {
        ClientMessage::Append(Append { first_counter, retry: false, texts: texts(count) })
    };
    frames.send(&append(100, RELATED_MAX_ENTRIES + 1)).await;
    match frames.message().await {
        ServerMessage::Error { fatal: false, refusal, .. } => assert_eq!(refusal.code, Code::BadFrame),
        other => panic!("{other:?}"),
    }
    frames.send(&append(100, RELATED_MAX_ENTRIES)).await;
    match frames.message().await {
        ServerMessage::Acks(runs) => assert_eq!(runs[0].count as usize, RELATED_MAX_ENTRIES),
        other => panic!("{other:?}"),
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_damaged_or_archived_cannot_be_answered() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    for line in ["one", "two", "/re 2 three", "/re 1 four"] {
        client.ask(line).await;
    }
    let folder = server.stop().await;
    let journal = folder.path().join("diary");
    let day = day_files(&journal).pop().unwrap();
    fs::write(&day, fs::read_to_string(&day).unwrap().replace(" two\t", " tow\t")).unwrap();
    let server = Server::on(folder, |_| {}).await;
    let mut client = server.lines().await;
    let damaged = "error no-entry: the entry with that number is damaged or missing";
    assert_eq!(client.ask("/re 2 answer").await, damaged);
    let gap = "gap 2..2: these entries are damaged or missing";
    assert_eq!(thread(&mut client, 2).await, [gap, "(re 2) three"]);
    assert!(client.ask("/re 3 answer").await.starts_with("ok 5 "));
    let folder = server.stop().await;

    let ran = maintain(folder.path(), &["archive"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let server = Server::on(folder, |_| {}).await;
    let mut client = server.lines().await;
    let archived = "error no-entry: the entry with that number is archived";
    for line in ["/re 1 answer", "/re 5 answer", "/thread 4"] {
        assert_eq!(client.ask(line).await, archived, "{line}");
    }
    assert!(client.ask("new").await.starts_with("ok 6 "));
    assert!(client.ask("/re 6 answer").await.starts_with("ok 7 "));
    assert_eq!(thread(&mut client, 6).await, ["new", "  (re 6) answer"]);
    server.stop().await;
}

#[tokio::test]
async fn a_thread_comes_whole_however_long_it_is() {
    let server = Server::start().await;
    let client = Client::connect(server.address().parse().unwrap(), Options::default()).await.unwrap();
    let answer = |answers, text: String| NewEntry { answers: Some(answers), ..text.into() };
    client.append("root").await.unwrap();
    let mut pending: Vec<Pending> = Vec::new();
    for number in 2..=3000_u64 {
        // A chain, and answers to the first entry.
        let answered = if number % 2 == 0 || number < 4 { 1 } else { number - 2 };
        if answered > 1 || pending.len() > 500 {
            for pending in pending.drain(..) {
                pending.await.unwrap();
            }
        }
        pending.push(client.send(answer(answered, format!("{number} {}", "x".repeat(200)))).await.unwrap());
    }
    for pending in pending {
        pending.await.unwrap();
    }
    let mut history = client.thread(1);
    let (mut seqs, mut levels) = (Vec::new(), Levels::default());
    let mut deepest = 0;
    while let Some(event) = soon("an event comes", history.next()).await {
        let Event::Entry(stored) = event.unwrap() else { panic!("nothing is missing") };
        deepest = deepest.max(levels.next(stored.entry.seq, stored.entry.relation).depth);
        seqs.push(stored.entry.seq);
    }
    let chain = (3..=3000).filter(|number| number % 2 == 1);
    let expected: Vec<u64> =
        [1, 2].into_iter().chain(chain).chain((4..=3000).filter(|number| number % 2 == 0)).collect();
    assert_eq!(seqs, expected);
    assert_eq!(deepest, diary_proto::relation::LEVEL_MAX);
    client.close().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn from_the_command_line() {
    let (home, data) = (Home::new(), tempfile::tempdir().unwrap());
    let address = address_to_be().await;
    let server = server_at(&address, data.path()).await;
    for words in [&["add", "lunch?"][..], &["add", "--re", "1", "at noon"], &["add", "--re", "#2", "fine"]] {
        assert_eq!(home.run(&address, words).await.code, Some(0), "{words:?}");
    }
    let ran = home.run(&address, &["log", "1", "--thread", "--format", "short"]).await;
    let shown: Vec<_> = ran.stdout.lines().map(|line| line.split_once('#').unwrap()).collect();
    let indents: Vec<_> = shown.iter().map(|(time, _)| time.len() - time.trim_start().len()).collect();
    assert_eq!((ran.code, indents), (Some(0), vec![0, 2, 4]), "{ran:?}");
    assert_eq!(
        shown.iter().map(|(_, rest)| *rest).collect::<Vec<_>>(),
        ["1 anna lunch?", "2 anna at noon", "3 anna fine"]
    );
    let ran = home.run(&address, &["log", "--format", "short"]).await;
    assert!(ran.stdout.ends_with("#3 anna ↳ 2 fine\n"), "{ran:?}");
    let ran = home.run(&address, &["log", "2", "--json"]).await;
    assert!(ran.stdout.contains("\"re\":1") && ran.stdout.lines().count() == 1, "{ran:?}");
    for words in [&["log", "9"][..], &["log", "9", "--thread"]] {
        let ran = home.run(&address, words).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        assert!(ran.stderr.contains("there is no entry"), "{ran:?}");
    }

    // What answers nothing is kept until somebody decides.
    let ran = home.run(&address, &["add", "--re", "9", "to nothing"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), ""), "{ran:?}");
    assert!(ran.stderr.contains("no-entry: there is no entry with that number; add its text"), "{ran:?}");
    let ran = home.run(&address, &["outbox"]).await;
    assert!(ran.stdout.contains("↳ 9 to nothing"), "{ran:?}");
    let id = ran.stdout.split(' ').next().unwrap().to_owned();
    assert_eq!(home.run(&address, &["outbox", "drop", &id]).await.code, Some(0));

    // An answer that is written while the server is away is one when it arrives.
    server.stop().await;
    assert_eq!(home.run(&address, &["add", "--re", "1", "late"]).await.code, Some(5));
    let server = server_at(&address, data.path()).await;
    assert_eq!(home.run(&address, &["outbox", "send"]).await.code, Some(0));
    server.stop().await;
    let day = day_files(&data.path().join("diary")).pop().unwrap();
    assert!(fs::read_to_string(day).unwrap().contains(" anna (re 1) late\t"));
}
