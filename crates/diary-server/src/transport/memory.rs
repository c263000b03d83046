//! A connection in memory, whose other end a test holds. The kernel's buffers are as large as the test says.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
    /// The peer's system answers nothing.
    silent: bool,
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
                // As the kernel, which tells of room once a third of its buffer is free.
                if interest.is_writable() && 3 * wire.output.len() <= 2 * wire.window {
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

    pub(super) fn untaken_bytes(&self) -> usize {
        self.wire.lock().unwrap().output.len()
    }

    pub(super) fn silence(&self) -> Duration {
        if self.wire.lock().unwrap().silent { Duration::MAX } else { Duration::ZERO }
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

    /// The peer takes at most `bytes` of what was sent to it.
    pub(crate) fn receive_some(&self, bytes: usize) -> Vec<u8> {
        let mut wire = self.wire.lock().unwrap();
        let bytes = bytes.min(wire.output.len());
        let taken = wire.output.drain(..bytes).collect();
        drop(wire);
        self.changed.notify_one();
        taken
    }

    /// The peer's system is gone.
    pub(crate) fn fall_silent(&self) {
        self.wire.lock().unwrap().silent = true;
    }

    /// How many bytes the session has taken.
    pub(crate) fn taken(&self) -> usize {
        self.wire.lock().unwrap().read
    }
}
