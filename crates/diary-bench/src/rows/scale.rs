//! What size and company do: readers, followers, idle connections, a large diary, clients that never read.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::event::epoll;

use super::Bench;
use super::append::protocol;
use crate::load::{Load, Shape, text};
use crate::peers::{Kind, Peer, raise_file_limit};
use crate::table::{Goal, Row};
use crate::talk::{Protocol, line_mode};

/// Connections that do nothing, and those among which others append.
const IDLE: usize = 9_000;
const IDLE_BESIDE: usize = 5_000;

/// Until a server has given back what a connection no longer needs.
const SETTLES_IN: Duration = Duration::from_secs(5);

const FOLLOWERS: usize = 1_000;

/// Clients that ask for everything and read nothing.
const NEVER_READING: usize = 100;

/// The speed of a reader beside appends, in bytes a second.
const READER_BYTES_PER_SECOND: f64 = 200e6;

/// A load that a diary can bear for long.
const MIDDLE: Shape = Shape { connections: 64, depth: 16 };

/// The waits of appends, alone and while a client reads history at a steady speed.
pub(super) fn append_while_reading(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let filled = bench.small()?;
    let what = "ack latency p99 64×1, beside a reader at 200 MB/s";
    let mut row = Row::new(what, "µs", &["beside it", "alone"], &[Goal::AtMost(2.0, 1)]);
    let diary = Peer::start(Kind::Diary, filled.data(), false)?;
    let mut load = Load::open(&diary.address, Protocol::Line, Shape { connections: 64, depth: 1 })?;
    let mut slowest = f64::INFINITY;
    for round in 0..=bench.rounds {
        let alone = load.run(bench.each)?.wait(99);
        let stop = AtomicBool::new(false);
        let beside = thread::scope(|scope| {
            let reader = scope.spawn(|| read_steadily(&diary.address, &stop));
            let measured = load.run(bench.each);
            stop.store(true, Ordering::Relaxed);
            slowest = slowest.min(reader.join().expect("a reader does not panic")?);
            anyhow::Ok(measured?.wait(99))
        })?;
        if round > 0 {
            row.series[0].figures.push(beside * 1e6);
            row.series[1].figures.push(alone * 1e6);
        }
    }
    row.note = Some(format!("the reader got {:.0} MB/s at the least", slowest / 1e6));
    Ok(vec![row])
}

