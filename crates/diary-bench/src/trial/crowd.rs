//! Connections that take room and time: idle ones, slow ones, followers that never read, readers.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use diary_proto::limits::FRAME_MAX_BYTES;
use diary_server::limits::{HELLO_MAX, INPUT_MAX_BYTES};
use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};

use super::Options;
use super::history::Reader;
use crate::talk::{Protocol, hello, line_mode, narrow_line_mode};

/// Between two bytes of a slow connection.
const SLOW_EVERY: Duration = Duration::from_millis(100);

/// What one in four slow connections sends at once, so that the server holds it. In sum it stays far below the budget,
/// for nobody is to be closed.
const HELD_BYTES: usize = 16 * 1024;

/// Until half a Hello is seen to be closed: the server's bound, and for a machine that is busy.
pub(super) const HELLO_SEEN_MAX: Duration = Duration::from_secs(HELLO_MAX.as_secs() + 5);

/// The receive buffer of who never reads, so that little waits in the kernel.
const NARROW_BYTES: usize = 4096;

/// The same once it reads after all.
const WIDE_BYTES: usize = 1024 * 1024;

/// Followers that read in the end what they were sent: two in each mode.
const FOLLOWERS_READ: usize = 4;

/// All of them.
#[derive(Default)]
pub(super) struct Crowd {
    idle: Vec<TcpStream>,
    pub(super) slow: Vec<Slow>,
    followers: Vec<Reader>,
    pub(super) readers: Vec<Reader>,
}

/// Readers, in both modes by turns.
pub(super) fn readers(address: &str, count: usize) -> anyhow::Result<Vec<Reader>> {
    modes().take(count).map(|mode| Reader::open(address, mode)).collect()
}

fn modes() -> impl Iterator<Item = Protocol> {
    [Protocol::Line, Protocol::Frame].into_iter().cycle()
}

impl Crowd {
    /// Connects idle ones alone.
    pub(super) fn idle(address: &str, count: usize) -> anyhow::Result<Self> {
        let idle = (0..count).map(|_| line_mode(address)).collect::<anyhow::Result<_>>()?;
        Ok(Self { idle, ..Self::default() })
    }

    /// Connects all but the idle ones.
    pub(super) fn join(&mut self, address: &str, options: &Options) -> anyhow::Result<()> {
        self.slow = (0..options.slow).map(|number| Slow::open(address, number)).collect::<Result<_, _>>()?;
        let held: usize = self.slow.iter().map(|slow| slow.head.len()).sum();
        ensure!(held <= INPUT_MAX_BYTES / 2, "slow connections would use up what the server holds of input");
        let narrow = modes()
            .take(options.followers)
            .map(|mode| Reader::over(narrow_line_mode(address, NARROW_BYTES)?, mode));
        self.followers = narrow.collect::<anyhow::Result<_>>()?;
        self.readers = readers(address, options.readers)?;
        Ok(())
    }

    /// Slow ones and followers begin.
    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        self.slow.iter_mut().try_for_each(Slow::begin)?;
        self.followers.iter_mut().try_for_each(Reader::begin_follow)
    }

    /// All readers read history once, at once.
    pub(super) fn read_once(&mut self) -> anyhow::Result<()> {
        let enough = AtomicBool::new(true);
        thread::scope(|scope| {
            let enough = &enough;
            let reading = self.readers.iter_mut().map(|reader| scope.spawn(|| reader.read_until(enough)));
            let reading: Vec<_> = reading.collect();
            reading.into_iter().try_for_each(|reading| reading.join().expect("a reader does not panic"))
        })
    }

    /// How long the server took to close the last of those that never end their Hello.
    pub(super) fn latest_hello(&self) -> Duration {
        self.slow.iter().filter_map(|slow| slow.closed_after).max().unwrap_or_default()
    }

    /// Everybody is there and was told nothing, and followers find all entries up to `newest`.
    pub(super) fn check(&mut self, newest: u64) -> anyhow::Result<()> {
        for stream in &self.idle {
            stream.set_nonblocking(true)?;
            let read = (&mut &*stream).read(&mut [0]);
            let silent = read.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
            ensure!(silent, "an idle connection reads {read:?}");
        }
        for slow in self.slow.iter().filter(|slow| slow.what == Unfinished::Frame) {
            let welcome =
                slow.told.split_first_chunk().map(|(length, rest)| (u32::from_be_bytes(*length), rest));
            let welcomed = welcome.is_some_and(|(length, rest)| rest.len() == length as usize);
            ensure!(welcomed, "half a frame is told {:?}", String::from_utf8_lossy(&slow.told));
        }
        for follower in self.followers.iter_mut().take(FOLLOWERS_READ) {
            set_socket_recv_buffer_size(follower.stream(), WIDE_BYTES)?;
            follower.follow_to(newest).context("a follower that never read before")?;
        }
        Ok(())
    }
}

