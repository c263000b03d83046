//! A frame mode client made of nothing but the protocol's messages.

use std::io;

use bytes::BytesMut;
use diary_proto::entry::StoredLine;
use diary_proto::frame::FrameCodec;
use diary_proto::message::{Append, ClientMessage, Hello, Run, ServerMessage, Texts, Welcome};
use diary_proto::seal::id_in_header;
use diary_proto::{Seal, Which};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::Decoder;

use super::soon;

pub(crate) struct Frames {
    pub(crate) reader: OwnedReadHalf,
    pub(crate) writer: OwnedWriteHalf,
    pub(crate) greeting: String,
    journal_id: Option<u64>,
    buffer: BytesMut,
}

/// The answer to a history or a search.
pub(crate) struct Answered {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) dense: bool,
    /// All blocks, one behind the other.
    pub(crate) lines: Vec<u8>,
    seal: Seal,
}

impl Answered {
    /// Seq and text of every sound entry.
    pub(crate) fn texts(&self) -> Vec<(u64, String)> {
        texts_of(&self.lines, self.seal)
    }
}

impl Frames {
    /// Connects and reads the greeting.
    pub(crate) async fn connect(address: &str) -> Self {
        Self::try_connect(address).await.unwrap().expect("a greeting comes")
    }

    async fn try_connect(address: &str) -> io::Result<Option<Self>> {
        Self::over(TcpStream::connect(address).await?).await
    }

    /// Reads the greeting of a connection; `None` where it ends before.
    pub(crate) async fn over(stream: TcpStream) -> io::Result<Option<Self>> {
        let (reader, writer) = stream.into_split();
        let mut frames =
            Self { reader, writer, greeting: String::new(), journal_id: None, buffer: BytesMut::new() };
        let end = loop {
            if let Some(end) = frames.buffer.iter().position(|&b| b == b'\n') {
                break end;
            }
            if soon("the greeting comes", frames.reader.read_buf(&mut frames.buffer)).await? == 0 {
                return Ok(None);
            }
        };
        frames.greeting = String::from_utf8(frames.buffer.split_to(end + 1).to_vec()).unwrap();
        Ok(Some(frames))
    }

    /// The same, and says Hello with a secret that is made of one byte.
    pub(crate) async fn hello(address: &str, secret: u8) -> Self {
        let mut frames = Self::connect(address).await;
        frames.greet(&hello(secret)).await;
        frames
    }

    /// The same with a server that may end at any moment.
    pub(crate) async fn try_hello(address: &str, secret: u8) -> Option<Self> {
        let mut frames = Self::try_connect(address).await.ok()??;
        frames.try_send(&ClientMessage::Hello(hello(secret))).await?;
        match frames.next().await? {
            ServerMessage::Welcome(_) => Some(frames),
            other => panic!("no welcome: {other:?}"),
        }
    }

    /// Says Hello, and returns the Welcome.
    pub(crate) async fn greet(&mut self, hello: &Hello) -> Welcome {
        self.send(&ClientMessage::Hello(hello.clone())).await;
        match self.message().await {
            ServerMessage::Welcome(welcome) => {
                self.journal_id = Some(welcome.journal_id);
                welcome
            }
            other => panic!("no welcome: {other:?}"),
        }
    }

