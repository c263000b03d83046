//! Quiet listeners: for programs that never read.

use diary_server::Listen;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use crate::support::{Lines, Process, Server, is_ack, server_command, soon};

/// A server with a usual and a quiet listener, and the quiet one's address.
async fn with_quiet() -> (Server, String) {
    let server = Server::with(|config| config.listen.push(Listen::tcp("127.0.0.1:0").quiet())).await;
    let quiet = server.addresses()[1].strip_prefix("quiet:").unwrap().to_owned();
    (server, quiet)
}

/// Sends all of `input`, and returns what comes back until the server closes.
async fn say(address: &str, input: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(input).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    soon("the server closes", stream.read_to_end(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn every_line_is_a_text_and_nothing_is_answered() {
    let (server, quiet) = with_quiet().await;
    let answer = say(&quiet, b"<13>a line\n/quit\n//two\n/history all\nhelp\r\n\n\x04\n\x16\x03\nlast").await;
    assert_eq!(answer, b"");
    assert_eq!(
        server.lines().await.all_texts().await,
        ["<13>a line", "/quit", "//two", "/history all", "help", "\\x04", "\\x16\\x03", "last"]
    );
}

#[tokio::test]
async fn what_is_refused_is_neither_stored_nor_answered_and_the_rest_goes_on() {
    let (server, quiet) = with_quiet().await;
    let long = "x".repeat(65_537);
    let input = [b"one\n7 <13>a\0bcaf\xff\n", long.as_bytes(), b"\n\xff\xfd\x06\ntwo\n"].concat();
    assert_eq!(say(&quiet, &input).await, b"");
    assert_eq!(server.lines().await.all_texts().await, ["one", "two"]);
}

#[tokio::test]
async fn http_is_refused_there_too() {
    let (server, quiet) = with_quiet().await;
    assert_eq!(say(&quiet, b"POST / HTTP/1.1\r\nHost: x\r\n\r\nentry\n").await, b"");
    assert_eq!(server.lines().await.all_texts().await, [""; 0]);
}

#[tokio::test]
async fn a_first_line_about_http_is_a_text_there_too() {
    let (server, quiet) = with_quiet().await;
    assert_eq!(say(&quiet, b"now with HTTP/2\none\ntwo\n").await, b"");
    assert_eq!(server.lines().await.all_texts().await, ["now with HTTP/2", "one", "two"]);
}

#[tokio::test]
async fn a_proxy_header_is_refused_there_too() {
    let (server, quiet) = with_quiet().await;
    assert_eq!(say(&quiet, b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 8888\r\nentry\n").await, b"");
    assert_eq!(say(&quiet, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0entry\n").await, b"");
    assert_eq!(server.lines().await.all_texts().await, [""; 0]);
}

#[tokio::test]
async fn a_byte_order_mark_before_a_line_belongs_to_no_text() {
    let (server, quiet) = with_quiet().await;
    assert_eq!(say(&quiet, "\u{feff}one\n\u{feff}two\nthree\u{feff}\n".as_bytes()).await, b"");
    assert_eq!(server.lines().await.all_texts().await, ["one", "two", "three\u{feff}"]);
}

#[tokio::test]
async fn frames_are_not_spoken_there() {
    let (server, quiet) = with_quiet().await;
    assert_eq!(say(&quiet, b"\0\0\0\x12\x01\x01a secret\n and more\n").await, b"");
    assert_eq!(server.lines().await.all_texts().await, [""; 0]);
}

#[tokio::test]
async fn many_lines_reach_the_diary_in_order() {
    let (server, quiet) = with_quiet().await;
    let lines: Vec<String> = (0..20_000).map(|n| format!("line {n}")).collect();
    assert_eq!(say(&quiet, (lines.join("\n") + "\n").as_bytes()).await, b"");
    assert_eq!(server.lines().await.all_texts().await, lines);
}

#[tokio::test]
async fn a_quiet_client_over_the_limit_hears_nothing() {
    let server = Server::with(|config| {
        config.listen.push(Listen::tcp("127.0.0.1:0").quiet());
        config.limits.connections = 1;
    })
    .await;
    let mut first = server.lines().await;
    let quiet = server.addresses()[1].strip_prefix("quiet:").unwrap();
    let mut stream = TcpStream::connect(quiet).await.unwrap();
    let mut answer = Vec::new();
    soon("the server closes", stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"");
    assert!(is_ack(&first.ask("one").await, 1));
}

/// `message` with its count.
fn counted(message: &str) -> String {
    format!("{} {message}", message.len())
}

#[tokio::test]
async fn messages_of_each_framing_are_entries_however_they_are_cut() {
    let (server, quiet) = with_quiet().await;
    let messages: Vec<String> = (1..=2000).map(|n| format!("<13>line {n}, 第 {n} 行")).collect();
    let mut expected = Vec::new();
    for end in ["\n", "\r\n", "\0", "\n\0"] {
        let input: String = messages.iter().map(|message| format!("{message}{end}")).collect();
        assert_eq!(say(&quiet, input.as_bytes()).await, b"");
        expected.extend(messages.clone());
    }
    let input: String = messages.iter().map(|message| counted(message)).collect();
    let mut stream = TcpStream::connect(&quiet).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for chunk in input.as_bytes().chunks(1013) {
        stream.write_all(chunk).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    assert_eq!(soon("the server closes", stream.read(&mut [0; 1])).await.unwrap(), 0);
    expected.extend(messages);
    assert_eq!(server.lines().await.all_texts().await, expected);
}

#[tokio::test]
async fn a_line_feed_inside_a_message_stays_there() {
    let (server, quiet) = with_quiet().await;
    let input =
        counted("<13>one\n two") + &counted("<13>three\n\0") + "12 monkeys\n<13>four\0<13>five\n six\0";
    assert_eq!(say(&quiet, input.as_bytes()).await, b"");
    let texts = server.lines().await.all_texts().await;
    assert_eq!(texts, [r"<13>one\n two", "<13>three", "12 monkeys", "<13>four", r"<13>five\n six"]);
}

#[tokio::test]
async fn what_is_wrong_with_one_counted_message_costs_no_other() {
    let (server, quiet) = with_quiet().await;
    let long = counted(&format!("<13>{}", "x".repeat(100_000)));
    let input =
        long + "6 <13>ok" + "6 <13>too short6 <13>ok" + &counted("<13>a\0b") + "6 <13>ok" + "20 <13>cut";
    assert_eq!(say(&quiet, input.as_bytes()).await, b"");
    assert_eq!(server.lines().await.all_texts().await, ["<13>ok", "<13>to", "o short", "<13>ok", "<13>ok"]);
}

/// A real server, with a usual listener and these.
async fn logging(folder: &tempfile::TempDir, listen: &str) -> Process {
    let mut command = server_command(&folder.path().join("data"));
    command.args(["--listen", "127.0.0.1:0", "--timezone", "UTC", "--listen", listen]);
    command.stderr(std::fs::File::create(folder.path().join("log")).unwrap());
    Process::spawn(command, 2).await
}

/// What a server that is stopped has said of what it did not store.
async fn refusals(folder: &tempfile::TempDir, process: Process) -> Vec<String> {
    process.stop().await;
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    log.lines().filter(|line| line.contains("not stored")).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_refusal_in_the_log_names_the_peer_and_the_beginning_and_a_flood_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let process = logging(&folder, "quiet:127.0.0.1:0").await;
    let quiet = process.addresses[1].strip_prefix("quiet:").unwrap();
    let mut stream = TcpStream::connect(quiet).await.unwrap();
    let peer = stream.local_addr().unwrap().to_string();
    let flood = b"<13>pump \x1b[31m\xff and so on, for longer than anybody wants to read in a log, or to keep there\n".repeat(2000);
    stream.write_all(&flood).await.unwrap();
    stream.write_all(b"stored\n").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(soon("the server closes", stream.read(&mut [0; 1])).await.unwrap(), 0);
    // Another host, and connections of the first one.
    let other = TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let other = other.connect(quiet.parse().unwrap()).await.unwrap();
    crate::support::say(other, b"GET / HTTP/1.1\r\n\r\n").await;
    for _ in 0..50 {
        say(quiet, b"GET / HTTP/1.1\r\n\r\n").await;
    }
    assert_eq!(Lines::connect(process.address()).await.all_texts().await, ["stored"]);
    let told = refusals(&folder, process).await;
    let [first, http, more] = &told[..] else { panic!("{told:#?}") };
    assert!(first.contains(&peer) && http.contains("127.0.0.2:"), "{told:#?}");
    assert!(
        first.contains(
            r#"utf8: this message is not valid UTF-8 and is not stored: "<13>pump \x1b[31m\xff and so on"#
        ),
        "{first}"
    );
    assert!(!first.contains("telnet") && !first.contains("to keep there") && first.len() < 300, "{first}");
    assert!(more.contains("count=2049"), "{more}");
    assert!(http.contains("http: "), "{http}");
}

#[tokio::test]
async fn datagrams_are_entries_and_never_answered() {
    let folder = tempfile::tempdir().unwrap();
    let process = logging(&folder, "quiet:udp:127.0.0.1:0").await;
    let quiet = process.addresses[1].strip_prefix("quiet:udp:").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(quiet).await.unwrap();
    let mut follower = Lines::connect(process.address()).await;
    assert_eq!(follower.ask("/follow #1").await, "ok follow from 1");
    for (datagram, stored) in [
        (&b"<13>one\0"[..], "<13>one"),
        (b"<13>two\nlines\n", r"<13>two\nlines"),
        (b"6 <13>ab", "<13>ab"),
        (b"/help", "/help"),
        (b"p", "p"),
        (b"diary/1 ok 7", "diary/1 ok 7"),
        (b"GET / HTTP/1.1\r\n", "GET / HTTP/1.1"),
    ] {
        for nothing in [&b""[..], b"\n", b"caf\xff", b"a\0b"] {
            socket.send(nothing).await.unwrap();
        }
        socket.send(datagram).await.unwrap();
        assert!(follower.line().await.ends_with(&format!(" local {stored}")), "{stored}");
    }
    assert!(socket.try_recv(&mut [0; 100]).is_err(), "it was answered");
    let peer = socket.local_addr().unwrap().to_string();
    drop(follower);
    let told = refusals(&folder, process).await;
    let [first, more] = &told[..] else { panic!("{told:#?}") };
    assert!(first.contains(&peer) && first.contains("utf8: ") && first.contains(r#""caf\xff""#), "{first}");
    assert!(more.contains("count=13"), "{more}");
}
