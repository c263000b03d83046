//! What hostile peers send.

use bytes::Bytes;
use diary_proto::limits::{FRAME_MAX_BYTES, TEXT_MAX_BYTES};
use diary_proto::message::{Append, ClientMessage, Hello, NewText, Resume, Texts};
use diary_proto::{Author, Credential, Filter, Scope, Time, Which};

use crate::support::Random;

/// Commands, sound ones and others.
const COMMANDS: &[&str] = &[
    "/history",
    "/history all",
    "/re 1 answer",
    "/re 99999999999999999999 x",
    "/re 1",
    "/correct 1 anew",
    "/correct 2 天气",
    "/correct 1",
    "/thread 1",
    "/thread #18446744073709551615",
    "/history 3",
    "/history 99999999999999999999",
    "/history 2026-11-21",
    "/history 2026-13-45..",
    "/history #1..",
    "/history #0..",
    "/history yesterday..today",
    "/history today..yesterday",
    "/follow",
    "/follow #1",
    "/follow #18446744073709551615",
    "/follow off",
    "/follow \u{1b}[31m",
    "/search a",
    "/search",
    "/search \u{1b}[31m\u{202e}",
    "/name anna",
    "/name a b",
    "/name \u{202e}anna",
    "/name \u{200b}",
    "/journal",
    "/journal diary",
    "/journal nothing",
    "/journal \u{202e}diary",
    "/quiet",
    "/quiet please",
    "/help",
    "/quit",
    "/quit now",
    "/nope \u{1b}]0;title\u{7}",
    "/\u{1b}[2J\u{9b}31m",
    "/",
    "//",
    "////",
];

/// Texts, and what is none.
const TEXTS: &[&[u8]] = &[
    b"a",
    b"",
    b" ",
    "天气 好".as_bytes(),
    b"quit",
    b"\x1b[2J\x1b]0;title\x07",
    b"\xc2\x9b31m\xe2\x80\xae\xe2\x80\xa8",
    b"a\0b",
    b"\x04",
    b"a\x08\x08\x7f",
    b"a\rb\tc\\n\\x1b",
    b"\xef\xbb\xbfa",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf5\x80\x80\x80",
    b"# diary 1 2026-11-21 id=0 first=1 after=-",
    b"1 2026-11-21T08:15:02.123456+08:00 anna a\t0 - 00000000",
];

const LINE_ENDS: &[&[u8]] = &[b"\n", b"\n", b"\n", b"\r\n", b"\r\0", b"\r", b"\0", b""];

/// Telnet's commands, sound ones, cut ones and strays.
const TELNET: &[&[u8]] = &[
    b"\xff\xfd\x06",
    b"\xff\xfb\x00",
    b"\xff\xfd\x03\xff\xfe\x03",
    b"\xff\xfa\x1f\x00\x50\x00\x18\xff\xf0",
    b"\xff\xfa\x18",
    b"\xff\xf7\xff\xf8",
    b"\xff\xf6\xff\xf4\xff\xf2",
    b"\xff\xec",
    b"\xff\xff",
    b"\xff",
];

/// What speaks another protocol.
const FOREIGN: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: diary\r\n\r\n",
    b"POST /history HTTP/1.0\r\nContent-Length: 6\r\n\r\nentry\n",
    b"GET http://diary/ HTTP/9.9\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET / HTTP/1.1\r\n\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\xdc\x04\x01\xbb",
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    b"\x16",
    b"SSH-2.0-OpenSSH_9.9\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"<13>1 2026-11-21T08:15:02Z host app - - - text\n",
    b"30 <13>1 - - - - - counted text\n999999999 <13>",
    b"<13>text\0<13>text\0",
];

/// What a proxy says before the rest.
const HEADERS: &[&[u8]] = &[
    b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 8888\r\n",
    b"PROXY TCP6 2001:db8::7 ::1 51234 8888\r\n",
    b"PROXY UNKNOWN\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc0\0\x02\x02\xc8\x22\x22\xb8",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
];

/// A PROXY header, and whether it is a sound one.
pub(super) fn header(random: &mut Random) -> (Vec<u8>, bool) {
    let mut header = random.pick(HEADERS).to_vec();
    let sound = !random.once_in(2);
    if !sound {
        spoil(&mut header, random);
    }
    (header, sound)
}

/// Everything: lines, frames, other protocols, chance, and one behind the other.
pub(super) fn any(random: &mut Random) -> Vec<u8> {
    match random.below(10) {
        0..=3 => lines(random),
        4..=6 => frames(random),
        7 => {
            let mut bytes = random.pick(FOREIGN).to_vec();
            bytes.extend(lines(random));
            bytes
        }
        8 => [lines(random), frames(random), lines(random)].concat(),
        _ => {
            let count = random.below(2000);
            random.bytes(count)
        }
    }
}

pub(super) fn lines(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.below(20) {
        match random.below(40) {
            0 => bytes.resize(bytes.len() + TEXT_MAX_BYTES - 2 + random.below(5), b'x'),
            1 => {
                let count = random.below(300);
                bytes.extend(random.bytes(count));
            }
            2..=4 => bytes.extend_from_slice(random.pick(TELNET)),
            5 => bytes.extend_from_slice(random.pick(FOREIGN)),
            6..=16 => bytes.extend_from_slice(random.pick(COMMANDS).as_bytes()),
            _ => bytes.extend_from_slice(random.pick(TEXTS)),
        }
        bytes.extend_from_slice(random.pick(LINE_ENDS));
    }
    if random.once_in(200) {
        bytes.resize(bytes.len() + FRAME_MAX_BYTES, b'x');
    }
    bytes
}

