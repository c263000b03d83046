//! What the program prints: lines wait in memory for a thread that writes them, so that nobody waits for who reads them.
//!
//! tracing-appender has such a writer, but it bounds lines and not bytes, does not tell how many it dropped, and ends with
//! a blocking write to stderr if nobody reads that.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::panic::{self, PanicHookInfo};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use diary_proto::escape::escape;
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::limits::OUTLET_MAX_BYTES;

/// Lines on their way to a descriptor. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Outlet(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// Everything is written.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Lines that wait, [`OUTLET_MAX_BYTES`] at most.
    waiting: Vec<u8>,
    /// A line had no room. Those behind it are dropped, too, until what waits is taken: so they are missing in one place.
    full: bool,
    /// Lines that were dropped or could not be written, and are not told of.
    dropped: u64,
    /// The thread is at work.
    writing: bool,
}

impl Outlet {
    /// An outlet that has a descriptor and a thread of its own.
    ///
    /// # Errors
    /// If there is no descriptor or no thread for it.
    pub(crate) fn start(name: &str, to: impl AsFd) -> io::Result<Self> {
        // Not std's stderr: a write that hangs would hold its lock, and so whoever panics.
        let to = File::from(to.as_fd().try_clone_to_owned()?);
        Self::run(name, move |lines| write(&to, lines))
    }

    /// An outlet to the syslog daemon whose socket is at `path`, and a thread of its own.
    ///
    /// # Errors
    /// If there is no descriptor or no thread for it.
    pub(crate) fn to_syslog(name: &str, path: &Path) -> io::Result<Self> {
        let (to, path) = (UnixDatagram::unbound()?, path.to_owned());
        Self::run(name, move |lines| send(&to, &path, lines))
    }

    /// `write` returns how many lines it could not write.
    fn run(name: &str, write: impl Fn(&[u8]) -> u64 + Send + 'static) -> io::Result<Self> {
        let outlet = Self(Arc::default());
        let shared = Arc::clone(&outlet.0);
        thread::Builder::new().name(name.to_owned()).spawn(move || shared.write_all_to(write))?;
        Ok(outlet)
    }

    /// Takes whole lines, or drops and counts them. Never blocks.
    pub(crate) fn push(&self, lines: &[u8]) {
        let mut state = self.0.lock();
        if state.full || state.waiting.len() + lines.len() > OUTLET_MAX_BYTES {
            state.full = true;
            state.dropped += count(lines);
        } else {
            state.waiting.extend_from_slice(lines);
        }
        self.0.filled.notify_one();
    }

    /// Waits until everything is written, or for so long.
    pub(crate) fn flush(&self, patience: Duration) {
        let state = self.0.lock();
        let _ = self.0.emptied.wait_timeout_while(state, patience, |state| state.writing || state.has_some());
    }

    /// Takes what is said of panics, too: the standard hook waits for who reads stderr.
    pub(crate) fn take_panics(&self) {
        let outlet = self.clone();
        panic::set_hook(Box::new(move |info| outlet.push(told(info).as_bytes())));
    }
}

