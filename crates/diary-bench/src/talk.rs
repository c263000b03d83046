//! How servers are spoken to: what an append looks like, and how its acks are counted.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::BytesMut;
use diary_proto::frame::FrameCodec;
use diary_proto::message::{Append, ClientMessage, Hello, ServerMessage, Texts};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketType};
use tokio_util::codec::Decoder;

use crate::stream::{Stream, TLS};

/// A server that answers nothing for so long hangs.
pub(crate) const HANG: Duration = Duration::from_secs(30);

/// A protocol in which a server takes appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Line mode: the diary's, and the bare loop's.
    Line,
    /// Frame mode, with keys.
    Frame,
    /// Redis: XADD in RESP2.
    Redis,
}

/// One connection's appends.
pub(crate) struct Talk {
    protocol: Protocol,
    /// What every append says.
    text: String,
    /// The counter of the next append.
    counter: u64,
    answers: Answers,
}

/// What is counted of a connection's answers.
enum Answers {
    /// Lines; `per_entry` of them answer an append.
    Lines { seen: usize, per_entry: usize, in_line: bool },
    /// Frames, of which one may have come in part.
    Frames(BytesMut),
}

impl Talk {
    /// Connects, up to the point from which appends may be sent. `number` tells connections apart. With `tls:` before it,
    /// an address has TLS.
    pub(crate) fn open(
        address: &str,
        protocol: Protocol,
        number: usize,
        text: String,
    ) -> anyhow::Result<(Stream, Self)> {
        let mut stream = match address.strip_prefix(TLS) {
            Some(address) => Stream::tls(connect(address)?)?,
            None => Stream::plain(connect(address)?),
        };
        if protocol != Protocol::Redis {
            read_greeting(address, &mut stream)?;
        }
        let answers = match protocol {
            Protocol::Line => Answers::Lines { seen: 0, per_entry: 1, in_line: false },
            // `$15`, and then the entry's id.
            Protocol::Redis => Answers::Lines { seen: 0, per_entry: 2, in_line: false },
            Protocol::Frame => {
                stream.write_all(&hello(format!("bench {number:010}")))?;
                stream.flush()?;
                Answers::Frames(BytesMut::new())
            }
        };
        Ok((stream, Self { protocol, text, counter: 0, answers }))
    }

    /// Adds `count` appends to `out`.
    pub(crate) fn append(&mut self, count: usize, out: &mut Vec<u8>) {
        match self.protocol {
            Protocol::Line => {
                for _ in 0..count {
                    out.extend_from_slice(self.text.as_bytes());
                    out.push(b'\n');
                }
            }
            Protocol::Redis => {
                let head =
                    format!("*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$1\r\nt\r\n${}\r\n", self.text.len());
                for _ in 0..count {
                    out.extend_from_slice(head.as_bytes());
                    out.extend_from_slice(self.text.as_bytes());
                    out.extend_from_slice(b"\r\n");
                }
            }
            Protocol::Frame => {
                let texts = Texts::new(std::iter::repeat_n(&*self.text, count));
                ClientMessage::Append(Append { first_counter: self.counter, retry: false, texts }).write(out);
            }
        }
        self.counter += count as u64;
    }

    /// How many appends these bytes acknowledge.
    pub(crate) fn acked(&mut self, bytes: &[u8]) -> anyhow::Result<usize> {
        match &mut self.answers {
            Answers::Lines { seen, per_entry, in_line } => {
                let fits: fn(u8) -> bool = match self.protocol {
                    Protocol::Line => |first| first == b'o',
                    _ => |first| first == b'$' || first.is_ascii_digit(),
                };
                let check = |start: usize| match bytes.get(start) {
                    Some(&first) if !fits(first) => {
                        bail!("an append was answered {:?}", String::from_utf8_lossy(&bytes[start..]))
                    }
                    _ => Ok(()),
                };
                if !*in_line {
                    check(0)?;
                }
                for end in memchr::memchr_iter(b'\n', bytes) {
                    *seen += 1;
                    check(end + 1)?;
                }
                *in_line = bytes.last().is_some_and(|&last| last != b'\n');
                let entries = *seen / *per_entry;
                *seen %= *per_entry;
                Ok(entries)
            }
            Answers::Frames(unread) => {
                unread.extend_from_slice(bytes);
                let mut entries = 0;
                while let Some(frame) = FrameCodec.decode(unread)? {
                    match ServerMessage::read(frame)? {
                        Some(ServerMessage::Acks(runs)) => {
                            entries += runs.iter().map(|run| run.count as usize).sum::<usize>();
                        }
                        Some(ServerMessage::Welcome(_)) => {}
                        other => bail!("an append was answered {other:?}"),
                    }
                }
                Ok(entries)
            }
        }
    }
}

/// Connects to a diary, and reads its greeting.
pub(crate) fn line_mode(address: &str) -> anyhow::Result<TcpStream> {
    let stream = connect(address)?;
    read_greeting(address, &stream)?;
    Ok(stream)
}

/// The same with a receive buffer of so many bytes at the most, on an address of IPv4 or IPv6.
pub(crate) fn narrow_line_mode(address: &str, buffer_bytes: usize) -> anyhow::Result<TcpStream> {
    let to: SocketAddr = address.parse()?;
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    // Once connected, the peer has been promised more.
    set_socket_recv_buffer_size(&socket, buffer_bytes)?;
    rustix::net::connect(&socket, &to)?;
    let stream = ready(socket.into())?;
    read_greeting(address, &stream)?;
    Ok(stream)
}

fn read_greeting(address: &str, stream: impl Read) -> anyhow::Result<()> {
    // The server has nothing else to say yet, so nothing behind the greeting is lost.
    let mut greeting = String::new();
    BufReader::with_capacity(1, stream).read_line(&mut greeting)?;
    ensure!(greeting.starts_with("diary/1 ready"), "{address} greets with {greeting:?}");
    Ok(())
}

fn connect(address: &str) -> anyhow::Result<TcpStream> {
    ready(TcpStream::connect(address).with_context(|| format!("cannot reach {address}"))?)
}

fn ready(stream: TcpStream) -> anyhow::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HANG))?;
    Ok(stream)
}

/// A Hello with this secret, as it travels.
pub(crate) fn hello(secret: impl Into<Vec<u8>>) -> Vec<u8> {
    let secret = secret.into().into();
    frame_of(&ClientMessage::Hello(Hello { secret, ..Hello::default() }))
}

/// A message as it travels.
pub(crate) fn frame_of(message: &ClientMessage) -> Vec<u8> {
    let mut out = Vec::new();
    message.write(&mut out);
    out
}
