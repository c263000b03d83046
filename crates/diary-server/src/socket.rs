//! A connected stream socket, TCP or Unix, used by readiness: an idle session holds no buffer.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::RecvFlags;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{Interest, Ready};
use tokio::net::{TcpStream, UnixStream};

use crate::limits::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES};

/// Telnet's "interpret as command".
const IAC: u8 = 0xff;

/// The socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
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
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES);
        SockRef::from(stream).set_tcp_keepalive(&keepalive)
    }

    /// Waits until the socket is ready in one of these ways. Cancellation safe.
    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Socket::Tcp(stream) => stream.ready(interest).await,
            Socket::Unix(stream) => stream.ready(interest).await,
        }
    }

    /// Reads what is there. On TCP, less than fits means that there is no more for now, which the next wait
    /// for readiness knows without asking the socket again.
    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut short = None;
        let mut read = |socket: BorrowedFd<'_>| {
            let (read, _) = rustix::net::recv(socket, &mut *into, RecvFlags::empty())?;
            // There is more behind urgent data, where a read ends: telnet's Synch, which follows its 0xff.
            let ends_before_urgent = read > 0 && into[read - 1] == IAC;
            if (1..into.len()).contains(&read) && !ends_before_urgent {
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
        }
    }

    pub(crate) fn try_write(&self, from: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_write(from),
            Socket::Unix(stream) => stream.try_write(from),
        }
    }

    /// Says that nothing more will be sent.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            Socket::Unix(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
        }
    }
}
