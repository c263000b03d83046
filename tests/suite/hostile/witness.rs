//! Clients that keep the rules: what they write is there, and what they read is all there is.

use std::hash::{DefaultHasher, Hash, Hasher};

use diary_client::{Author, Client, Event, Options};
use diary_proto::escape::is_safe;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Scene;
use crate::support::{Lines, acked, seq, soon};

/// What stands at the end of their texts: what needs care on the way.
const ENDS: &[&str] = &[
    "",
    "天气很好",
    "back\\slash \\n",
    "a\ttab",
    "\u{1b}[31m",
    "\u{202e}over",
    " ",
    "/history",
    "#tag @name",
];

/// At most so many texts are sent at once.
const AT_ONCE: usize = 8;

/// An entry that must be there, and its seq, if its writer was told.
pub(super) type Written = (Option<u64>, String);

/// The texts of one writer, so many at once as it is its turn.
struct Texts {
    name: &'static str,
    next: usize,
}

impl Texts {
    fn new(name: &'static str) -> Self {
        Self { name, next: 0 }
    }

    fn some(&mut self) -> Vec<String> {
        let count = 1 + self.next % AT_ONCE;
        let numbers = self.next..self.next + count;
        self.next += count;
        numbers.map(|number| format!("{} {number} {}", self.name, ENDS[number % ENDS.len()])).collect()
    }
}

/// In line mode, on one connection that nobody may cut.
pub(super) async fn write_lines(scene: Scene) -> Vec<Written> {
    let (mut written, mut texts) = (Vec::new(), Texts::new("line-witness"));
    let mut client = Lines::connect(&scene.doors.open).await;
    assert_eq!(client.ask("/name line-witness").await, "ok name line-witness");
    let mut turns = scene.turns();
    while turns.next().await {
        let some = texts.some();
        client.send(some.iter().map(|text| format!("{text}\n")).collect::<String>()).await;
        for text in some {
            let answer = client.line().await;
            let seq = acked(&answer).unwrap_or_else(|| panic!("the witness is told {answer:?}"));
            written.push((Some(seq), text));
        }
    }
    assert!(client.ask("/quit").await.starts_with("bye"));
    written
}

/// With keys, on connections that are cut.
pub(super) async fn write_frames(scene: Scene, relay: String) -> Vec<Written> {
    let (mut written, mut texts) = (Vec::new(), Texts::new("frame-witness"));
    let client = client(&relay, "frame-witness").await;
    let mut turns = scene.turns();
    while turns.next().await {
        let mut pending = Vec::new();
        for text in texts.some() {
            pending.push((client.send(text.clone()).await.unwrap(), text));
        }
        for (ack, text) in pending {
            let ack = soon("an ack comes, over any cut", ack).await.unwrap();
            written.push((Some(ack.seq), text));
        }
    }
    client.close().await.unwrap();
    written
}

/// Through the quiet listener: it is told nothing, and its end of input is answered by the end.
pub(super) async fn write_quietly(scene: Scene) -> Vec<Written> {
    let (mut written, mut texts) = (Vec::new(), Texts::new("quiet-witness"));
    let mut stream = TcpStream::connect(&scene.doors.quiet).await.unwrap();
    let mut turns = scene.turns();
    while turns.next().await {
        for text in texts.some() {
            soon("the server takes input", stream.write_all(format!("{text}\n").as_bytes())).await.unwrap();
            written.push((None, text));
        }
    }
    stream.shutdown().await.unwrap();
    let mut said = Vec::new();
    soon("the server closes", stream.read_to_end(&mut said)).await.unwrap();
    assert_eq!(said, b"");
    written
}

/// A digest of every entry up to the one that `last` names in the end.
pub(super) async fn follow_lines(scene: Scene, mut last: watch::Receiver<u64>) -> Vec<u64> {
    let mut client = Lines::connect(&scene.doors.open).await;
    assert_eq!(client.ask("/follow #1").await, "ok follow from 1");
    let (mut lines, mut seen) = (client.reader.lines(), Vec::new());
    while (seen.len() as u64) < *last.borrow_and_update() {
        tokio::select! {
            line = lines.next_line() => {
                let line = line.unwrap().expect("a follow has no end");
                assert!(is_safe(line.as_bytes()), "{line:?}");
                assert_eq!(seq(&line), Some(seen.len() as u64 + 1), "{line:?}");
                seen.push(digest(&line));
            }
            _ = last.changed() => {}
        }
    }
    seen
}

/// The same in frame mode, over cuts.
pub(super) async fn follow_frames(relay: String, mut last: watch::Receiver<u64>) -> Vec<u64> {
    let client = client(&relay, "frame-follower").await;
    let (mut history, mut seen) = (client.follow(Some(1)), Vec::new());
    while (seen.len() as u64) < *last.borrow_and_update() {
        tokio::select! {
            event = history.next() => match event.expect("a follow has no end").unwrap() {
                Event::Entry(stored) => {
                    assert_eq!(stored.entry.seq, seen.len() as u64 + 1, "{}", stored.left);
                    seen.push(digest(&stored.left));
                }
                other => panic!("{other:?}"),
            },
            _ = last.changed() => {}
        }
    }
    seen
}

/// Stands for an entry as people read it.
pub(super) fn digest(left: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    left.hash(&mut hasher);
    hasher.finish()
}

async fn client(address: &str, name: &str) -> Client {
    let options = Options { author: Some(Author::new(name).unwrap()), ..Options::default() };
    soon("a client connects", Client::connect(address.parse().unwrap(), options)).await.unwrap()
}
