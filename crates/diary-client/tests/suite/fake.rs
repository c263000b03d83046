//! A scripted server over a real socket.

use std::time::Duration;

use diary_client::{Author, Client, Options};
use diary_proto::answer::greeting;
use diary_proto::entry::NewLine;
use diary_proto::frame::{Frame, FrameCodec};
use diary_proto::message::{Append, ClientMessage, Hello, Run, ServerMessage, Welcome};
use diary_proto::{DayStart, Seal, Time};
use futures::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::Framed;

pub(crate) const JOURNAL: u64 = 0x5f0c_9e27_a1b3_4d68;

pub(crate) const TIME: Time = Time { micros: 1_795_220_102_123_456, offset_minutes: 480 };

/// A test that waits longer than this has failed. No timing depends on it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits a future that must complete.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it comes soon")
}

pub(crate) struct Fake {
    listener: TcpListener,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        Self::at("127.0.0.1:0").await
    }

    pub(crate) async fn at(address: &str) -> Self {
        Self { listener: TcpListener::bind(address).await.unwrap() }
    }

    pub(crate) fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// Accepts a connection without greeting it.
    pub(crate) async fn accept_silent(&self) -> TcpStream {
        soon(self.listener.accept()).await.unwrap().0
    }

    /// Accepts a connection and welcomes it to `journal`.
    pub(crate) async fn accept_to(&self, journal: u64, head: u64) -> Peer {
        let mut peer = self.accept_hello(journal, head).await;
        peer.say(ServerMessage::Welcome(welcome(journal, head))).await;
        peer
    }

    pub(crate) async fn accept(&self) -> Peer {
        self.accept_to(JOURNAL, 0).await
    }

    /// Accepts a connection up to its hello, without answering it.
    pub(crate) async fn accept_hello(&self, journal: u64, head: u64) -> Peer {
        let mut stream = self.accept_silent().await;
        stream.write_all(greeting("diary", journal, head).as_bytes()).await.unwrap();
        let mut framed = Framed::new(stream, FrameCodec);
        let ClientMessage::Hello(hello) = read(&mut framed).await.unwrap() else { panic!("no hello") };
        Peer { framed, hello }
    }

    /// Connects a client; returns it and its connection for appends.
    pub(crate) async fn client(&self) -> (Client, Peer) {
        let options = Options { author: Some(Author::new("anna").unwrap()), ..Options::default() };
        let connecting = Client::connect(self.address().parse().unwrap(), options);
        let (client, peer) = tokio::join!(soon(connecting), self.accept());
        (client.unwrap(), peer)
    }
}

pub(crate) fn welcome(journal_id: u64, head: u64) -> Welcome {
    let (author, journal, zone) = ("anna".into(), "diary".into(), "UTC".into());
    Welcome {
        version: 1,
        journal_id,
        head,
        author,
        journal,
        zone,
        day_start: DayStart::default(),
        clock_micros: 0,
    }
}

/// The server's end of a connection.
pub(crate) struct Peer {
    framed: Framed<TcpStream, FrameCodec>,
    pub(crate) hello: Hello,
}

impl Peer {
    pub(crate) async fn say(&mut self, message: ServerMessage) {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        self.framed.get_mut().write_all(&bytes).await.unwrap();
    }

    /// Returns the client's next message; `None` once it is gone.
    pub(crate) async fn read(&mut self) -> Option<ClientMessage> {
        read(&mut self.framed).await
    }

    /// Returns the append frames with the next `count` texts: `counter[+]: texts`, with a `+` for retries.
    pub(crate) async fn appends(&mut self, count: usize) -> String {
        let (mut seen, mut shown) = (0, Vec::new());
        while seen < count {
            let Some(ClientMessage::Append(append)) = self.read().await else { panic!("no append") };
            let Append { first_counter, retry, texts } = append;
            let texts: Vec<_> =
                texts.iter().map(|new| String::from_utf8(new.text.to_vec()).unwrap()).collect();
            seen += texts.len();
            shown.push(format!("{first_counter}{}: {}", if retry { "+" } else { "" }, texts.join(" ")));
        }
        shown.join("; ")
    }

    pub(crate) async fn ack(&mut self, first_counter: u64, count: u32, first_seq: u64) {
        self.say(ServerMessage::Acks(vec![Run { first_counter, count, first_seq, time: TIME }])).await;
    }

    pub(crate) async fn answer(&mut self, first: u64, last: u64) {
        self.say(ServerMessage::Answer { id: 1, first, last, dense: true, shown: false }).await;
    }

    /// Answers the client's goodbye.
    pub(crate) async fn part(&mut self) {
        assert_eq!(self.read().await, Some(ClientMessage::Quit));
        self.say(ServerMessage::Bye { reason: "bye".into() }).await;
    }
}

async fn read(framed: &mut Framed<TcpStream, FrameCodec>) -> Option<ClientMessage> {
    let frame: Frame = soon(framed.next()).await?.ok()?;
    ClientMessage::read(frame).unwrap()
}

/// Returns stored lines with these seqs, of [`JOURNAL`].
pub(crate) fn lines(seqs: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let author = Author::new("anna").unwrap();
    let mut out = Vec::new();
    for seq in seqs {
        let text = format!("text {seq}");
        NewLine::new(seq, &TIME.to_bytes(), &author, &text).write(&mut out, Seal::of_journal(JOURNAL));
    }
    out
}

pub(crate) fn block(seqs: impl IntoIterator<Item = u64>) -> ServerMessage {
    ServerMessage::Block { id: 1, lines: lines(seqs).into() }
}

pub(crate) const END: ServerMessage = ServerMessage::End { id: 1 };
