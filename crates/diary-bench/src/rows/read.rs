//! Reading: all of history, one place in it, and a search.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use diary_client::{Client, Options};
use diary_proto::Which;
use diary_proto::message::ClientMessage;

use super::Bench;
use crate::fill::{Filled, NEEDLE};
use crate::load::{Load, Shape};
use crate::peers::{Kind, Peer, program};
use crate::table::{Goal, Row};
use crate::talk::{Protocol, frame_of, hello, line_mode};

/// How much a reader takes of its socket at once.
const READ_BYTES: usize = 1024 * 1024;

/// Requests for one place.
const SEEKS: usize = 200;

/// The type of the frame that ends an answer (see the protocol's page).
const END: u8 = 0x16;

/// All of history as bytes: the diary in frame mode, and nginx with the same files.
pub(super) fn bytes(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let filled = bench.small()?;
    let size = filled.bytes()?;
    let goals = [Goal::AtLeast(0.5, 1)];
    let names = if bench.is_without("nginx") { &["diary"][..] } else { &["diary", "nginx"] };
    let mut row =
        Row::new("read all history, frame mode, bytes only", "MB/s", names, &goals[..names.len() - 1]);
    let diary = Peer::start(Kind::Diary, filled.data(), false)?;
    let nginx =
        names.get(1).map(|_| Peer::start(Kind::Nginx, &filled.data().join("diary"), false)).transpose()?;
    let mut scratch = vec![0; READ_BYTES];
    for round in 0..=bench.rounds {
        let mut times = vec![timed(|| read_frames(&diary.address, size, &mut scratch))?];
        if let Some(nginx) = &nginx {
            times.push(timed(|| read_files(&nginx.address, filled, &mut scratch))?);
        }
        for (place, seconds) in times.into_iter().enumerate().filter(|_| round > 0) {
            row.series[place].figures.push(size as f64 / seconds / 1e6);
        }
    }
    Ok(vec![row])
}

/// All of history with every line checked by the client library, and Redis's XRANGE, in entries.
pub(super) fn checked(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    beside_redis(bench, "read all history, frame mode, every checksum checked", 5.0, |diary, entries| {
        runtime.block_on(async {
            let client = Client::connect(diary.parse()?, Options::default()).await?;
            let (mut blocks, mut read) = (client.blocks(Which::All), 0);
            while let Some(block) = blocks.next().await {
                read += block?.entries;
            }
            ensure!(read == entries, "{read} entries instead of {entries}");
            Ok(())
        })
    })
}

/// All of history in line mode, and Redis's XRANGE, in entries.
pub(super) fn lines(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let mut scratch = vec![0; READ_BYTES];
    beside_redis(bench, "read all history, line mode", 2.0, |diary, entries| {
        let mut stream = line_mode(diary)?;
        stream.write_all(b"/history all\n")?;
        // `ok history`, the entries, `end COUNT`.
        let read = count_lines(&mut stream, entries + 2, &mut scratch)?;
        ensure!(read == entries + 2, "{read} lines for {entries} entries");
        Ok(())
    })
}

