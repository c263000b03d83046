//! The outbox: what is kept before it is sent, where it goes, and that kills lose and double nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;

use crate::cli_add::{FIRST_LISTEN, Home, address_to_be, assert_quiet, server_at};
use crate::support::faulty::under;
use crate::support::{CTRL_C, CTRL_D, Server, Terminal, day_files, peer, run, soon, stored};

/// Kills per moment, over the lifetime of one outbox.
const KILLS_PER_MOMENT: u32 = 12;

/// With more kept files than a process may open, entries are sent one file at a time.
#[tokio::test]
async fn more_is_kept_than_a_process_may_open() {
    let (home, data) = (Home::new(), tempfile::tempdir().unwrap());
    let address = address_to_be().await;
    for number in 1..=60 {
        assert_eq!(home.run(&address, &["add", &number.to_string()]).await.code, Some(5));
    }
    let server = server_at(&address, data.path()).await;
    let limited = |arguments: &[&str]| {
        let mut limit = peer("prlimit");
        limit.arg("--nofile=32:32");
        under(limit, home.cli(&address, arguments))
    };
    assert_quiet(&run(&mut limited(&["add", "61"]), "").await, 0, "61\n");
    assert!(home.files().is_empty());
    server.stop().await;
    for number in 62..=100 {
        assert_eq!(home.run(&address, &["add", &number.to_string()]).await.code, Some(5));
    }
    let server = server_at(&address, data.path()).await;
    let said = format!("39 entries are on disk at {address}\n");
    assert_quiet(&run(&mut limited(&["outbox", "send"]), "").await, 0, &said);
    server.stop().await;
    let expected: Vec<String> = (1..=100).map(|number| format!("anna {number}")).collect();
    assert_eq!(stored(&data.path().join("diary")), expected);
}

#[tokio::test]
async fn the_outbox_is_sent_to_where_it_belongs() {
    let home = Home::new();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let addresses = [address_to_be().await, address_to_be().await];
    for (address, text) in [(0, "a"), (1, "b"), (0, "c")] {
        assert_eq!(home.run(&addresses[address], &["add", text]).await.code, Some(5));
    }
    let first = server_at(&addresses[0], folders[0].path()).await;
    let ran = home.run(&addresses[1], &["outbox", "send"]).await;
    assert_eq!(ran.stdout, format!("2 entries are on disk at {}\n", addresses[0]));
    assert!(ran.code == Some(5) && ran.stderr.contains("1 entry waits in the outbox for"), "{ran:?}");
    // Entries that wait for another server are reported by every command.
    let waits = format!("1 entry waits in the outbox for {}; send with diary outbox send\n", addresses[1]);
    let ran = home.run(&addresses[0], &["outbox", "send", "--server", &addresses[0]]).await;
    assert_eq!((ran.code, ran.stderr), (Some(0), waits.clone()));
    let log = home.0.path().join("log");
    fs::write(&log, "[2026-11-21 08:15] a\n").unwrap();
    let import = ["import", log.to_str().unwrap()];
    for words in [&["log"][..], &["follow"], &["stats"], &import, &[], &["-n", "0"]] {
        let ran = home.run(&addresses[1], words).await;
        assert_eq!(ran.stderr.matches(&waits).count(), 1, "{words:?}: {ran:?}");
    }
    let ran = home.run(&addresses[1], &["add", "d"]).await;
    assert!(ran.code == Some(5) && ran.stderr.starts_with("2 entries wait in the outbox "), "{ran:?}");
    let second = server_at(&addresses[1], folders[1].path()).await;
    assert_eq!(home.run(&addresses[0], &["outbox", "send"]).await.code, Some(0));
    assert_eq!(stored(&folders[0].path().join("diary")), ["anna a", "anna c"]);
    assert_eq!(stored(&folders[1].path().join("diary")), ["anna b", "anna d"]);
    assert!(home.files().is_empty());
    first.stop().await;
    second.stop().await;
}

