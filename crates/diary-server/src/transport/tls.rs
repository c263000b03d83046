//! A TLS connection, used by readiness as a plain socket is.
//!
//! rustls is driven here and not by tokio-rustls, because its streams hide three things: what is still encrypted and not
//! sent, that the socket has made room for some of it, and whether the input ended in the middle of a record.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::{InvalidMessage, ServerConfig, ServerConnection};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::limits::{TLS_HANDSHAKE_MAX_BYTES, TLS_UNSENT_MAX_BYTES};

/// Type, version and length of a record (RFC 8446, 5.1).
const RECORD_HEADER_BYTES: usize = 5;

/// What encryption adds to a record, beside its header: a nonce, a tag and a type at the most.
const RECORD_ADDED_BYTES: usize = 32;

/// The longest message of TLS itself that rustls takes, as its documentation of `read_tls` has it.
const MESSAGE_MAX_BYTES: usize = 64 * 1024;

/// The server's end of a TLS connection.
#[derive(Debug)]
pub(crate) struct TlsSocket {
    stream: TcpStream,
    tls: ServerConnection,
    records: Records,
    /// Most bytes that are encrypted and not sent.
    unsent: usize,
    /// Plaintext that is not read.
    plaintext: usize,
    /// Bytes that have come and brought no plaintext.
    undecrypted: usize,
    /// There may be input that the socket's readiness does not tell of.
    has_input: bool,
    /// Bytes that may still be taken from the socket before others have their turn: records need not bring plaintext.
    wire_left: usize,
    ended: bool,
    /// Why the input ended, once everything before it is read.
    broken: Option<io::Error>,
}

/// Why a handshake failed.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// The peer was gone before it said anything.
    Gone(io::Error),
    /// It has not spoken TLS, so it may be told so in words.
    NotTls,
    Failed(io::Error),
}

impl TlsSocket {
    /// A connection whose handshake is still to be made.
    pub(crate) fn new(stream: TcpStream, config: Arc<ServerConfig>) -> Self {
        let mut tls =
            ServerConnection::new(config).expect("only a fragment size is checked, and none is set");
        tls.set_buffer_limit(Some(TLS_UNSENT_MAX_BYTES));
        Self {
            stream,
            tls,
            records: Records::default(),
            unsent: 0,
            plaintext: 0,
            undecrypted: 0,
            has_input: true,
            wire_left: usize::MAX,
            ended: false,
            broken: None,
        }
    }

