//! A connection in memory, whose other end a test holds. The kernel's buffers are as large as the test says.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{Interest, Ready};
use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Wire {
    /// Bytes on their way to the session.
    input: Vec<u8>,
    input_ended: bool,
    /// Bytes that the session has read, before it began to close.
    read: usize,
    /// Bytes that the session has sent and the peer has not taken.
    output: Vec<u8>,
    /// How many of those fit.
    window: usize,
    output_ended: bool,
}

/// The session's end.
#[derive(Debug, Clone)]
pub(crate) struct MemorySocket {
    wire: Arc<Mutex<Wire>>,
    changed: Arc<Notify>,
}

/// The peer's end.
pub(crate) type MemoryPeer = MemorySocket;

/// Two ends of one connection, whose output holds `window` bytes.
pub(crate) fn pair(window: usize) -> (MemorySocket, MemoryPeer) {
    let wire = Wire { window, ..Wire::default() };
    let socket = MemorySocket { wire: Arc::new(Mutex::new(wire)), changed: Arc::default() };
    (socket.clone(), socket)
}

impl MemorySocket {
    pub(super) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        loop {
            let changed = self.changed.notified();
            {
                let wire = self.wire.lock().unwrap();
                let mut ready = Ready::EMPTY;
                if interest.is_readable() && (!wire.input.is_empty() || wire.input_ended) {
                    ready |= Ready::READABLE;
                }
                if interest.is_writable() && wire.output.len() < wire.window {
                    ready |= Ready::WRITABLE;
                }
                if !ready.is_empty() {
                    return Ok(ready);
                }
            }
            changed.await;
        }
    }

    pub(super) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.wire.lock().unwrap();
        if wire.input.is_empty() {
            return if wire.input_ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let read = into.len().min(wire.input.len());
        into[..read].copy_from_slice(&wire.input[..read]);
        wire.input.drain(..read);
        wire.read += if wire.output_ended { 0 } else { read };
        Ok(read)
    }

    pub(super) fn try_write(&self, from: &[u8]) -> io::Result<usize> {
        let mut wire = self.wire.lock().unwrap();
        let written = from.len().min(wire.window - wire.output.len());
        if written == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        wire.output.extend_from_slice(&from[..written]);
        Ok(written)
    }

    pub(super) fn shutdown_write(&self) -> io::Result<()> {
        self.wire.lock().unwrap().output_ended = true;
        Ok(())
    }

    /// The peer sends something.
    pub(crate) fn send(&self, bytes: &[u8]) {
        self.wire.lock().unwrap().input.extend_from_slice(bytes);
        self.changed.notify_one();
    }

    /// The peer has said all that it will.
    pub(crate) fn end(&self) {
        self.wire.lock().unwrap().input_ended = true;
        self.changed.notify_one();
    }

    /// The peer takes what was sent to it.
    pub(crate) fn receive(&self) -> Vec<u8> {
        let taken = std::mem::take(&mut self.wire.lock().unwrap().output);
        self.changed.notify_one();
        taken
    }

    /// How many bytes the session has taken.
    pub(crate) fn taken(&self) -> usize {
        self.wire.lock().unwrap().read
    }
}
