//! Hostile peers: each comes, misbehaves in its way, and goes. What the server tells them is sound all the same.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use diary_proto::escape::is_safe;
use diary_proto::frame::FrameCodec;
use diary_proto::message::ServerMessage;
use rustix::net::SendFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UdpSocket, UnixStream};
use tokio::time::timeout;
use tokio_util::codec::Decoder;

use super::{Doors, scripts};
use crate::support::{PATIENCE, Random, connect_narrow};

/// How long a peer stays that waits for nothing in particular.
const STAY: Duration = Duration::from_millis(50);

/// A peer that reads to the end leaves after so much.
const READ_MAX_BYTES: usize = 1024 * 1024;

/// The longest reply to a datagram.
const REPLY_MAX_BYTES: usize = 1024;

/// One of them, of any kind. `what` names it.
pub(super) async fn visit(doors: &Doors, random: &mut Random, what: &str) {
    match random.below(18) {
        0 => vanish(doors, random).await,
        1 => crawl(doors, random).await,
        16 => call(doors, random, what).await,
        17 => {
            let (header, sound) = scripts::header(random);
            let input = scripts::any(random);
            let said = talk(&doors.proxy, &[&header[..], &input].concat(), random, what).await;
            // Behind another header nobody knows where the input begins.
            if sound || said.starts_with(b"error ") {
                // Nor what it begins with, if an urgent byte came before it.
                let greeted = said.iter().position(|&b| b == b'\n').map_or(0, |end| end + 1);
                check(&said, said.get(greeted) == Some(&0), what);
            }
        }
        2 | 3 => shoot(doors, random, what).await,
        4 | 5 => {
            let input = [scripts::lines(random), scripts::any(random)].concat();
            let said = talk(&doors.quiet, &input, random, what).await;
            assert_eq!(said, b"", "{what}: a quiet listener says something");
        }
        _ => {
            let input = scripts::any(random);
            let said = talk(&doors.open, &input, random, what).await;
            check(&said, input.first() == Some(&0), what);
        }
    }
}

/// Connects and is gone.
async fn vanish(doors: &Doors, random: &mut Random) {
    let stream =
        TcpStream::connect(random.pick(&[&*doors.open, &*doors.quiet, &*doors.proxy])).await.unwrap();
    if random.once_in(2) {
        stream.set_zero_linger().unwrap();
    }
}

/// Asks for much and reads little, slowly.
async fn crawl(doors: &Doors, random: &mut Random) {
    let mut stream = connect_narrow(&doors.open).await;
    let request =
        if random.once_in(2) { "/history all\n/follow #1\n".into() } else { scripts::frames(random) };
    let reads = random.below(30);
    let crawling = async {
        stream.write_all(&request).await?;
        for _ in 0..reads {
            stream.read_exact(&mut [0; 100]).await?;
            tokio::task::yield_now().await;
        }
        std::io::Result::Ok(())
    };
    // However it ends.
    let _ = timeout(STAY, crawling).await;
    if random.once_in(2) {
        stream.set_zero_linger().unwrap();
    }
}

/// Sends datagrams, and reads some replies.
async fn shoot(doors: &Doors, random: &mut Random, what: &str) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let quiet = random.once_in(2);
    socket.connect(if quiet { &doors.quiet_udp } else { &doors.udp }).await.unwrap();
    for _ in 0..random.below(5) {
        // The system may be out of buffers.
        let _ = socket.send(&scripts::datagram(random)).await;
    }
    let mut reply = vec![0; 65_536];
    while let Ok(Ok(length)) = timeout(STAY / 5, socket.recv(&mut reply)).await {
        assert!(!quiet && length <= REPLY_MAX_BYTES, "{what}: a reply has {length} bytes");
        check_lines(&reply[..length], what);
    }
}

/// Comes through the Unix socket, and leaves after a while.
async fn call(doors: &Doors, random: &mut Random, what: &str) {
    let mut stream = UnixStream::connect(&doors.unix).await.unwrap();
    let (input, ends) = (scripts::any(random), random.once_in(2));
    let mut said = Vec::new();
    let calling = async {
        stream.write_all(&input).await?;
        if ends {
            stream.shutdown().await?;
        }
        while said.len() < READ_MAX_BYTES && stream.read_buf(&mut said).await? > 0 {}
        std::io::Result::Ok(())
    };
    // However it ends.
    let _ = timeout(STAY, calling).await;
    check(&said, input.first() == Some(&0), what);
}

