//! Reading all entries, each checked: the one behind the last, and in frame mode its checksum and fields.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use diary_proto::block::{Step, Walker};
use diary_proto::entry::StoredLine;
use diary_proto::escape::is_safe;
use diary_proto::frame::Frame;
use diary_proto::limits::FRAME_MAX_BYTES;
use diary_proto::message::{ClientMessage, ServerMessage};
use diary_proto::{Seal, Which};

use crate::talk::{Protocol, frame_of, hello, line_mode};

/// How much of a socket is read at once.
const READ_BYTES: usize = 64 * 1024;

/// Every reader is the same producer, for it writes nothing.
const SECRET: [u8; 16] = [7; 16];

/// A connection that reads.
pub(super) struct Reader {
    stream: BufReader<TcpStream>,
    protocol: Protocol,
    /// What lines are sealed with, in frame mode, once the server has said what journal it is.
    seal: Seal,
}

impl Reader {
    /// Connects, and says Hello in frame mode.
    pub(super) fn open(address: &str, protocol: Protocol) -> anyhow::Result<Self> {
        Self::over(line_mode(address)?, protocol)
    }

    /// The same on a connection that was greeted.
    pub(super) fn over(mut stream: TcpStream, protocol: Protocol) -> anyhow::Result<Self> {
        if protocol == Protocol::Frame {
            stream.write_all(&hello(SECRET))?;
        }
        Ok(Self { stream: BufReader::with_capacity(READ_BYTES, stream), protocol, seal: Seal::PLAIN })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Reads all of history, again and again, and once at least.
    pub(super) fn read_until(&mut self, enough: &AtomicBool) -> anyhow::Result<()> {
        loop {
            self.history(|_| Ok(()))?;
            if enough.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    /// Reads all of history; returns how many entries it has. Only in frame mode lines are given to `visit`.
    pub(super) fn history(
        &mut self,
        mut visit: impl FnMut(&StoredLine<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<u64> {
        if self.protocol == Protocol::Line {
            self.send(b"/history all\n")?;
            return self.lines("ok history", |_| false);
        }
        self.send(&frame_of(&ClientMessage::History { id: 1, scope: Which::All.into() }))?;
        self.blocks(|_| false, &mut visit)
    }

    /// Asks for every entry, now and later, and reads nothing.
    pub(super) fn begin_follow(&mut self) -> anyhow::Result<()> {
        match self.protocol {
            Protocol::Frame => self.send(&frame_of(&ClientMessage::Follow { id: 1, from: Some(1) })),
            _ => self.send(b"/follow #1\n"),
        }
    }

    /// Reads what was asked for then, up to the entry `last`.
    pub(super) fn follow_to(&mut self, last: u64) -> anyhow::Result<()> {
        let reached = match self.protocol {
            Protocol::Frame => self.blocks(|seq| seq >= last, &mut |_| Ok(())),
            _ => self.lines("ok follow from 1", |seq| seq >= last),
        };
        reached.map(|_| ())
    }

    fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.get_mut().write_all(bytes)?)
    }

    /// Reads an answer in line mode up to its end, or to an entry; returns its seq.
    fn lines(&mut self, first: &str, is_last: impl Fn(u64) -> bool) -> anyhow::Result<u64> {
        let (mut line, mut seq) = (Vec::new(), 0);
        for number in 0.. {
            line.clear();
            let read = self.stream.read_until(b'\n', &mut line)?;
            ensure!(read > 0, "the connection ends behind {seq}");
            line.pop();
            let said = || String::from_utf8_lossy(&line);
            if number == 0 {
                ensure!(line == first.as_bytes(), "the answer begins with {:?}", said());
                continue;
            }
            if line.starts_with(b"end ") {
                ensure!(line == format!("end {seq}").as_bytes(), "{:?} comes behind {seq}", said());
                break;
            }
            ensure!(is_safe(&line) && is_entry(&line, seq + 1), "{:?} comes behind {seq}", said());
            seq += 1;
            if is_last(seq) {
                break;
            }
        }
        Ok(seq)
    }

    /// The same in frame mode.
    fn blocks(
        &mut self,
        is_last: impl Fn(u64) -> bool,
        visit: &mut impl FnMut(&StoredLine<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<u64> {
        let (mut walker, mut end) = (None, None);
        loop {
            match self.message()? {
                ServerMessage::Welcome(welcome) => self.seal = Seal::of_journal(welcome.journal_id),
                ServerMessage::Answer { first: 1, last, dense: true, .. } => {
                    (walker, end) = (Some(Walker::new(1, self.seal)), Some(last));
                }
                ServerMessage::Block { lines, .. } => {
                    let walker = walker.as_mut().context("a block without a beginning")?;
                    let mut walked = Ok(());
                    walker.walk(&lines, |step| match step {
                        Step::Entry(line) if walked.is_ok() => walked = visit(&line),
                        Step::Gap(gap) => walked = Err(anyhow::anyhow!("there is a {gap:?}")),
                        Step::Entry(_) => {}
                    });
                    walked?;
                    if is_last(walker.next_seq() - 1) {
                        return Ok(walker.next_seq() - 1);
                    }
                }
                ServerMessage::End { .. } => {
                    let (walker, last) = walker.zip(end).context("an end without a beginning")?;
                    let seq = walker.next_seq() - 1;
                    ensure!(seq == last, "{last} entries are promised, and {seq} come");
                    return Ok(seq);
                }
                other => bail!("a reader is told {other:?}"),
            }
        }
    }

    fn message(&mut self) -> anyhow::Result<ServerMessage> {
        loop {
            let mut length = [0; 4];
            self.stream.read_exact(&mut length)?;
            let length = usize::try_from(u32::from_be_bytes(length))?;
            ensure!((1..=FRAME_MAX_BYTES).contains(&length), "a frame has {length} bytes");
            let mut frame = vec![0; length];
            self.stream.read_exact(&mut frame)?;
            let frame = Frame { kind: frame[0], body: Bytes::from(frame).slice(1..) };
            if let Some(message) = ServerMessage::read(frame)? {
                return Ok(message);
            }
        }
    }
}

/// Whether a line shows the entry `seq`.
fn is_entry(line: &[u8], seq: u64) -> bool {
    let number = line.split(|&b| b == b' ').next().and_then(|word| std::str::from_utf8(word).ok());
    number.and_then(|number| number.parse().ok()) == Some(seq)
}
