//! Any way of cutting a conversation into pieces gives the same answers.

use diary_proto::message::{Append, ClientMessage, ServerMessage, Texts};
use diary_proto::{Filter, Seal, Which};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Frames, Server, hello, pairs, soon, texts_of};

/// A line mode conversation with something of everything.
fn lines() -> Vec<u8> {
    let mut said = "今天天气很好\r\ntwo\r\0//three\n\n/name 小明\nfour\n/history #2..\n/search 天气\n"
        .as_bytes()
        .to_vec();
    said.extend_from_slice(b"a\xff\xfd\x06b\n\xff\xfb\x01nul\0\ncaf\xc3\nhelp\n/nope\n/help\n");
    said.extend_from_slice("x".repeat(70_000).as_bytes());
    said.extend_from_slice("\n/history today\n/quiet\nunheard\n/history 3\nlast without its end".as_bytes());
    said
}

/// The same for frames.
fn frames() -> Vec<u8> {
    let mut said = Vec::new();
    ClientMessage::Hello(hello(1)).write(&mut said);
    for (first_counter, texts) in
        [(0, &["今天天气很好", "two\nlines"][..]), (2, &["", "three"]), (9, &["x"; 300])]
    {
        ClientMessage::Append(Append {
            first_counter,
            retry: false,
            texts: Texts::new(texts.iter().copied()),
        })
        .write(&mut said);
    }
    ClientMessage::History { id: 1, scope: Which::From(2).into() }.write(&mut said);
    said.extend_from_slice(b"\0\0\0\x03\x90ab\0\0\0\x02\x7fa");
    ClientMessage::Search { id: 2, filter: Filter::of_text("天") }.write(&mut said);
    ClientMessage::Append(Append {
        first_counter: 0,
        retry: true,
        texts: Texts::new(["今天天气很好", "other"]),
    })
    .write(&mut said);
    ClientMessage::Quit.write(&mut said);
    said
}

/// Sends `input` in pieces of these sizes, in turn, while it collects what comes back.
async fn converse(address: &str, input: &[u8], cuts: &[usize]) -> Vec<u8> {
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    reader.as_ref().set_nodelay(true).unwrap();
    let writing = async {
        let (mut rest, mut sizes) = (input, cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            writer.write_all(piece).await.unwrap();
            rest = tail;
            // Lets the server, which runs on this thread, read it.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        }
        writer.shutdown().await.unwrap();
    };
    let reading = async {
        let mut answers = Vec::new();
        reader.read_to_end(&mut answers).await.unwrap();
        answers
    };
    soon("all answers", async { tokio::join!(writing, reading) }).await.1
}

/// What line mode answered, without the times and the journal's id.
async fn line_answers(cuts: &[usize]) -> String {
    let server = Server::start().await;
    let answers = converse(server.address(), &lines(), cuts).await;
    let text = String::from_utf8_lossy(&answers);
    let without_time = |word: &str| match word.as_bytes() {
        time if time.len() >= 32 && diary_proto::Time::parse(&time[..32]).is_some() => {
            format!("TIME{}", &word[32..])
        }
        _ => word.to_owned(),
    };
    let text = text.split(' ').map(without_time).collect::<Vec<_>>().join(" ");
    text.split_once("; a line is an entry").unwrap().1.to_owned()
}

/// What frame mode answered, without what the clock and the batches have a part in.
async fn frame_answers(cuts: &[usize]) -> Vec<String> {
    let server = Server::start().await;
    let answers = converse(server.address(), &frames(), cuts).await;
    let mut messages = Vec::new();
    let mut blocks: Vec<u8> = Vec::new();
    let (mut acked, mut seal) = (Vec::new(), Seal::PLAIN);
    for message in Frames::read_all(&answers) {
        match message {
            ServerMessage::Welcome(welcome) => {
                seal = Seal::of_journal(welcome.journal_id);
                messages.push(format!("welcome {}", welcome.author));
            }
            ServerMessage::Acks(runs) => acked.extend(pairs(&runs)),
            ServerMessage::Block { lines, .. } => blocks.extend_from_slice(&lines),
            other => {
                messages.push(format!("{acked:?} {:?}", texts_of(&blocks, seal)));
                messages.push(format!("{other:?}"));
                (acked, blocks) = (Vec::new(), Vec::new());
            }
        }
    }
    messages
}

fn check<T: PartialEq + std::fmt::Debug>(answers: impl AsyncFn(&[usize]) -> T, cuts: &[usize]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { assert_eq!(answers(cuts).await, answers(&[usize::MAX]).await) });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lines_can_be_cut_anywhere(cuts in proptest::collection::vec(prop_oneof![1usize..40, 1usize..9000], 1..40)) {
        check(line_answers, &cuts);
    }

    #[test]
    fn frames_can_be_cut_anywhere(cuts in proptest::collection::vec(1usize..60, 1..40)) {
        check(frame_answers, &cuts);
    }
}

#[test]
fn a_frame_mode_conversation_can_come_byte_by_byte() {
    check(frame_answers, &[1]);
}

#[test]
fn the_conversations_say_something() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (lines, frames) =
        runtime.block_on(async { (line_answers(&[100]).await, frame_answers(&[100]).await) });
    for part in [
        "ok 1 TIME",
        "ok name 小明",
        "error nul",
        "error utf8",
        "error too-long",
        "end 13",
        "ok search",
        "unheard",
    ] {
        assert!(lines.contains(part), "{part} is not in {lines}");
    }
    for part in ["welcome local", "Empty", "BadFrame", "Conflict", "(303, ", "今天天气很好", "Bye"] {
        assert!(frames.iter().any(|message| message.contains(part)), "{part} is not in the answers");
    }
}