fn beside_redis(
    bench: &Bench,
    what: &str,
    times: f64,
    mut read: impl FnMut(&str, u64) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Row>> {
    let filled = bench.small()?;
    let names = if bench.is_without("redis") { &["diary"][..] } else { &["diary", "redis XRANGE"] };
    let mut row = Row::new(what, "entries/s", names, &[Goal::AtLeast(times, 1)][..names.len() - 1]);
    let diary = Peer::start(Kind::Diary, filled.data(), false)?;
    let folder = tempfile::tempdir()?;
    let redis = names.get(1).map(|_| redis_with_entries(folder.path(), bench)).transpose()?;
    let mut scratch = vec![0; READ_BYTES];
    for round in 0..=bench.rounds {
        let mut rates = vec![filled.entries as f64 / timed(|| read(&diary.address, filled.entries))?];
        if let Some((redis, entries)) = &redis {
            rates.push(*entries as f64 / timed(|| xrange(&redis.address, *entries, &mut scratch))?);
        }
        for (place, rate) in rates.into_iter().enumerate().filter(|_| round > 0) {
            row.series[place].figures.push(rate);
        }
    }
    Ok(vec![row])
}

/// From asking for the newest 20, or for any place of a large diary, to the first entry.
pub(super) fn seek(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let filled = bench.large()?;
    let diary = Peer::start(Kind::Diary, filled.data(), false)?;
    // Steps that share no factor with the number of entries go everywhere.
    let any =
        |number: usize| format!("/history #{}..\n", (number as u64 * 1_299_709 * 7_919) % filled.entries + 1);
    let newest = |_: usize| "/history 20\n".to_owned();
    let asked: [(&str, &dyn Fn(usize) -> String); 2] = [("the newest 20", &newest), ("any seq on", &any)];
    let mut rows = Vec::new();
    for (what, request) in asked {
        let name = format!("first entry of {what}, {:.1} GB", filled.bytes()? as f64 / 1e9);
        let mut row = Row::new(name, "µs, 99 of 100 in a round", &["diary"], &[Goal::Below(1000.0)]);
        for round in 0..=bench.rounds {
            let waits =
                (0..SEEKS).map(|number| first_entry(&diary.address, &request(round * SEEKS + number)));
            let mut waits = waits.collect::<anyhow::Result<Vec<f64>>>()?;
            waits.sort_by(f64::total_cmp);
            if round > 0 {
                row.series[0].figures.push(waits[SEEKS * 99 / 100 - 1] * 1e6);
            }
        }
        rows.push(row);
    }
    Ok(rows)
}

/// A search for a word that few entries have, and ripgrep's on the same files.
pub(super) fn search(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let filled = bench.small()?;
    let needle = NEEDLE.to_lowercase();
    let names = if bench.is_without("rg") { &["diary"][..] } else { &["diary", "rg -c -i"] };
    let mut row = Row::new("search", "MB/s", names, &[Goal::AtLeast(0.5, 1)][..names.len() - 1]);
    let diary = Peer::start(Kind::Diary, filled.data(), false)?;
    let files = filled.files()?;
    let mut scratch = vec![0; READ_BYTES];
    for round in 0..=bench.rounds {
        let mut found = Vec::new();
        let mut times = vec![timed(|| {
            let mut stream = line_mode(&diary.address)?;
            stream.write_all(format!("/search {needle}\n/quit\n").as_bytes())?;
            // All but `ok search`, `end COUNT` and `bye`.
            found.push(count_lines(&mut stream, u64::MAX, &mut scratch)? - 3);
            Ok(())
        })?];
        if let Some(rg) = program("rg").filter(|_| names.len() > 1) {
            times.push(timed(|| {
                let counts =
                    Command::new(rg).args(["-c", "-i", "--no-filename", &needle]).args(&files).output()?;
                let counts = String::from_utf8(counts.stdout)?;
                found.push(counts.lines().filter_map(|count| count.parse::<u64>().ok()).sum());
                Ok(())
            })?);
        }
        ensure!(found.iter().all(|&count| count > 0 && count == found[0]), "found {found:?}");
        for (place, seconds) in times.into_iter().enumerate().filter(|_| round > 0) {
            row.series[place].figures.push(filled.bytes()? as f64 / seconds / 1e6);
        }
    }
    Ok(vec![row])
}

/// How long it takes, in seconds.
pub(super) fn timed(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed().as_secs_f64())
}

/// Asks for a history, and counts its entries.
pub(super) fn history(address: &str, which: &str) -> anyhow::Result<u64> {
    let mut stream = line_mode(address)?;
    stream.write_all(format!("/history {which}\n").as_bytes())?;
    for (line, number) in BufReader::new(stream).lines().zip(0..) {
        if line?.starts_with("end ") {
            return Ok(number - 1);
        }
    }
    bail!("a history without an end")
}

/// From asking to the first entry, in seconds.
fn first_entry(address: &str, request: &str) -> anyhow::Result<f64> {
    let mut stream = line_mode(address)?;
    let began = Instant::now();
    stream.write_all(request.as_bytes())?;
    let mut answers = BufReader::new(&stream);
    let mut lines = String::new();
    answers.read_line(&mut lines)?;
    answers.read_line(&mut lines)?;
    let wait = began.elapsed().as_secs_f64();
    ensure!(
        lines.starts_with("ok history\n") && lines.contains(" local "),
        "{request} is answered {lines:?}"
    );
    Ok(wait)
}

