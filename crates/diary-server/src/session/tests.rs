//! Sessions that share a server whose disk is as slow as a test wants. The clock is paused: it moves when nothing else
//! can.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use diary_engine::Part;
use diary_engine::sim::{self, ManualWriter, SimDisk};
use diary_proto::Author;
use diary_proto::frame::FrameCodec;
use diary_proto::message::{Append, ClientMessage, Hello, ServerMessage, Texts};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::codec::Decoder as _;

use super::Session;
use crate::context::Context;
use crate::limits::{ANSWERS_FREE_BYTES, LINGER_MAX, Limits, READ_BYTES, SESSION_UNACKED_MAX_BYTES};
use crate::peer::Peer;
use crate::transport::memory::MemorySocket;
use crate::transport::{Socket, Transport, memory};

/// What fits into the kernel, for those who are not slow.
const WINDOW_BYTES: usize = 1 << 20;

struct Served {
    context: Arc<Context>,
    writer: ManualWriter,
}

impl Served {
    fn new(limits: Limits) -> Self {
        let (journal, writer) = sim::journal(&SimDisk::new());
        Self { context: Context::new(journal, limits), writer }
    }

    fn connect(&self, window: usize) -> Client {
        let (socket, wire) = memory::pair(window);
        let transport = Transport::new(Socket::Memory(socket), "diary/1 ready\n".to_owned());
        let peer = Peer::of_stream("memory".to_owned(), Author::new("local").unwrap());
        let session = Session::new(Arc::clone(&self.context), transport, peer);
        Client { wire, running: tokio::spawn(session.run()), heard: Vec::new() }
    }
}

struct Client {
    wire: MemorySocket,
    running: JoinHandle<std::io::Result<()>>,
    heard: Vec<u8>,
}

impl Client {
    fn lines(&mut self) -> Vec<String> {
        self.heard.extend(self.wire.receive());
        String::from_utf8(self.heard.clone()).unwrap().lines().skip(1).map(str::to_owned).collect()
    }

    fn say_hello(&self, secret: u8) {
        let mut bytes = Vec::new();
        let secret = vec![secret; 16].into();
        ClientMessage::Hello(Hello { version: 1, secret, author: String::new(), resume: None })
            .write(&mut bytes);
        self.wire.send(&bytes);
    }

    fn messages(&mut self) -> Vec<ServerMessage> {
        self.heard.extend(self.wire.receive());
        let greeting = self.heard.iter().position(|&b| b == b'\n').unwrap() + 1;
        let mut buffer = BytesMut::from(&self.heard[greeting..]);
        let frames = std::iter::from_fn(|| FrameCodec.decode(&mut buffer).unwrap());
        frames.map(|frame| ServerMessage::read(frame).unwrap().unwrap()).collect()
    }
}

/// Waits until nothing can happen by itself.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

fn frame(texts: &[&str]) -> Vec<u8> {
    frame_from(0, texts)
}

fn frame_from(first_counter: u64, texts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let texts = Texts::new(texts.iter().copied());
    ClientMessage::Append(Append { first_counter, retry: false, texts }).write(&mut bytes);
    bytes
}

