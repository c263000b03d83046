//! A connection to a server: connect, greeting, welcome, then messages both ways.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use diary_proto::entry::Author;
use diary_proto::frame::{Frame, FrameCodec, FrameError};
use diary_proto::limits::VERSION;
use diary_proto::message::{ClientMessage, Hello, Resume, ServerMessage, Welcome};
use diary_proto::{Code, JournalName, Refusal, escape};
use futures::StreamExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, split};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::codec::{Decoder, FramedRead};

use crate::address::{Address, At};
use crate::error::Error;
use crate::seen::{Before, Seen};
use crate::tls::{Access, Fingerprint, Trust, fingerprint_of, shake_hands};

/// Time limit for connection, greeting and welcome together. A server on the other side of the earth needs a
/// second; a person does not wait longer than this.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Time limit for the server's goodbye, once every entry is acked.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// Idle time before the first keepalive probe.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// Interval between probes.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// Unanswered probes before the connection counts as lost: a minute in all.
const KEEPALIVE_TRIES: u32 = 3;

/// Time limit for the TCP acknowledgement of bytes sent, since keepalive does not probe while some are in
/// flight. Equals how long a server waits for a silent client.
const UNACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(120);

/// Longest greeting line. Those of diary servers have 200 bytes.
const GREETING_MAX_BYTES: usize = 4096;

/// Sent to a server that does not greet, to identify it: HTTP, Redis and TLS servers wait for their client. A
/// diary server refuses it and stores nothing.
const PROBE: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// How long a greeting may take before the server is probed over another connection: longer than most take from the
/// other side of the earth.
const PROBE_AFTER: Duration = Duration::from_secs(1);

/// Time limit for the answer to the probe.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// Prefixes of other servers' first lines.
const OTHER_SERVERS: [(&[u8], &str); 7] = [
    (b"HTTP/", "HTTP"),
    (b"-ERR", "Redis"),
    (b"-NOAUTH", "Redis"),
    (b"-DENIED", "Redis"),
    (b"SSH-", "SSH"),
    (b"220", "mail or FTP"),
    // An alert record: a TLS server received plain text.
    (&[0x15, 0x03], "TLS"),
];

/// Prefix of a greeting that turns a client away.
const REFUSAL: &[u8] = b"error ";

/// Characters shown of a line that is not a greeting.
const SAYS_MAX_CHARS: usize = 60;

/// Size of the read buffer: several blocks of a short history.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Makes the connections of one client, and remembers the journal it met.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    pub(crate) address: Address,
    pub(crate) access: Access,
    pub(crate) author: Option<Author>,
    pub(crate) secret: Bytes,
    pub(crate) seen: Seen,
    /// Whether a server that does not greet is probed. One that has greeted before is only slow.
    pub(crate) probes: bool,
}

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// A welcomed connection. Its halves are used concurrently: a server whose acks are not read stops reading
/// appends.
pub(crate) struct Connection {
    pub(crate) incoming: Incoming,
    pub(crate) outgoing: Outgoing,
    pub(crate) welcome: Welcome,
    /// Records what is read over it.
    pub(crate) seen: Seen,
}

impl Connector {
    /// Connects and waits for the welcome, within [`CONNECT_LIMIT`]. Accepts a journal that was restored from
    /// an older copy.
    pub(crate) async fn connect(&self) -> Result<Connection, Error> {
        let place = self.seen.place();
        match self.connect_at(place).await {
            Err(Error::Restored(_)) => {
                self.seen.forget(place);
                let place = self.seen.place();
                self.connect_at(place).await
            }
            connected => connected,
        }
    }

