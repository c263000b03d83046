//! Sessions that share a server whose disk is as slow as a test wants. The clock is paused: it moves when nothing else
//! can.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use diary_engine::Journal;
use diary_engine::Part;
use diary_engine::limits::ENTRY_MIN_BYTES;
use diary_engine::sim::{self, ManualWriter, SimDisk};
use diary_proto::frame::FrameCodec;
use diary_proto::message::{Append, ClientMessage, Hello, ServerMessage, Texts};
use diary_proto::{Author, Code, Which};
use tokio::io::Ready;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::codec::Decoder as _;

use super::{Event, Session};
use crate::context::{Context, Offer};
use crate::guard::Guard;
use crate::limits::{
    ANSWERS_FREE_BYTES, INPUT_FREE_BYTES, LINGER_MAX, Limits, READ_BYTES, SESSION_UNACKED_MAX_BYTES,
    STALL_ANSWERING_TIMES, STALL_LOOKS,
};
use crate::peer::Peer;
use crate::transport::memory::MemorySocket;
use crate::transport::{Socket, Transport, memory};

/// What fits into the kernel, for those who are not slow.
const WINDOW_BYTES: usize = 1 << 20;

struct Served {
    context: Arc<Context>,
    journal: Arc<Journal>,
    writer: ManualWriter,
    disk: SimDisk,
}

impl Served {
    fn new(limits: Limits) -> Self {
        let disk = SimDisk::new();
        let (journals, journal, writer) = sim::journals(&disk);
        Self { context: Context::new(journals, Guard::without_tokens(), limits), journal, writer, disk }
    }

