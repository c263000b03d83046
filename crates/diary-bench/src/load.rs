//! The load: connections that each send some appends at once, wait for all acks, and send again. One
//! thread and one epoll for all of them, so that little of the machine is the generator's.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::event::epoll;
use rustix::fd::OwnedFd;

use crate::stream::Stream;
use crate::talk::{HANG, Protocol, Talk};

/// Bytes of a text: a usual entry.
pub(crate) const TEXT_BYTES: usize = 100;

/// How much is read of a socket at once.
const READ_BYTES: usize = 256 * 1024;

/// How many connections, and how many appends each sends at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    pub(crate) depth: usize,
}

impl Shape {
    /// Reads `64x16`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let read = |number: &str| number.parse().ok().filter(|&number: &usize| number > 0);
        let shape = text.split_once('x').and_then(|(connections, depth)| {
            Some(Self { connections: read(connections)?, depth: read(depth)? })
        });
        shape
            .ok_or_else(|| "a shape is as 64x16: connections, and appends that each sends at once".to_owned())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}", self.connections, self.depth)
    }
}

/// Appends to a running server, and prints how it went.
pub(crate) fn print(address: &str, shape: Shape, duration: Duration) -> anyhow::Result<()> {
    let measured = Load::open(address, Protocol::Line, shape)?.run(duration)?;
    let micros = |percent| measured.wait(percent) * 1e6;
    writeln!(
        std::io::stdout(),
        "{shape}: {:.0} entries/s; acks after {:.0} µs (median), {:.0} µs (99 of 100); the generator took {:.0} % \
         of a core",
        measured.per_second(),
        micros(50),
        micros(99),
        measured.own_share * 100.0
    )?;
    Ok(())
}

/// What a load has measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) entries: u64,
    pub(crate) seconds: f64,
    /// From sending some appends to the last of their acks, in seconds, ascending.
    pub(crate) waits: Vec<f64>,
    /// How much of one core the generator took, from 0 to 1.
    pub(crate) own_share: f64,
}

impl Measured {
    pub(crate) fn per_second(&self) -> f64 {
        self.entries as f64 / self.seconds
    }

    /// The wait that so many of a hundred do not exceed.
    pub(crate) fn wait(&self, percent: usize) -> f64 {
        let place = (self.waits.len() * percent).div_ceil(100);
        self.waits.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }
}

/// Connections that are ready to append.
pub(crate) struct Load {
    epoll: OwnedFd,
    connections: Vec<Connection>,
    depth: usize,
}

struct Connection {
    stream: Stream,
    talk: Talk,
    /// What is to be sent, and how much of it has been.
    unsent: Vec<u8>,
    sent: usize,
    /// The rest is sent once the socket takes it.
    waits: bool,
    /// Appends that are not acked.
    unacked: usize,
    since: Instant,
}

impl Load {
    /// Connects.
    pub(crate) fn open(address: &str, protocol: Protocol, shape: Shape) -> anyhow::Result<Self> {
        Self::open_as(address, protocol, shape, 0)
    }

    /// The same, with producers that another `group` does not have.
    pub(crate) fn open_as(
        address: &str,
        protocol: Protocol,
        shape: Shape,
        group: usize,
    ) -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let text = text();
        let connections = (0..shape.connections)
            .map(|number| {
                let (stream, talk) =
                    Talk::open(address, protocol, group * shape.connections + number, text.clone())?;
                stream.set_nonblocking()?;
                let data = epoll::EventData::new_u64(number as u64);
                epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)?;
                Ok(Connection {
                    stream,
                    talk,
                    unsent: Vec::new(),
                    sent: 0,
                    waits: false,
                    unacked: 0,
                    since: Instant::now(),
                })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self { epoll, connections, depth: shape.depth })
    }

    /// Appends for so long, and until all of it is acked.
    pub(crate) fn run(&mut self, duration: Duration) -> anyhow::Result<Measured> {
        let (began, busy_before) = (Instant::now(), busy());
        let deadline = began + duration;
        let mut measured = Measured { entries: 0, seconds: 0.0, waits: Vec::new(), own_share: 0.0 };
        let mut scratch = vec![0; READ_BYTES];
        let mut active = self.connections.len();
        for (number, connection) in self.connections.iter_mut().enumerate() {
            connection.send(&self.epoll, number, self.depth)?;
        }
        let mut events = Vec::with_capacity(1024);
        while active > 0 {
            events.clear();
            let timeout = HANG.try_into()?;
            if epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout))? == 0 {
                bail!("no answer for {HANG:?}");
            }
            for event in &events {
                let number = usize::try_from(event.data.u64())?;
                let connection = &mut self.connections[number];
                if connection.waits {
                    connection.flush(&self.epoll, number)?;
                }
                if connection.receive(&mut scratch)? && connection.unacked == 0 {
                    let now = Instant::now();
                    measured.entries += self.depth as u64;
                    measured.waits.push((now - connection.since).as_secs_f64());
                    if now < deadline {
                        connection.send(&self.epoll, number, self.depth)?;
                    } else {
                        active -= 1;
                    }
                }
            }
        }
        measured.seconds = began.elapsed().as_secs_f64();
        measured.own_share = (busy() - busy_before).as_secs_f64() / measured.seconds;
        measured.waits.sort_by(f64::total_cmp);
        Ok(measured)
    }
}

impl Connection {
    fn send(&mut self, epoll: &OwnedFd, number: usize, depth: usize) -> anyhow::Result<()> {
        self.unsent.clear();
        self.sent = 0;
        self.talk.append(depth, &mut self.unsent);
        self.unacked = depth;
        self.since = Instant::now();
        self.flush(epoll, number)
    }

    fn flush(&mut self, epoll: &OwnedFd, number: usize) -> anyhow::Result<()> {
        loop {
            let unsent = &self.unsent[self.sent..];
            let sent =
                if unsent.is_empty() { self.stream.flush().map(|()| 0) } else { self.stream.write(unsent) };
            match sent {
                Ok(0) => break,
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if std::mem::replace(&mut self.waits, true) {
                        return Ok(());
                    }
                    return self.wait_for(epoll, number, epoll::EventFlags::IN | epoll::EventFlags::OUT);
                }
                Err(error) => return Err(error).context("sending appends"),
            }
        }
        if std::mem::take(&mut self.waits) {
            self.wait_for(epoll, number, epoll::EventFlags::IN)?;
        }
        Ok(())
    }

    fn wait_for(&self, epoll: &OwnedFd, number: usize, what: epoll::EventFlags) -> anyhow::Result<()> {
        Ok(epoll::modify(epoll, &self.stream, epoll::EventData::new_u64(number as u64), what)?)
    }

    /// Reads once; whether there was anything.
    fn receive(&mut self, scratch: &mut [u8]) -> anyhow::Result<bool> {
        match self.stream.read(scratch) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(read) => {
                let acked = self.talk.acked(&scratch[..read])?;
                self.unacked = self.unacked.checked_sub(acked).context("more acks than appends")?;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).context("reading acks"),
        }
    }
}

/// What entries say.
pub(crate) fn text() -> String {
    ('a'..='z').cycle().take(TEXT_BYTES).collect()
}

/// The processor time that this thread has had.
fn busy() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