    /// Like [`connect`](Self::connect), but the journal must have the entry at `place`: [`Error::Restored`] if
    /// not.
    pub(crate) async fn connect_at(&self, place: Option<Resume>) -> Result<Connection, Error> {
        let (address, limit, before) = (self.address.clone(), CONNECT_LIMIT, self.seen.before());
        let deadline = Instant::now() + limit;
        let Ok(opened) = timeout_at(deadline, open(&self.address)).await else {
            return Err(Error::Silent { address, limit });
        };
        let secured = timeout_at(deadline, self.secure(opened?)).await;
        let Ok(secured) = secured else { return Err(Error::NoWelcome { address, limit }) };
        let (reader, writer) = secured?;
        let mut connection = Opening {
            incoming: Incoming(FramedRead::with_capacity(reader, ServerCodec::default(), READ_BUFFER_BYTES)),
            outgoing: Outgoing { writer, bytes: Vec::new(), written: 0 },
        };
        // Sending Hello before the greeting would save a round trip. But a server that turns us away closes the
        // connection; unread bytes of ours would make that a reset, and lose its reason.
        tokio::select! {
            biased;
            greeted = timeout_at(deadline, connection.greeting(&self.address)) => {
                greeted.map_err(|_| Error::NoWelcome { address: address.clone(), limit })??;
            }
            Some(other) = self.probe(), if self.probes => return Err(other),
        }
        let welcomed = timeout_at(deadline, self.be_welcomed(connection, place, &before)).await;
        welcomed.map_err(|_| Error::NoWelcome { address, limit })?
    }

    /// Identifies a server that does not greet; `None` if it stays unknown, or is a slow diary server.
    async fn probe(&self) -> Option<Error> {
        sleep(PROBE_AFTER).await;
        let (reader, mut writer) = self.secure(open(&self.address).await.ok()?).await.ok()?;
        writer.write_all(PROBE).await.ok()?;
        let (mut line, mut reader) = (Vec::new(), BufReader::new(reader.take(GREETING_MAX_BYTES as u64)));
        // TLS sends no line, and what it has sent is enough.
        let _ = timeout(PROBE_LIMIT, reader.read_until(b'\n', &mut line)).await;
        if let Some(refusal) = line.strip_prefix(REFUSAL) {
            let refusal = read_refusal(String::from_utf8_lossy(refusal).trim_end());
            return (refusal.code == Code::Tls).then_some(Error::TurnedAway(refusal));
        }
        (!line.is_empty() && !is_greeting(&line)).then(|| not_a_diary(&self.address, &line))
    }

    async fn be_welcomed(
        &self,
        mut connection: Opening,
        resume: Option<Resume>,
        before: &Before,
    ) -> Result<Connection, Error> {
        let hello = ClientMessage::Hello(Hello {
            version: VERSION,
            author: self.author.as_ref().map_or_else(String::new, |author| author.as_str().to_owned()),
            secret: self.secret.clone(),
            resume,
            journal: self.address.journal.as_ref().map_or_else(String::new, JournalName::to_string),
            token: self.access.token.clone(),
        });
        connection.outgoing.push(&hello);
        connection.outgoing.flush().await.map_err(Error::broken)?;
        let welcome = connection.welcome().await?;
        if let Some(name) = self.address.journal.as_ref().filter(|name| name.as_str() != welcome.journal) {
            // It is of an earlier version, and would store entries in that journal.
            let message = format!("this server has the journal {} only, and not {name}", welcome.journal);
            return Err(Error::TurnedAway(Refusal::new(Code::NoJournal, clean(&message))));
        }
        self.seen.meet(&welcome, before)?;
        let Opening { incoming, outgoing } = connection;
        Ok(Connection { incoming, outgoing, welcome, seen: self.seen.now() })
    }

    /// Makes sure that it is the right server, and that a token is sent to nobody else. Until this returns, nothing
    /// but a TLS handshake is sent.
    async fn secure(&self, opened: Opened) -> Result<(Reader, Writer), Error> {
        match (opened, &self.address.at) {
            (Opened::Tcp(stream), At::Tls(host_port)) => {
                let stream = shake_hands(&self.address, host_port, self.access.trust, stream).await?;
                let (reader, writer) = split(stream);
                Ok((Box::new(reader), Box::new(writer)))
            }
            (Opened::Tcp(stream), _) => {
                if self.access.token.is_some() && !is_loopback(&stream).map_err(Error::broken)? {
                    return Err(Error::PlainToken(self.address.clone()));
                }
                let (reader, writer) = stream.into_split();
                Ok((Box::new(reader), Box::new(writer)))
            }
            (Opened::Unix(stream), _) => {
                let (reader, writer) = stream.into_split();
                Ok((Box::new(reader), Box::new(writer)))
            }
        }
    }
}