    /// Shakes hands. `input` has been read already. Cancel safe, but the handshake cannot go on.
    pub(crate) async fn handshake(&mut self, mut input: &[u8]) -> Result<(), HandshakeError> {
        while self.tls.is_handshaking() || self.tls.wants_write() {
            if self.tls.wants_write() {
                match self.send() {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.stream.ready(Interest::WRITABLE).await.map_err(HandshakeError::Failed)?;
                    }
                    sent => sent.map_err(HandshakeError::Failed)?,
                }
                continue;
            }
            let received = if input.is_empty() { self.receive() } else { self.take(&mut input) };
            match received {
                Ok(()) if self.tls.is_handshaking() && self.undecrypted > TLS_HANDSHAKE_MAX_BYTES => {
                    let long = format!("it is longer than {TLS_HANDSHAKE_MAX_BYTES} bytes");
                    return Err(HandshakeError::Failed(io::Error::new(io::ErrorKind::InvalidData, long)));
                }
                Ok(()) if self.ended => return Err(self.gone(io::ErrorKind::UnexpectedEof.into())),
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stream.ready(Interest::READABLE).await.map_err(|error| self.gone(error))?;
                }
                Err(error) if is_not_tls(&error) => return Err(HandshakeError::NotTls),
                Err(error) => return Err(self.gone(error)),
            }
        }
        // What is not part of a record is done with.
        self.undecrypted = self.records.partial_bytes();
        Ok(())
    }

    /// Whether the peer has said anything.
    pub(crate) fn has_heard(&self) -> bool {
        self.undecrypted > 0
    }

    fn gone(&self, error: io::Error) -> HandshakeError {
        if self.has_heard() { HandshakeError::Failed(error) } else { HandshakeError::Gone(error) }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether a read may bring something before the socket is ready.
    pub(crate) fn has_input(&self) -> bool {
        self.has_input
    }

    /// Bytes that are encrypted and not sent; 0 if there are none.
    pub(crate) fn unsent_bytes(&self) -> usize {
        if self.tls.wants_write() { self.unsent.max(1) } else { 0 }
    }

    /// Input that is held here, in bytes.
    pub(crate) fn input_bytes(&self) -> usize {
        self.plaintext + self.undecrypted.min(MESSAGE_MAX_BYTES)
    }

    /// Reads what is there; nothing at the end of the input. A peer may end it without saying so in TLS, as many do, but not
    /// within a record. Takes little more from the socket than fits `into`, so it may bring nothing and
    /// [have input](Self::has_input) all the same.
    pub(crate) fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.has_input = true;
        self.wire_left = into.len() + RECORD_HEADER_BYTES + RECORD_ADDED_BYTES;
        let mut read = 0;
        while read < into.len() {
            match self.read_some(&mut into[read..]) {
                Ok(0) => break,
                Ok(some) => read += some,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.has_input = self.wire_left == 0;
                    return if read == 0 { Err(error) } else { Ok(read) };
                }
                Err(error) if read > 0 => {
                    self.broken = Some(error);
                    break;
                }
                broken => return broken,
            }
        }
        Ok(read)
    }

    /// `into` is not empty.
    fn read_some(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.ended {
            match self.tls.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    self.plaintext -= self.plaintext.min(*read.as_ref().unwrap_or(&0));
                    return read;
                }
            }
            if let Some(error) = self.broken.take() {
                return Err(error);
            }
            match self.receive() {
                // What has come before it is read first.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.broken = Some(error),
                received => received?,
            }
        }
        Ok(0)
    }

    /// Takes in what has come. Everything before it must have been read.
    fn receive(&mut self) -> io::Result<()> {
        let mut wire = Wire { stream: &self.stream, records: &mut self.records, left: &mut self.wire_left };
        match self.tls.read_tls(&mut wire)? {
            0 => {}
            received => return self.process(received),
        }
        if !self.records.is_whole() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.ended = true;
        Ok(())
    }

    /// Takes in some of what was read before.
    fn take(&mut self, input: &mut &[u8]) -> io::Result<()> {
        let before = *input;
        let taken = self.tls.read_tls(input)?;
        self.records.pass(&before[..taken]);
        self.process(taken)
    }

    fn process(&mut self, received: usize) -> io::Result<()> {
        self.undecrypted = self.undecrypted.saturating_add(received);
        match self.tls.process_new_packets() {
            Ok(state) => {
                self.plaintext = state.plaintext_bytes_to_read();
                if self.plaintext > 0 {
                    self.undecrypted = self.records.partial_bytes();
                }
                Ok(())
            }
            Err(error) => {
                if error != rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) {
                    // An alert tells the peer what is wrong, if there is room for it.
                    let _ = self.send();
                }
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    /// Does one of two things: sends some of what is encrypted, which takes nothing of `from`; or else encrypts some of
    /// `from`. So not more than [`TLS_UNSENT_MAX_BYTES`] wait here for the peer.
    pub(crate) fn try_write(&mut self, from: &[u8]) -> io::Result<usize> {
        if self.tls.wants_write() {
            self.send()?;
            return Ok(0);
        }
        self.unsent = self.tls.writer().write(from)?;
        if self.unsent == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(self.unsent) }
    }

    fn send(&mut self) -> io::Result<()> {
        let mut wire = Wire { stream: &self.stream, records: &mut self.records, left: &mut self.wire_left };
        self.unsent = self.unsent.saturating_sub(self.tls.write_tls(&mut wire)?);
        Ok(())
    }

    /// Encrypts that nothing more will be sent. Done again, it does nothing.
    pub(crate) fn end(&mut self) {
        self.tls.send_close_notify();
    }

    /// The connection below.
    pub(crate) fn into_plain(self) -> TcpStream {
        self.stream
    }
}

fn is_not_tls(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)))
}

