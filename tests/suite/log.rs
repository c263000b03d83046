//! The log: one line a connection with the peer's address, no entry's text above debug, and nobody waits for who reads it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use futures::stream::{self, StreamExt};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::UnixStream;

use crate::support::{Frames, Lines, Process, acked, say, server_command, soon};

struct Logged {
    process: Process,
    folder: tempfile::TempDir,
}

impl Logged {
    async fn start(filter: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = Process::start_logging(
            &folder.path().join("data"),
            &["--log", filter, "--timezone", "UTC"],
            &log_of(&folder),
        )
        .await;
        Self { process, folder }
    }

    /// All that was logged, once the server has ended.
    async fn stop(self) -> String {
        self.process.stop().await;
        std::fs::read_to_string(log_of(&self.folder)).unwrap()
    }
}

fn log_of(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("log")
}

/// Says all that can be said, each with the word `hush` in it, and with bytes that are unsafe for a terminal.
async fn talk(address: &str) {
    let mut client = Lines::connect(address).await;
    client
        .send(
            "hush text\nhush \u{1b}[31m\n/hush\u{1b}[31m\n/search hush\n/history hush\u{1b}\n/name hush\n/name hush\u{1b}\n\
             hush\0\n/follow hush\n"
                .as_bytes(),
        )
        .await;
    client.send(b"hush\xc3\x28\n/history all\n/follow #1\nhush follow\n").await;
    client.end_input().await;
    while !client.line().await.ends_with(" hush follow") {}
    drop(client);
    let mut framed = Frames::hello(address, b'h').await;
    framed.append(0, false, &["hush framed \u{1b}[31m"]).await;
    framed.acks(1).await;
    framed.append(0, true, &["hush conflict"]).await;
    framed.message().await;
    framed.send_bytes(b"\0\0\0\x06\x7fhush\x1b").await;
    framed.error().await;
    let mut http = Lines::connect(address).await;
    http.send("GET /hush\u{1b}[31m HTTP/1.1\r\n").await;
    http.rest().await;
}

#[tokio::test]
async fn at_info_a_connection_is_one_line_with_its_address() {
    let logged = Logged::start("info").await;
    let mut peers = Vec::new();
    for _ in 0..5 {
        let mut client = Lines::connect(logged.process.address()).await;
        peers.push(client.writer.local_addr().unwrap().to_string());
        client.ask("an entry").await;
        client.ask("/history").await;
        client.send("/quit\n").await;
        client.rest().await;
    }
    let log = logged.stop().await;
    for peer in peers {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&peer)).collect();
        assert!(lines.len() == 1 && lines[0].contains(" INFO connected "), "{lines:?}");
    }
}

#[tokio::test]
async fn no_text_is_logged_above_debug() {
    let logged = Logged::start("info").await;
    talk(logged.process.address()).await;
    let log = logged.stop().await;
    assert!(log.contains(" INFO connected ") && !log.contains("hush"), "{log}");
}

#[tokio::test]
async fn whatever_is_logged_is_safe_for_a_terminal() {
    let logged = Logged::start("trace").await;
    talk(logged.process.address()).await;
    let log = logged.stop().await;
    assert!(log.contains("connected"), "{log}");
    assert!(!log.contains(|c: char| c.is_control() && c != '\n'), "{log}");
}

#[tokio::test]
async fn the_log_can_be_turned_off() {
    let logged = Logged::start("off").await;
    talk(logged.process.address()).await;
    assert_eq!(logged.stop().await, "");
}

#[tokio::test]
async fn a_log_that_nobody_reads_does_not_end_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = server_command(folder.path());
    command.args(["--listen", "127.0.0.1:0", "--log", "trace"]).stderr(Stdio::piped());
    let mut process = Process::spawn(command, 1).await;
    let mut first = [0; 1];
    let mut log = process.child.stderr.take().unwrap();
    soon("the log begins", log.read_exact(&mut first)).await.unwrap();
    drop(log);
    talk(process.address()).await;
    process.stop().await;
}

/// More connections than there is room for their lines: in the pipe, and in the server's memory.
const FLOOD_CONNECTIONS: usize = 24_000;

/// More than the pipe alone has room for.
const PIPE_FULL_CONNECTIONS: usize = 3_000;

/// A server on a Unix socket, which needs no ports for many connections, and nobody reads its log.
async fn unread(folder: &Path) -> (Process, PathBuf) {
    let socket = folder.join("socket");
    let mut command = server_command(folder);
    command.args(["--listen", &format!("unix:{}", socket.display())]).stderr(Stdio::piped());
    (Process::spawn(command, 1).await, socket)
}

/// Connects so many times, writes an entry each time, and returns the acks' seqs in order.
async fn write_by_connections(socket: &Path, connections: usize) -> Vec<u64> {
    let writers = stream::iter(0..connections).map(|_| async {
        let stream = UnixStream::connect(socket).await.unwrap();
        let said = String::from_utf8(say(stream, b"an entry\n").await).unwrap();
        acked(said.lines().nth(1).unwrap_or_default()).unwrap_or_else(|| panic!("no ack in {said:?}"))
    });
    let mut seqs: Vec<u64> = writers.buffer_unordered(64).collect().await;
    seqs.sort_unstable();
    seqs
}

#[tokio::test]
async fn an_unread_log_holds_up_nobody_and_says_how_many_lines_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut process, socket) = unread(folder.path()).await;
    let seqs = write_by_connections(&socket, FLOOD_CONNECTIONS).await;
    assert!(seqs.into_iter().eq(1..=FLOOD_CONNECTIONS as u64), "every connection is served");

    // Now somebody reads it.
    let mut log = BufReader::new(process.child.stderr.take().unwrap()).lines();
    let (mut told, mut dropped) = (0, 0);
    while told + dropped < FLOOD_CONNECTIONS {
        let line = soon("all is told", log.next_line()).await.unwrap().unwrap();
        match line.split_once(" WARN lines of the log were dropped, ") {
            Some((_, count)) => dropped += count.rsplit('=').next().unwrap().parse::<usize>().unwrap(),
            None => told += usize::from(line.contains(" INFO connected ")),
        }
    }
    assert_eq!(told + dropped, FLOOD_CONNECTIONS);
    assert!(told > 1000 && dropped > 1000, "told {told}, dropped {dropped}");

    // It goes on, and its last lines come.
    say(UnixStream::connect(&socket).await.unwrap(), b"").await;
    process.signal(Signal::TERM);
    let mut rest = Vec::new();
    while let Some(line) = soon("the log ends", log.next_line()).await.unwrap() {
        rest.push(line);
    }
    assert_eq!(process.wait().await, Some(0));
    assert!(rest.len() == 2 && rest[0].contains(" INFO connected "), "{rest:?}");
    assert!(rest[1].contains(" INFO stopping"), "{rest:?}");
}

#[tokio::test]
async fn a_server_whose_log_nobody_ever_reads_stops_as_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let (mut process, socket) = unread(folder.path()).await;
    let seqs = write_by_connections(&socket, PIPE_FULL_CONNECTIONS).await;
    assert!(seqs.into_iter().eq(1..=PIPE_FULL_CONNECTIONS as u64), "every connection is served");
    process.signal(Signal::TERM);
    assert_eq!(process.wait().await, Some(0));
    assert!(folder.path().join("diary/head").exists(), "a clean stop leaves evidence");
}
