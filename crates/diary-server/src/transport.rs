//! A connection's bytes: readiness, reading, what is not sent yet, and closing.
//!
//! Sockets are used by readiness, and read into one buffer per thread: an idle session holds none.

#[cfg(test)]
pub(crate) mod memory;
mod tls;

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use diary_proto::{Code, Refusal};
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use crate::limits::{
    KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, LINGER_MAX, LINGER_MAX_BYTES, READ_BYTES,
    STALL_ANSWERING_TIMES,
};
use tls::{HandshakeError, TlsSocket};

/// What is kept of the buffer for answers, so that an idle connection holds none that is large.
const IDLE_CAPACITY_BYTES: usize = 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// Lends the thread's buffer for reading.
pub(crate) fn with_scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| work(scratch))
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: Socket,
    /// Answers that are made and not sent yet.
    pub(crate) out: Vec<u8>,
    /// How many of them have been sent.
    sent: usize,
    stall: Option<Stall>,
}

/// While the socket takes nothing. The peer may go on all the same: the kernel tells of room only when a third of its
/// buffer is free.
#[derive(Debug)]
struct Stall {
    /// When the peer was last known to take something.
    since: Instant,
    looked: Instant,
    /// What the peer had not taken then, in bytes.
    untaken: usize,
}

impl Transport {
    /// A connection that begins with `greeting`.
    pub(crate) fn new(socket: Socket, greeting: String) -> Self {
        Self { socket, out: greeting.into_bytes(), sent: 0, stall: None }
    }

    /// The same connection, with TLS. `input` has been read already. Not cancel safe: the connection is closed.
    ///
    /// # Errors
    /// The connection as it was, and what to say of it.
    pub(crate) async fn secure(
        self,
        config: Arc<ServerConfig>,
        input: &[u8],
        within: Duration,
    ) -> Result<Self, Insecure> {
        let Socket::Tcp(stream) = self.socket else { unreachable!("TLS listeners are TCP's") };
        let mut tls = Box::new(TlsSocket::new(stream, config));
        let why = match tokio::time::timeout(within, tls.handshake(input)).await {
            Ok(Ok(())) => return Ok(Self { socket: Socket::Tls(tls), ..self }),
            Ok(Err(HandshakeError::Gone(error))) => return Err(Insecure::Gone(error)),
            Ok(Err(HandshakeError::NotTls)) => NOT_TLS.into(),
            Ok(Err(HandshakeError::Failed(error))) => format!("the TLS handshake failed: {error}"),
            Err(_) => "no TLS handshake was made in time".to_owned(),
        };
        // Whoever has said nothing waits for a greeting.
        let in_words = why == NOT_TLS || !tls.has_heard();
        let transport = Self { socket: Socket::Tcp(tls.into_plain()), ..self };
        Err(Insecure::Refused { transport, refusal: Refusal::new(Code::Tls, why), in_words })
    }

