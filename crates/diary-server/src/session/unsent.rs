//! Answers that are made and not sent yet.

use std::io;

use tokio::time::Instant;

use crate::socket::Socket;

/// What is kept of the buffer for answers, so that an idle connection holds none that is large.
const IDLE_CAPACITY_BYTES: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    pub(super) bytes: Vec<u8>,
    /// How many of them have been sent.
    sent: usize,
    /// Since when the peer has taken nothing.
    pub(super) stalled_since: Option<Instant>,
}

impl Unsent {
    pub(super) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Sends what the socket takes now.
    pub(super) fn flush(&mut self, socket: &Socket) -> io::Result<()> {
        while self.len() > 0 {
            match socket.try_write(&self.bytes[self.sent..]) {
                Ok(written) => {
                    self.sent += written;
                    self.stalled_since = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stalled_since.get_or_insert_with(Instant::now);
                    // What has been sent is given back once it is the larger part.
                    if self.sent > self.bytes.len() / 2 {
                        self.bytes.drain(..self.sent);
                        self.sent = 0;
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        self.sent = 0;
        if self.bytes.capacity() > IDLE_CAPACITY_BYTES {
            self.bytes = Vec::new();
        }
        Ok(())
    }
}