/// Reads history again and again, never faster than it should. Returns how fast it was, in bytes a second.
fn read_steadily(address: &str, stop: &AtomicBool) -> anyhow::Result<f64> {
    let mut stream = line_mode(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    const END: &[u8] = b"\nend ";
    let mut scratch = vec![0; 256 * 1024];
    // What the end may have begun with in an earlier read stays in front.
    let mut kept = 0;
    let (began, mut total) = (Instant::now(), 0.0);
    stream.write_all(b"/history all\n")?;
    while !stop.load(Ordering::Relaxed) {
        let read = stream.read(&mut scratch[kept..])?;
        ensure!(read > 0, "the diary closed a reader's connection");
        total += read as f64;
        let filled = kept + read;
        if memchr::memmem::find(&scratch[..filled], END).is_some() {
            stream.write_all(b"/history all\n")?;
            kept = 0;
        } else {
            kept = filled.min(END.len() - 1);
            scratch.copy_within(filled - kept..filled, 0);
        }
        let due = Duration::from_secs_f64(total / READER_BYTES_PER_SECOND);
        // It is early by this much.
        thread::sleep(due.saturating_sub(began.elapsed()));
    }
    Ok(total / began.elapsed().as_secs_f64())
}

/// From the process's start to its greeting, of a large diary, and what it holds once it has judged keys. A kill
/// comes in the middle of appends.
pub(super) fn start(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let filled = bench.large()?;
    let size =
        format!("{:.1} GB, {:.0} M entries", filled.bytes()? as f64 / 1e9, filled.entries as f64 / 1e6);
    let mut rows = Vec::new();
    let mut producers = 0;
    for clean in [true, false] {
        let how = if clean { "a clean stop" } else { "SIGKILL" };
        let mut time = Row::new(format!("start after {how}, {size}"), "ms", &["diary"], &[Goal::Below(50.0)]);
        let what = format!("most resident from such a start to the first ack with a key, {size}");
        let mut memory = Row::new(what, "MiB", &["diary"], &[Goal::Below(16.0)]);
        for round in 0..=bench.rounds {
            let diary = Peer::start(Kind::Diary, filled.data(), false)?;
            let greeted = line_mode(&diary.address).map(|_| diary.began.elapsed())?;
            let one = Shape { connections: 1, depth: 1 };
            // A producer of its own each time. Its append is answered once all keys are known.
            producers += 1;
            Load::open_as(&diary.address, Protocol::Frame, one, producers)?.run(Duration::ZERO)?;
            if round > 0 {
                time.series[0].figures.push(greeted.as_secs_f64() * 1e3);
                memory.series[0].figures.push(diary.memory("VmHWM")? as f64 / 1024.0 / 1024.0);
            }
            if clean {
                diary.stop()?;
            } else {
                producers += 1;
                let deep = Shape { connections: 64, depth: 128 };
                let mut load = Load::open_as(&diary.address, Protocol::Frame, deep, producers * 1000)?;
                let each = bench.each;
                let load = thread::spawn(move || load.run(each * 2));
                thread::sleep(each);
                diary.kill();
                ensure!(load.join().expect("a load does not panic").is_err(), "the kill came too late");
            }
        }
        rows.extend([time, memory]);
    }
    Ok(rows)
}

/// Memory of connections that have said something once, and then nothing.
pub(super) fn idle(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    raise_file_limit()?;
    let kinds = bench.with(&[Kind::Diary, Kind::Redis]);
    let names: Vec<String> = kinds.iter().map(Kind::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut row =
        Row::new(format!("resident for each of {IDLE} idle connections"), "KiB", &names, &[Goal::Below(4.0)]);
    for (place, kind) in kinds.into_iter().enumerate() {
        let folder = tempfile::tempdir()?;
        let peer = Peer::start(kind, folder.path(), false)?;
        // What a server takes once it has worked is not the connections'.
        Load::open(&peer.address, protocol(kind), MIDDLE)?.run(bench.each)?;
        // Redis gives its connections' buffers back after some seconds.
        thread::sleep(SETTLES_IN);
        let before = peer.memory("VmRSS")?;
        let mut idle = Load::open(&peer.address, protocol(kind), Shape { connections: IDLE, depth: 1 })?;
        idle.run(Duration::ZERO)?;
        thread::sleep(SETTLES_IN);
        let after = peer.memory("VmRSS")?;
        row.series[place].figures.push(after.saturating_sub(before) as f64 / IDLE as f64 / 1024.0);
    }
    Ok(vec![row])
}

/// One writer, many followers.
pub(super) fn followers(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    raise_file_limit()?;
    let kinds = bench.with(&[Kind::Diary, Kind::Redis]);
    let names: Vec<String> = kinds.iter().map(Kind::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut rows = Vec::new();
    for depth in [1, 64] {
        let what = format!("{FOLLOWERS} followers of one writer at depth {depth}");
        let goals = [Goal::AtLeast(1.0, 1)];
        let mut row = Row::new(what, "deliveries/s", &names, &goals[..kinds.len() - 1]);
        let folder = tempfile::tempdir()?;
        let peers = super::append::start(&kinds, folder.path(), false)?;
        let mut followings = peers
            .iter()
            .map(|peer| Following::open(peer.kind, &peer.address))
            .collect::<anyhow::Result<Vec<_>>>()?;
        for round in 0..=bench.rounds {
            for (place, following) in followings.iter_mut().enumerate() {
                let rate = following.run(bench.each, depth)?;
                if round > 0 {
                    row.series[place].figures.push(rate);
                }
            }
        }
        rows.push(row);
    }
    Ok(rows)
}

/// A writer and its followers.
struct Following {
    kind: Kind,
    writer: TcpStream,
    followers: Vec<TcpStream>,
    epoll: rustix::fd::OwnedFd,
}

impl Following {
    fn open(kind: Kind, address: &str) -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let connect = || match kind {
            Kind::Redis => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                anyhow::Ok(stream)
            }
            _ => line_mode(address),
        };
        let followers = (0..FOLLOWERS)
            .map(|number| {
                let mut stream = connect()?;
                let (ask, lines): (&[u8], _) = match kind {
                    Kind::Redis => (b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n", 6),
                    _ => (b"/follow\n", 1),
                };
                stream.write_all(ask)?;
                let mut byte = [0];
                let mut seen = 0;
                while seen < lines {
                    stream.read_exact(&mut byte)?;
                    seen += usize::from(byte == *b"\n");
                }
                stream.set_nonblocking(true)?;
                let data = epoll::EventData::new_u64(number as u64);
                epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)?;
                Ok(stream)
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self { kind, writer: connect()?, followers, epoll })
    }

    /// Writes some entries, waits until every follower has them, and writes again.
    fn run(&mut self, duration: Duration, depth: usize) -> anyhow::Result<f64> {
        let text = text();
        let (entry, lines_each, answer_lines) = match self.kind {
            // `*3`, and two lines for each of `message`, the channel and the text; `:1000` to the writer.
            Kind::Redis => (format!("*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n${}\r\n{text}\r\n", text.len()), 7, 1),
            _ => (format!("{text}\n"), 1, 1),
        };
        let request = entry.repeat(depth);
        let mut scratch = vec![0; 256 * 1024];
        let mut events = Vec::with_capacity(1024);
        let (began, mut deliveries) = (Instant::now(), 0);
        while began.elapsed() < duration {
            self.writer.write_all(request.as_bytes())?;
            let mut left = FOLLOWERS * depth * lines_each;
            while left > 0 {
                events.clear();
                let timeout = Duration::from_secs(30).try_into()?;
                let ready =
                    epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout))?;
                ensure!(ready > 0, "{left} lines have not come");
                for event in &events {
                    let follower = &mut self.followers[usize::try_from(event.data.u64())?];
                    let read = follower.read(&mut scratch)?;
                    let lines = memchr::memchr_iter(b'\n', &scratch[..read]).count();
                    left = left.checked_sub(lines).context("more lines than were written")?;
                }
            }
            deliveries += FOLLOWERS * depth;
            let mut answers = depth * answer_lines;
            while answers > 0 {
                let read = self.writer.read(&mut scratch)?;
                ensure!(read > 0, "the server closed the writer's connection");
                answers -= memchr::memchr_iter(b'\n', &scratch[..read]).count();
            }
        }
        Ok(deliveries as f64 / began.elapsed().as_secs_f64())
    }
}