/// Sends `input` in pieces, with urgent bytes between some of them, and ends in one of several ways. Returns what it was
/// told until then.
async fn talk(address: &str, input: &[u8], random: &mut Random, what: &str) -> Vec<u8> {
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let mut said = Vec::new();
    let to_the_end = !random.once_in(3);
    let (deaf, reset) = (!to_the_end && random.once_in(2), random.once_in(2));
    {
        let writing = async {
            // It may be closed at any point.
            if send(&mut writer, input, random).await.is_ok() && to_the_end {
                let _ = writer.shutdown().await;
            }
        };
        if to_the_end {
            let mut writing = pin!(async {
                writing.await;
                pending::<()>().await;
            });
            tokio::select! {
                () = &mut writing => {}
                () = read_to_the_end(&mut reader, &mut said, what) => {}
            }
        } else {
            let reading = async {
                while !deaf && reader.read_buf(&mut said).await.is_ok_and(|read| read > 0) {}
                pending::<()>().await;
            };
            let both = async {
                tokio::select! {
                    () = writing => {}
                    () = reading => {}
                }
            };
            let _ = timeout(STAY, both).await;
        }
    }
    if reset {
        reader.reunite(writer).unwrap().set_zero_linger().unwrap();
    }
    said
}

async fn send(writer: &mut OwnedWriteHalf, input: &[u8], random: &mut Random) -> std::io::Result<()> {
    let mut rest = input;
    while !rest.is_empty() {
        let most = if random.once_in(2) { rest.len() } else { rest.len().min(64) };
        let (piece, tail) = rest.split_at(1 + random.below(most));
        writer.write_all(piece).await?;
        rest = tail;
        match random.below(8) {
            // The kernel takes it out of the stream, leaves it in, or has no room for it.
            0 => _ = rustix::net::send(writer.as_ref(), &[random.byte()], SendFlags::OOB),
            1 => tokio::task::yield_now().await,
            2 if random.once_in(10) => tokio::time::sleep(STAY / 10).await,
            _ => {}
        }
    }
    Ok(())
}

/// Reads until the server closes, as it must once the input has ended, unless the peer follows.
async fn read_to_the_end(reader: &mut OwnedReadHalf, said: &mut Vec<u8>, what: &str) {
    let mut waits = 0;
    while said.len() < READ_MAX_BYTES {
        match timeout(STAY, reader.read_buf(said)).await {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(_)) => waits = 0,
            Err(_) if follows(said) => return,
            Err(_) => {
                waits += 1;
                let told = String::from_utf8_lossy(said);
                assert!(STAY * waits < PATIENCE, "{what}: the server does not close behind {told}");
            }
        }
    }
}

/// Whether a follow began: in words, or as the last seq of an answer.
fn follows(said: &[u8]) -> bool {
    let has = |part: &[u8]| said.windows(part.len()).any(|window| window == part);
    has(b"ok follow from ") || has(&u64::MAX.to_be_bytes())
}

/// Whatever a peer did: a greeting, and then whole messages of its mode, of which the last may be cut.
fn check(said: &[u8], framed: bool, what: &str) {
    let Some(end) = said.iter().position(|&b| b == b'\n') else { return };
    let greeting = String::from_utf8_lossy(&said[..end]);
    let rest = &said[end + 1..];
    if let Some(refusal) = greeting.strip_prefix("error ") {
        assert!(refusal.starts_with("proxy: ") && rest.is_empty(), "{what}: {greeting}");
        return;
    }
    assert!(greeting.starts_with("diary/1 ready "), "{what}: {greeting}");
    if !framed {
        return check_lines(rest, what);
    }
    let mut rest = BytesMut::from(rest);
    while let Some(frame) = FrameCodec.decode(&mut rest).unwrap_or_else(|error| panic!("{what}: {error}")) {
        ServerMessage::read(frame).unwrap_or_else(|refusal| panic!("{what}: {refusal}"));
    }
}

/// Any terminal may show them, once telnet's answers are taken out.
fn check_lines(said: &[u8], what: &str) {
    let mut words = Vec::new();
    let mut rest = said.iter();
    while let Some(&byte) = rest.next() {
        // IAC, a verb, an option.
        if byte == 0xff {
            rest.nth(1);
        } else {
            words.push(byte);
        }
    }
    let whole = words.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
    let lines = std::str::from_utf8(&words[..whole]).unwrap_or_else(|error| panic!("{what}: {error}"));
    for line in lines.lines() {
        assert!(is_safe(line.as_bytes()), "{what}: {line:?} would reach a terminal");
    }
}
