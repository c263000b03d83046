//! Proxy listeners: connections come through a proxy, and the header that it sends says whose they are.

use std::net::Ipv4Addr;
use std::time::Duration;

use diary_server::{Config, Listen};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::support::{Frames, Lines, Server, end_process, hello, is_ack, peer, soon, stored};

const LINE: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 51234 8888\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2.
fn binary(command: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, kind], &length, body].concat()
}

fn tcp4(behind: &[u8]) -> Vec<u8> {
    binary(0x21, 0x11, &[&[192, 0, 2, 7, 198, 51, 100, 1, 0xc8, 0x22, 0x22, 0xb8], behind].concat())
}

/// A server with a usual listener and `listen`, and the address of that without what stands before it.
async fn with(listen: Listen, change: impl FnOnce(&mut Config)) -> (Server, String) {
    let server = Server::with(|config| {
        config.listen.push(listen);
        config.rules.open = true;
        change(config);
    })
    .await;
    let address = server.addresses()[1].trim_start_matches("quiet:").strip_prefix("proxy:").unwrap();
    let address = address.to_owned();
    (server, address)
}

async fn with_proxy() -> (Server, String) {
    with(Listen::tcp("127.0.0.1:0").proxy(), |_| {}).await
}

/// Sends `input` in pieces, and returns what comes back until the server closes.
async fn say(address: &str, input: &[u8], piece_bytes: usize) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in input.chunks(piece_bytes) {
        // A server that has refused it may have closed.
        if stream.write_all(piece).await.is_err() {
            break;
        }
    }
    let _ = stream.shutdown().await;
    let mut answer = String::new();
    soon("the server closes", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn the_author_is_whom_the_header_names() {
    let ipv6 = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[7], &[1; 16], &[0, 1, 0, 2]].concat();
    let mapped = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 7], &[1; 16], &[0, 1, 0, 2]].concat();
    for (header, author) in [
        (LINE.into(), "192.0.2.7"),
        ("PROXY TCP6 2001:db8::7 ::1 51234 8888\r\n".into(), "2001:db8::7"),
        ("PROXY UNKNOWN\r\n".into(), "local"),
        (tcp4(b""), "192.0.2.7"),
        (tcp4(&[3; 900]), "192.0.2.7"),
        (binary(0x21, 0x21, &ipv6), "2001:db8::7"),
        (binary(0x21, 0x21, &mapped), "192.0.2.7"),
        (binary(0x21, 0x31, &[b'x'; 216]), "local"),
        (binary(0x20, 0, b""), "local"),
    ] {
        let (server, address) = with_proxy().await;
        let input = [&header[..], "今天\n/name anna\n".as_bytes(), b"named\nlast"].concat();
        for piece_bytes in [1, 13, input.len()] {
            let answer = say(&address, &input, piece_bytes).await;
            let mut lines = answer.lines();
            assert!(lines.next().unwrap().starts_with("diary/1 ready "), "{answer}");
            let words: Vec<&str> = lines.map(|line| line.split(' ').next().unwrap()).collect();
            assert_eq!(words, ["ok"; 4], "{answer}");
        }
        let once = [&format!("{author} 今天"), "anna named", "anna last"];
        assert_eq!(stored(&server.journal()), once.repeat(3), "{}", header.escape_ascii());
        server.stop().await;
    }
}

#[tokio::test]
async fn frames_are_spoken_behind_a_header() {
    let (server, address) = with_proxy().await;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(&tcp4(b"")).await.unwrap();
    let mut client = Frames::over(stream).await.unwrap().unwrap();
    assert_eq!(client.greet(&hello(1)).await.author, "192.0.2.7");
    client.append(0, false, &["a"]).await;
    assert_eq!(client.acks(1).await, [(0, 1)]);
    server.stop().await;
}

#[tokio::test]
async fn whoever_sends_no_header_is_told_so_and_nothing_else() {
    let (server, address) = with_proxy().await;
    for input in [
        b"hello\n".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"\0\0\0\x01\x07".to_vec(),
        b"PROXY TCP4 a b 1 2\r\nhello\n".to_vec(),
        format!("{}\nhello\n", LINE.trim_end()).into_bytes(),
        format!("PROXY UNKNOWN {}\r\nhello\n", "x".repeat(200)).into_bytes(),
        binary(0x22, 0x11, b"hello\n"),
        [&tcp4(&vec![0; 1100])[..], b"hello\n"].concat(),
        [&tcp4(&vec![0; 65_000])[..], b"hello\n"].concat(),
    ] {
        for piece_bytes in [7, input.len()] {
            let answer = say(&address, &input, piece_bytes).await;
            assert!(answer.starts_with("error proxy: "), "{}: {answer}", input.escape_ascii());
            assert_eq!(answer.lines().count(), 1, "{answer}");
        }
    }
    // One that only looks whether the server is there.
    for input in ["", "PROXY TCP4 192.0.2.7"] {
        assert_eq!(say(&address, input.as_bytes(), 100).await, "");
    }
    assert_eq!(server.lines().await.history("all").await, [""; 0]);
    server.stop().await;
}