/// A connection before anything is sent.
enum Opened {
    Tcp(TcpStream),
    Unix(UnixStream),
}

async fn open(address: &Address) -> Result<Opened, Error> {
    match &address.at {
        At::Tcp(host_port) | At::Tls(host_port) => {
            let stream = open_tcp(address, host_port).await?;
            set_up(&stream).map_err(Error::broken)?;
            Ok(Opened::Tcp(stream))
        }
        At::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(|source| unreachable(address, source))?;
            Ok(Opened::Unix(stream))
        }
    }
}

/// Tries the host's addresses in turn. Each gets its share of the remaining time, so that one that drops packets
/// does not hide the next.
async fn open_tcp(at: &Address, name: &str) -> Result<TcpStream, Error> {
    let deadline = Instant::now() + CONNECT_LIMIT;
    let unknown = |source| Error::UnknownHost { address: at.clone(), source };
    let addresses: Vec<SocketAddr> =
        lookup_host(name).await.map_err(|source| unknown(Arc::new(source)))?.collect();
    let mut failure = unknown(Arc::new(io::Error::from(io::ErrorKind::NotFound)));
    for (tried, address) in addresses.iter().enumerate() {
        let untried = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / untried;
        failure = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(source)) => unreachable(at, source),
            Err(_) => Error::Silent { address: at.clone(), limit: CONNECT_LIMIT },
        };
    }
    Err(failure)
}

fn unreachable(address: &Address, source: io::Error) -> Error {
    let address = address.clone();
    match source.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Error::NothingListens(address),
        _ => Error::Unreachable { address, source: Arc::new(source) },
    }
}

/// Returns whether what is sent stays on this machine.
fn is_loopback(stream: &TcpStream) -> io::Result<bool> {
    Ok(stream.peer_addr()?.ip().to_canonical().is_loopback())
}

/// Shakes hands with the server at a `tls:` address and hangs up. Returns the fingerprint of its key; `None` if the
/// address speaks no TLS.
///
/// # Errors
/// [`Error::Untrusted`] and [`Error::ChangedKey`] if it is not the server that `trust` asks for; the errors of
/// connecting.
pub async fn identify(address: &Address, trust: Trust) -> Result<Option<Fingerprint>, Error> {
    let At::Tls(host_port) = &address.at else { return Ok(None) };
    let limit = CONNECT_LIMIT;
    let identified = timeout(limit, async {
        let Opened::Tcp(stream) = open(address).await? else { return Ok(None) };
        Ok(fingerprint_of(&shake_hands(address, host_port, trust, stream).await?))
    });
    identified.await.unwrap_or_else(|_| Err(Error::Silent { address: address.clone(), limit }))
}

/// Sets TCP options: send small messages at once, and detect a dead server.
fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_EVERY)
            .with_retries(KEEPALIVE_TRIES),
    )?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_LIMIT))?;
    Ok(())
}

/// A connection before its welcome.
struct Opening {
    incoming: Incoming,
    outgoing: Outgoing,
}

impl Opening {
    /// Cancel safe.
    async fn greeting(&mut self, address: &Address) -> Result<(), Error> {
        let line = match self.incoming.0.next().await {
            Some(Ok(Received::Greeting(line))) => line,
            Some(Ok(Received::Frame(_)) | Err(FrameError::Length(_))) => {
                return Err(not_a_diary(address, b""));
            }
            Some(Err(error)) => return Err(frame_error(error)),
            None => return Err(closed()),
        };
        if let Some(refusal) = line.strip_prefix(REFUSAL) {
            return Err(Error::TurnedAway(read_refusal(&String::from_utf8_lossy(refusal))));
        }
        if is_greeting(&line) { Ok(()) } else { Err(not_a_diary(address, &line)) }
    }