/// A datagram, up to one that is as long as it may be.
pub(super) fn datagram(random: &mut Random) -> Vec<u8> {
    match random.below(8) {
        0 => vec![b'x'; random.below(65_507)],
        1 => random.pick(&[&b"p"[..], b"P\n", b"h", b"e", b"-c", b"-r", b"past\r\n"]).to_vec(),
        2 => frames(random),
        3 => random.pick(FOREIGN).to_vec(),
        4 => {
            let count = random.below(100);
            random.bytes(count)
        }
        _ => random.pick(TEXTS).to_vec(),
    }
}

/// Messages, of which some are spoiled; the first byte of all is usually 0.
pub(super) fn frames(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for place in 0..=random.below(12) {
        let hello = if place == 0 { !random.once_in(8) } else { random.once_in(20) };
        let mut frame = Vec::new();
        if hello { say_hello(random) } else { ask(random) }.write(&mut frame);
        if random.once_in(4) {
            spoil(&mut frame, random);
        }
        bytes.extend(frame);
    }
    if random.once_in(4) {
        bytes.truncate(random.below(bytes.len() + 1));
    }
    bytes
}

fn say_hello(random: &mut Random) -> ClientMessage {
    let author = random.pick(&["", "", "anna", "\u{202e}anna", "a b"]).to_owned();
    let resume = random.once_in(4).then(|| Resume { id: number(random), seq: number(random), crc: 0 });
    // Few, so that they meet each other's keys.
    let secret =
        Bytes::from(vec![random.below(4) as u8; random.pick(&[&16, &16, &16, &64, &15, &0]).to_owned()]);
    ClientMessage::Hello(Hello {
        version: random.pick(&[&1, &1, &1, &0, &255]).to_owned(),
        author,
        secret,
        resume,
        journal: random.pick(&["", "", "", "diary", "work", "..", "diary\u{202e}"]).to_owned(),
        token: random.once_in(4).then(|| Credential::new("diary_x")),
    })
}

fn ask(random: &mut Random) -> ClientMessage {
    let id = random.below(3) as u32;
    let which = match random.below(5) {
        0 => Which::All,
        1 => Which::From(number(random)),
        _ => Which::Last(number(random)),
    };
    let mut bound = || random.once_in(3).then(|| number(random));
    let (up_to, newest) = (bound(), bound());
    let scope = Scope { which, up_to, newest, reverse: random.once_in(3), shown: random.once_in(2) };
    match random.below(12) {
        0 => ClientMessage::History { id, scope },
        1 => ClientMessage::Follow { id, from: random.once_in(2).then(|| number(random)) },
        2 if random.once_in(4) => ClientMessage::Check { id },
        2 => ClientMessage::FollowOff { id },
        5 if random.once_in(3) => ClientMessage::Thread { id, seq: number(random) },
        6 if random.once_in(3) => ClientMessage::Versions { id, seq: number(random) },
        3 => {
            let contains = vec![random.pick(&["", "a", "天气", "\u{1b}"]).to_owned(); random.below(20)];
            let author = random.once_in(3).then(|| Author::new("anna").unwrap());
            let tags = vec![random.pick(&["#a", "a", "\u{1b}"]).to_owned(); random.below(2)];
            ClientMessage::Search {
                id,
                filter: Filter { scope, contains, author, tags, ..Filter::default() },
            }
        }
        4 if random.once_in(4) => ClientMessage::Quit,
        _ => {
            let long = vec![b'x'; if random.once_in(40) { TEXT_MAX_BYTES + random.below(2) } else { 0 }];
            let count = 1 + random.below(10);
            let texts = (0..count).map(|_| NewText {
                text: if long.is_empty() { random.pick(TEXTS) } else { &long },
                at: random.once_in(8).then_some(Time { micros: 1_000_000, offset_minutes: 480 }),
                author: random.pick(&[&b""[..], b"", b"ben", b"\x1b[31m", b"\xff"]),
                answers: random.once_in(8).then(|| number(random)),
                ..NewText::default()
            });
            let texts = Texts::own(texts.collect::<Vec<_>>());
            ClientMessage::Append(Append { first_counter: number(random), retry: random.once_in(2), texts })
        }
    }
}

/// Small ones, and those at the ends.
fn number(random: &mut Random) -> u64 {
    match random.below(10) {
        0 => u64::MAX,
        1 => u64::MAX - random.below(20) as u64,
        2 => 1 << random.below(64),
        _ => random.below(100) as u64,
    }
}

/// Changes a frame in one place.
fn spoil(frame: &mut Vec<u8>, random: &mut Random) {
    let place = random.below(frame.len());
    match random.below(6) {
        0 => frame[place] ^= 1 << random.below(8),
        1 => frame.truncate(place),
        2 => frame.insert(place, random.byte()),
        3 => drop(frame.remove(place)),
        4 => frame[4] = random.byte(),
        _ => {
            let lengths = [0, 1, FRAME_MAX_BYTES, FRAME_MAX_BYTES + 1, (1 << 24) - 1, u32::MAX as usize];
            let length = lengths[random.below(lengths.len())] as u32;
            frame[..4].copy_from_slice(&length.to_be_bytes());
        }
    }
}