/// Reads so many lines, or to the end; returns how many there were.
fn count_lines(stream: &mut impl Read, most: u64, scratch: &mut [u8]) -> anyhow::Result<u64> {
    let mut lines = 0;
    while lines < most {
        let read = stream.read(scratch)?;
        if read == 0 {
            break;
        }
        lines += memchr::memchr_iter(b'\n', &scratch[..read]).count() as u64;
    }
    Ok(lines)
}

/// Asks for all of history in frame mode, and counts the bytes of its blocks.
fn read_frames(address: &str, size: u64, scratch: &mut [u8]) -> anyhow::Result<()> {
    let mut stream = line_mode(address)?;
    stream.write_all(&hello([0; 16]))?;
    stream.write_all(&frame_of(&ClientMessage::History { id: 1, scope: Which::All.into() }))?;
    let (mut head, mut body_left, mut total) = (Vec::with_capacity(5), 0_usize, 0);
    loop {
        let read = stream.read(scratch)?;
        ensure!(read > 0, "the diary closed the connection");
        total += read as u64;
        let mut bytes = &scratch[..read];
        while !bytes.is_empty() {
            let body = body_left.min(bytes.len());
            (bytes, body_left) = (&bytes[body..], body_left - body);
            let missing = (5 - head.len()).min(bytes.len());
            head.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if let [a, b, c, d, kind] = head[..] {
                if kind == END {
                    ensure!(total >= size, "{total} bytes of {size}");
                    return Ok(());
                }
                body_left = u32::from_be_bytes([a, b, c, d]) as usize - 1;
                head.clear();
            }
        }
    }
}

/// Gets every file by HTTP on one connection, and counts the bytes.
fn read_files(address: &str, filled: &Filled, scratch: &mut [u8]) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    for file in filled.files()? {
        let name = file.file_name().and_then(|name| name.to_str()).context("a day file has a name")?;
        stream.write_all(format!("GET /{name} HTTP/1.1\r\nHost: bench\r\n\r\n").as_bytes())?;
        let (mut head, mut left) = (Vec::new(), None);
        while left != Some(0) {
            let read = stream.read(scratch)?;
            ensure!(read > 0, "nginx closed the connection");
            left = match left {
                Some(left) => Some(u64::checked_sub(left, read as u64).context("nginx sends too much")?),
                None => {
                    head.extend_from_slice(&scratch[..read]);
                    match memchr::memmem::find(&head, b"\r\n\r\n") {
                        None => None,
                        Some(end) => {
                            let text = String::from_utf8_lossy(&head[..end]).to_lowercase();
                            ensure!(text.starts_with("http/1.1 200"), "nginx says {text}");
                            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
                            let length: u64 = length.context("no length")?.parse()?;
                            Some(length - (head.len() - end - 4) as u64)
                        }
                    }
                }
            };
        }
    }
    Ok(())
}

/// A Redis with a stream of entries; a tenth of what the diary has, which is all in its memory.
fn redis_with_entries(folder: &std::path::Path, bench: &Bench) -> anyhow::Result<(Peer, u64)> {
    let redis = Peer::start(Kind::Redis, folder, false)?;
    let mut load = Load::open(&redis.address, Protocol::Redis, Shape { connections: 8, depth: 1000 })?;
    let mut entries = 0;
    let wanted = if bench.quick { 100_000 } else { 1_000_000 };
    while entries < wanted {
        entries += load.run(Duration::from_millis(200))?.entries;
    }
    Ok((redis, entries))
}

/// Reads the whole stream, and counts the lines of the answer: for each entry eight.
fn xrange(address: &str, entries: u64, scratch: &mut [u8]) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"*4\r\n$6\r\nXRANGE\r\n$1\r\ns\r\n$1\r\n-\r\n$1\r\n+\r\n")?;
    // `*2`, the id's length and the id, `*2`, and two for each of the field and its text.
    let expected = 1 + entries * 8;
    let read = count_lines(&mut stream, expected, scratch)?;
    if read != expected {
        bail!("{read} lines instead of {expected}");
    }
    Ok(())
}