    async fn welcome(&mut self) -> Result<Welcome, Error> {
        match self.incoming.next().await? {
            ServerMessage::Welcome(welcome) => Ok(welcome),
            ServerMessage::Error { refusal, .. } => Err(lost_by(refusal)),
            ServerMessage::Bye { reason } => Err(Error::Bye(reason)),
            _ => Err(Error::protocol("expected a welcome, got another frame")),
        }
    }
}

fn is_greeting(line: &[u8]) -> bool {
    line.starts_with(format!("diary/{VERSION} ").as_bytes())
}

/// Returns the error for a server whose first line is `line`.
fn not_a_diary(address: &Address, line: &[u8]) -> Error {
    let says = clean(String::from_utf8_lossy(line).trim_end()).chars().take(SAYS_MAX_CHARS).collect();
    let other = OTHER_SERVERS.iter().find(|(start, _)| line.starts_with(start));
    Error::NotADiary { address: address.clone(), says, looks_like: other.map(|(_, protocol)| *protocol) }
}

/// Returns the error for a connection that the server ended with `refusal`.
pub(crate) fn lost_by(refusal: Refusal) -> Error {
    match refusal.code {
        Code::OtherJournal => Error::OtherJournal(refusal.message.into_owned()),
        Code::Restored => Error::Restored(refusal.message.into_owned()),
        _ => Error::TurnedAway(refusal),
    }
}

/// Parses the `CODE: message` of a greeting.
fn read_refusal(line: &str) -> Refusal {
    let line = clean(line);
    let (code, message) = line.split_once(": ").unwrap_or(("", &line));
    match Code::from_word(code) {
        Some(code) => Refusal::new(code, message.to_owned()),
        None => Refusal::new(Code::Denied, line),
    }
}

/// Escapes text of the server, so that it is safe for any terminal. Backslashes are kept: they may be the
/// server's own escapes.
fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\\' && escape::is_escaped(c) {
            out.push_str(&escape::escape(c.encode_utf8(&mut [0; 4])));
        } else {
            out.push(c);
        }
    }
    out
}

/// Escapes the texts of a message that are shown to people.
fn cleaned(message: ServerMessage) -> ServerMessage {
    let clean_refusal = |refusal: Refusal| Refusal::new(refusal.code, clean(&refusal.message));
    match message {
        ServerMessage::Refused { first_counter, count, refusal } => {
            ServerMessage::Refused { first_counter, count, refusal: clean_refusal(refusal) }
        }
        ServerMessage::Error { id, fatal, refusal } => {
            ServerMessage::Error { id, fatal, refusal: clean_refusal(refusal) }
        }
        ServerMessage::Bye { reason } => ServerMessage::Bye { reason: clean(&reason) },
        other => other,
    }
}

fn closed() -> Error {
    Error::broken(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it"))
}

fn frame_error(error: FrameError) -> Error {
    match error {
        // TLS calls an end without a goodbye an error.
        FrameError::Io(source) if source.kind() == io::ErrorKind::UnexpectedEof => closed(),
        FrameError::Io(source) => Error::broken(source),
        FrameError::Cut => closed(),
        FrameError::Length(_) => Error::protocol(error.to_string()),
    }
}

impl Connection {
    /// Says goodbye and waits for the answer, for at most [`GOODBYE_LIMIT`]. Every entry is acked, so a missing
    /// answer loses nothing.
    pub(crate) async fn goodbye(mut self) {
        let farewell = async {
            self.outgoing.push(&ClientMessage::Quit);
            self.outgoing.flush().await.ok()?;
            while !matches!(self.incoming.next().await.ok()?, ServerMessage::Bye { .. }) {}
            Some(())
        };
        if !matches!(timeout(GOODBYE_LIMIT, farewell).await, Ok(Some(()))) {
            tracing::debug!("the server did not confirm the close");
        }
    }
}

/// Messages from the server.
pub(crate) struct Incoming(FramedRead<Reader, ServerCodec>);

impl Incoming {
    /// Returns the next message, skipping those of unknown types. A closed connection is an error.
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<ServerMessage, Error> {
        loop {
            let frame = match self.0.next().await {
                Some(Ok(Received::Frame(frame))) => frame,
                Some(Ok(Received::Greeting(_))) => return Err(Error::protocol("second welcome")),
                Some(Err(error)) => return Err(frame_error(error)),
                None => return Err(closed()),
            };
            match ServerMessage::read(frame) {
                Ok(Some(message)) => return Ok(cleaned(message)),
                Ok(None) => {}
                Err(refusal) => return Err(Error::protocol(refusal.message)),
            }
        }
    }
}

/// Messages to the server.
pub(crate) struct Outgoing {
    writer: Writer,
    bytes: Vec<u8>,
    written: usize,
}

impl Outgoing {
    /// Appends a message to the buffer.
    pub(crate) fn push(&mut self, message: &ClientMessage) {
        message.write(&mut self.bytes);
    }

    /// Returns whether the buffer is written out.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes as much of the buffer as the socket takes at once.
    ///
    /// Cancel safe.
    pub(crate) async fn write_some(&mut self) -> io::Result<()> {
        if self.written < self.bytes.len() {
            let count = self.writer.write(&self.bytes[self.written..]).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.written += count;
        }
        if self.written == self.bytes.len() {
            // TLS takes bytes before the socket does.
            self.writer.flush().await?;
            self.bytes.clear();
            self.written = 0;
        }
        Ok(())
    }

    /// Writes the whole buffer. Cancel safe.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        while !self.is_empty() {
            self.write_some().await?;
        }
        Ok(())
    }
}

