//! `diary follow` and the conversation go on through restarts, restored copies and other journals.

use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::cli_read::{cli, write};
use crate::support::{Process, Server, Terminal, day_files, run, seq, soon};

/// A running follow.
struct Follow {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follow {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn seqs(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            let line = soon("an entry comes", self.lines.next_line()).await.unwrap().expect("it goes on");
            seqs.push(seq(&line).unwrap());
        }
        seqs
    }

    /// Sends it a signal; returns its exit code.
    async fn end(mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
        soon("it ends", self.child.wait()).await.unwrap().code()
    }
}

#[tokio::test]
async fn a_follow_shows_what_was_asked_for_and_then_what_comes() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    write(server.address(), &["one", "two", "three", "four"]).await;
    let follow = |words: &[&str]| Follow::start(cli(home.path(), server.address(), words));
    let mut last = follow(&["follow", "--last", "2"]);
    let mut anna = follow(&["follow", "--author", "anna", "--last", "1", "--not", "seven"]);
    assert_eq!(last.seqs(2).await, [3, 4]);
    assert_eq!(anna.seqs(1).await, [3]);
    write(server.address(), &["five", "six", "seven", "eight", "nine"]).await;
    assert_eq!(last.seqs(5).await, [5, 6, 7, 8, 9]);
    assert_eq!(anna.seqs(2).await, [5, 9]);
    assert_eq!(last.end(Signal::INT).await, Some(130));
    assert_eq!(anna.end(Signal::INT).await, Some(130));
    server.stop().await;
}

#[tokio::test]
async fn a_follow_goes_on_where_it_stopped_through_restarts_of_either_side() {
    let (home, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cursor = home.path().join("cursor");
    let mut server = Process::start(data.path(), &["127.0.0.1:0"], &[]).await;
    let address = server.address().to_owned();
    write(&address, &["1", "2", "3"]).await;
    let words = ["follow", "--cursor", cursor.to_str().unwrap(), "--last", "2"];
    let mut follow = Follow::start(cli(home.path(), &address, &words));
    assert_eq!(follow.seqs(2).await, [2, 3]);
    write(&address, &["4", "5"]).await;
    assert_eq!(follow.seqs(2).await, [4, 5]);
    assert_eq!(follow.end(Signal::INT).await, Some(130));

    // Entries arrive and the server is killed while nobody follows.
    write(&address, &["6", "7"]).await;
    server.signal(Signal::KILL);
    server.wait().await;
    server = Process::start(data.path(), &[&address], &[]).await;
    let mut follow = Follow::start(cli(home.path(), &address, &words));
    assert_eq!(follow.seqs(2).await, [6, 7], "neither a gap nor a double");
    server.signal(Signal::TERM);
    server.wait().await;
    server = Process::start(data.path(), &[&address], &[]).await;
    write(&address, &["8"]).await;
    assert_eq!(follow.seqs(1).await, [8]);
    assert_eq!(follow.end(Signal::INT).await, Some(130));
    let written = std::fs::read_to_string(&cursor).unwrap();
    assert_eq!(written.split(' ').nth(1), Some("8"), "{written}");
    server.stop().await;

    let other = Server::start().await;
    let ran = run(&mut cli(home.path(), other.address(), &words), "").await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), ""));
    assert!(ran.stderr.contains("belongs to journal "), "{ran:?}");
    assert_eq!(std::fs::read_to_string(&cursor).unwrap(), written);
    other.stop().await;
}

/// Copies a directory of day files.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => _ = std::fs::copy(entry.path(), to).unwrap(),
        }
    }
}

/// Starts a server with four entries, of which the copy in `older` has two.
async fn four_entries(data: &Path, older: &Path) -> Process {
    let server = Process::start(data, &["127.0.0.1:0"], &[]).await;
    let address = server.address().to_owned();
    write(&address, &["1", "2"]).await;
    server.stop().await;
    copy(data, older);
    let server = Process::start(data, &[&address], &[]).await;
    write(&address, &["3", "4"]).await;
    server
}

/// Stops the server, puts the older copy in its place, and starts it at the same address.
async fn restored(server: Process, data: &Path, older: &Path) -> Process {
    let address = server.address().to_owned();
    server.stop().await;
    std::fs::remove_dir_all(data).unwrap();
    copy(older, data);
    Process::start(data, &[&address], &[]).await
}

