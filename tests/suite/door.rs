//! Whoever is turned away hears why, also if they spoke first; and a flood of them fills no log and takes no descriptors.

use std::io::Write;

use diary_server::{Config, Listen};
use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::support::faulty::{Started, command, under};
use crate::support::{Lines, Process, Server, is_ack, peer, server_command, soon};

/// Connects and speaks before the server comes to it: nothing else runs on this thread meanwhile. Returns all that the
/// server says, whose end must be no reset: that would take away what was on its way.
async fn speak_first(address: &str, input: &[u8]) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(input).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut said = String::new();
    let mut stream = TcpStream::from_std(stream).unwrap();
    soon("the server closes", stream.read_to_string(&mut said)).await.unwrap();
    said
}

async fn with(listen: Listen, change: impl FnOnce(&mut Config)) -> (Server, String) {
    let server = Server::with(|config| {
        config.rules.open = true;
        config.listen.push(listen);
        change(config);
    })
    .await;
    let address = server.addresses()[1].trim_start_matches("quiet:").trim_start_matches("proxy:").to_owned();
    (server, address)
}

const HEADER: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 51234 8888\r\n";

#[tokio::test]
async fn whoever_spoke_first_hears_that_there_is_no_place() {
    let (server, quiet) =
        with(Listen::tcp("127.0.0.1:0").quiet(), |config| config.limits.connections = 1).await;
    let mut first = server.lines().await;
    let long = "a line\n".repeat(10_000);
    for input in ["hello\n", "\0\0\0\x01\x07", &long] {
        let said = speak_first(server.address(), input.as_bytes()).await;
        assert!(said.starts_with("error busy: there are too many connections"), "{said:?}");
        assert_eq!(said.lines().count(), 1, "{said:?}");
        assert_eq!(speak_first(&quiet, input.as_bytes()).await, "");
    }
    assert!(is_ack(&first.ask("one").await, 1));
    assert_eq!(first.all_texts().await, ["one"]);
    server.stop().await;
}

#[tokio::test]
async fn whoever_spoke_first_hears_that_their_address_has_no_place() {
    let (server, address) = with(Listen::tcp("127.0.0.1:0").proxy(), |config| {
        config.limits.connections_per_address = Some(1);
    })
    .await;
    let held = TcpStream::connect(&address).await.unwrap();
    held.try_write(HEADER.as_bytes()).unwrap();
    let mut held = Lines::over(held).await;
    let said = speak_first(&address, format!("{HEADER}{}", "hello\n".repeat(10_000)).as_bytes()).await;
    assert!(said.starts_with("error busy: ") && said.contains("192.0.2.7"), "{said:?}");
    let said = speak_first(&address, "hello\n".repeat(10_000).as_bytes()).await;
    assert!(said.starts_with("error proxy: ") && said.lines().count() == 1, "{said:?}");
    assert!(is_ack(&held.ask("one").await, 1));
    server.stop().await;
}

/// How many lines of a log tell of those that were turned away, and of how many.
fn turned_away(log: &str) -> (usize, u64) {
    let told = log.lines().filter(|line| line.contains("turned away"));
    let counts = told.map(|line| line.rsplit_once("count=").map_or(1, |(_, count)| count.parse().unwrap()));
    counts.fold((0, 0), |(lines, sum), count| (lines + 1, sum + count))
}

/// The server has 80 files and keeps back 64. Those that it turns away stay, and say nothing.
#[tokio::test]
async fn many_that_are_turned_away_take_few_descriptors_and_few_lines() {
    const SERVED: u64 = 16;
    const TURNED_AWAY: u64 = 300;
    let folder = tempfile::tempdir().unwrap();
    let mut limited = peer("prlimit");
    limited.arg("--nofile=80:80");
    let mut server = Started::spawn(under(limited, command(folder.path()))).await;
    let mut served = Vec::new();
    for seq in 1..=SERVED {
        let mut client = Lines::connect(server.address()).await;
        assert!(is_ack(&client.ask("an entry").await, seq));
        served.push(client);
    }
    let mut staying = Vec::new();
    for _ in 0..TURNED_AWAY {
        let client = Lines::connect(server.address()).await;
        assert!(client.greeting.starts_with("error busy: "), "{:?}", client.greeting);
        staying.push(client);
    }
    // Who has a place still has files to read from.
    for client in &mut served {
        client.send("/history all\n").await;
    }
    for client in &mut served {
        assert_eq!(client.line().await, "ok history");
        assert_eq!(client.entries().await.len() as u64, SERVED);
    }
    for client in &mut staying {
        assert_eq!(client.rest().await, "", "it is closed");
    }
    drop((served, staying));
    server.signal(Signal::TERM);
    let (code, log) = server.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("cannot accept"), "{log}");
    let (lines, sum) = turned_away(&log);
    assert!(sum == TURNED_AWAY && lines <= 10, "{log}");
}

#[tokio::test]
async fn a_flood_of_bad_headers_is_few_lines_of_the_log() {
    const BAD: u64 = 100;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut server = server_command(&folder.path().join("data"));
    server.args(["--listen", "proxy:127.0.0.1:0", "--open", "--timezone", "UTC"]);
    server.stderr(std::fs::File::create(&log).unwrap());
    let process = Process::spawn(server, 1).await;
    let address = process.address().strip_prefix("proxy:").unwrap();
    let mut first = None;
    for _ in 0..BAD {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.try_write(b"no header\n").unwrap();
        first.get_or_insert(client.local_addr().unwrap());
        let mut said = String::new();
        soon("the server closes", client.read_to_string(&mut said)).await.unwrap();
        assert!(said.starts_with("error proxy: "), "{said:?}");
    }
    process.stop().await;
    let log = std::fs::read_to_string(log).unwrap();
    let (lines, sum) = turned_away(&log);
    assert!(sum == BAD && lines <= 10, "{log}");
    let told = log.lines().find(|line| line.contains("turned away")).unwrap();
    assert!(
        told.contains(&first.unwrap().to_string()) && told.contains("proxy: this is not a PROXY"),
        "{told}"
    );
}
