//! Servers that are meant to meet a fault, and the diaries that they meet it with.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::{Lines, Process, is_ack, server_command, soon, stored};

/// `inner`, run by `outer`.
pub(crate) fn under(mut outer: Command, inner: Command) -> Command {
    let inner = inner.as_std();
    outer.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

pub(crate) fn command(data: &Path) -> Command {
    let mut command = server_command(data);
    command.args(["--listen", "127.0.0.1:0", "--timezone", "UTC", "--log", "warn"]);
    command
}

pub(crate) async fn serve(data: &Path) -> Process {
    Process::start(data, &["127.0.0.1:0"], &["--timezone", "UTC", "--log", "error"]).await
}

/// A server that may fail to start, and what it and strace say.
pub(crate) struct Started {
    child: Child,
    /// None: it ended before it listened.
    pub(crate) address: Option<String>,
    said: JoinHandle<String>,
}

impl Started {
    pub(crate) async fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let said = tokio::spawn(async move {
            let mut said = Vec::new();
            stderr.read_to_end(&mut said).await.unwrap();
            String::from_utf8_lossy(&said).into_owned()
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = soon("it listens or ends", stdout.next_line()).await.unwrap();
        let address = line.map(|line| line.strip_prefix("listening on ").unwrap().to_owned());
        Self { child, address, said }
    }

    pub(crate) fn address(&self) -> &str {
        self.address.as_deref().expect("it listens")
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap()
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Its exit code, and all that was said, once strace has ended too.
    pub(crate) async fn end(mut self) -> (Option<i32>, String) {
        let status = soon("the server ends", self.child.wait()).await.unwrap();
        (status.code(), soon("its log ends", self.said).await.unwrap())
    }
}

/// A diary with some entries after a clean stop; how many.
pub(crate) async fn some_diary(data: &Path) -> u64 {
    let process = serve(data).await;
    let mut client = Lines::connect(process.address()).await;
    for (seq, text) in (1..).zip(first_texts(3)) {
        assert!(is_ack(&client.ask(&text).await, seq));
    }
    drop(client);
    process.stop().await;
    3
}

pub(crate) fn first_texts(count: u64) -> Vec<String> {
    (1..=count).map(|seq| format!("from before {seq}")).collect()
}

/// All texts on disk, escaped.
pub(crate) fn texts_on_disk(journal: &Path) -> Vec<String> {
    let entries = stored(journal);
    entries.iter().map(|entry| entry.split_once(' ').unwrap().1.to_owned()).collect()
}

/// A server without faults serves exactly these, and goes on.
pub(crate) async fn served_after(data: &Path, expected: &[String], what: &str) {
    let process = serve(data).await;
    let mut client = Lines::connect(process.address()).await;
    assert_eq!(client.all_texts().await, expected, "{what}");
    assert!(is_ack(&client.ask("goes on").await, expected.len() as u64 + 1), "{what}");
    drop(client);
    process.stop().await;
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// All that still comes, up to the end.
pub(crate) async fn rest_of(mut client: Lines) -> String {
    let mut rest = Vec::new();
    // A reset is an end too.
    let _ = soon("the connection ends", client.reader.read_to_end(&mut rest)).await;
    String::from_utf8(rest).unwrap()
}
