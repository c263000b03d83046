//! The bare loop: what the machine allows. One thread and one epoll; all lines that are ready are
//! appended to a file with one write and one fdatasync, and each is answered with as many bytes as the
//! diary's ack has. No format, no checksum, no promise to anybody.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use rustix::event::epoll;

/// Looks like an ack; the seq has as many digits as that of a diary that has been measured for a while.
const ANSWER: &[u8] = b"ok 1234567 2026-11-21T08:15:02.123456+08:00\n";

/// How much is read of a socket at once: as the diary does.
const READ_BYTES: usize = 64 * 1024;

/// The event of the listener.
const LISTENER: u64 = u64::MAX;

struct Connection {
    stream: TcpStream,
    /// Answers that the socket did not take.
    unsent: Vec<u8>,
}

/// Serves for ever.
///
/// # Errors
/// Those of the sockets and the file.
pub(crate) fn serve(address: &str, file: &Path) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)?;
    let mut file = File::options().append(true).create(true).open(file)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut scratch = vec![0; READ_BYTES];
    let (mut lines, mut ready) = (Vec::new(), Vec::new());
    let mut events = Vec::with_capacity(1024);
    loop {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            if event.data.u64() == LISTENER {
                let (mut stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                stream.write_all(b"diary/1 ready\n")?;
                stream.set_nonblocking(true)?;
                let data = epoll::EventData::new_u64(connections.len() as u64);
                epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)?;
                connections.push(Some(Connection { stream, unsent: Vec::new() }));
                continue;
            }
            let number = usize::try_from(event.data.u64())?;
            let Some(connection) = &mut connections[number] else { continue };
            if !connection.unsent.is_empty() {
                connection.flush()?;
                if connection.unsent.is_empty() {
                    let data = epoll::EventData::new_u64(number as u64);
                    epoll::modify(&epoll, &connection.stream, data, epoll::EventFlags::IN)?;
                }
                continue;
            }
            match connection.stream.read(&mut scratch) {
                Ok(read) if read > 0 => {
                    lines.extend_from_slice(&scratch[..read]);
                    ready.push((number, memchr::memchr_iter(b'\n', &scratch[..read]).count()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => connections[number] = None,
            }
        }
        if lines.is_empty() {
            continue;
        }
        file.write_all(&lines)?;
        file.sync_data()?;
        lines.clear();
        for (number, count) in ready.drain(..) {
            let Some(connection) = &mut connections[number] else { continue };
            (0..count).for_each(|_| connection.unsent.extend_from_slice(ANSWER));
            connection.flush()?;
            if !connection.unsent.is_empty() {
                let data = epoll::EventData::new_u64(number as u64);
                epoll::modify(&epoll, &connection.stream, data, epoll::EventFlags::OUT)?;
            }
        }
    }
}

impl Connection {
    fn flush(&mut self) -> anyhow::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