/// The most memory under full load, with clients that ask for everything and read nothing.
pub(super) fn memory(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let what = format!("most resident under full load, {NEVER_READING} clients never read");
    let mut row = Row::new(what, "MiB", &["diary"], &[Goal::Below(64.0)]);
    let filled = bench.small()?;
    let diary = Peer::start(Kind::Diary, filled.data(), false)?;
    let never = (0..NEVER_READING).map(|number| {
        let mut stream = line_mode(&diary.address)?;
        match number % 4 {
            0 => stream.write_all(b"/history all\n")?,
            1 => stream.write_all(b"/search a\n")?,
            2 => stream.write_all(b"/follow\n")?,
            _ => {
                stream.set_nonblocking(true)?;
                let lines = "a line\n".repeat(1000);
                while stream.write(lines.as_bytes()).is_ok() {}
            }
        }
        Ok(stream)
    });
    let _never = never.collect::<anyhow::Result<Vec<_>>>()?;
    for _ in 0..bench.rounds {
        Load::open(&diary.address, Protocol::Line, Shape { connections: 500, depth: 128 })?
            .run(bench.each)?;
        Load::open(&diary.address, Protocol::Frame, Shape { connections: 64, depth: 128 })?
            .run(bench.each)?;
        row.series[0].figures.push(diary.memory("VmHWM")? as f64 / 1024.0 / 1024.0);
    }
    Ok(vec![row])
}

/// What a diary can take when it is large, or has many connections, beside one that is new.
pub(super) fn growth(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    raise_file_limit()?;
    let filled = bench.large()?;
    let name = format!("append 64×16 at {:.1} GB", filled.bytes()? as f64 / 1e9);
    let mut large = Row::new(name, "entries/s", &["large", "new"], &[Goal::AtLeast(0.95, 1)]);
    let name = format!("append 64×16 beside {IDLE_BESIDE} idle connections");
    let mut beside = Row::new(name, "entries/s", &["beside them", "alone"], &[Goal::AtLeast(0.95, 1)]);
    let folder = tempfile::tempdir()?;
    let old = Peer::start(Kind::Diary, filled.data(), false)?;
    let (one, other) = (folder.path().join("1"), folder.path().join("2"));
    let new = Peer::start(Kind::Diary, &one, false)?;
    let crowded = Peer::start(Kind::Diary, &other, false)?;
    let _idle = Load::open(&crowded.address, Protocol::Line, Shape { connections: IDLE_BESIDE, depth: 1 })?;
    for round in 0..=bench.rounds {
        let mut rates = Vec::new();
        for peer in [&old, &new, &crowded] {
            let mut load = Load::open(&peer.address, Protocol::Line, MIDDLE)?;
            rates.push(load.run(bench.each)?.per_second());
        }
        if round > 0 {
            large.series[0].figures.push(rates[0]);
            large.series[1].figures.push(rates[1]);
            beside.series[0].figures.push(rates[2]);
            beside.series[1].figures.push(rates[1]);
        }
    }
    Ok(vec![large, beside])
}
