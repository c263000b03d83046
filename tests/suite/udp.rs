//! UDP: the words of the programs that this diary grew out of, and an answer to every datagram.

use std::net::{Ipv4Addr, TcpListener};

use diary_server::{Config, Limits, Listen};
use tokio::net::UdpSocket;

use crate::support::{Lines, Process, Server, acked, is_ack, seq, server_command, soon, text};

/// The longest reply: what the old clients read.
const REPLY_MAX_BYTES: usize = 1024;

struct Client {
    server: Server,
    socket: UdpSocket,
}

impl Client {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let server = Server::with(|config| {
            config.udp = Some("127.0.0.1:0".parse().unwrap());
            change(config);
        })
        .await;
        let socket = Self::socket(server.addresses().last().unwrap(), "127.0.0.1:0").await;
        Self { server, socket }
    }

    /// A socket at an address that talks to a listener for datagrams.
    async fn socket(listener: &str, at: &str) -> UdpSocket {
        let socket = UdpSocket::bind(at).await.unwrap();
        socket.connect(listener.strip_prefix("udp:").unwrap()).await.unwrap();
        socket
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
        ("from a SysLogHandler\0", "from a SysLogHandler"),
        ("ok", "ok"),
        ("ok 7", "ok 7"),
        ("ok, done", "ok, done"),
        ("error in the pump", "error in the pump"),
        ("error busy: the pump", "error busy: the pump"),
        ("diary/2 draft", "diary/2 draft"),
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
        assert_eq!(reply, "diary/1 the diary is empty\n", "{word:?}");
    }
    for word in ["h", "h\n"] {
        assert!(client.ask(word).await.lines().count() > 1, "{word:?} helps");
    }
    for word in ["e", "e\n"] {
        let reply = client.ask(word).await;
        assert!(reply.starts_with("diary/1 bye") && reply.lines().count() == 1, "{reply}");
    }
    for word in ["-c", "-c\n"] {
        assert!(client.ask(word).await.starts_with("diary/1 error denied: nothing wipes"), "{word:?}");
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
    assert!(client.ask(b"caf\xe9").await.starts_with("diary/1 error utf8: "));
    assert!(client.ask(b"\xed\xa0\x80").await.starts_with("diary/1 error utf8: "));
    assert!(client.ask(b"a\0b").await.starts_with("diary/1 error nul: "));
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
            let ack = reply.strip_prefix("diary/1 ").unwrap();
            assert_eq!(acked(ack.trim_end()), seq(&entry), "{reply}");
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
        let (left_out, shown) = match shown[0].strip_prefix("diary/1 left out: ") {
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
    assert_eq!(
        reply.lines().next().map(|line| line.starts_with("diary/1 left out: 2 ")),
        Some(true),
        "{reply}"
    );
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

/// As between two diaries: whatever one answers is sent to the other.
#[tokio::test]
async fn what_a_diary_answers_is_neither_answered_nor_stored() {
    let client = Client::start().await;
    let mut stored = Vec::new();
    let long = "x".repeat(2000);
    for (n, request) in
        ["p", "hello", "two\nlines", &long, "p", "h", "e", "-c", "", "a\0b"].into_iter().enumerate()
    {
        let answer = client.ask(request).await;
        client.socket.send(answer.as_bytes()).await.unwrap();
        let marker = format!("after request {n}");
        let reply = client.ask(&marker).await;
        let entry = client.lines().await.history("1").await.remove(0);
        assert_eq!(reply, entry + "\n", "answered: {answer:?}");
        if ["hello", "two\nlines", &long].contains(&request) {
            stored.push(request.replace('\n', "\\n"));
        }
        stored.push(marker);
    }
    assert_eq!(client.lines().await.all_texts().await, stored);
}

#[tokio::test]
async fn the_diarys_own_address_is_no_client() {
    let client = Client::start().await;
    let listener = client.server.addresses().last().unwrap();
    let port = listener.rsplit_once(':').unwrap().1;
    let own = Client::socket(listener, &format!("127.0.0.2:{port}")).await;
    own.send(b"forged").await.unwrap();
    assert!(client.ask("after it").await.starts_with("1 "));
    assert_eq!(client.lines().await.all_texts().await, ["after it"]);
    assert!(own.try_recv(&mut [0; 100]).is_err(), "it was answered");
}

/// Whatever it answered would be an entry there.
#[tokio::test]
async fn the_diarys_other_sockets_are_no_clients_either() {
    let client = Client::with(|config| config.listen.push(Listen::quiet_udp("127.0.0.1:0"))).await;
    let [_, quiet, listener] = client.server.addresses() else { panic!("{:?}", client.server.addresses()) };
    let port = quiet.rsplit_once(':').unwrap().1;
    let own = Client::socket(listener, &format!("127.0.0.2:{port}")).await;
    for request in ["forged", "p", ""] {
        own.send(request.as_bytes()).await.unwrap();
    }
    assert!(client.ask("after it").await.starts_with("1 "));
    assert_eq!(client.lines().await.all_texts().await, ["after it"]);
    assert!(own.try_recv(&mut [0; 100]).is_err(), "it was answered");
}

#[tokio::test]
async fn every_address_of_a_host_is_answered_on() {
    let server = Server::with(|config| {
        config.udp = Some(":0".parse().unwrap());
        config.rules.open = true;
    })
    .await;
    let listeners: Vec<&str> =
        server.addresses().iter().filter_map(|address| address.strip_prefix("udp:")).collect();
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    assert_eq!(listeners.len(), 1 + usize::from(has_ipv6), "{listeners:?}");
    for (listener, seq) in listeners.into_iter().zip(1..) {
        let port = listener.rsplit_once(':').unwrap().1;
        let host = if listener.starts_with('[') { "[::1]" } else { "127.0.0.1" };
        let socket = UdpSocket::bind(format!("{host}:0")).await.unwrap();
        socket.connect(format!("{host}:{port}")).await.unwrap();
        socket.send(b"hello").await.unwrap();
        let mut reply = [0; 2000];
        let length = soon("a reply", socket.recv(&mut reply)).await.unwrap();
        assert!(reply[..length].starts_with(format!("{seq} ").as_bytes()), "{listener}");
    }
}

/// For an hour, longer than a test takes.
fn ten_datagrams_each(limits: &mut Limits) {
    (limits.source_burst, limits.source_refill) = (10, std::time::Duration::from_secs(3600));
}

/// As somebody would who forges a source for each datagram.
#[tokio::test]
async fn sources_without_end_leave_each_its_rate() {
    let client = Client::with(|config| ten_datagrams_each(&mut config.limits)).await;
    let listener = client.server.addresses().last().unwrap();
    for n in 0..10_000 {
        let at = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 0).to_bits() + n);
        let forged = Client::socket(listener, &format!("{at}:0")).await;
        if listener.ends_with(&format!(":{}", forged.local_addr().unwrap().port())) {
            continue; // It may be the diary's own address.
        }
        forged.send(b"h").await.unwrap();
        soon("a reply", forged.recv(&mut [0; 2000])).await.unwrap();
    }
    // Half of what it may: a few of the others may share its rate by chance.
    let texts: Vec<String> = (0..5).map(|n| format!("entry {n}")).collect();
    for text in &texts {
        assert!(client.ask(text).await.ends_with(&format!(" local {text}\n")));
    }
    assert_eq!(client.lines().await.all_texts().await, texts);
}