/// What a slow connection never ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unfinished {
    Line,
    Frame,
    Hello,
}

/// A connection that sends little by little and never comes to an end.
pub(super) struct Slow {
    stream: TcpStream,
    what: Unfinished,
    /// What it begins with.
    head: Vec<u8>,
    /// What follows, byte by byte, over and over; of a Hello all but the last byte, once.
    bytes: Vec<u8>,
    sent: usize,
    began: Instant,
    told: Vec<u8>,
    /// From its first byte.
    closed_after: Option<Duration>,
}

impl Slow {
    fn open(address: &str, number: usize) -> anyhow::Result<Self> {
        let whole = hello([number.to_le_bytes()[0]; 16]);
        let (what, head, bytes) = match number % 4 {
            0 => (Unfinished::Line, b"never".to_vec(), b"-ending".to_vec()),
            1 => (Unfinished::Line, vec![b'x'; HELD_BYTES], b"y".to_vec()),
            2 => {
                let length = u32::try_from(FRAME_MAX_BYTES)?.to_be_bytes();
                // An append, as long as a frame may be.
                (Unfinished::Frame, [&whole[..], &length, &[2]].concat(), vec![0])
            }
            _ => (Unfinished::Hello, whole[..1].to_vec(), whole[1..whole.len() - 1].to_vec()),
        };
        let stream = line_mode(address)?;
        // Leaving is no end of input, which would end the line.
        set_socket_linger(&stream, Some(Duration::ZERO))?;
        let (began, told) = (Instant::now(), Vec::new());
        Ok(Self { stream, what, head, bytes, sent: 0, began, told, closed_after: None })
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        self.began = Instant::now();
        self.stream.write_all(&self.head)?;
        Ok(self.stream.set_nonblocking(true)?)
    }

    /// Sends a byte, and looks at what the server says.
    fn step(&mut self) -> anyhow::Result<()> {
        if self.closed_after.is_some() {
            return Ok(());
        }
        let ends = self.what == Unfinished::Hello;
        if !ends || self.sent < self.bytes.len() {
            let byte = self.bytes[self.sent % self.bytes.len()];
            // If the server has closed, reading tells.
            self.sent += self.stream.write(&[byte]).unwrap_or(0);
        }
        let mut bytes = [0; 256];
        match self.stream.read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // The bound says so then.
                if ends && self.began.elapsed() > 2 * HELLO_MAX {
                    self.closed_after = Some(self.began.elapsed());
                }
            }
            Ok(0) | Err(_) if ends => {
                let after = self.began.elapsed();
                let told = String::from_utf8_lossy(&self.told);
                ensure!(told.contains("no Hello came in time"), "half a Hello is told {told:?}");
                ensure!(after >= HELLO_MAX, "half a Hello is closed after {after:?}");
                self.closed_after = Some(after);
            }
            Ok(read @ 1..) if self.what != Unfinished::Line => self.told.extend_from_slice(&bytes[..read]),
            other => bail!("a slow {:?} reads {other:?}, {:?}", self.what, String::from_utf8_lossy(&bytes)),
        }
        Ok(())
    }

    /// Whether a Hello of this connection is still to be closed.
    fn is_waited_for(&self) -> bool {
        self.what == Unfinished::Hello && self.closed_after.is_none()
    }
}

/// Slow ones go on until it is enough and what the server closes is closed.
pub(super) fn trickle(slow: &mut [Slow], enough: &AtomicBool) -> anyhow::Result<()> {
    loop {
        slow.iter_mut().try_for_each(Slow::step)?;
        if enough.load(Ordering::Relaxed) && !slow.iter().any(Slow::is_waited_for) {
            return Ok(());
        }
        thread::sleep(SLOW_EVERY);
    }
}
