//! Memory is bounded in sum, whatever many clients do at once, and comes back when they are gone.

use std::time::Duration;

use diary_proto::Which;
use diary_proto::message::ClientMessage;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Frames, Lines, PATIENCE, Process, Server, connect_narrow, fill, soon};

/// How close memory comes to where it was. The writer keeps the buffer of its largest batch: 4 MiB of lines, and up to
/// twice that as a vector grows.
const BACK_BYTES: usize = 24 << 20;

/// Clients that read everything at once, so that all threads of a server have worked.
const AT_WORK: usize = 64;

/// A server as people run it, and what it takes once it has worked.
async fn started(folder: &tempfile::TempDir) -> (Process, usize) {
    let process = Process::start(folder.path(), &["127.0.0.1:0"], &["--log", "error"]).await;
    let clients: FuturesUnordered<_> = (0..AT_WORK)
        .map(|_| async {
            let mut client = Lines::connect(process.address()).await;
            client.ask("an entry").await;
            client.history("all").await;
        })
        .collect();
    clients.collect::<Vec<()>>().await;
    let before = process.memory("VmRSS");
    (process, before)
}

/// Waits until the server takes no more than it did `before`.
async fn returns_to(before: usize, process: &Process) {
    returns_near(before, BACK_BYTES, process).await;
}

async fn returns_near(before: usize, more: usize, process: &Process) {
    let back = async {
        while process.memory("VmRSS") > before + more {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let back = tokio::time::timeout(PATIENCE, back).await;
    assert!(back.is_ok(), "{} bytes, and {before} before", process.memory("VmRSS"));
}

async fn end(mut process: Process) {
    process.signal(Signal::TERM);
    assert_eq!(process.wait().await, Some(0));
}

#[tokio::test]
async fn texts_between_commands() {
    let folder = tempfile::tempdir().unwrap();
    let (process, before) = started(&folder).await;
    // Each text stands between two requests that are not texts.
    for between in ["/name anna\n", "\u{fffd}\n"] {
        let lines = format!("a\n{between}").replace('\u{fffd}', "/x").repeat(64 * 1024 / (between.len() + 2));
        let clients: FuturesUnordered<_> = (0..16)
            .map(|_| async {
                let client = Lines::connect(process.address()).await;
                let Lines { mut reader, mut writer, .. } = client;
                let writing = async {
                    writer.write_all(lines.as_bytes()).await.unwrap();
                    writer.shutdown().await.unwrap();
                };
                let mut sink = tokio::io::sink();
                let reading = tokio::io::copy_buf(&mut reader, &mut sink);
                let (_, read) =
                    soon("every line is answered", async { tokio::join!(writing, reading) }).await;
                assert!(read.unwrap() > 0);
            })
            .collect();
        clients.collect::<Vec<()>>().await;
    }
    let most = process.memory("VmHWM");
    assert!(most < before + (64 << 20), "{most} bytes, and {before} before");
    returns_to(before, &process).await;
    end(process).await;
}

/// Appends whose outcomes are many and differ, from clients that never read: each of these texts was stored under another
/// key already.
#[tokio::test]
async fn outcomes_that_nobody_reads() {
    let folder = tempfile::tempdir().unwrap();
    let (process, before) = started(&folder).await;
    let texts = vec!["a"; 59_000];
    let mut first = Frames::hello(process.address(), 1).await;
    first.append(0, false, &texts).await;
    first.acks(texts.len()).await;
    let others = vec!["b"; 59_000];
    let mut deaf = Vec::new();
    for _ in 0..60 {
        let mut client = Frames::hello(process.address(), 1).await;
        // What the server does not take now waits in the kernel.
        client.append(0, true, &others).await;
        deaf.push(client);
    }
    let mut healthy = Lines::connect(process.address()).await;
    for _ in 0..20 {
        assert!(healthy.ask("fine").await.starts_with("ok "));
    }
    let most = process.memory("VmHWM");
    assert!(most < before + (128 << 20), "{most} bytes, and {before} before");
    drop((first, healthy, deaf));
    returns_to(before, &process).await;
    end(process).await;
}

/// Refused lines of clients that never read.
#[tokio::test]
async fn refusals_that_nobody_reads() {
    let folder = tempfile::tempdir().unwrap();
    let (process, before) = started(&folder).await;
    let mut deaf = Vec::new();
    for _ in 0..200 {
        let mut stream = connect_narrow(process.address()).await;
        stream.write_all(&b"/nope\n".repeat(10_000)).await.unwrap();
        deaf.push(stream);
    }
    let mut healthy = Lines::connect(process.address()).await;
    for _ in 0..20 {
        assert!(healthy.ask("fine").await.starts_with("ok "));
    }
    let most = process.memory("VmHWM");
    assert!(most < before + (128 << 20), "{most} bytes, and {before} before");
    drop((healthy, deaf));
    returns_to(before, &process).await;
    end(process).await;
}

/// Clients that ask for everything and read nothing, in both modes.
#[tokio::test]
async fn readers_that_read_nothing() {
    let server = Server::start().await;
    fill(server.address(), 12).await;
    let folder = server.stop().await;
    let (process, before) = started(&folder).await;
    let mut deaf = Vec::new();
    for number in 0..1000 {
        let mut stream = connect_narrow(process.address()).await;
        stream.write_all(if number % 2 == 0 { b"/history all\n" } else { b"/follow #1\n" }).await.unwrap();
        deaf.push(stream);
    }
    // While they are there, others read all the same.
    let mut healthy = Lines::connect(process.address()).await;
    let all = healthy.history("all").await.len();
    let mut frames = Frames::hello(process.address(), 1).await;
    frames.send(&ClientMessage::History { id: 1, scope: Which::All.into() }).await;
    assert_eq!(frames.answer(1).await.last, all as u64);
    assert!(healthy.ask("fine").await.starts_with("ok "));
    let most = process.memory("VmHWM");
    assert!(most < before + (128 << 20), "{most} bytes, and {before} before");
    drop((deaf, healthy, frames));
    returns_to(before, &process).await;
    end(process).await;
}

/// Partial lines that are so short that they are in no budget, and sessions, which nobody counts.
#[tokio::test]
async fn lines_that_many_begin() {
    const CLIENTS: usize = 6_000;
    /// They take more than twice as much.
    const NEAR_BYTES: usize = 8 << 20;
    let all = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: all, maximum: all }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (process, before) = started(&folder).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut stream = TcpStream::connect(process.address()).await.unwrap();
        stream.write_all(&[b'x'; 900]).await.unwrap();
        clients.push(stream);
    }
    let mut healthy = Lines::connect(process.address()).await;
    assert!(healthy.ask("fine").await.starts_with("ok "));
    let most = process.memory("VmRSS");
    assert!(most > before + 2 * NEAR_BYTES, "{most} bytes, and {before} before");
    drop((clients, healthy));
    returns_near(before, NEAR_BYTES, &process).await;
    end(process).await;
}
