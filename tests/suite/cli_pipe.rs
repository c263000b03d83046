//! `diary` in a pipe: every line is an entry, written once, and scripts learn the outcome.

use std::process::Stdio;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpSocket;
use tokio::process::Command;

use crate::support::{Process, Ran, Server, acked, cli_command, is_ack, peer, run, soon, stored};

/// Returns the `diary` command of anna.
fn cli(address: &str, arguments: &[&str]) -> Command {
    let mut command = cli_command();
    command.arg(address).args(["--name", "anna"]).args(arguments);
    command
}

/// Asserts that it printed exactly these acks, and succeeded.
fn assert_acked(ran: &Ran, seqs: impl IntoIterator<Item = u64>) {
    assert!(ran.stdout.lines().map(acked).eq(seqs.into_iter().map(Some)), "{ran:?}");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

/// Returns an address that refuses connections as long as the socket lives.
fn closed_address() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

#[tokio::test]
async fn the_past_and_then_an_ack_for_each_line() {
    let server = Server::start().await;
    let ran = run(&mut cli(server.address(), &[]), "今天\r\n\n/history\n//\n  spaces  \nno line feed").await;
    assert_acked(&ran, 1..=5);
    let texts = ["今天", "/history", "//", "  spaces  ", "no line feed"];
    assert_eq!(stored(&server.journal()), texts.map(|text| format!("anna {text}")));

    let ran = run(&mut cli(server.address(), &["-n", "2"]), "next\n").await;
    let [spaces, last, ack] = ran.stdout.lines().collect::<Vec<_>>()[..] else { panic!("{ran:?}") };
    assert!(spaces.starts_with("4 ") && spaces.ends_with(" anna   spaces  "), "{spaces}");
    assert!(last.starts_with("5 ") && last.ends_with(" anna no line feed"), "{last}");
    assert!(is_ack(ack, 6), "{ack}");
    server.stop().await;
}

#[tokio::test]
async fn how_much_of_the_past() {
    let server = Server::start().await;
    assert_acked(&run(&mut cli(server.address(), &[]), "entry\n".repeat(25)).await, 1..=25);
    for (arguments, first) in [
        (&[][..], 6),
        (&["-n", "0"], 26),
        (&["-n0"], 26),
        (&["-n", "1"], 25),
        (&["-n", "100"], 1),
        (&["-n", "all"], 1),
    ] {
        let ran = run(&mut cli(server.address(), arguments), "").await;
        let seqs = ran.stdout.lines().map(|line| crate::support::seq(line).unwrap());
        assert!(seqs.eq(first..=25), "{arguments:?}: {ran:?}");
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_printed_is_what_line_mode_shows() {
    let server = Server::start().await;
    let mut other = server.lines().await;
    for text in ["a\\b", "tab\there", "\u{1b}[31mred", "\u{202e}abc", "今天天气很好 ☕"] {
        other.ask(text).await;
    }
    let ran = run(&mut cli(server.address(), &["-n", "all"]), "").await;
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), other.history("all").await);
    server.stop().await;
}

#[tokio::test]
async fn a_refused_line_is_named_and_the_rest_goes_on() {
    let server = Server::start().await;
    let long = "x".repeat(65537);
    let input = [b"one\n\nnot \xff UTF-8\ntwo\n", long.as_bytes(), b"\na NUL \0 here\nthree\n"].concat();
    let ran = run(&mut cli(server.address(), &["-n", "0"]), input).await;
    assert_eq!(ran.code, Some(4));
    assert!(ran.stdout.lines().map(acked).eq((1..=3).map(Some)), "{ran:?}");
    let refused: Vec<&str> = ran.stderr.lines().collect();
    let [utf8, long, nul] = refused[..] else { panic!("{ran:?}") };
    assert!(utf8.starts_with("line 3: error utf8: "), "{utf8}");
    assert!(long.starts_with("line 5: error too-long: ") && long.contains("65536"), "{long}");
    assert!(nul.starts_with("line 6: error nul: "), "{nul}");
    assert_eq!(stored(&server.journal()), ["anna one", "anna two", "anna three"]);
    server.stop().await;
}

#[tokio::test]
async fn nothing_listens() {
    let (_socket, address) = closed_address();
    let ran = run(&mut cli(&address, &[]), "lost\n").await;
    assert_eq!(
        ran.stderr,
        format!("nothing was sent: no server is listening on {address}; start one with diary-server\n")
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""));

    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}/none", folder.path().display());
    let ran = run(&mut cli(&address, &[]), "lost\n").await;
    assert_eq!(
        ran.stderr,
        format!("nothing was sent: no server is listening on {address}; start one with diary-server\n")
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""));
}