/// A diary, an older copy of it with two entries, and a follow whose cursor has printed four.
#[tokio::test]
async fn a_cursor_of_a_diary_that_was_restored_is_told_and_refused() {
    let (home, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (cursor, older) = (home.path().join("cursor"), home.path().join("older"));
    let server = four_entries(data.path(), &older).await;
    let address = server.address().to_owned();
    let words = ["follow", "--cursor", cursor.to_str().unwrap(), "--last", "all"];
    let mut follow = Follow::start(cli(home.path(), &address, &words));
    assert_eq!(follow.seqs(4).await, [1, 2, 3, 4]);
    assert_eq!(follow.end(Signal::INT).await, Some(130));
    let written = std::fs::read(&cursor).unwrap();
    let server = restored(server, data.path(), &older).await;
    // First the diary ends before the cursor; then it has another entry there.
    for texts in [&[][..], &["other 3", "other 4", "other 5"]] {
        write(&address, texts).await;
        let ran = run(&mut cli(home.path(), &address, &words), "").await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(4), ""), "{ran:?}");
        assert!(
            ran.stderr.contains("is at entry 4, but this journal has a different entry there or none"),
            "{ran:?}"
        );
        assert_eq!(std::fs::read(&cursor).unwrap(), written);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_follow_goes_on_in_a_diary_that_was_restored() {
    let (home, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let older = home.path().join("older");
    let server = four_entries(data.path(), &older).await;
    let address = server.address().to_owned();
    let cursor = home.path().join("cursor");
    let words = ["follow", "--last", "1", "--cursor", cursor.to_str().unwrap()];
    let mut follow = Follow::start(cli(home.path(), &address, &words));
    assert_eq!(follow.seqs(1).await, [4]);
    let mut said = BufReader::new(follow.child.stderr.take().unwrap()).lines();
    let server = restored(server, data.path(), &older).await;
    let expected =
        "the diary was restored from an older copy and now ends with entry 2; only newer entries follow";
    while soon("it is told", said.next_line()).await.unwrap().expect("it goes on") != expected {}
    assert_eq!(follow.end(Signal::INT).await, Some(130));
    // The cursor has a checksum as usual, so that an older copy is not mistaken for this diary.
    let written = std::fs::read_to_string(&cursor).unwrap();
    let place: Vec<&str> = written.split_whitespace().collect();
    assert!(place[1] == "2" && place[2].len() == 8, "{written}");

    let mut follow = Follow::start(cli(home.path(), &address, &words));
    write(&address, &["other 3"]).await;
    assert_eq!(follow.seqs(1).await, [3]);
    assert_eq!(follow.end(Signal::INT).await, Some(130));
    server.stop().await;
}

/// A conversation goes on as well, and sends what is typed.
#[tokio::test]
async fn a_conversation_goes_on_in_a_diary_that_was_restored() {
    let (home, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let older = home.path().join("older");
    let server = four_entries(data.path(), &older).await;
    let address = server.address().to_owned();
    let mut terminal = Terminal::start(cli(home.path(), &address, &[]));
    terminal.sees("ben 4").await;
    let server = restored(server, data.path(), &older).await;
    terminal.sees("restored from an older copy and now ends with entry 2").await;
    write(&address, &["other 3"]).await;
    terminal.sees("anna other 3").await;
    terminal.types("mine\r").await;
    terminal.sees(&format!("ok 4 on {address}")).await;
    server.stop().await;
}

/// Another diary has taken the address: the user is told, and typed entries stay in the outbox.
#[tokio::test]
async fn a_conversation_does_not_go_on_in_another_journal() {
    let (home, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Process::start(data.path(), &["127.0.0.1:0"], &[]).await;
    let address = server.address().to_owned();
    let mut terminal = Terminal::start(cli(home.path(), &address, &[]));
    terminal.types("here\r").await;
    terminal.sees(&format!("ok 1 on {address}")).await;
    server.stop().await;
    std::fs::remove_dir_all(data.path()).unwrap();
    let server = Process::start(data.path(), &[&address], &[]).await;
    terminal.sees("what you type is only saved").await;
    terminal.types("not there\r").await;
    terminal.sees("1 unsent").await;
    terminal.types("\x04").await;
    let (code, seen) = terminal.ends().await;
    let told = "1 entry was not acked: kept in ";
    assert!(code == Some(5) && seen.contains(told) && seen.contains("; see diary outbox"), "{code:?} {seen}");
    assert!(day_files(&data.path().join("diary")).is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_follow_notices_at_once_that_its_reader_left() {
    let (home, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    write(server.address(), &["one"]).await;
    let mut follow = Follow::start(cli(home.path(), server.address(), &["follow", "--last", "1"]));
    assert_eq!(follow.seqs(1).await, [1]);
    drop(follow.lines);
    let ended = soon("it ends without another entry", follow.child.wait_with_output()).await.unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]));
    server.stop().await;
}
