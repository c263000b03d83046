use std::time::Duration;

use diary_engine::sim::{self, ManualWriter, SimDisk};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::guard::Guard;
use crate::limits::Limits;

/// For anything that happens at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// A listener, and a disk that takes what a test lets it.
struct Served {
    address: SocketAddr,
    context: Arc<Context>,
    journal: Arc<Journal>,
    writer: ManualWriter,
    serving: JoinHandle<()>,
}

impl Served {
    async fn new(limits: Limits) -> Self {
        let (journals, journal, writer) = sim::journals(&SimDisk::new());
        let context = Context::new(journals, Guard::without_tokens(), limits);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let datagrams = Datagrams { socket, address: "udp".to_owned(), is_local: true, journal: None };
        let ports = [address.port()].into();
        let listener = Listener::new(datagrams, Arc::clone(&journal), ports, Arc::clone(&context));
        Self { address, context, journal, writer, serving: tokio::spawn(listener.serve()) }
    }

    async fn connect(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.address).await.unwrap();
        socket
    }

    /// Commits until so many replies are there.
    async fn replies(&mut self, socket: &UdpSocket, count: usize) -> Vec<String> {
        let mut replies = Vec::new();
        let all = async {
            while replies.len() < count {
                self.writer.commit();
                let mut reply = [0; 2000];
                while let Ok(length) = socket.try_recv(&mut reply) {
                    replies.push(String::from_utf8(reply[..length].to_vec()).unwrap());
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, all).await.expect("replies come");
        replies
    }
}

async fn reply(socket: &UdpSocket) -> String {
    let mut reply = [0; 2000];
    let received = timeout(PATIENCE, socket.recv(&mut reply)).await.expect("a reply comes");
    String::from_utf8(reply[..received.unwrap()].to_vec()).unwrap()
}

/// A source may send as much as it likes.
fn limits() -> Limits {
    Limits { source_burst: 1_000_000, ..Limits::default() }
}

#[tokio::test]
async fn readings_are_answered_while_entries_wait_for_the_disk() {
    let mut served = Served::new(limits()).await;
    // Each has few enough that the kernel keeps all replies.
    const EACH: usize = 150;
    let (writers, reader) = ([served.connect().await, served.connect().await], served.connect().await);
    for n in 0..EACH {
        for writer in &writers {
            writer.send(format!("entry {n}").as_bytes()).await.unwrap();
        }
        // It is answered when those have been looked at.
        for (request, answer) in
            [("p", "diary/1 the diary is empty"), ("h", "diary/1 a datagram is an entry")]
        {
            reader.send(request.as_bytes()).await.unwrap();
            let reply = reply(&reader).await;
            assert!(reply.starts_with(answer), "after {n}: {reply}");
        }
    }
    for writer in &writers {
        let replies = served.replies(writer, EACH).await;
        assert!(replies.iter().all(|reply| is_entry(reply.as_bytes())));
    }
    assert_eq!(served.journal.head(), 2 * EACH as u64);
}

#[tokio::test]
async fn entries_that_wait_are_bounded_and_what_is_beyond_is_told() {
    let mut served = Served::new(Limits { session_unacked_bytes: 100_000, ..limits() }).await;
    let (writer, other) = (served.connect().await, served.connect().await);
    let long = "x".repeat(30_000);
    for n in 0..6 {
        writer.send(long.as_bytes()).await.unwrap();
        other.send(b"h").await.unwrap();
        reply(&other).await;
        assert_eq!(writer.try_recv(&mut [0; 2000]).is_ok(), n >= 3, "three fit");
    }
    let free = served.context.unacked.available_permits();
    assert!(free >= served.context.limits.unacked_bytes - 100_000, "others have room: {free}");
    other.send(long.as_bytes()).await.unwrap();
    assert!(reply(&other).await.starts_with("diary/1 error busy: "));
    served.replies(&writer, 3).await;
    assert_eq!(served.journal.head(), 3);
    // There is room again, and a stop loses nothing of what was taken.
    for _ in 0..3 {
        writer.send(long.as_bytes()).await.unwrap();
    }
    other.send(b"h").await.unwrap();
    reply(&other).await;
    served.context.stop.cancel();
    served.replies(&writer, 3).await;
    assert_eq!(served.journal.head(), 6);
    timeout(PATIENCE, served.serving).await.expect("it ends").unwrap();
}

#[test]
fn the_words() {
    let entry = |text: &str| Request::Entry(text.to_owned());
    for (datagram, request) in [
        (&b"p"[..], Request::History),
        (b"PAST\n", Request::History),
        (b"-R\r\n", Request::History),
        (b"h", Request::Help),
        (b"E", entry("E")),
        (b"e\n", Request::Goodbye),
        (b"-c", Request::Wipe),
        (b"", Request::Nothing),
        (b"\n", Request::Nothing),
        (b"\0", Request::Nothing),
        (b"a\0", entry("a")),
        (b"p\n\n", entry("p\n")),
        (b" p", entry(" p")),
        (b"/history", entry("/history")),
        ("今天\n".as_bytes(), entry("今天")),
        ("\u{feff}今天".as_bytes(), entry("今天")),
        ("\u{feff}p\r\n".as_bytes(), Request::History),
        ("\u{feff}".as_bytes(), Request::Nothing),
    ] {
        assert_eq!(Request::read(datagram), request, "{datagram:?}");
    }
    assert!(matches!(Request::read(b"\xff"), Request::Refused(_)));
    assert!(matches!(Request::read(b"a\0b"), Request::Refused(_)));
}