/// Input from the server: a greeting line, then frames.
enum Received {
    Greeting(BytesMut),
    Frame(Frame),
}

#[derive(Default)]
struct ServerCodec {
    greeted: bool,
}

impl Decoder for ServerCodec {
    type Item = Received;
    type Error = FrameError;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Received>, FrameError> {
        if self.greeted {
            return Ok(FrameCodec.decode(input)?.map(Received::Frame));
        }
        let Some(end) = input.iter().position(|&b| b == b'\n') else {
            let length = input.len();
            // A line this long is not a greeting; the stream is out of sync.
            return if length > GREETING_MAX_BYTES {
                Err(FrameError::Length(u32::try_from(length).unwrap_or(u32::MAX)))
            } else {
                Ok(None)
            };
        };
        self.greeted = true;
        let mut line = input.split_to(end + 1);
        line.truncate(end);
        Ok(Some(Received::Greeting(line)))
    }

    fn decode_eof(&mut self, input: &mut BytesMut) -> Result<Option<Received>, FrameError> {
        match self.decode(input)? {
            Some(received) => Ok(Some(received)),
            None if input.is_empty() => Ok(None),
            None => Err(FrameError::Cut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes a greeting and a frame in chunks of `cut` bytes.
    fn decode(cut: usize) -> Vec<String> {
        let bytes = b"diary/1 ready head=0\n\0\0\0\x02\x18x\0\0\0\x01\x80";
        let (mut codec, mut input, mut seen) = (ServerCodec::default(), BytesMut::new(), Vec::new());
        for chunk in bytes.chunks(cut) {
            input.extend_from_slice(chunk);
            while let Some(received) = codec.decode(&mut input).unwrap() {
                seen.push(match received {
                    Received::Greeting(line) => String::from_utf8(line.to_vec()).unwrap(),
                    Received::Frame(frame) => format!("{:02x} {:?}", frame.kind, frame.body),
                });
            }
        }
        seen
    }

    #[test]
    fn any_cut_gives_the_same() {
        let whole = decode(usize::MAX);
        assert_eq!(whole, ["diary/1 ready head=0", "18 b\"x\"", "80 b\"\""]);
        for cut in 1..30 {
            assert_eq!(decode(cut), whole, "{cut}");
        }
    }

    #[test]
    fn a_greeting_without_end_is_refused() {
        let mut input = BytesMut::from(&[b'x'; GREETING_MAX_BYTES + 1][..]);
        assert!(ServerCodec::default().decode(&mut input).is_err());
    }

    #[test]
    fn a_refusal_in_a_greeting() {
        assert_eq!(read_refusal("busy: too many").to_string(), "busy: too many");
        assert_eq!(read_refusal("new-code: why \u{1b}").to_string(), "denied: new-code: why \\x1b");
    }
}