/// Whole lines are written to it.
impl Write for Outlet {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.push(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes, for ever.
    fn write_all_to(&self, write: impl Fn(&[u8]) -> u64) {
        let mut state = self.lock();
        loop {
            state.writing = state.has_some();
            if !state.writing {
                self.emptied.notify_all();
                state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let State { waiting, dropped, .. } = std::mem::take(&mut *state);
            state.writing = true;
            drop(state);
            let unwritten = write_all(&write, &waiting, dropped);
            state = self.lock();
            state.dropped += unwritten;
        }
    }
}

impl State {
    /// Lines that cannot be written are told of with the next ones, and wake nobody up by themselves.
    fn has_some(&self) -> bool {
        self.full || !self.waiting.is_empty()
    }
}

/// Writes lines, and behind them how many were dropped. Returns how many lines are not written and not told of.
fn write_all(write: impl Fn(&[u8]) -> u64, lines: &[u8], dropped: u64) -> u64 {
    match write(lines) {
        0 if dropped == 0 => 0,
        0 => {
            let told = format!(
                "{}  WARN lines of the log were dropped, since nobody took them count={dropped}\n",
                now()
            );
            if write(told.as_bytes()) == 0 { 0 } else { dropped }
        }
        unwritten => dropped + unwritten,
    }
}

/// Writes lines, and returns how many of them are not written to their end.
fn write(mut to: &File, mut lines: &[u8]) -> u64 {
    while !lines.is_empty() {
        match to.write(lines) {
            Ok(written) => lines = &lines[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Another process that has it made it non-blocking.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let ready = poll(&mut [PollFd::new(to, PollFlags::OUT)], None);
                if ready.is_err_and(|error| error != Errno::INTR) {
                    break;
                }
            }
            // The reader is gone, or the disk is full.
            Err(_) => break,
        }
    }
    count(lines)
}

/// Sends each line to syslog, as a daemon's (its facility is 3) informational (6) message. Returns how many it did not take.
fn send(to: &UnixDatagram, path: &Path, lines: &[u8]) -> u64 {
    let header = format!("<{}>diary-server[{}]: ", 3 << 3 | 6, std::process::id());
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| u64::from(to.send_to(&[header.as_bytes(), line].concat(), path).is_err())).sum()
}

/// Complete lines.
fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// The time for a line. Never panics, wherever the clock is: it is asked for while a panic is told.
fn now() -> String {
    Timestamp::try_from(SystemTime::now()).map_or_else(|_| "-".to_owned(), |now| format!("{now:.6}"))
}

/// A panic as a line of the log, with its backtrace below if `RUST_BACKTRACE` asks for one.
fn told(info: &PanicHookInfo<'_>) -> String {
    let (now, thread) = (now(), thread::current());
    let name = thread.name().unwrap_or("without a name");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let message = escape(info.payload_as_str().unwrap_or_default());
    let mut lines = format!("{now} ERROR thread {name} panicked at {place}: {message}\n");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        lines.push_str(&format!("{backtrace}\n"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, PipeReader, Read, pipe};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// An outlet into a pipe that nobody reads yet.
    fn unread() -> (Outlet, BufReader<PipeReader>) {
        let (reader, writer) = pipe().unwrap();
        (Outlet::start("log", writer).unwrap(), BufReader::new(reader))
    }

    fn is_idle(outlet: &Outlet) -> bool {
        let state = outlet.0.lock();
        !state.writing && !state.has_some()
    }

    /// Numbered lines that are more than an outlet and a pipe hold, from 0 on; how many.
    fn flood(outlet: &Outlet) -> u64 {
        let lines = 3 * OUTLET_MAX_BYTES as u64 / 100;
        (0..lines).for_each(|number| outlet.push(format!("{number:099}\n").as_bytes()));
        lines
    }

    /// Reads the lines of a flood, up to where all are told or told to be dropped; how many were dropped.
    fn read_flood(reader: &mut BufReader<PipeReader>, lines: u64) -> u64 {
        let (mut next, mut dropped) = (0, 0);
        for line in reader.lines().map(Result::unwrap) {
            match line.split_once(" WARN lines of the log were dropped, ") {
                Some((_, told)) => {
                    let count: u64 = told.rsplit_once("count=").unwrap().1.parse().unwrap();
                    dropped += count;
                    next += count;
                }
                None => {
                    assert_eq!(line, format!("{next:099}"));
                    next += 1;
                }
            }
            if next >= lines {
                break;
            }
        }
        dropped
    }

    #[test]
    fn lines_that_nobody_takes_are_dropped_and_counted_in_their_place() {
        let (outlet, mut reader) = unread();
        let lines = flood(&outlet);
        let held = outlet.0.lock().waiting.len();
        assert!(held <= OUTLET_MAX_BYTES, "{held}");
        let dropped = read_flood(&mut reader, lines);
        // As many as fit are kept, even if the thread begins only now.
        assert!(dropped > 0 && lines - dropped >= OUTLET_MAX_BYTES as u64 / 100, "{dropped} of {lines}");
        // With room again, nothing more is missing.
        outlet.push(b"the next one\n");
        let mut next = String::new();
        reader.read_line(&mut next).unwrap();
        assert_eq!(next, "the next one\n");
    }

    #[test]
    fn a_flush_ends_whether_anybody_reads_or_not() {
        let (outlet, reader) = unread();
        outlet.push(b"one\ntwo\n");
        outlet.flush(PATIENCE);
        assert!(is_idle(&outlet));
        flood(&outlet);
        outlet.flush(Duration::from_millis(1));
        assert!(!is_idle(&outlet));
        // Without a reader there is nothing to wait for.
        drop(reader);
        outlet.flush(PATIENCE);
        assert!(is_idle(&outlet));
    }

    #[test]
    fn what_could_not_be_written_is_counted_and_costs_no_work() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let outlet = Outlet::start("log", full).unwrap();
        for expected in [2, 4] {
            outlet.push(b"one\ntwo\n");
            outlet.flush(PATIENCE);
            let state = outlet.0.lock();
            assert_eq!((state.dropped, state.writing), (expected, false));
        }
    }

    #[test]
    fn syslog_gets_each_line_as_a_message() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let outlet = Outlet::to_syslog("log", &path).unwrap();
        outlet.push(b"before the daemon\n");
        outlet.flush(PATIENCE);
        let daemon = UnixDatagram::bind(&path).unwrap();
        outlet.push("one\n今天\n".as_bytes());
        let mut message = [0; 1024];
        for end in ["]: one", "]: 今天", "lines of the log were dropped, since nobody took them count=1"] {
            let length = daemon.recv(&mut message).unwrap();
            let text = std::str::from_utf8(&message[..length]).unwrap();
            assert!(text.starts_with("<30>diary-server[") && text.ends_with(end), "{text}");
        }
    }

    #[test]
    fn a_descriptor_that_does_not_block_loses_nothing() {
        let (mut reader, writer) = pipe().unwrap();
        rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
        let outlet = Outlet::start("log", writer).unwrap();
        let line = vec![b'x'; OUTLET_MAX_BYTES - 1];
        outlet.push(&line);
        outlet.push(b"\n");
        let mut read = vec![0; OUTLET_MAX_BYTES];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(read, [&line[..], b"\n"].concat());
    }

    #[test]
    fn a_panic_is_a_line_of_the_log_and_waits_for_nobody() {
        let (outlet, mut reader) = unread();
        let lines = flood(&outlet);
        let before = panic::take_hook();
        outlet.take_panics();
        let panicking = |message| {
            let thread = thread::Builder::new().name("one".to_owned());
            thread.spawn(move || panic!("{message}")).unwrap().join()
        };
        assert!(panicking("no room").is_err(), "it comes to its end");
        read_flood(&mut reader, lines);
        assert!(panicking("with\u{1b} room").is_err());
        panic::set_hook(before);
        let mut told = reader.lines().map(Result::unwrap);
        let line =
            told.find(|line| line.contains(" ERROR thread one panicked at ") && !line.ends_with(": no room"));
        let line = line.unwrap();
        assert!(line.contains("outlet.rs:") && line.ends_with(": with\\x1b room"), "{line}");
    }
}