/// A name with an empty label is invalid, so no name server is queried.
#[tokio::test]
async fn a_host_without_an_address() {
    let ran = run(&mut cli("no..such.host:8888", &[]), "lost\n").await;
    let beginning = "nothing was sent: cannot resolve no..such.host:8888: ";
    assert!(ran.stderr.starts_with(beginning) && ran.stderr.lines().count() == 1, "{ran:?}");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""));
}

#[tokio::test]
async fn what_listens_is_no_diary() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let other = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"220 mail.example.org ESMTP\r\n").await.unwrap();
        // Keep it open until the client leaves.
        let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
    });
    let ran = run(&mut cli(&address, &[]), "lost\n").await;
    assert_eq!(
        ran.stderr,
        format!(
            "nothing was sent: {address} is not a diary server (it looks like mail or FTP); check the port (default 8888)\n"
        )
    );
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""));
    soon("the client leaves", other).await.unwrap();
}

#[tokio::test]
async fn wrong_words() {
    for (words, part) in [
        (&["diary"][..], "no such command; for a host of this name, write diary:8888"),
        (&["127.0.0.1:1", "-n", "-1"], "not a number or all"),
        (&["127.0.0.1:1", "-n", "yesterday"], "not a number or all"),
        (&["127.0.0.1:1", "--name", "a b"], "spaces"),
        (&["127.0.0.1:1", "more"], "'more'"),
        (&["127.0.0.1:99999"], "port"),
        (&["unix:"], "path"),
        (&["127.0.0.1:1", "--zzz\u{1b}[2J\r\u{9b}2J\u{202e}"], "'--zzz"),
        (&["log", "--name", "a\u{1b}]0;x\u{7}\rb c"], "b c'"),
    ] {
        let ran = run(cli_command().args(words), "lost\n").await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{words:?}");
        assert!(ran.stderr.contains(part), "{words:?}: {ran:?}");
        // Arguments are quoted, and may contain anything.
        let is_unsafe = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!ran.stderr.contains(is_unsafe), "{words:?}: {ran:?}");
    }
}

#[tokio::test]
async fn the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let server = Server::with(|config| config.listen.push(diary_server::Listen::unix(&socket))).await;
    let environment = |name: &str| {
        let mut command = cli_command();
        command.env("DIARY_SERVER", server.address()).env("USER", "login");
        if !name.is_empty() {
            command.env("DIARY_NAME", name);
        }
        command
    };
    run(&mut environment("小明"), "one\n").await;
    // Empty variables count as unset.
    run(environment("").env("DIARY_NAME", "").env("DIARY_COLOR", ""), "two\n").await;
    let empty = ["DIARY_SERVER", "DIARY_NAME", "DIARY_FORMAT", "DIARY_COLOR"].map(|name| (name, ""));
    let ran = run(cli_command().envs(empty).args(["log", "--server", server.address()]), "").await;
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 2), "{ran:?}");
    let ran = run(cli_command().envs(empty).args(["log", "--last", "few"]), "").await;
    assert!(ran.stderr.contains("--last takes a number"), "{ran:?}");
    run(environment("小明").args(["--name", "anna"]), "three\n").await;
    // Arguments take precedence over the environment.
    let (_socket, closed) = closed_address();
    run(environment("小明").env("DIARY_SERVER", closed).arg(format!("unix:{}", socket.display())), "four\n")
        .await;
    assert_eq!(stored(&server.journal()), ["小明 one", "login two", "anna three", "小明 four"]);

    let ran = run(environment("").env("DIARY_SERVER", "http://nowhere"), "").await;
    assert_eq!(ran.code, Some(2));
    let said = "'http://nowhere' for '--server <HOST:PORT|tls:HOST:PORT|unix:PATH>': leave out http";
    assert!(ran.stderr.contains(said), "{ran:?}");
    server.stop().await;
}