#[tokio::test]
async fn a_source_has_a_rate() {
    let client = Client::with(|config| ten_datagrams_each(&mut config.limits)).await;
    for n in 0..50 {
        client.socket.send(format!("entry {n}").as_bytes()).await.unwrap();
    }
    for _ in 0..10 {
        soon("a reply", client.socket.recv(&mut [0; 100])).await.unwrap();
    }
    // Another source is not harmed, and hears that all of these were looked at.
    let other = Client::socket(client.server.addresses().last().unwrap(), "127.0.0.2:0").await;
    other.send(b"h").await.unwrap();
    soon("a reply", other.recv(&mut [0; 2000])).await.unwrap();
    let mut texts = client.lines().await.all_texts().await;
    texts.sort();
    assert_eq!(texts, (0..10).map(|n| format!("entry {n}")).collect::<Vec<_>>());
    assert!(client.socket.try_recv(&mut [0; 100]).is_err(), "one more was answered");
}

#[tokio::test]
async fn what_is_not_stored_is_told_to_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut command = server_command(&folder.path().join("data"));
    command.args(["--listen", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--timezone", "UTC"]);
    command.stderr(std::fs::File::create(&log).unwrap());
    let process = Process::spawn(command, 2).await;
    let socket = Client::socket(&process.addresses[1], "127.0.0.1:0").await;
    let mut reply = [0; 2000];
    socket.send(b"caf\xe9 \x1b[31m").await.unwrap();
    soon("a reply", socket.recv(&mut reply)).await.unwrap();
    for _ in 0..50 {
        socket.send(b"diary/1 ok 7\n").await.unwrap();
    }
    socket.send(b"h").await.unwrap();
    soon("a reply", socket.recv(&mut reply)).await.unwrap();
    process.stop().await;
    let log = std::fs::read_to_string(log).unwrap();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("not stored")).collect();
    let peer = socket.local_addr().unwrap().to_string();
    let [first, more] = told[..] else { panic!("{log}") };
    assert!(
        first.contains(&peer) && first.contains(r#"utf8: "#) && first.contains(r#""caf\xe9 \x1b[31m""#),
        "{first}"
    );
    assert!(more.contains("count=50"), "{more}");
}
