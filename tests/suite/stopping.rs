//! A stop: what was read is committed and answered, everybody is told, and the exit code is 0.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diary_proto::Which;
use diary_proto::message::{ClientMessage, ServerMessage};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

use crate::support::{
    Frames, Lines, Process, Server, acked, connect_narrow, fill, is_ack, pairs, soon, text,
};

/// A stop takes no longer, whatever clients do.
const STOP_MAX: Duration = Duration::from_secs(10);

async fn serve(data: &Path) -> Process {
    Process::start(data, &["127.0.0.1:0"], &["--log", "error"]).await
}

#[tokio::test]
async fn what_was_read_is_stored_and_acked_and_nothing_else() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = tempfile::tempdir().unwrap();
        let mut process = serve(folder.path()).await;
        let Lines { reader, mut writer, .. } = Lines::connect(process.address()).await;
        let mut answers = reader.lines();
        let mut framed = Frames::hello(process.address(), 1).await;
        let mut silent = Lines::connect(process.address()).await;
        // It sends on and on, a little ahead of the answers; the stop comes in the middle.
        let ahead = Arc::new(Semaphore::new(5000));
        let room = Arc::clone(&ahead);
        let sending = tokio::spawn(async move {
            let lines = "a line\n".repeat(1000);
            loop {
                room.acquire_many(1000).await.unwrap().forget();
                if writer.write_all(lines.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        for counter in 0..50 {
            framed.append(counter, false, &["framed"]).await;
        }
        let first = soon("an ack", answers.next_line()).await.unwrap().unwrap();
        assert!(acked(&first).is_some(), "{first}");
        process.signal(signal);
        let begun = Instant::now();

        let mut acks = 1;
        let last = loop {
            let line = soon("an answer", answers.next_line()).await.unwrap().unwrap();
            match acked(&line) {
                Some(_) => {
                    acks += 1;
                    ahead.add_permits(1);
                }
                None => break line,
            }
        };
        assert!(last.starts_with("bye: "), "{last}");
        let mut framed_acks = 0;
        loop {
            match framed.message().await {
                ServerMessage::Acks(runs) => framed_acks += pairs(&runs).len(),
                ServerMessage::Bye { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(framed.next().await, None);
        assert!(silent.line().await.starts_with("bye: "));
        assert_eq!(silent.rest().await, "");
        drop((answers, framed, silent));
        sending.abort();
        assert_eq!(process.wait().await, Some(0));
        assert!(begun.elapsed() < STOP_MAX);

        let process = serve(folder.path()).await;
        let stored = Lines::connect(process.address()).await.all_texts().await;
        let of_frames = stored.iter().filter(|text| *text == "framed").count();
        assert_eq!((stored.len() - of_frames, of_frames), (acks, framed_acks), "stored and acked");
        process.stop().await;
    }
}

#[tokio::test]
async fn a_history_in_progress_ends_with_an_error() {
    let server = Server::start().await;
    let count = fill(server.address(), 12).await;
    let folder = server.stop().await;
    let mut process = serve(folder.path()).await;
    let mut client = Lines::connect(process.address()).await;
    client.send("/history all\n").await;
    assert_eq!(client.line().await, "ok history");
    let mut framed = Frames::hello(process.address(), 1).await;
    framed.send(&ClientMessage::History { id: 3, scope: Which::All.into() }).await;
    assert!(matches!(framed.message().await, ServerMessage::Answer { id: 3, .. }));
    process.signal(Signal::TERM);

    let rest = client.rest().await;
    let (entries, end): (Vec<&str>, Vec<&str>) =
        rest.lines().partition(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    assert!((entries.len() as u64) < count, "it was in progress");
    assert!(end[0].starts_with("error stopping: ") && end[1].starts_with("bye: "), "{end:?}");
    let end = loop {
        match framed.message().await {
            ServerMessage::Block { id: 3, .. } => {}
            other => break other,
        }
    };
    match end {
        ServerMessage::Error { id: 3, fatal: false, refusal } => {
            assert_eq!(refusal.code.as_str(), "stopping");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(framed.message().await, ServerMessage::Bye { .. }));
    drop((client, framed));
    assert_eq!(process.wait().await, Some(0));
}

#[tokio::test]
async fn a_client_that_reads_nothing_holds_up_the_stop_only_for_so_long() {
    let server = Server::start().await;
    fill(server.address(), 12).await;
    let folder = server.stop().await;
    let mut process = serve(folder.path()).await;
    let mut deaf = connect_narrow(process.address()).await;
    deaf.write_all(b"/history all\n").await.unwrap();
    let mut follower = connect_narrow(process.address()).await;
    follower.write_all(b"/follow #1\n").await.unwrap();
    let mut healthy = Lines::connect(process.address()).await;
    assert!(healthy.ask("an entry").await.starts_with("ok "));
    // While this one reads all of it, the others come to where nothing more goes through.
    healthy.history("all").await;
    process.signal(Signal::TERM);
    let begun = Instant::now();
    assert!(healthy.line().await.starts_with("bye: "));
    drop(healthy);
    assert_eq!(process.wait().await, Some(0));
    assert!(begun.elapsed() < STOP_MAX, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_the_code_says_which() {
    let server = Server::start().await;
    fill(server.address(), 12).await;
    let folder = server.stop().await;
    for (second, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let mut process = serve(folder.path()).await;
        let mut deaf = connect_narrow(process.address()).await;
        deaf.write_all(b"/history all\n").await.unwrap();
        let mut healthy = Lines::connect(process.address()).await;
        assert!(healthy.ask(&format!("before {code}")).await.starts_with("ok "));
        process.signal(Signal::TERM);
        // Told, so the first signal has come.
        assert!(healthy.line().await.starts_with("bye: "));
        process.signal(second);
        assert_eq!(process.wait().await, Some(code), "it did not wait for the deaf one");
        drop(deaf);
        // What was acked is there all the same.
        let process = serve(folder.path()).await;
        let newest = Lines::connect(process.address()).await.history("1").await;
        assert_eq!(text(&newest[0]), format!("before {code}"));
        process.stop().await;
    }
}

#[tokio::test]
async fn nobody_is_let_in_while_it_stops() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    assert!(is_ack(&client.ask("one").await, 1));
    let address = server.address().to_owned();
    client.send("unfinished").await;
    drop(server.stop().await);
    assert_eq!(client.rest().await, "bye: shutting down\n");
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());
}

#[tokio::test]
async fn a_server_in_this_process_stops_and_starts_again() {
    let mut folder = tempfile::tempdir().unwrap();
    for round in 1..=5 {
        let server = Server::on(folder, |config| config.limits.drain = Duration::from_millis(500)).await;
        let mut client = server.lines().await;
        assert!(is_ack(&client.ask("an entry").await, round));
        let mut follower = server.lines().await;
        assert!(follower.ask("/follow").await.starts_with("ok follow"));
        server.begin_stop();
        assert!(soon("bye", follower.rest()).await.starts_with("bye"));
        assert_eq!(client.rest().await, "bye: shutting down\n");
        drop((client, follower));
        folder = server.stop().await;
        assert!(folder.path().join("diary/head").exists(), "a clean stop leaves evidence");
    }
}

#[tokio::test]
async fn the_unix_socket_is_gone_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listen = format!("unix:{}", path.display());
    let process = Process::start(&folder.path().join("data"), &[&listen], &["--log", "error"]).await;
    assert!(path.exists());
    process.stop().await;
    assert!(!path.exists());
}
