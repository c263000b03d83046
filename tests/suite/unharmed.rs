//! One client cannot harm another: not by being slow, silent, hostile or gone.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};

use crate::support::{Frames, Lines, Process, Server, connect_narrow, fill, is_ack, seq, soon};
use diary_proto::Which;
use diary_proto::message::ClientMessage;

/// What the server may take for everything in these tests. An empty one takes about 10 MiB.
const MEMORY_MAX_BYTES: usize = 64 << 20;

/// A folder with a diary of so many MiB, and how many entries it has.
async fn filled(mebibytes: u64) -> (tempfile::TempDir, u64) {
    let server = Server::start().await;
    let count = fill(server.address(), mebibytes).await;
    (server.stop().await, count)
}

/// A client that sends whatever it can and reads nothing.
struct Greedy {
    stream: TcpStream,
    sent: usize,
}

impl Greedy {
    const LINE: &[u8] = b"a greedy line\n";

    /// Sends until nothing more is taken; says whether anything was.
    fn push(&mut self) -> bool {
        let lines = Self::LINE.repeat(1000);
        let before = self.sent;
        loop {
            match self.stream.try_write(&lines[self.sent % Self::LINE.len()..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.sent > before,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Ends its line, and reads everything: there is an ack for each line.
    async fn read_at_last(self) {
        let (reader, mut writer) = self.stream.into_split();
        let (cut, whole) = (self.sent % Self::LINE.len(), self.sent.div_ceil(Self::LINE.len()));
        let rest = if cut == 0 { &[][..] } else { &Self::LINE[cut..] };
        let writing = async {
            writer.write_all(rest).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let reading = async {
            let mut lines = BufReader::new(reader).lines();
            assert!(lines.next_line().await.unwrap().unwrap().starts_with("diary/1 "));
            let mut acks = 0;
            while let Some(line) = lines.next_line().await.unwrap() {
                assert!(line.starts_with("ok "), "{line}");
                acks += 1;
            }
            assert_eq!(acks, whole);
        };
        soon("all acks", async { tokio::join!(writing, reading) }).await;
    }
}

#[tokio::test]
async fn deaf_slow_silent_and_greedy_clients_at_once_harm_nobody() {
    let (folder, count) = filled(32).await;
    let mut process = Process::start(folder.path(), &["127.0.0.1:0"], &["--log", "error"]).await;
    let address = process.address().to_owned();
    let mut deaf = Vec::new();
    for _ in 0..10 {
        let mut stream = connect_narrow(&address).await;
        stream.write_all(b"/history all\n/search \xe5\xa4\xa9\xe6\xb0\x94\n/follow #1\n").await.unwrap();
        deaf.push(stream);
    }
    let mut deaf_frames = Frames::hello(&address, 1).await;
    deaf_frames.send(&ClientMessage::History { id: 1, scope: Which::All.into() }).await;
    let silent: Vec<Lines> = {
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(Lines::connect(&address).await);
        }
        silent
    };
    let mut slow = Lines::connect(&address).await;
    let mut greedy = Greedy { stream: connect_narrow(&address).await, sent: 0 };
    let mut healthy = Lines::connect(&address).await;
    let (mut rounds, mut refused_rounds) = (0, 0);
    while rounds < 200 || refused_rounds < 50 {
        rounds += 1;
        assert!(healthy.ask("an entry").await.starts_with("ok "));
        slow.send("s").await;
        refused_rounds = if greedy.push() { 0 } else { refused_rounds + 1 };
        assert!(greedy.sent < 256 << 20, "a client that reads nothing is read from without end");
    }
    let taken = process.memory("VmHWM");
    assert!(taken < MEMORY_MAX_BYTES, "the server took {taken} bytes");

    // Nobody has lost anything.
    assert!(slow.ask("").await.starts_with("ok "));
    greedy.read_at_last().await;
    let answered = deaf_frames.answer(1).await;
    assert!(answered.last >= count);
    let mut deaf = BufReader::new(deaf.pop().unwrap());
    let mut line = String::new();
    let mut next = 1;
    while !line.starts_with("end ") {
        line.clear();
        soon("a line comes", deaf.read_line(&mut line)).await.unwrap();
        if let Some(seq) = seq(&line) {
            assert_eq!(seq, next);
            next += 1;
        }
    }
    assert!(next > count);
    for mut client in silent {
        assert!(client.ask("I am here").await.starts_with("ok "));
    }
    let taken = process.memory("VmHWM");
    assert!(taken < MEMORY_MAX_BYTES, "the server took {taken} bytes");
    process.signal(rustix::process::Signal::KILL);
    process.wait().await;
}

#[tokio::test]
async fn an_idle_connection_costs_little() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &["127.0.0.1:0"], &["--log", "error"]).await;
    let mut clients = vec![Lines::connect(process.address()).await];
    let large = format!("{}\n", "x".repeat(60_000));
    clients[0].send(&large).await;
    clients[0].line().await;
    let before = process.memory("VmRSS");
    for _ in 0..300 {
        let mut client = Lines::connect(process.address()).await;
        client.send(&large).await;
        assert!(client.line().await.starts_with("ok "));
        clients.push(client);
    }
    let each = process.memory("VmRSS").saturating_sub(before) / 300;
    assert!(each < 30_000, "{each} bytes a connection");
}

#[tokio::test]
async fn a_follower_that_reads_nothing_loses_nothing() {
    let server = Server::start().await;
    let mut follower = connect_narrow(server.address()).await;
    follower.write_all(b"/follow\n").await.unwrap();
    // So that it follows before anything is written.
    let mut follower = BufReader::new(follower);
    let mut line = String::new();
    for start in ["diary/1 ", "ok follow from 1"] {
        line.clear();
        soon("a line comes", follower.read_line(&mut line)).await.unwrap();
        assert!(line.starts_with(start), "{line}");
    }
    let count = fill(server.address(), 8).await;
    for n in 1..=count {
        line.clear();
        soon("a line comes", follower.read_line(&mut line)).await.unwrap();
        assert_eq!(seq(&line), Some(n));
    }
}

#[tokio::test]
async fn a_stalled_reader_is_closed_and_an_idle_client_is_not() {
    let (folder, _) = filled(12).await;
    let server = Server::on(folder, |config| {
        config.limits.connections = 3;
        config.limits.stall = Duration::from_millis(300);
    })
    .await;
    let mut idle = server.lines().await;
    let mut deaf = [connect_narrow(server.address()).await, connect_narrow(server.address()).await];
    deaf[0].write_all(b"/history all\n").await.unwrap();
    deaf[1].write_all(b"/follow #1\n").await.unwrap();
    for mut deaf in deaf {
        let mut next = Lines::connect_when_free(server.address()).await;
        assert!(next.ask("in its place").await.starts_with("ok "));
        // It was closed, and not only forgotten: what it sends is not taken any more.
        soon("the connection is gone", async { while deaf.write_all(b"x").await.is_ok() {} }).await;
    }
    assert!(idle.ask("still here").await.starts_with("ok "));
}

/// Takes a little of what comes for longer than the server waits for one that takes nothing, then the rest: every entry.
async fn follow_slowly(mut stream: impl AsyncRead + AsyncWrite + Unpin, count: u64) {
    const ONCE_BYTES: usize = 8 * 1024;
    stream.write_all(b"/follow #1\n").await.unwrap();
    let (mut taken, mut pace) = (Vec::new(), tokio::time::interval(STALL / 20));
    for _ in 0..STALLS * 20 {
        pace.tick().await;
        let mut some = [0; ONCE_BYTES];
        let read = soon("it goes on", stream.read(&mut some)).await.unwrap();
        assert!(read > 0, "closed after {} bytes", taken.len());
        taken.extend_from_slice(&some[..read]);
    }
    assert!(taken.len() < 2 << 20, "most waits for it all the while");
    let mut lines = BufReader::new(std::io::Cursor::new(taken).chain(stream)).lines();
    for start in ["diary/1 ", "ok follow from 1"] {
        assert!(lines.next_line().await.unwrap().unwrap().starts_with(start));
    }
    for n in 1..=count {
        let line = soon("a line comes", lines.next_line()).await.unwrap().expect("it is not closed");
        assert_eq!(seq(&line), Some(n));
    }
}

/// For the server to wait for a peer that takes nothing: much more than a test may have to wait for its turn.
const STALL: Duration = Duration::from_secs(2);

/// A system that still answers for its program gives it three times as long.
const STALLS: u32 = 5;

#[tokio::test]
async fn a_slow_follower_that_goes_on_is_not_closed() {
    let (folder, count) = filled(16).await;
    let path = folder.path().join("socket");
    let server = Server::on(folder, |config| {
        config.listen.push(format!("unix:{}", path.display()).parse().unwrap());
        config.limits.stall = STALL;
    })
    .await;
    let tcp = connect_narrow(server.address()).await;
    let unix = UnixStream::connect(&path).await.unwrap();
    tokio::join!(follow_slowly(tcp, count), follow_slowly(unix, count));
    // One that takes nothing is.
    let mut deaf = UnixStream::connect(&path).await.unwrap();
    deaf.write_all(b"/follow #1\n").await.unwrap();
    soon("the connection is gone", async { while deaf.write_all(b"x").await.is_ok() {} }).await;
}

#[tokio::test]
async fn one_connection_over_the_limit_is_told_and_a_free_place_is_used() {
    let server = Server::with(|config| config.limits.connections = 2).await;
    let mut first = server.lines().await;
    let second = server.lines().await;
    for _ in 0..3 {
        let mut over = server.lines().await;
        assert!(over.greeting.starts_with("error busy: there are too many connections"), "{}", over.greeting);
        assert_eq!(over.rest().await, "");
    }
    assert!(is_ack(&first.ask("one").await, 1));
    drop(second);
    let mut next = Lines::connect_when_free(server.address()).await;
    assert!(is_ack(&next.ask("two").await, 2));
    assert!(server.lines().await.greeting.starts_with("error busy: "));
}

/// Sends part of a line, and waits until the server has read it: telnet's timing mark is answered where
/// it stands.
async fn begin_line(client: &mut Lines, bytes: usize) {
    client.send([&vec![b'x'; bytes][..], b"\xff\xfd\x06"].concat()).await;
    let mut answer = [0; 3];
    // The first one comes behind the request for binary transmission.
    while answer != *b"\xff\xfc\x06" {
        soon("telnet's answer", client.reader.read_exact(&mut answer)).await.unwrap();
    }
}

#[tokio::test]
async fn of_too_much_unfinished_input_the_longest_waiting_is_closed() {
    let server = Server::with(|config| {
        config.limits.input_bytes = 400_000;
        config.limits.patience = Duration::ZERO;
    })
    .await;
    let mut small = server.lines().await;
    begin_line(&mut small, 500).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = server.lines().await;
        begin_line(&mut client, 60_000).await;
        clients.push(client);
    }
    // Whoever ends a line and begins another has not waited for long.
    clients[0].send("\n").await;
    assert!(is_ack(&clients[0].line().await, 1));
    begin_line(&mut clients[0], 60_000).await;
    let mut newest = server.lines().await;
    begin_line(&mut newest, 60_000).await;
    // Whoever goes on needs room for a read: that is two of the others.
    newest.send("\n").await;
    assert!(is_ack(&newest.line().await, 2));
    for mut closed in clients.drain(1..3) {
        let told = closed.line().await;
        assert!(told.starts_with("error busy: "), "{told}");
        assert_eq!(closed.rest().await, "");
    }
    for (client, seq) in clients.iter_mut().chain([&mut small]).zip(3..) {
        client.send("\n").await;
        assert!(is_ack(&client.line().await, seq));
    }
    // What is over counts no more.
    let mut next = server.lines().await;
    begin_line(&mut next, 60_000).await;
    assert!(is_ack(&next.ask("").await, 8));
}

#[tokio::test]
async fn partial_frames_count_as_well() {
    let server = Server::with(|config| {
        config.limits.input_bytes = 1_000_000;
        config.limits.patience = Duration::ZERO;
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = Frames::hello(server.address(), 1).await;
        client.send_bytes([0, 0x0f, 0, 0, 2]).await;
        client.send_bytes(vec![0; 300_000]).await;
        clients.push(client);
    }
    // At least seven of the ten have to go, whatever the order in which they were read.
    let mut told = futures::stream::FuturesUnordered::new();
    for client in &mut clients {
        told.push(client.fatal());
    }
    for _ in 0..7 {
        let refusal = futures::StreamExt::next(&mut told).await.unwrap();
        assert!(refusal.starts_with("busy: "), "{refusal}");
    }
    assert!(is_ack(&server.lines().await.ask("fine").await, 1));
}

/// Writers whose frames together are far more than the server may hold: they wait, and none is closed.
#[tokio::test]
async fn honest_writers_on_a_full_server_wait() {
    let server = Server::with(|config| config.limits.input_bytes = 1_000_000).await;
    let text = "x".repeat(60_000);
    let texts = [&*text; 8];
    let mut clients = Vec::new();
    for number in 0..32 {
        clients.push(Frames::hello(server.address(), number).await);
    }
    let writing = clients.iter_mut().map(|client| async {
        for counter in [0, 8] {
            client.append(counter, false, &texts).await;
        }
        assert_eq!(client.acks(16).await.len(), 16);
    });
    futures::future::join_all(writing).await;
}

/// Input that gets no answer, as fast as it can be sent: blank lines, and a line that never ends.
#[tokio::test(flavor = "multi_thread")]
async fn input_without_answers_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path(), &["127.0.0.1:0"], &[]).await;
    let mut floods = Vec::new();
    for bytes in [&b"\n"[..], b"\n", b"x", b"x"] {
        let mut client = Lines::connect(process.address()).await;
        let flood = bytes.repeat(1024 * 1024);
        floods.push(tokio::spawn(async move { while client.writer.write_all(&flood).await.is_ok() {} }));
    }
    for seq in 1..=50 {
        let mut client = Lines::connect(process.address()).await;
        assert!(is_ack(&client.ask("through").await, seq));
    }
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.wait().await, Some(0));
    for flood in floods {
        flood.abort();
    }
}