#[tokio::test(start_paused = true)]
async fn whole_input_that_waits_for_a_slow_disk_is_nobodys_fault() {
    let limits =
        Limits { unacked_bytes: 20_000, input_bytes: 20_000, read_bytes: 4_000, ..Limits::default() };
    let patience = limits.patience;
    let mut served = Served::new(limits);
    let text = "x".repeat(4_000);
    let mut clients: Vec<Client> = (0..16)
        .map(|number| {
            let client = served.connect(WINDOW_BYTES);
            client.say_hello(number);
            client.wire.send(&frame(&[&text, &text, &text]));
            client
        })
        .collect();
    // The disk takes far longer than a peer that is waited for has.
    sleep(10 * patience).await;
    while served.writer.commit() {
        sleep(10 * patience).await;
    }
    for client in &mut clients {
        let messages = client.messages();
        assert!(matches!(messages[..], [ServerMessage::Welcome(_), ServerMessage::Acks(_)]), "{messages:?}");
        assert!(!client.running.is_finished());
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_keeps_others_waiting_goes() {
    let limits = Limits { input_bytes: 20_000, read_bytes: 4_000, ..Limits::default() };
    let mut served = Served::new(limits);
    // They send most of a frame, and then nothing.
    let text = "x".repeat(8_000);
    let mut silent: Vec<Client> = (0..3).map(|_| served.connect(WINDOW_BYTES)).collect();
    for (client, number) in silent.iter().zip(0..) {
        client.say_hello(number);
        let frame = frame(&[&text]);
        client.wire.send(&frame[..frame.len() - 1]);
        settle().await;
    }
    let mut honest = served.connect(WINDOW_BYTES);
    honest.say_hello(9);
    honest.wire.send(&frame(&[&text]));
    let mut short = served.connect(WINDOW_BYTES);
    short.wire.send(b"a short line\n");
    settle().await;
    served.writer.commit();
    settle().await;
    assert!(short.lines()[0].starts_with("ok "), "short lines go on");
    assert_eq!(honest.messages().len(), 1, "there is no room yet");

    sleep(served.context.limits.patience).await;
    settle().await;
    served.writer.commit();
    settle().await;
    assert!(matches!(honest.messages()[..], [_, ServerMessage::Acks(_)]));
    assert!(matches!(silent[0].messages()[..], [_, ServerMessage::Error { fatal: true, .. }]));
    sleep(2 * LINGER_MAX).await;
    assert!(silent[0].running.is_finished());
    assert!(!silent[2].running.is_finished(), "those that are not in the way stay");
}

/// The budget for appends is used up, and all of this comes in one read.
#[tokio::test(start_paused = true)]
async fn answers_keep_their_order_while_texts_wait_for_room() {
    let mut served = Served::new(Limits { read_bytes: 200, unacked_bytes: 512, ..Limits::default() });
    let others = Arc::clone(&served.context.unacked).try_acquire_many_owned(256).unwrap();
    let mut client = served.connect(WINDOW_BYTES);
    client.wire.send(b"first\n/history 1\nsecond\n\xc3\x28\nthird\n/quit\n");
    settle().await;
    drop(others);
    while served.writer.commit() {
        settle().await;
    }
    let lines = client.lines();
    let words = |line: &String| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let told: Vec<String> = lines.iter().map(words).collect();
    assert_eq!(
        [&told[..2], &told[3..]].concat(),
        ["ok 1", "ok history", "end 1", "ok 2", "error utf8:", "ok 3", "bye"]
    );
    assert!(lines[2].starts_with("1 ") && lines[2].ends_with(" first"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_makes_room_for_others() {
    let limits = Limits { answers_bytes: 300_000, ..Limits::default() };
    let mut served = Served::new(limits);
    let mut writer = served.connect(WINDOW_BYTES);
    // Lines that are longer than what a session gets without asking.
    for _ in 0..40 {
        writer.wire.send(format!("{}\n", "x".repeat(30_000)).as_bytes());
        settle().await;
        served.writer.commit();
    }
    settle().await;
    assert_eq!(writer.lines().len(), 40);
    let deaf: Vec<Client> = (0..20)
        .map(|_| {
            let client = served.connect(10);
            client.wire.send(b"/history all\n");
            client
        })
        .collect();
    settle().await;
    let mut reader = served.connect(WINDOW_BYTES);
    reader.wire.send(b"/history all\n");
    for _ in 0..100 {
        sleep(served.context.limits.patience).await;
        reader.lines();
    }
    assert_eq!(reader.lines().last().unwrap(), "end 40");
    assert!(deaf.iter().any(|client| client.running.is_finished()));
}

/// Each outcome is small, and all of them are not.
#[tokio::test(start_paused = true)]
async fn outcomes_that_may_come_are_counted_however_small_they_are() {
    const FRAMES: usize = 60;
    let mut served = Served::new(Limits::default());
    let client = served.connect(WINDOW_BYTES);
    client.say_hello(1);
    let texts = ["a"; 100];
    for number in 0..FRAMES {
        client.wire.send(&frame_from((number * texts.len()) as u64, &texts));
    }
    settle().await;
    let outcomes = FRAMES * texts.len() * size_of::<Part>();
    let used = served.context.answers.used_bytes();
    assert!(used + ANSWERS_FREE_BYTES >= outcomes, "{used} of {outcomes} bytes are counted");
    served.writer.commit();
    settle().await;
    assert!(served.context.answers.used_bytes() < outcomes, "it is given back");
}

/// Refused lines of clients that read nothing: what waits to be told is bounded for all of them together.
#[tokio::test(start_paused = true)]
async fn refusals_that_nobody_reads_are_counted() {
    const BUDGET_BYTES: usize = 4_000_000;
    let served = Served::new(Limits { answers_bytes: BUDGET_BYTES, ..Limits::default() });
    let clients: Vec<Client> = (0..100).map(|_| served.connect(10)).collect();
    for client in &clients {
        client.wire.send(&b"/nope\n".repeat(20_000));
    }
    settle().await;
    let used = served.context.answers.used_bytes();
    // The last one that met some room has taken as much as a session may.
    let max = BUDGET_BYTES + 2 * SESSION_UNACKED_MAX_BYTES;
    assert!((BUDGET_BYTES..max).contains(&used), "{used} of {BUDGET_BYTES} bytes");
}

#[tokio::test(start_paused = true)]
async fn input_is_counted_before_others_read() {
    const BUDGET_BYTES: usize = 4 * READ_BYTES;
    let served = Served::new(Limits { input_bytes: BUDGET_BYTES, ..Limits::default() });
    let clients: Vec<Client> = (0..100).map(|_| served.connect(WINDOW_BYTES)).collect();
    settle().await;
    let text = "x".repeat(60_000);
    let frame = frame(&[&text, &text]);
    for (client, number) in clients.iter().zip(0..) {
        client.say_hello(number);
        client.wire.send(&frame[..READ_BYTES + 1_000]);
    }
    settle().await;
    let used = served.context.input.used_bytes();
    assert!(used <= BUDGET_BYTES + 2 * READ_BYTES, "{used} of {BUDGET_BYTES} bytes");
}