#[tokio::test]
async fn a_header_lets_nothing_past_the_guards() {
    let (server, address) = with_proxy().await;
    for (behind, code) in [("GET / HTTP/1.1\r\n\r\nentry\n", "http"), (LINE, "proxy")] {
        let answer = say(&address, format!("{LINE}{behind}").as_bytes(), 1000).await;
        let lines: Vec<&str> = answer.lines().collect();
        assert!(lines[0].starts_with("diary/1 ready "), "{answer}");
        assert!(lines.len() == 2 && lines[1].starts_with(&format!("error {code}: ")), "{answer}");
    }
    assert_eq!(server.lines().await.history("all").await, [""; 0]);
    server.stop().await;
}

#[tokio::test]
async fn a_header_that_does_not_come_keeps_no_place() {
    let (server, address) = with(Listen::tcp("127.0.0.1:0").proxy(), |config| {
        config.limits.connections = 1;
        config.limits.proxy_header = Duration::from_millis(50);
    })
    .await;
    let mut silent = TcpStream::connect(&address).await.unwrap();
    silent.write_all(b"PROXY ").await.unwrap();
    let mut answer = String::new();
    soon("the server closes", silent.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "error proxy: no PROXY header came in time\n");
    drop(silent);
    assert!(is_ack(&Lines::connect_when_free(server.address()).await.ask("one").await, 1));
    server.stop().await;
}

#[tokio::test]
async fn places_are_those_of_the_address_in_the_header() {
    let (server, address) = with(Listen::tcp("127.0.0.1:0").proxy(), |config| {
        config.limits.connections_per_address = Some(1);
    })
    .await;
    let connect = async |header: &str| {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(header.as_bytes()).await.unwrap();
        Lines::over(stream).await
    };
    let mut first = connect(LINE).await;
    let refused = connect(LINE).await.greeting;
    assert!(refused.starts_with("error busy: ") && refused.contains("192.0.2.7"), "{refused}");
    let mut other = connect("PROXY TCP4 192.0.2.8 198.51.100.1 51234 8888\r\n").await;
    assert!(is_ack(&first.ask("one").await, 1) && is_ack(&other.ask("two").await, 2));
    server.stop().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_header() {
    let (server, address) = with(Listen::tcp("127.0.0.1:0").proxy(), |config| {
        config.limits.proxy_header = Duration::MAX;
        // Or whoever waits would be ended with the others.
        config.limits.drain = Duration::MAX;
    })
    .await;
    let mut silent = TcpStream::connect(&address).await.unwrap();
    silent.write_all(b"PROXY ").await.unwrap();
    // Whoever comes later has been accepted later.
    say(&address, b"hello\n", 100).await;
    server.stop().await;
}

#[tokio::test]
async fn quiet_and_unix_listeners_have_headers_too() {
    let (server, quiet) = with(Listen::tcp("127.0.0.1:0").proxy().quiet(), |_| {}).await;
    assert!(server.addresses()[1].starts_with("quiet:proxy:127.0.0.1:"));
    assert_eq!(say(&quiet, format!("{LINE}/quit\nlast").as_bytes(), 9).await, "");
    assert_eq!(say(&quiet, b"no header\n", 9).await, "");
    assert_eq!(stored(&server.journal()), ["192.0.2.7 /quit", "192.0.2.7 last"]);
    server.stop().await;

    let folder = tempfile::tempdir().unwrap();
    let (server, path) = with(Listen::unix(folder.path().join("socket")).proxy(), |_| {}).await;
    let path = path.strip_prefix("unix:").unwrap();
    for header in [LINE, "PROXY UNKNOWN\r\n"] {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(format!("{header}text").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        soon("the server closes", stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.contains("\nok "), "{answer}");
    }
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(stored(&server.journal()), ["192.0.2.7 text".to_owned(), format!("uid:{uid} text")]);
    server.stop().await;
}

/// Both versions, from HAProxy itself. It takes the clients for others, since all of this machine are `local`.
#[tokio::test]
async fn haproxy() {
    let (server, address) = with_proxy().await;
    // Addresses that nobody else uses, since HAProxy does not say which ports it got.
    let [.., high, low] = std::process::id().to_be_bytes();
    let front = Ipv4Addr::new(127, 99, high, low);
    let mut config =
        "defaults\n mode tcp\n timeout connect 1m\n timeout client 1m\n timeout server 1m\n".to_owned();
    for (port, source, header) in [
        (8001, "192.0.2.1", "send-proxy"),
        (8002, "192.0.2.2", "send-proxy-v2"),
        (8003, "2001:db8::3", "send-proxy-v2 proxy-v2-options unique-id,crc32c"),
    ] {
        config += &format!(
            "listen from{port}\n bind {front}:{port}\n tcp-request connection set-src str({source}),ipmask(32,128)\n \
             unique-id-format %pid\n server diary {address} {header}\n"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("haproxy.cfg");
    std::fs::write(&path, config).unwrap();
    let haproxy = peer("haproxy").args(["-db", "-q", "-f"]).arg(&path).spawn().unwrap();

    for (port, seq) in [(8001, 1), (8002, 2), (8003, 3)] {
        let connected = async {
            loop {
                match TcpStream::connect((front, port)).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let mut client = Lines::over(soon("HAProxy listens", connected).await).await;
        assert!(client.greeting.starts_with("diary/1 ready "), "{}", client.greeting);
        assert!(is_ack(&client.ask("今天").await, seq));
    }
    end_process(haproxy).await;
    assert_eq!(stored(&server.journal()), ["192.0.2.1 今天", "192.0.2.2 今天", "2001:db8::3 今天"]);
    server.stop().await;
}