/// Kept entries belong to a journal, even if its server's address changes.
#[tokio::test]
async fn what_waits_is_sent_to_the_new_address_of_its_journal() {
    let (home, data) = (Home::new(), tempfile::tempdir().unwrap());
    let (old, new) = (address_to_be().await, address_to_be().await);
    let wait = async |text: &str| {
        // Start a conversation, so that the journal is known, then stop the server.
        let server = server_at(&old, data.path()).await;
        let mut terminal = Terminal::start(home.cli(&old, &[]));
        terminal.sees("/help lists the commands").await;
        server.stop().await;
        terminal.sees("reconnecting").await;
        terminal.types(&format!("{text}\r")).await;
        terminal.sees("unsent").await;
        terminal.types(CTRL_C).await;
        terminal.ends().await;
    };
    wait("first").await;
    let server = server_at(&new, data.path()).await;
    let ran = home.run(&new, &["log"]).await;
    let waits = format!("1 entry waits in the outbox for {new}; send with diary outbox send\n");
    assert!(ran.stderr.contains(&waits), "{ran:?}");
    let ran = home.run(&new, &["outbox", "send"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    server.stop().await;

    wait("second").await;
    let server = server_at(&new, data.path()).await;
    let ran = home.run(&old, &["outbox", "send", "--server", &new]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    server.stop().await;

    wait("third").await;
    let server = server_at(&new, data.path()).await;
    let id = home.run(&old, &["outbox"]).await.stdout.split(' ').next().unwrap().to_owned();
    let ran = home.run(&old, &["outbox", "send-as-new", &id, "--server", &new]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "3\n"), "{ran:?}");
    assert_eq!(stored(&data.path().join("diary")), ["anna first", "anna second", "anna third"]);
    assert!(home.files().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn one_can_be_thrown_away() {
    let home = Home::new();
    let address = address_to_be().await;
    home.run(&address, &["add", "secret"]).await;
    let listed = home.run(&address, &["outbox"]).await.stdout;
    let id = listed.split(' ').next().unwrap();
    let ran = home.run(&address, &["outbox", "drop", "nothing.1"]).await;
    assert!(ran.code == Some(2) && ran.stderr.contains("nothing.1"), "{ran:?}");
    let json = home.run(&address, &["outbox", "--json"]).await;
    assert!(json.code == Some(0) && json.stdout.contains(&format!("\"id\":\"{id}\"")), "{json:?}");
    assert_quiet(&home.run(&address, &["outbox", "list", "--json"]).await, 0, &json.stdout);
    let ran = home.run(&address, &["outbox", "drop", id]).await;
    assert!(ran.stdout.starts_with(&format!("dropped {id} of 20")), "{ran:?}");
    assert_quiet(&ran, 0, &ran.stdout);
    assert!(ran.stdout.ends_with(": secret\n"), "{ran:?}");
    assert!(home.files().is_empty());
    let ran = home.run(&address, &["outbox"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), "the outbox is empty\n"));
    assert_quiet(&home.run(&address, &["outbox", "--json"]).await, 1, "");
    assert_eq!(home.run(&address, &["outbox", "--json", "send"]).await.code, Some(2));
}

/// Returns a client's system calls on texts that contain `part`, in order: `write`, `sync` and `folder` (the
/// directory's sync) on the outbox, `send` on a socket.
fn calls(trace: &str, outbox: &str, part: &str) -> Vec<&'static str> {
    let call = |line: &str| {
        // `PID call(FD<file or socket>, arguments) = result`
        let (call, arguments) = line.split_once(' ')?.1.trim_start().split_once('(')?;
        let is_kept = arguments.contains(&format!("{outbox}/"));
        match call {
            "write" if is_kept && arguments.contains(part) => Some("write"),
            "fdatasync" if is_kept => Some("sync"),
            "fsync" if arguments.contains(&format!("{outbox}>")) => Some("folder"),
            _ if arguments.contains("<socket:") && arguments.contains(part) => Some("send"),
            _ => None,
        }
    };
    trace.lines().filter_map(call).collect()
}

/// For the first entry of a file and for a later one.
#[tokio::test]
async fn nothing_is_sent_before_it_is_on_disk() {
    let (home, data) = (Home::new(), tempfile::tempdir().unwrap());
    let server = server_at("127.0.0.1:0", data.path()).await;
    let trace = home.0.path().join("trace");
    let mut strace = peer("strace");
    strace.args(["-f", "-qq", "-y", "-s", "4096", "-o"]).arg(&trace);
    strace.args(["-e", "trace=write,writev,sendto,sendmsg,fdatasync,fsync"]);
    let mut terminal = Terminal::start(under(strace, home.cli(server.address(), &[])));
    for (seq, text) in [(1, "first line"), (2, "second line")] {
        terminal.types(&format!("{text}\r")).await;
        terminal.sees(&format!("ok {seq} on ")).await;
    }
    terminal.ends_in(&[">"]).await;
    terminal.types(CTRL_D).await;
    assert_eq!(terminal.ends().await.0, Some(0));
    server.stop().await;
    let trace = fs::read_to_string(trace).unwrap();
    let first = ["write", "sync", "folder", "send"];
    let second = ["write", "sync", "send"];
    assert_eq!(calls(&trace, home.outbox().to_str().unwrap(), " line"), [&first[..], &second].concat());
}

/// Entries kept for one journal go to another one only if the user says so.
#[tokio::test]
async fn another_journal_at_the_address_is_a_choice() {
    let (home, data) = (Home::new(), tempfile::tempdir().unwrap());
    let address = address_to_be().await;
    for text in ["mine", "unwanted"] {
        assert_eq!(home.run(&address, &["add", text]).await.code, Some(5));
    }
    // As if the connection was lost after the welcome named a journal.
    for file in home.files() {
        let lines = fs::read_to_string(&file).unwrap() + "{\"journal\":{\"id\":\"00000000000000a1\"}}\n";
        fs::write(&file, lines).unwrap();
    }
    let server = server_at(&address, data.path()).await;
    let ran = home.run(&address, &["add", "new"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "1\n"), "{ran:?}");
    let listed = home.run(&address, &["outbox"]).await.stdout;
    let ids: Vec<_> = listed.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let said = format!("2 entries wait in the outbox for a journal that {address} does not serve now; ");
    assert!(ran.stderr.starts_with(&said) && ran.stderr.contains("send-as-new ID"), "{ran:?}");
    let ran = home.run(&address, &["outbox", "send"]).await;
    assert!(ran.code == Some(4) && ran.stderr.starts_with(&said), "it stays a choice: {ran:?}");
    assert_quiet(&home.run(&address, &["outbox", "send-as-new", ids[0]]).await, 0, "2\n");
    assert_eq!(home.run(&address, &["outbox", "drop", ids[1]]).await.code, Some(0));
    assert!(home.files().is_empty());
    server.stop().await;
    assert_eq!(stored(&data.path().join("diary")), ["anna new", "anna mine"]);
}

/// A damaged entry in the diary may be the one that was sent: only the user can tell.
#[tokio::test]
async fn a_stale_key_is_shown_with_both_choices() {
    let (home, data) = (Home::new(), tempfile::tempdir().unwrap());
    let server = server_at(FIRST_LISTEN, data.path()).await;
    let address = server.address().to_owned();
    assert_eq!(home.run(&address, &["add", "before"]).await.code, Some(0));
    server.stop().await;
    for text in ["stale", "unwanted"] {
        assert_eq!(home.run(&address, &["add", text]).await.code, Some(5));
    }
    // As if the client was killed before it recorded that nothing was sent.
    for file in home.files() {
        let lines = fs::read_to_string(&file).unwrap();
        let kept: String = lines.split_inclusive('\n').filter(|line| !line.contains("not_sent")).collect();
        assert_ne!(kept, lines);
        fs::write(&file, kept).unwrap();
    }
    let journal = data.path().join("diary");
    fs::remove_file(journal.join("cache")).unwrap();
    let day = &day_files(&journal)[0];
    let damaged = fs::read_to_string(day).unwrap().replace("before", "befoxe");
    fs::write(day, damaged).unwrap();

    let server = server_at(&address, data.path()).await;
    let ran = home.run(&address, &["add", "after"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "2\n"), "{ran:?}");
    let listed = home.run(&address, &["outbox"]).await.stdout;
    let ids: Vec<_> = listed
        .lines()
        .filter(|line| !line.starts_with(' '))
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(ids.len(), 2, "{listed}");
    for id in &ids {
        for said in [&ran.stderr, &listed] {
            assert!(said.contains("stale-key"), "{said}");
            assert!(said.contains(&format!("diary outbox drop {id}")), "{said}");
            assert!(said.contains(&format!("diary outbox send-as-new {id}")), "{said}");
        }
    }
    let ran = home.run(&address, &["outbox", "send"]).await;
    let told = "2 refused entries wait in the outbox; see diary outbox\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(4), told), "it stays a choice");
    assert_quiet(&home.run(&address, &["outbox", "send-as-new", ids[0]]).await, 0, "3\n");
    assert_eq!(home.run(&address, &["outbox", "drop", ids[1]]).await.code, Some(0));
    assert!(home.files().is_empty());
    server.stop().await;
    let lines = fs::read_to_string(&day_files(&journal)[0]).unwrap();
    let count = |text: &str| lines.matches(&format!(" anna {text}\t")).count();
    assert_eq!((count("after"), count("stale"), count("unwanted")), (1, 1, 0), "{lines}");
}

/// Without an outbox the entry is sent all the same, with a warning.
#[tokio::test]
async fn an_outbox_that_cannot_be_written_stops_no_entry() {
    let (home, server) = (Home::new(), Server::start().await);
    fs::create_dir_all(home.outbox().parent().unwrap()).unwrap();
    fs::write(home.outbox(), "").unwrap();
    let ran = home.run(server.address(), &["add", "sent"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "1\n"));
    assert!(ran.stderr.contains("cannot write ") && ran.stderr.contains("without being kept"), "{ran:?}");
    let ran = home.run(&address_to_be().await, &["add", "lost\nwords"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(5), ""));
    assert!(ran.stderr.ends_with("the text is NOT kept: lost\\nwords\n"), "{ran:?}");
    assert_eq!(stored(&server.journal()), ["anna sent"]);
    server.stop().await;
}

/// When `add` is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// Once a file appears in the outbox directory.
    Begun,
    /// Once the text is kept.
    Kept,
    /// Once the text is in a day file.
    Stored,
    /// Once the seq is printed.
    Printed,
}

/// `kill -9` at many moments of an `add`. Once its file has appeared, the text is in the outbox or in the
/// diary, and in the end it is in the diary exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_nothing_and_double_nothing() {
    let (home, data) = (Home::new(), tempfile::tempdir().unwrap());
    let server = server_at(FIRST_LISTEN, data.path()).await;
    let journal = data.path().join("diary");
    let (mut promised, mut all, mut left) = (Vec::new(), Vec::new(), 0);
    // The first entry creates the directories.
    assert_eq!(home.run(server.address(), &["add", "first"]).await.code, Some(0));
    for round in 0..KILLS_PER_MOMENT {
        for moment in [Moment::Begun, Moment::Kept, Moment::Stored, Moment::Printed] {
            let text = format!("{moment:?} {round}");
            let was_kept = kill_at(&home, server.address(), &journal, &text, moment, round * 400).await;
            if was_kept {
                assert!(is_safe(&home, &journal, &text), "{text} is in neither");
                promised.push(text.clone());
            }
            left += usize::from(!home.files().is_empty());
            all.push(text);
        }
    }
    let sent = home.run(server.address(), &["outbox", "send"]).await;
    assert_eq!((sent.code, sent.stderr.as_str()), (Some(0), ""));
    assert!(home.files().is_empty());
    server.stop().await;
    let entries = stored(&journal);
    let count = |text: &String| entries.iter().filter(|entry| **entry == format!("anna {text}")).count();
    assert!(promised.iter().all(|text| count(text) == 1), "{entries:?}");
    assert!(all.iter().all(|text| count(text) <= 1), "{entries:?}");
    // The kills did hit the moments in question.
    assert!(promised.len() > all.len() / 2 && left > 0, "{} {left}", promised.len());
}