/// The socket as rustls reads and writes it.
struct Wire<'a> {
    stream: &'a TcpStream,
    records: &'a mut Records,
    /// Bytes that may still be read.
    left: &'a mut usize,
}

impl Read for Wire<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(*self.left);
        if most == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let read = self.stream.try_read(&mut into[..most])?;
        *self.left -= read;
        self.records.pass(&into[..read]);
        Ok(read)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.try_write(from)
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.try_write_vectored(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where in the peer's records its input has come to: rustls does not tell whether it has a part of one.
#[derive(Debug, Default)]
struct Records {
    header: [u8; RECORD_HEADER_BYTES],
    header_bytes: usize,
    body_bytes: usize,
    /// Bytes of the record's body that are still to come.
    body_left: usize,
}

impl Records {
    fn pass(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            if self.body_left > 0 {
                let passed = self.body_left.min(bytes.len());
                self.body_left -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            self.header[self.header_bytes] = *first;
            self.header_bytes += 1;
            bytes = rest;
            if let [.., high, low] = self.header
                && self.header_bytes == RECORD_HEADER_BYTES
            {
                self.body_bytes = u16::from_be_bytes([high, low]).into();
                self.body_left = self.body_bytes;
                self.header_bytes = 0;
            }
        }
    }

    /// Whether the last record has come whole.
    fn is_whole(&self) -> bool {
        self.header_bytes == 0 && self.body_left == 0
    }

    /// Bytes of the record that has come in part.
    fn partial_bytes(&self) -> usize {
        match self.body_left {
            0 => self.header_bytes,
            left => RECORD_HEADER_BYTES + self.body_bytes - left,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::ClientConnection;
    use rustls::client::WebPkiServerVerifier;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use tokio::net::TcpListener;

    use super::*;
    use crate::tls::{Identity, server_config};

    #[test]
    fn records_are_whole_at_their_ends_however_they_are_cut() {
        let input =
            [&b"\x17\x03\x03\x00\x03abc"[..], b"\x17\x03\x03\x00\x00", b"\x15\x03\x03\x01\x00", &[7; 256]]
                .concat();
        let ends = [0, 8, 13, 274];
        for cut in 0..=input.len() {
            let mut records = Records::default();
            records.pass(&input[..cut]);
            let begun = ends.iter().rev().find(|end| **end <= cut).unwrap();
            assert_eq!((records.is_whole(), records.partial_bytes()), (*begun == cut, cut - begun), "{cut}");
            records.pass(&input[cut..]);
            assert!(records.is_whole(), "{cut}");
        }
    }

    /// Both ends of a connection. The client's bytes are the test's to send.
    async fn pair() -> (TlsSocket, ClientConnection, TcpStream) {
        let folder = tempfile::tempdir().unwrap();
        let config = server_config(Identity::load(None, folder.path()).unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(folder.path().join("tls/cert.pem")).unwrap()).unwrap();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build().unwrap();
        let client =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let client = client.unwrap().with_webpki_verifier(verifier).with_no_client_auth();
        let mut client = ClientConnection::new(client.into(), "localhost".try_into().unwrap()).unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut socket = TlsSocket::new(listener.accept().await.unwrap().0, config);
        let shaking = async {
            while client.is_handshaking() || client.wants_write() {
                send(&mut client, &peer);
                if client.is_handshaking() {
                    receive(&mut client, &peer, &mut Vec::new()).await;
                }
            }
        };
        let (shaken, ()) = tokio::join!(socket.handshake(b""), shaking);
        shaken.unwrap();
        (socket, client, peer)
    }

    #[tokio::test]
    async fn a_handshake_leaves_nothing_that_counts_as_input() {
        let (socket, ..) = pair().await;
        assert_eq!(socket.input_bytes(), 0);
    }

    /// What a peer sends need not bring anything. So one read is bounded by what it takes from the socket.
    #[tokio::test]
    async fn a_read_takes_little_more_from_the_socket_than_it_has_room_for() {
        let (mut socket, mut client, peer) = pair().await;
        for _ in 0..10 {
            client.writer().write_all(&[b'x'; 3000]).unwrap();
        }
        send(&mut client, &peer);
        let waiting = |socket: &TlsSocket| {
            usize::try_from(rustix::io::ioctl_fionread(socket.stream()).unwrap()).unwrap()
        };
        while waiting(&socket) < 30_000 {
            tokio::task::yield_now().await;
        }
        let (mut read, mut reads, mut into) = (0, 0, [0; 500]);
        while read < 30_000 {
            let before = waiting(&socket);
            match socket.try_read(&mut into) {
                Ok(some) => read += some,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            assert!(before - waiting(&socket) <= into.len() + RECORD_HEADER_BYTES + RECORD_ADDED_BYTES);
            assert!(read == 30_000 || socket.has_input(), "there is more, after {read}");
            reads += 1;
        }
        assert!(reads < 150, "{reads}");
    }

    fn send(client: &mut ClientConnection, peer: &TcpStream) {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        assert_eq!(peer.try_write(&bytes).unwrap(), bytes.len());
    }

    /// Takes what comes next, which is not the end.
    async fn receive(client: &mut ClientConnection, peer: &TcpStream, plaintext: &mut Vec<u8>) {
        peer.readable().await.unwrap();
        let mut bytes = [0; 4096];
        let read = match peer.try_read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            read => read.unwrap(),
        };
        assert!(read > 0, "the connection goes on");
        let mut bytes = &bytes[..read];
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            client.process_new_packets().unwrap();
            let _ = client.reader().read_to_end(plaintext);
        }
    }

    /// Reads so many bytes that are on their way.
    async fn read(socket: &mut TlsSocket, bytes: usize) -> Vec<u8> {
        let (mut all, mut some) = (Vec::new(), vec![0; 1000]);
        while all.len() < bytes {
            match socket.try_read(&mut some) {
                Ok(read) => all.extend_from_slice(&some[..read]),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    socket.stream().readable().await.unwrap();
                }
            }
        }
        all
    }

    #[tokio::test]
    async fn what_has_come_and_is_not_read_is_counted() {
        let (mut socket, mut client, peer) = pair().await;
        assert_eq!(socket.try_read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(!socket.has_input());
        client.writer().write_all(&[b'x'; 16_000]).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        peer.try_write(&bytes[..15_000]).unwrap();
        while socket.input_bytes() < 15_000 {
            assert_eq!(socket.try_read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            tokio::task::yield_now().await;
        }
        peer.try_write(&bytes[15_000..]).unwrap();
        assert_eq!(read(&mut socket, 1000).await, [b'x'; 1000]);
        assert!(socket.has_input(), "nothing but the socket tells of the rest");
        assert!((15_000..16_100).contains(&socket.input_bytes()), "{}", socket.input_bytes());
        assert_eq!(read(&mut socket, 15_000).await, [b'x'; 15_000]);
        assert_eq!(socket.input_bytes(), 0);
        // Keys may change at any time.
        client.refresh_traffic_keys().unwrap();
        client.writer().write_all(b"more").unwrap();
        send(&mut client, &peer);
        assert_eq!(read(&mut socket, 4).await, b"more");
    }

    #[tokio::test]
    async fn what_is_encrypted_is_bounded_and_counted_until_it_is_sent() {
        let (mut socket, mut client, peer) = pair().await;
        let text: Vec<u8> = (0..8_u32 << 20).map(|n| (n % 251) as u8).collect();
        let mut taken = 0;
        let mut received = Vec::new();
        let mut waited = false;
        let writing = async {
            while taken < text.len() || socket.unsent_bytes() > 0 {
                match socket.try_write(&text[taken..]) {
                    Ok(some) => taken += some,
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        assert!(socket.unsent_bytes() > 0);
                        waited = true;
                        socket.stream().writable().await.unwrap();
                    }
                }
                assert!(socket.unsent_bytes() <= TLS_UNSENT_MAX_BYTES);
            }
        };
        let reading = async {
            while received.len() < text.len() {
                receive(&mut client, &peer, &mut received).await;
            }
        };
        let both = async { tokio::join!(writing, reading) };
        tokio::time::timeout(Duration::from_secs(60), both).await.expect("it goes on");
        assert!(waited && received == text);
    }
}