    /// What the journal's lines are sealed with, as the Welcome says, or else the greeting.
    pub(crate) fn seal(&self) -> Seal {
        if let Some(id) = self.journal_id {
            return Seal::of_journal(id);
        }
        let words = self.greeting.split(';').next().unwrap();
        Seal::of_journal(id_in_header(words.as_bytes()).unwrap())
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_bytes(&mut self, bytes: impl AsRef<[u8]>) {
        soon("the server takes input", self.writer.write_all(bytes.as_ref())).await.unwrap();
    }

    pub(crate) async fn send(&mut self, message: &ClientMessage) {
        self.try_send(message).await.expect("the connection goes on");
    }

    /// The same with a server that may end at any moment.
    pub(crate) async fn try_send(&mut self, message: &ClientMessage) -> Option<()> {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        soon("the server takes input", self.writer.write_all(&bytes)).await.ok()
    }

    pub(crate) async fn append(&mut self, first_counter: u64, retry: bool, texts: &[&str]) {
        self.try_append(first_counter, retry, texts).await.expect("the connection goes on");
    }

    /// The same with a server that may end at any moment.
    pub(crate) async fn try_append(&mut self, first_counter: u64, retry: bool, texts: &[&str]) -> Option<()> {
        let texts = Texts::new(texts.iter().copied());
        self.try_send(&ClientMessage::Append(Append { first_counter, retry, texts })).await
    }

    /// The next message; `None` where the connection has ended or broken.
    pub(crate) async fn next(&mut self) -> Option<ServerMessage> {
        loop {
            if let Some(frame) = FrameCodec.decode(&mut self.buffer).unwrap() {
                match ServerMessage::read(frame).unwrap() {
                    Some(message) => return Some(message),
                    None => continue,
                }
            }
            match soon("a message comes", self.reader.read_buf(&mut self.buffer)).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The messages in all that a server sent, its greeting included.
    pub(crate) fn read_all(sent: &[u8]) -> Vec<ServerMessage> {
        let greeting = sent.iter().position(|&b| b == b'\n').unwrap();
        let mut rest = BytesMut::from(&sent[greeting + 1..]);
        let mut messages = Vec::new();
        while let Some(frame) = FrameCodec.decode_eof(&mut rest).unwrap() {
            messages.extend(ServerMessage::read(frame).unwrap());
        }
        messages
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> ServerMessage {
        self.next().await.expect("the connection goes on")
    }

    /// Counters and seqs of the next so many acks, which may come in several messages.
    pub(crate) async fn acks(&mut self, count: usize) -> Vec<(u64, u64)> {
        let mut acked = Vec::new();
        while acked.len() < count {
            match self.message().await {
                ServerMessage::Acks(runs) => acked.extend(pairs(&runs)),
                other => panic!("no acks: {other:?}"),
            }
        }
        acked
    }

    /// Asks for entries, and returns the whole answer.
    pub(crate) async fn history(&mut self, id: u32, which: Which) -> Answered {
        self.send(&ClientMessage::History { id, scope: which.into() }).await;
        self.answer(id).await
    }

    /// The whole answer to the request `id`.
    pub(crate) async fn answer(&mut self, id: u32) -> Answered {
        let mut answered = match self.message().await {
            ServerMessage::Answer { id: its, first, last, dense, .. } if its == id => {
                Answered { first, last, dense, lines: Vec::new(), seal: self.seal() }
            }
            other => panic!("no answer to {id}: {other:?}"),
        };
        loop {
            match self.message().await {
                ServerMessage::Block { id: its, lines } if its == id => {
                    assert!(lines.ends_with(b"\n"), "a block holds whole lines");
                    answered.lines.extend_from_slice(&lines);
                }
                ServerMessage::End { id: its } if its == id => return answered,
                other => panic!("no block of {id}: {other:?}"),
            }
        }
    }

    /// The refusal of an Error that is not fatal, with its id.
    pub(crate) async fn error(&mut self) -> (u32, String) {
        match self.message().await {
            ServerMessage::Error { id, fatal: false, refusal } => (id, refusal.to_string()),
            other => panic!("no error: {other:?}"),
        }
    }

    /// The refusal of a fatal Error, after which the server closes.
    pub(crate) async fn fatal(&mut self) -> String {
        let refusal = match self.message().await {
            ServerMessage::Error { id: 0, fatal: true, refusal } => refusal.to_string(),
            other => panic!("no fatal error: {other:?}"),
        };
        assert_eq!(self.next().await, None, "nothing comes after a fatal error");
        refusal
    }
}

/// A Hello with a secret that is made of one byte.
pub(crate) fn hello(secret: u8) -> Hello {
    Hello { secret: vec![secret; 16].into(), ..Hello::default() }
}

/// Counter and seq of every entry of some runs.
pub(crate) fn pairs(runs: &[Run]) -> Vec<(u64, u64)> {
    let pairs = |run: &Run| {
        let (counter, seq) = (run.first_counter, run.first_seq);
        (0..u64::from(run.count)).map(move |place| (counter + place, seq + place))
    };
    runs.iter().flat_map(pairs).collect()
}

/// Seq and text of every sound entry in some stored lines.
pub(crate) fn texts_of(lines: &[u8], seal: Seal) -> Vec<(u64, String)> {
    let lines = lines.split(|&b| b == b'\n').filter_map(|line| StoredLine::parse(line, seal).ok());
    lines.map(|stored| (stored.seq, stored.unescaped().into_owned())).collect()
}

/// Fills a diary with so many MiB of entries of 4 KiB each, and returns how many they are.
pub(crate) async fn fill(address: &str, mebibytes: u64) -> u64 {
    let mut client = Frames::hello(address, 0xf1).await;
    let count = mebibytes * 256;
    let text = "天气 好 ".repeat(372) + "....";
    assert_eq!(text.len(), 4096);
    let texts = [&*text; 200];
    let mut sent = 0;
    while sent < count {
        let some = usize::try_from(count - sent).unwrap().min(texts.len());
        client.append(sent, false, &texts[..some]).await;
        client.acks(some).await;
        sent += some as u64;
    }
    count
}