    /// Bytes that are not sent yet.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.out.len() - self.sent + self.socket.unsent_bytes()
    }

    /// Memory of what is not sent yet, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.out.capacity() + self.socket.unsent_bytes()
    }

    /// Whether a read may bring something although the socket is not ready.
    pub(crate) fn has_input(&self) -> bool {
        self.socket.has_input()
    }

    /// Memory of what has come and is not read yet, in bytes.
    pub(crate) fn input_bytes(&self) -> usize {
        self.socket.input_bytes()
    }

    /// Since when the peer has taken nothing of what waits for it, as far as is known from the last look.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.stall.as_ref().map(|stall| stall.since)
    }

    /// When it was last looked whether the peer goes on, while the socket takes nothing.
    pub(crate) fn looked_at(&self) -> Option<Instant> {
        self.stall.as_ref().map(|stall| stall.looked)
    }

    /// Looks whether the peer has taken something since the last look, or since the socket takes nothing. True if it takes
    /// everything.
    pub(crate) fn look(&mut self) -> io::Result<bool> {
        let Some(stall) = &mut self.stall else { return Ok(true) };
        let (untaken, now) = (self.socket.untaken_bytes()?, Instant::now());
        let goes_on = untaken < stall.untaken;
        *stall = Stall { since: if goes_on { now } else { stall.since }, looked: now, untaken };
        Ok(goes_on)
    }

    /// Whether the peer is gone, or never reads: it has taken nothing for `max`, or for a few times as long if its system
    /// still answers.
    pub(crate) fn is_stalled_for(&self, max: Duration) -> io::Result<bool> {
        let stalled = self.stalled_since().map_or(Duration::ZERO, |since| since.elapsed());
        Ok(stalled >= max && (stalled >= max * STALL_ANSWERING_TIMES || self.socket.silence()? >= max))
    }

    /// Waits until there is something to read, if `reads`, until something can be sent, if something waits, or for an
    /// error. Cancel safe.
    pub(crate) async fn ready(&self, reads: bool) -> io::Result<Ready> {
        let interest = match (reads, self.unsent_bytes() > 0) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            (false, false) => Interest::ERROR,
        };
        if reads && self.socket.has_input() {
            return Ok(Ready::READABLE);
        }
        self.socket.ready(interest).await
    }

    /// Reads what is there; nothing at the end of the input.
    pub(crate) fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.socket.try_read(into)
    }

    /// Sends what the socket takes now.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.unsent_bytes() > 0 {
            match self.socket.try_write(&self.out[self.sent..]) {
                Ok(written) => {
                    self.sent += written;
                    self.stall = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.stall.is_none() {
                        let (now, untaken) = (Instant::now(), self.socket.untaken_bytes()?);
                        self.stall = Some(Stall { since: now, looked: now, untaken });
                    }
                    // What has been sent is given back once it is the larger part.
                    if self.sent > self.out.len() / 2 {
                        self.out.drain(..self.sent);
                        self.out.shrink_to(self.out.len().max(IDLE_CAPACITY_BYTES));
                        self.sent = 0;
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        if self.out.capacity() > IDLE_CAPACITY_BYTES {
            self.out = Vec::new();
        }
        Ok(())
    }

    /// Says in TLS that nothing more will be sent. True once that is on its way, as it is at once without TLS.
    pub(crate) fn end(&mut self) -> io::Result<bool> {
        if let Socket::Tls(socket) = &mut self.socket {
            socket.end();
            self.flush()?;
        }
        Ok(self.unsent_bytes() == 0)
    }

    /// Closes so that the peer gets the last answer: a connection that is closed with input unread is reset, and
    /// what was on its way is lost. Not cancel safe: the peer may then miss the last answer.
    pub(crate) async fn close(mut self) -> io::Result<()> {
        self.end()?;
        // What comes is not decrypted any more.
        let mut socket = self.socket.into_plain();
        socket.shutdown_write()?;
        let drain = async {
            let mut left = LINGER_MAX_BYTES;
            while left > 0 {
                socket.ready(Interest::READABLE).await?;
                match with_scratch(|scratch| socket.try_read(scratch)) {
                    Ok(0) => break,
                    Ok(read) => left = left.saturating_sub(read),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        tokio::time::timeout(LINGER_MAX, drain).await.unwrap_or(Ok(()))
    }
}

/// What a plain client of a TLS listener is told.
const NOT_TLS: &str = "this address speaks TLS, not plain text";

/// What became of a connection that should have been made secure.
#[derive(Debug)]
pub(crate) enum Insecure {
    /// It was gone before it said anything.
    Gone(io::Error),
    Refused {
        transport: Transport,
        refusal: Refusal,
        /// The peer does not speak TLS, as far as is known.
        in_words: bool,
    },
}

/// A connected stream socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Boxed so that other connections do not hold its space.
    Tls(Box<TlsSocket>),
    #[cfg(test)]
    Memory(memory::MemorySocket),
}

impl Socket {
    /// Sets what every connection has: no delay, keepalive, so that a dead peer is noticed, and urgent data in
    /// its place: telnet marks a byte of a command as urgent.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        let Socket::Tcp(stream) = self else {
            return Ok(());
        };
        stream.set_nodelay(true)?;
        SockRef::from(stream).set_out_of_band_inline(true)?;
        // Where the system does not know it, it is asked after each read.
        let _ = diary_sys::tell_what_is_left(stream.as_fd());
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES);
        SockRef::from(stream).set_tcp_keepalive(&keepalive)
    }

    /// Whether a read may bring something before the socket is ready.
    fn has_input(&self) -> bool {
        matches!(self, Socket::Tls(socket) if socket.has_input())
    }

    /// Bytes that were received and not read.
    fn input_bytes(&self) -> usize {
        if let Socket::Tls(socket) = self { socket.input_bytes() } else { 0 }
    }

    /// Bytes that were taken and not sent.
    fn unsent_bytes(&self) -> usize {
        if let Socket::Tls(socket) = self { socket.unsent_bytes() } else { 0 }
    }

    /// The connection below.
    fn into_plain(self) -> Self {
        if let Socket::Tls(socket) = self { Socket::Tcp(socket.into_plain()) } else { self }
    }

    /// Waits until the socket is ready in one of these ways. Cancel safe.
    async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Socket::Tcp(stream) => stream.ready(interest).await,
            Socket::Unix(stream) => stream.ready(interest).await,
            Socket::Tls(socket) => socket.stream().ready(interest).await,
            #[cfg(test)]
            Socket::Memory(socket) => socket.ready(interest).await,
        }
    }

    /// Reads what is there. On TCP, if that is less than fits, the next wait for readiness knows whether there is more,
    /// without another read. A read ends before urgent data, and nothing tells of what is behind it but the socket.
    fn try_read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut short = None;
        let mut read = |socket: BorrowedFd<'_>| {
            let (read, left) = diary_sys::receive(socket, &mut *into)?;
            let is_all = || match left {
                Some(left) => Ok(left == 0),
                None => rustix::io::ioctl_fionread(socket).map(|left| left == 0),
            };
            if (1..into.len()).contains(&read) && is_all()? {
                short = Some(read);
                // This is how the runtime is told that the socket is not ready any more.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(read)
        };
        match self {
            Socket::Tcp(stream) => {
                let read = stream.try_io(Interest::READABLE, || read(stream.as_fd()));
                short.map_or(read, Ok)
            }
            // A read of these ends where a descriptor was sent along.
            Socket::Unix(stream) => stream.try_read(into),
            Socket::Tls(socket) => socket.try_read(into),
            #[cfg(test)]
            Socket::Memory(socket) => socket.try_read(into),
        }
    }

    /// Takes some of `from`. It may be none, if what was taken before went on its way.
    fn try_write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_write(from),
            Socket::Unix(stream) => stream.try_write(from),
            Socket::Tls(socket) => socket.try_write(from),
            #[cfg(test)]
            Socket::Memory(socket) => socket.try_write(from),
        }
    }

    /// What was sent and the peer has not taken: the less, the more it has taken since.
    fn untaken_bytes(&self) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => diary_sys::untaken_bytes(stream.as_fd()),
            Socket::Unix(stream) => diary_sys::untaken_bytes(stream.as_fd()),
            Socket::Tls(socket) => diary_sys::untaken_bytes(socket.stream().as_fd()),
            #[cfg(test)]
            Socket::Memory(socket) => Ok(socket.untaken_bytes()),
        }
    }

    /// How long the peer's system has answered nothing.
    fn silence(&self) -> io::Result<Duration> {
        match self {
            Socket::Tcp(stream) => diary_sys::silence(stream.as_fd()),
            Socket::Tls(socket) => diary_sys::silence(socket.stream().as_fd()),
            // It is this one.
            Socket::Unix(_) => Ok(Duration::ZERO),
            #[cfg(test)]
            Socket::Memory(socket) => Ok(socket.silence()),
        }
    }

    /// Says that nothing more will be sent.
    fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            Socket::Unix(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            Socket::Tls(socket) => SockRef::from(socket.stream()).shutdown(Shutdown::Write),
            #[cfg(test)]
            Socket::Memory(socket) => socket.shutdown_write(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::net::SendFlags;
    use tokio::net::TcpListener;

    use super::*;

    /// A read ends before urgent data, and nothing but the socket itself tells that there is more.
    #[tokio::test]
    async fn what_is_behind_urgent_data_is_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut socket = Socket::Tcp(listener.accept().await.unwrap().0);
        socket.prepare().unwrap();
        // In the first round, the runtime takes a new socket for ready.
        for _ in 0..3 {
            for (byte, flags) in
                [(b"a", SendFlags::empty()), (b"b", SendFlags::OOB), (b"c", SendFlags::empty())]
            {
                assert_eq!(rustix::net::send(&client, byte, flags).unwrap(), 1);
            }
            let mut read = Vec::new();
            while read.len() < 3 {
                let ready = tokio::time::timeout(Duration::from_secs(60), socket.ready(Interest::READABLE));
                ready.await.unwrap_or_else(|_| panic!("there is more than {read:?}")).unwrap();
                let mut bytes = [0; 8];
                match socket.try_read(&mut bytes) {
                    Ok(count) => read.extend_from_slice(&bytes[..count]),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
            assert_eq!(read, b"abc");
        }
    }
}
