//! Nobody hears of an entry before the disk has it, seen on the real server with slow syncs.

use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::support::{Lines, Process, is_ack, peer, seq, server_command, text};

/// How long each sync takes here.
const SYNC: Duration = Duration::from_millis(600);

/// The server, each fdatasync and fsync of which begins late.
async fn serve_slowly(data: &std::path::Path, trace: &std::path::Path) -> Process {
    let server = server_command(data);
    let server = server.as_std();
    let mut command: Command = peer("strace");
    // With -D the server is our child, and not strace, so that it ends with the test.
    command.args(["-D", "-f", "-qq", "-e", "trace=fdatasync,fsync", "-o"]).arg(trace);
    command.arg("-e").arg(format!("inject=fdatasync,fsync:delay_enter={}", SYNC.as_micros()));
    command.arg(server.get_program()).args(server.get_args()).args(["--listen", "127.0.0.1:0"]);
    for (name, value) in server.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Process::spawn(command, 1).await
}

#[tokio::test]
async fn nobody_hears_of_an_entry_before_it_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let process = serve_slowly(&folder.path().join("data"), &folder.path().join("trace")).await;
    let mut writer = Lines::connect(process.address()).await;
    let mut follower = Lines::connect(process.address()).await;
    let mut other = Lines::connect(process.address()).await;
    assert_eq!(follower.ask("/follow").await, "ok follow from 1");

    // The first batch makes a file, so its folder is synced too.
    for (number, syncs) in [(1, 2), (2, 1), (3, 1)] {
        let durable = SYNC * syncs;
        let sent = Instant::now();
        let written = format!("entry {number}");
        writer.send(format!("{written}\n")).await;
        let follows = async {
            let line = follower.line().await;
            assert_eq!((seq(&line), text(&line)), (Some(number), &*written));
            sent.elapsed()
        };
        let reads = async {
            tokio::time::sleep(SYNC / 4).await;
            let entries = other.history("all").await.len() as u64;
            // On a machine so busy that this comes late, it tells nothing.
            if sent.elapsed() < durable {
                assert_eq!(entries, number - 1, "history shows what is not on disk yet");
            }
        };
        let acked = async {
            let line = writer.line().await;
            assert!(is_ack(&line, number), "{line}");
            sent.elapsed()
        };
        let (acked, followed, ()) = tokio::join!(acked, follows, reads);
        assert!(acked >= durable, "entry {number} was acked after {acked:?}");
        assert!(followed >= durable, "entry {number} was followed after {followed:?}");
    }
}