    fn connect(&self, window: usize) -> Client {
        let (socket, wire) = memory::pair(window);
        let transport = Transport::new(Socket::Memory(socket), "diary/1 ready\n".to_owned());
        let peer = Peer::of_stream("memory".to_owned(), Author::new("local").unwrap());
        let session = Session::new(Arc::clone(&self.context), Offer::of(&self.journal), transport, peer);
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
        ClientMessage::Hello(Hello { secret, ..Hello::default() }).write(&mut bytes);
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
    // Lines that are longer than what a session gets without asking.
    large_entries(&mut served).await;
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

/// Texts use up the room for appends and wait. Who reads needs none.
#[tokio::test(start_paused = true)]
async fn readers_are_answered_while_the_disk_hangs() {
    let mut served = Served::new(Limits { unacked_bytes: 20_000, read_bytes: 4_000, ..Limits::default() });
    let mut early = served.connect(WINDOW_BYTES);
    early.wire.send(b"an entry\n");
    settle().await;
    assert!(served.writer.commit());
    settle().await;
    // From here on, nothing is committed.
    let lines = format!("{}\n", "x".repeat(3_000)).repeat(3);
    let mut writers: Vec<Client> = (0..16).map(|_| served.connect(WINDOW_BYTES)).collect();
    writers.iter().for_each(|writer| writer.wire.send(lines.as_bytes()));
    settle().await;
    assert!(served.context.unacked.available_permits() < 4_000);

    early.wire.send(b"/history all\n/search ENTRY\n/search entry\n/name anna\n/follow\n");
    let mut late = served.connect(WINDOW_BYTES);
    late.wire.send(b"/history 1\n");
    let mut framed = served.connect(WINDOW_BYTES);
    framed.say_hello(1);
    let mut history = Vec::new();
    ClientMessage::History { id: 1, scope: Which::All.into() }.write(&mut history);
    framed.wire.send(&history);
    settle().await;
    let lines = early.lines();
    let told: Vec<&str> = lines[1..].iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(told, ["ok", "1", "end", "ok", "end", "ok", "1", "end", "ok", "ok"], "{lines:?}");
    assert_eq!(late.lines().len(), 3, "{:?}", late.lines());
    assert!(
        matches!(
            framed.messages()[..],
            [
                ServerMessage::Welcome(_),
                ServerMessage::Answer { .. },
                ServerMessage::Block { .. },
                ServerMessage::End { .. }
            ]
        ),
        "{:?}",
        framed.messages()
    );
    // What comes behind a text waits for it, and so does what is sent later.
    let told = late.lines().len();
    late.wire.send(b"a text\n/history all\n/help\n");
    settle().await;
    let read = late.wire.taken();
    late.wire.send(b"/help\n");
    settle().await;
    assert_eq!((late.lines().len(), late.wire.taken()), (told, read));

    while served.writer.commit() {
        settle().await;
    }
    for writer in &mut writers {
        assert_eq!(writer.lines().iter().filter(|line| line.starts_with("ok ")).count(), 3);
    }
    let lines = late.lines();
    assert!(lines[told].starts_with("ok ") && lines[told + 1] == "ok history", "{:?}", &lines[told..]);
    assert!(lines.iter().any(|line| line.ends_with(" a text")));
    assert_eq!(early.lines().len(), 11 + 16 * 3 + 1, "it follows");
}

/// The shortest texts there are, from clients that never stop, while nothing is committed.
#[tokio::test(start_paused = true)]
async fn texts_that_wait_for_the_disk_are_bounded() {
    const BUDGET_BYTES: usize = 4_000_000;
    const CLIENTS: usize = 200;
    /// What the texts of one read may cost.
    const READ_COST_BYTES: usize = READ_BYTES / 2 * (ENTRY_MIN_BYTES + 1);
    let served = Served::new(Limits { input_bytes: BUDGET_BYTES, ..Limits::default() });
    let clients: Vec<Client> = (0..CLIENTS).map(|_| served.connect(WINDOW_BYTES)).collect();
    for _ in 0..3 {
        clients.iter().for_each(|client| client.wire.send(&b"a\n".repeat(READ_BYTES)));
        settle().await;
    }
    let (used, read) = (served.context.input.used_bytes(), clients.iter().map(|client| client.wire.taken()));
    let short_cost = INPUT_FREE_BYTES / 2 * (ENTRY_MIN_BYTES + 1);
    assert!(
        used <= BUDGET_BYTES + READ_COST_BYTES + CLIENTS * short_cost,
        "{used} of {BUDGET_BYTES} bytes are used"
    );
    assert!(read.clone().all(|read| read <= READ_BYTES), "nobody reads on while its texts wait");
    let read: usize = read.sum();
    assert!(read <= 24 * READ_BYTES + CLIENTS * INPUT_FREE_BYTES, "{read} bytes were read");
}

/// A journal with 40 entries of 30,000 bytes.
async fn large_entries(served: &mut Served) {
    let mut writer = served.connect(WINDOW_BYTES);
    for _ in 0..40 {
        writer.wire.send(format!("{}\n", "x".repeat(30_000)).as_bytes());
        settle().await;
        served.writer.commit();
    }
    settle().await;
    assert_eq!(writer.lines().len(), 40);
}

/// It takes so little that the kernel would tell of room only once in a day.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_that_goes_on_stays() {
    let mut served = Served::new(Limits::default());
    large_entries(&mut served).await;
    let stall = served.context.limits.stall;
    let mut follower = served.connect(WINDOW_BYTES);
    follower.wire.send(b"/follow #1\n");
    settle().await;
    for _ in 0..100 {
        sleep(stall / 2).await;
        follower.heard.extend(follower.wire.receive_some(100));
        assert!(!follower.running.is_finished());
    }
    while follower.lines().len() < 41 {
        settle().await;
    }
    assert!(follower.lines()[1..].iter().zip(1..).all(|(line, seq)| line.starts_with(&format!("{seq} "))));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_closed() {
    let mut served = Served::new(Limits::default());
    large_entries(&mut served).await;
    let stall = served.context.limits.stall;
    let deaf = [served.connect(10), served.connect(10)];
    deaf.iter().for_each(|client| client.wire.send(b"/follow #1\n"));
    deaf[0].wire.fall_silent();
    settle().await;
    let finished = || deaf.each_ref().map(|client| client.running.is_finished());
    sleep(stall - 2 * stall / STALL_LOOKS).await;
    assert_eq!(finished(), [false, false]);
    sleep(4 * stall / STALL_LOOKS).await;
    assert_eq!(finished(), [true, false], "a system that is gone takes nothing any more");
    sleep((STALL_ANSWERING_TIMES - 1) * stall - 4 * stall / STALL_LOOKS).await;
    assert_eq!(finished(), [true, false], "its program may be slow");
    sleep(4 * stall / STALL_LOOKS).await;
    assert_eq!(finished(), [true, true]);
}

/// It has stalled for longer than the others, and takes a little again and again.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_that_goes_on_does_not_go_for_those_that_take_nothing() {
    let mut served = Served::new(Limits { answers_bytes: 300_000, ..Limits::default() });
    large_entries(&mut served).await;
    let slow = served.connect(50_000);
    slow.wire.send(b"/history all\n");
    settle().await;
    let deaf: Vec<Client> = (0..20).map(|_| served.connect(10)).collect();
    deaf.iter().for_each(|client| client.wire.send(b"/history all\n"));
    settle().await;
    let mut reader = served.connect(WINDOW_BYTES);
    reader.wire.send(b"/history all\n");
    for _ in 0..200 {
        sleep(served.context.limits.patience / 2).await;
        slow.wire.receive_some(10);
        reader.lines();
    }
    assert_eq!(reader.lines().last().unwrap(), "end 40");
    assert!(deaf.iter().any(|client| client.running.is_finished()));
    assert!(!slow.running.is_finished());
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

#[tokio::test(start_paused = true)]
async fn input_that_waits_to_be_decoded_is_kept_when_more_can_be_read() {
    let mut served = Served::new(Limits::default());
    let (socket, wire) = memory::pair(WINDOW_BYTES);
    let transport = Transport::new(Socket::Memory(socket), "diary/1 ready\n".to_owned());
    let peer = Peer::of_stream("memory".to_owned(), Author::new("local").unwrap());
    let mut session = Session::new(Arc::clone(&served.context), Offer::of(&served.journal), transport, peer)
        .with_input(b"one\ntwo\n".to_vec());
    wire.send(b"three\n");
    // Memory for answers came free after the input had to wait for it.
    session.handle(Event::Ready(Ok(Ready::READABLE))).unwrap();
    let mut client = Client { wire, running: tokio::spawn(session.run()), heard: Vec::new() };
    settle().await;
    while served.writer.commit() {}
    settle().await;
    let lines = client.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines.iter().zip(1..).all(|(line, seq)| line.starts_with(&format!("ok {seq} "))), "{lines:?}");
}

/// What became of appends, as counters; the code of what is refused.
fn outcomes(messages: &[ServerMessage]) -> Vec<(u64, Result<u64, Code>)> {
    let mut outcomes = Vec::new();
    for message in messages {
        match message {
            ServerMessage::Acks(runs) => {
                for run in runs {
                    let entries =
                        (0..u64::from(run.count)).map(|n| (run.first_counter + n, Ok(run.first_seq + n)));
                    outcomes.extend(entries);
                }
            }
            ServerMessage::Refused { first_counter, count, refusal } => {
                let counters = *first_counter..first_counter + u64::from(*count);
                outcomes.extend(counters.map(|counter| (counter, Err(refusal.code))));
            }
            _ => {}
        }
    }
    outcomes
}

/// The disk is full for one append of a frame client. Another one is queued by then, and a third comes when there has
/// been room for long: neither may stand before the first.
#[tokio::test(start_paused = true)]
async fn in_frame_mode_nothing_overtakes_what_a_full_disk_refused() {
    let mut served = Served::new(Limits::default());
    let (mut framed, mut lines) = (served.connect(WINDOW_BYTES), served.connect(WINDOW_BYTES));
    framed.say_hello(1);
    framed.wire.send(&frame_from(0, &["first"]));
    lines.wire.send(b"a line\n");
    settle().await;
    served.disk.set_full(true);
    assert!(served.writer.commit());
    framed.wire.send(&frame_from(1, &["second"]));
    settle().await;
    served.disk.set_full(false);
    served.writer.commit();
    settle().await;
    framed.wire.send(&frame_from(2, &["third"]));
    let mut check = Vec::new();
    ClientMessage::Check { id: 7 }.write(&mut check);
    framed.wire.send(&check);
    lines.wire.send(b"another line\n");
    settle().await;
    served.writer.commit();
    settle().await;
    let messages = framed.messages();
    let full = Err(Code::DiskFull);
    assert_eq!(outcomes(&messages), [(0, full), (1, full), (2, full)], "{messages:?}");
    assert!(
        matches!(messages.last(), Some(ServerMessage::Error { id: 7, fatal: false, refusal })
            if refusal.code == Code::DiskFull),
        "{messages:?}"
    );
    let told = lines.lines();
    assert!(told[0].starts_with("error disk-full: ") && told[1].starts_with("ok 1 "), "{told:?}");

    let mut anew = served.connect(WINDOW_BYTES);
    anew.say_hello(1);
    anew.wire.send(&check);
    anew.wire.send(&frame_from(0, &["first", "second", "third"]));
    settle().await;
    // The check is answered before what is behind it is taken.
    while served.writer.commit() {
        settle().await;
    }
    let messages = anew.messages();
    assert!(
        matches!(messages[..], [_, ServerMessage::End { id: 7 }, ServerMessage::Acks(_)]),
        "{messages:?}"
    );
    assert_eq!(outcomes(&messages), [(0, Ok(2)), (1, Ok(3)), (2, Ok(4))]);
}