/// Kills an `add` after `spins` spins past a moment. Returns whether its text was promised to be safe.
async fn kill_at(home: &Home, address: &str, journal: &Path, text: &str, moment: Moment, spins: u32) -> bool {
    let before = home.files();
    let mut command = home.cli(address, &["add", text]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let fresh = || home.files().into_iter().find(|file| !before.contains(file));
    let is_complete = |file: &PathBuf| {
        fs::read_to_string(file).is_ok_and(|lines| lines.ends_with('\n') && lines.contains(text))
    };
    let mut stdout = child.stdout.take().unwrap();
    let mut ended = false;
    // Poll: a moment of a few microseconds is over before any notification arrives.
    let kept = tokio::task::block_in_place(|| {
        let mut kept = false;
        loop {
            let file = fresh();
            kept |= file.as_ref().is_some_and(is_complete);
            ended |= child.try_wait().unwrap().is_some();
            let reached = match moment {
                Moment::Begun => file.is_some(),
                Moment::Kept => kept,
                Moment::Stored => is_stored(journal, text),
                Moment::Printed => false,
            };
            if reached || ended || matches!(moment, Moment::Printed) {
                return kept;
            }
        }
    });
    if matches!(moment, Moment::Printed) {
        let mut byte = [0];
        soon("it prints", tokio::io::AsyncReadExt::read(&mut stdout, &mut byte)).await.unwrap();
    }
    (0..spins).for_each(|_| std::hint::spin_loop());
    let pid = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
    if let Some(pid) = pid {
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }
    let status = soon("it ends", child.wait()).await.unwrap();
    kept || status.success()
        || matches!(moment, Moment::Stored | Moment::Printed)
        || fresh().is_some_and(|file| is_complete(&file))
}

/// Returns whether the journal has a line with this text. The server may be writing.
fn is_stored(journal: &Path, text: &str) -> bool {
    let part = format!(" anna {text}\t");
    day_files(journal).iter().any(|file| fs::read_to_string(file).is_ok_and(|lines| lines.contains(&part)))
}

/// Returns whether a text is in the outbox or the diary. It moves from the one to the other, so check in this
/// order.
fn is_safe(home: &Home, journal: &Path, text: &str) -> bool {
    let part = format!("\"text\":\"{text}\"");
    let kept = |file: &PathBuf| fs::read_to_string(file).is_ok_and(|lines| lines.contains(&part));
    home.files().iter().any(kept) || is_stored(journal, text)
}