/// The server is killed or stopped, and restarts on the same diary: the client only pauses.
#[tokio::test]
async fn a_server_that_restarts_costs_no_line_and_doubles_none() {
    const LINES: u64 = 30_000;
    let data = tempfile::tempdir().unwrap();
    let mut server = Process::start(data.path(), &["127.0.0.1:0"], &[]).await;
    let address = server.address().to_owned();
    let mut command = cli(&address, &["-n", "0"]);
    let mut client =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = client.stdin.take().unwrap();
    let mut acks = BufReader::new(client.stdout.take().unwrap()).lines();
    // The last line waits until the last restart is over, so that every restart hits the middle.
    let (go_on, mut may_go_on) = tokio::sync::oneshot::channel::<()>();
    let feed = tokio::spawn(async move {
        let lines: String = (1..LINES).map(|number| format!("第 {number} 行\n")).collect();
        input.write_all(lines.as_bytes()).await.unwrap();
        soon("the servers are over", &mut may_go_on).await.unwrap();
        input.write_all(format!("第 {LINES} 行\n").as_bytes()).await.unwrap();
    });
    let mut number = 0;
    for (until, signal) in [(1, Signal::KILL), (7_000, Signal::TERM), (20_000, Signal::KILL)] {
        while number < until {
            number += 1;
            let ack = soon("an ack comes", acks.next_line()).await.unwrap().unwrap();
            assert!(is_ack(&ack, number), "{number}: {ack}");
        }
        server.signal(signal);
        server.wait().await;
        server = Process::start(data.path(), &[&address], &[]).await;
    }
    go_on.send(()).unwrap();
    while let Some(ack) = soon("an ack comes", acks.next_line()).await.unwrap() {
        number += 1;
        assert!(is_ack(&ack, number), "{number}: {ack}");
    }
    assert_eq!(number, LINES);
    feed.await.unwrap();
    let output = soon("the client ends", client.wait_with_output()).await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("; reconnecting\n") && said.ends_with("reconnected\n"), "{said}");

    server.signal(Signal::TERM);
    assert_eq!(server.wait().await, Some(0));
    let entries = stored(&data.path().join("diary"));
    assert!(entries.iter().zip(1..).all(|(entry, number)| *entry == format!("anna 第 {number} 行")));
    assert_eq!(entries.len() as u64, LINES);
}

/// The client waits ten seconds for the server, since an operator may be restarting it.
#[tokio::test]
async fn a_server_that_never_comes_back() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Process::start(data.path(), &["127.0.0.1:0"], &[]).await;
    let address = server.address().to_owned();
    let mut command = cli(&address, &[]);
    let mut client =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = client.stdin.take().unwrap();
    input.write_all(b"one\n\ntwo\n").await.unwrap();
    let mut acks = BufReader::new(client.stdout.take().unwrap()).lines();
    for seq in 1..=2 {
        assert!(is_ack(&soon("an ack comes", acks.next_line()).await.unwrap().unwrap(), seq));
    }
    server.signal(Signal::KILL);
    server.wait().await;
    input.write_all(b"three\n\n\nfour\nfive").await.unwrap();
    drop(input);
    let output = soon("the client gives up", client.wait_with_output()).await.unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(acks.next_line().await.unwrap(), None);
    let said = String::from_utf8(output.stderr).unwrap();
    // Lines written to a breaking connection may have arrived.
    let told = format!("gave up: no server is listening on {address}; in the diary: up to line 3; ");
    let rest = said.split(&told).nth(1).unwrap_or_else(|| panic!("{said}"));
    assert!(rest == "not sent: from line 4 on\n" || rest.starts_with("unknown: line"), "{said}");
    assert_eq!(stored(&data.path().join("diary")), ["anna one", "anna two"]);
}

/// A reader of the output that leaves ends only the printing, silently.
#[tokio::test]
async fn the_reader_of_the_output_leaves() {
    let server = Server::start().await;
    let lines = "a line that fills pipes\n".repeat(20_000);
    assert_acked(&run(&mut cli(server.address(), &["-n", "0"]), lines).await, 1..=20_000);

    let script = r#""$@" | head -n 1; exit "${PIPESTATUS[0]}""#;
    let mut command = peer("bash");
    command.args(["-c", script, "bash", env!("CARGO_BIN_EXE_diary-cli-under-test"), server.address()]);
    let ran = run(command.args(["--name", "anna", "-n", "all"]), "one\ntwo\n").await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert!(ran.stdout.lines().count() == 1 && ran.stdout.starts_with("1 "), "{ran:?}");
    assert_eq!(stored(&server.journal())[20_000..], ["anna one", "anna two"]);
    server.stop().await;
}

/// After either signal, the client reports the line to continue with.
#[tokio::test]
async fn a_signal_is_answered_with_where_it_stopped() {
    let server = Server::start().await;
    for (signal, line) in [(Signal::INT, 1), (Signal::TERM, 2)] {
        let mut command = cli(server.address(), &["-n", "0"]);
        let mut client =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut input = client.stdin.take().unwrap();
        input.write_all(b"one\n").await.unwrap();
        let mut acks = BufReader::new(client.stdout.take().unwrap()).lines();
        assert!(is_ack(&soon("an ack comes", acks.next_line()).await.unwrap().unwrap(), line));
        let pid = rustix::process::Pid::from_raw(client.id().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        let output = soon("the client ends", client.wait_with_output()).await.unwrap();
        assert_eq!(output.status.code(), Some(130), "{signal:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said, "interrupted; in the diary: up to line 1; not sent: what follows\n");
    }
    server.stop().await;
}
