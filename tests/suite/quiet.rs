//! Quiet listeners: line mode for programs that never read.

use diary_server::Listen;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Lines, Process, Server, is_ack, soon};

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
    let input = [b"one\na\0b\ncaf\xff\n", long.as_bytes(), b"\n\xff\xfd\x06\ntwo\n"].concat();
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
    assert_eq!(say(&quiet, b"\0\0\0\x01\x07\nfine\n").await, b"");
    assert_eq!(server.lines().await.all_texts().await, ["fine"]);
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

#[tokio::test]
async fn refusals_are_told_to_the_log_without_the_text() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let arguments = ["--listen", "quiet:127.0.0.1:0", "--timezone", "UTC"];
    let mut command = crate::support::server_command(&folder.path().join("data"));
    command.args(["--listen", "127.0.0.1:0"]).args(arguments);
    command.stderr(std::fs::File::create(&log).unwrap());
    let process = Process::spawn(command, 2).await;
    let quiet = process.addresses[1].strip_prefix("quiet:").unwrap();
    say(quiet, b"a secret\0\nanother secret \xff\nstored secret\n").await;
    assert_eq!(Lines::connect(process.address()).await.all_texts().await, ["stored secret"]);
    process.stop().await;
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("nul: ") && log.contains("utf8: "), "{log}");
    assert!(!log.contains("secret"), "{log}");
}
