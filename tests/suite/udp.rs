//! UDP: the words of the programs that this diary grew out of, and an answer to every datagram.

use tokio::net::UdpSocket;

use crate::support::{Lines, Server, acked, is_ack, seq, soon, text};

/// The longest reply: what the old clients read.
const REPLY_MAX_BYTES: usize = 1024;

struct Client {
    server: Server,
    socket: UdpSocket,
}

impl Client {
    async fn start() -> Self {
        let server = Server::with(|config| config.udp = Some("127.0.0.1:0".to_owned())).await;
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(server.addresses().last().unwrap().strip_prefix("udp:").unwrap()).await.unwrap();
        Self { server, socket }
    }

    /// The reply to one datagram: whole lines of UTF-8 that fit.
    async fn ask(&self, datagram: impl AsRef<[u8]>) -> String {
        self.socket.send(datagram.as_ref()).await.unwrap();
        let mut reply = vec![0; 65_536];
        let length = soon("a reply", self.socket.recv(&mut reply)).await.unwrap();
        assert!(length <= REPLY_MAX_BYTES, "{length}");
        let reply = String::from_utf8(reply[..length].to_vec()).expect("no character is cut");
        assert!(reply.ends_with('\n'), "{reply:?}");
        reply
    }

    async fn lines(&self) -> Lines {
        self.server.lines().await
    }
}

#[tokio::test]
async fn an_entry_is_answered_as_it_is_stored() {
    let client = Client::start().await;
    let datagrams = [
        ("hello", "hello"),
        ("今天天气\n", "今天天气"),
        ("crlf\r\n", "crlf"),
        ("two\nlines\n", "two\\nlines"),
        (" p", " p"),
        ("/history", "/history"),
        ("//", "//"),
        ("quit", "quit"),
        ("exit", "exit"),
        ("past it", "past it"),
        ("E", "E"),
        ("\u{1b}[31m", "\\x1b[31m"),
    ];
    for (place, (datagram, stored)) in datagrams.iter().enumerate() {
        let reply = client.ask(datagram).await;
        let entry = client.lines().await.history("1").await.remove(0);
        assert_eq!(reply, entry.clone() + "\n");
        assert_eq!((seq(&entry), text(&entry)), (Some(place as u64 + 1), *stored));
        assert_eq!(entry.split(' ').nth(2), Some("local"));
    }
}

#[tokio::test]
async fn the_words_of_the_old_programs_are_answered_and_not_stored() {
    let client = Client::start().await;
    for word in ["p", "P", "past", "PAST\n", "-r", "-R\r\n"] {
        let reply = client.ask(word).await;
        assert_eq!(reply, "the diary is empty\n", "{word:?}");
    }
    for word in ["h", "h\n"] {
        assert!(client.ask(word).await.lines().count() > 1, "{word:?} helps");
    }
    for word in ["e", "e\n"] {
        let reply = client.ask(word).await;
        assert!(reply.starts_with("bye") && reply.lines().count() == 1, "{reply}");
    }
    for word in ["-c", "-c\n"] {
        assert!(client.ask(word).await.starts_with("error denied: nothing wipes"), "{word:?}");
    }
    for nothing in ["", "\n", "\r\n"] {
        assert_eq!(client.ask(nothing).await.lines().count(), 1, "{nothing:?} is one line of help");
    }
    assert_eq!(client.lines().await.history("all").await, [""; 0]);
    assert!(client.ask("first").await.starts_with("1 "), "and nothing has ended");
    let entries = client.lines().await.history("all").await;
    for word in ["p", "past", "-r"] {
        assert_eq!(client.ask(word).await, entries.join("\n") + "\n");
    }
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused() {
    let client = Client::start().await;
    assert!(client.ask(b"caf\xe9").await.starts_with("error utf8: "));
    assert!(client.ask(b"\xed\xa0\x80").await.starts_with("error utf8: "));
    assert!(client.ask(b"a\0b").await.starts_with("error nul: "));
    assert_eq!(client.lines().await.history("all").await, [""; 0]);
}

#[tokio::test]
async fn an_entry_that_is_too_long_to_be_shown_gets_an_ack() {
    let client = Client::start().await;
    for length in [900, 1000, 2000, 60_000] {
        let reply = client.ask("x".repeat(length)).await;
        let entry = client.lines().await.history("1").await.remove(0);
        assert_eq!(text(&entry).len(), length);
        if entry.len() < REPLY_MAX_BYTES {
            assert_eq!(reply, entry + "\n");
        } else {
            assert_eq!(acked(reply.trim_end()), seq(&entry), "{reply}");
        }
    }
}

#[tokio::test]
async fn history_is_the_newest_that_fit_and_how_many_are_left_out() {
    let client = Client::start().await;
    let mut lines = client.lines().await;
    for n in 1..=100 {
        lines.ask(&format!("{} {n}", "天气很好".repeat(n % 7))).await;
        let all = lines.history("all").await;
        let reply = client.ask("p").await;
        let shown: Vec<&str> = reply.lines().collect();
        let (left_out, shown) = match shown[0].strip_prefix("left out: ") {
            Some(rest) => (rest.split(' ').next().unwrap().parse::<usize>().unwrap(), &shown[1..]),
            None => (0, &shown[..]),
        };
        assert_eq!(shown, &all[left_out..], "after {n}");
        assert_eq!(left_out + shown.len(), n);
        // One more would not have fitted, or not by much.
        if let Some(next) = left_out.checked_sub(1) {
            assert!(
                reply.len() + all[next].len() + 1 > REPLY_MAX_BYTES - 64,
                "after {n}: {} bytes",
                reply.len()
            );
        }
    }
}

#[tokio::test]
async fn a_newest_entry_that_does_not_fit_leaves_a_note() {
    let client = Client::start().await;
    client.ask("short").await;
    client.ask("天".repeat(2000)).await;
    let reply = client.ask("-r").await;
    assert_eq!(reply.lines().next().map(|line| line.starts_with("left out: 2 ")), Some(true), "{reply}");
}

#[tokio::test]
async fn many_datagrams_at_once_are_all_answered() {
    let client = Client::start().await;
    // Few enough that no buffer of the system drops any.
    for n in 0..100 {
        client.socket.send(format!("entry {n}").as_bytes()).await.unwrap();
    }
    let mut seqs = Vec::new();
    let mut reply = [0; 2048];
    for _ in 0..100 {
        let length = soon("a reply", client.socket.recv(&mut reply)).await.unwrap();
        seqs.push(seq(std::str::from_utf8(&reply[..length]).unwrap()).unwrap());
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=100).collect::<Vec<u64>>());
    let mut lines = client.lines().await;
    assert_eq!(lines.history("all").await.len(), 100);
    assert!(is_ack(&lines.ask("over TCP").await, 101));
}
