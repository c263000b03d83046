//! The messages that frames carry. Numbers are big-endian; a string is `u16 length | UTF-8`. Bytes
//! behind the fields of a message are ignored, so that later versions can add some.

use bytes::{Buf, Bytes};
use jiff::civil::Date;

use crate::command::{Day, Which};
use crate::frame::{self, Frame, IGNORABLE_FROM};
use crate::limits::{FRAME_MAX_BYTES, SECRET_MAX_BYTES, SECRET_MIN_BYTES};
use crate::refusal::{Code, Refusal};
use crate::time::Time;

/// Most entries in one append frame, so that its ack and its bookkeeping stay small.
pub const APPEND_MAX_ENTRIES: usize = 64 * 1024;

/// Bytes of lines that one block may carry, so that its frame stays within the limit.
pub const BLOCK_MAX_BYTES: usize = FRAME_MAX_BYTES - 16;

/// Most runs in one frame of acks, so that it stays within the limit.
pub const ACKS_MAX_RUNS: usize = (FRAME_MAX_BYTES - 1) / RUN_BYTES;

/// Counter, count, seq, microseconds, offset.
const RUN_BYTES: usize = 8 + 4 + 8 + 8 + 2;

/// Longest text of a search: what the length of a string can say.
pub const SEARCH_MAX_BYTES: usize = u16::MAX as usize;

mod kind {
    pub(super) const HELLO: u8 = 0x01;
    pub(super) const APPEND: u8 = 0x02;
    pub(super) const HISTORY: u8 = 0x03;
    pub(super) const FOLLOW: u8 = 0x04;
    pub(super) const FOLLOW_OFF: u8 = 0x05;
    pub(super) const SEARCH: u8 = 0x06;
    pub(super) const QUIT: u8 = 0x07;
    pub(super) const WELCOME: u8 = 0x11;
    pub(super) const ACKS: u8 = 0x12;
    pub(super) const REFUSED: u8 = 0x13;
    pub(super) const ANSWER: u8 = 0x14;
    pub(super) const BLOCK: u8 = 0x15;
    pub(super) const END: u8 = 0x16;
    pub(super) const ERROR: u8 = 0x17;
    pub(super) const BYE: u8 = 0x18;
}

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage {
    /// The first message.
    Hello(Hello),
    /// Entries to store, with consecutive counters.
    Append(Append),
    /// Asks for entries once.
    History {
        /// Repeated by the answer.
        id: u32,
        /// Which entries.
        which: Which,
    },
    /// Asks for entries from one on, those that are there and those to come. It replaces an earlier one.
    Follow {
        /// Repeated by the answer.
        id: u32,
        /// The first seq; from now on, if not said.
        from: Option<u64>,
    },
    /// Ends a follow.
    FollowOff {
        /// Repeated by the answer.
        id: u32,
    },
    /// Asks for the entries that hold a text (smart case).
    Search {
        /// Repeated by the answer.
        id: u32,
        /// What to look for, at most [`SEARCH_MAX_BYTES`].
        text: String,
    },
    /// Goodbye: answered with [`ServerMessage::Bye`] after all acks.
    Quit,
}

/// Who a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// [`VERSION`](crate::limits::VERSION).
    pub version: u8,
    /// The author of all that it appends; empty for the server's own name for it.
    pub author: String,
    /// Names its producer, without telling readers of the diary how to be it.
    pub secret: Bytes,
    /// What it saw last, if it comes back.
    pub resume: Option<Resume>,
}

/// The newest entry that a client saw, by which a server tells whether it is the same journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// The journal's id.
    pub id: u64,
    /// The seq, 0 if it saw none.
    pub seq: u64,
    /// The checksum of that entry's line.
    pub crc: u32,
}

/// Entries to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// The counter of the first; the others count up from it.
    pub first_counter: u64,
    /// It may have been sent before: a server that can no longer tell refuses it.
    pub retry: bool,
    /// The texts.
    pub texts: Texts,
}

/// Texts one behind the other, as they travel: `u32 length | bytes` each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts(Bytes);

impl Texts {
    /// The texts as they travel.
    ///
    /// # Panics
    /// If they do not fit one frame.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut out = Vec::new();
        for text in texts {
            let length = u32::try_from(text.len()).expect("a text is far below 4 GiB");
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        assert!(out.len() <= FRAME_MAX_BYTES - APPEND_HEAD_BYTES, "the texts of an append fit its frame");
        Self(out.into())
    }

    /// Each text's bytes, in order. They may be anything: the reader checks them.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (text, tail) = split_text(rest)?;
            rest = tail;
            Some(text)
        })
    }

    /// Checks that the lengths fit and counts the texts.
    fn check(bytes: Bytes) -> Option<Self> {
        let mut rest = &bytes[..];
        let mut count = 0;
        while !rest.is_empty() {
            (_, rest) = split_text(rest)?;
            count += 1;
        }
        (1..=APPEND_MAX_ENTRIES).contains(&count).then_some(Self(bytes))
    }
}

/// Bytes of an append frame before its texts: type, counter, flags.
const APPEND_HEAD_BYTES: usize = 1 + 8 + 1;

const APPEND_RETRY: u8 = 1;

fn split_text(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = rest.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

impl ClientMessage {
    /// Appends the message's frame to `out`.
    ///
    /// # Panics
    /// If a string in it is longer than its limit.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => frame::write(out, kind::HELLO, |out| {
                out.push(hello.version);
                put_str(out, &hello.author);
                put_bytes(out, &hello.secret);
                out.push(u8::from(hello.resume.is_some()));
                if let Some(resume) = hello.resume {
                    out.extend_from_slice(&resume.id.to_be_bytes());
                    out.extend_from_slice(&resume.seq.to_be_bytes());
                    out.extend_from_slice(&resume.crc.to_be_bytes());
                }
            }),
            Self::Append(append) => frame::write(out, kind::APPEND, |out| {
                out.extend_from_slice(&append.first_counter.to_be_bytes());
                out.push(if append.retry { APPEND_RETRY } else { 0 });
                out.extend_from_slice(&append.texts.0);
            }),
            Self::History { id, which } => frame::write(out, kind::HISTORY, |out| {
                out.extend_from_slice(&id.to_be_bytes());
                put_which(out, *which);
            }),
            Self::Follow { id, from } => frame::write(out, kind::FOLLOW, |out| {
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&from.unwrap_or(0).to_be_bytes());
            }),
            Self::FollowOff { id } => {
                frame::write(out, kind::FOLLOW_OFF, |out| out.extend_from_slice(&id.to_be_bytes()));
            }
            Self::Search { id, text } => frame::write(out, kind::SEARCH, |out| {
                out.extend_from_slice(&id.to_be_bytes());
                put_str(out, text);
            }),
            Self::Quit => frame::write(out, kind::QUIT, |_| {}),
        }
    }

    /// Reads a frame; `None` for one that is to be ignored.
    ///
    /// # Errors
    /// A refusal that says what is wrong. The stream is still in step.
    pub fn read(frame: Frame) -> Result<Option<Self>, Refusal> {
        let kind = frame.kind;
        let mut body = Body(frame.body);
        let message = match kind {
            kind::HELLO => body.hello().map(Self::Hello),
            kind::APPEND => body.append().map(Self::Append),
            kind::HISTORY => body.history(),
            kind::FOLLOW => body.follow(),
            kind::FOLLOW_OFF => body.u32().map(|id| Self::FollowOff { id }),
            kind::SEARCH => body.search(),
            kind::QUIT => Some(Self::Quit),
            IGNORABLE_FROM.. => return Ok(None),
            _ => return Err(unknown_kind(kind)),
        };
        message.map(Some).ok_or_else(|| bad_body(kind))
    }
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerMessage {
    /// The answer to Hello.
    Welcome(Welcome),
    /// Entries that are committed.
    Acks(Vec<Run>),
    /// Entries that are not stored, or whose outcome is unknown, as the code says.
    Refused {
        /// The counter of the first.
        first_counter: u64,
        /// How many, with consecutive counters.
        count: u32,
        /// Why.
        refusal: Refusal,
    },
    /// An answer to History, Follow or Search begins.
    Answer {
        /// The request's.
        id: u32,
        /// The seq of the first entry in its range.
        first: u64,
        /// The seq of the last, below `first` if there is none; `u64::MAX` for a follow.
        last: u64,
        /// Every entry of the range comes; one that does not is missing. Not so for a search.
        dense: bool,
    },
    /// Whole stored lines, byte for byte as on disk; the client checks them.
    Block {
        /// The request's.
        id: u32,
        /// The lines.
        lines: Bytes,
    },
    /// An answer is complete.
    End {
        /// The request's.
        id: u32,
    },
    /// A request cannot be served.
    Error {
        /// The request's; 0 for the connection as such.
        id: u32,
        /// The server closes the connection.
        fatal: bool,
        /// Why.
        refusal: Refusal,
    },
    /// The last message.
    Bye {
        /// For people.
        reason: String,
    },
}

/// What the server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// [`VERSION`](crate::limits::VERSION).
    pub version: u8,
    /// The journal's random id.
    pub journal_id: u64,
    /// The seq of its newest committed entry, 0 for none.
    pub head: u64,
    /// The author that this client's entries get.
    pub author: String,
    /// The journal's name.
    pub journal: String,
    /// The server's time zone, as it was set or found.
    pub zone: String,
}

/// Entries with consecutive counters and seqs, committed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first one's counter.
    pub first_counter: u64,
    /// How many.
    pub count: u32,
    /// The first one's seq.
    pub first_seq: u64,
    /// When they were committed.
    pub time: Time,
}

impl ServerMessage {
    /// Appends the message's frame to `out`; acks of more than [`ACKS_MAX_RUNS`] runs become several.
    ///
    /// # Panics
    /// If its lines are more than a frame holds, or a string in it is longer than 64 KiB.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Welcome(welcome) => frame::write(out, kind::WELCOME, |out| {
                out.push(welcome.version);
                out.extend_from_slice(&welcome.journal_id.to_be_bytes());
                out.extend_from_slice(&welcome.head.to_be_bytes());
                put_str(out, &welcome.author);
                put_str(out, &welcome.journal);
                put_str(out, &welcome.zone);
            }),
            Self::Acks(runs) if runs.len() > ACKS_MAX_RUNS => {
                runs.chunks(ACKS_MAX_RUNS).for_each(|runs| write_acks(out, runs));
            }
            Self::Acks(runs) => write_acks(out, runs),
            Self::Refused { first_counter, count, refusal } => frame::write(out, kind::REFUSED, |out| {
                out.extend_from_slice(&first_counter.to_be_bytes());
                out.extend_from_slice(&count.to_be_bytes());
                put_refusal(out, refusal);
            }),
            Self::Answer { id, first, last, dense } => frame::write(out, kind::ANSWER, |out| {
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&first.to_be_bytes());
                out.extend_from_slice(&last.to_be_bytes());
                out.push(u8::from(*dense));
            }),
            Self::Block { id, lines } => Self::write_block(out, *id, lines),
            Self::End { id } => {
                frame::write(out, kind::END, |out| out.extend_from_slice(&id.to_be_bytes()));
            }
            Self::Error { id, fatal, refusal } => frame::write(out, kind::ERROR, |out| {
                out.extend_from_slice(&id.to_be_bytes());
                out.push(u8::from(*fatal));
                put_refusal(out, refusal);
            }),
            Self::Bye { reason } => frame::write(out, kind::BYE, |out| put_str(out, reason)),
        }
    }

    /// Appends a [`Block`](Self::Block) without owning its lines.
    ///
    /// # Panics
    /// If `lines` are more than [`BLOCK_MAX_BYTES`].
    pub fn write_block(out: &mut Vec<u8>, id: u32, lines: &[u8]) {
        frame::write(out, kind::BLOCK, |out| {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(lines);
        });
    }

    /// Reads a frame; `None` for one that is to be ignored.
    ///
    /// # Errors
    /// A refusal that says what is wrong. The stream is still in step.
    pub fn read(frame: Frame) -> Result<Option<Self>, Refusal> {
        let kind = frame.kind;
        let mut body = Body(frame.body);
        let message = match kind {
            kind::WELCOME => body.welcome().map(Self::Welcome),
            kind::ACKS => body.runs().map(Self::Acks),
            kind::REFUSED => body.refused(),
            kind::ANSWER => body.answer(),
            kind::BLOCK => body.u32().map(|id| Self::Block { id, lines: body.0 }),
            kind::END => body.u32().map(|id| Self::End { id }),
            kind::ERROR => body.error(),
            kind::BYE => body.string().map(|reason| Self::Bye { reason }),
            IGNORABLE_FROM.. => return Ok(None),
            _ => return Err(unknown_kind(kind)),
        };
        message.map(Some).ok_or_else(|| bad_body(kind))
    }
}

fn write_acks(out: &mut Vec<u8>, runs: &[Run]) {
    frame::write(out, kind::ACKS, |out| {
        for run in runs {
            out.extend_from_slice(&run.first_counter.to_be_bytes());
            out.extend_from_slice(&run.count.to_be_bytes());
            out.extend_from_slice(&run.first_seq.to_be_bytes());
            out.extend_from_slice(&run.time.micros.to_be_bytes());
            out.extend_from_slice(&run.time.offset_minutes.to_be_bytes());
        }
    });
}

fn unknown_kind(kind: u8) -> Refusal {
    Refusal::new(Code::BadFrame, format!("0x{kind:02x} is no frame type of this direction"))
}

fn bad_body(kind: u8) -> Refusal {
    Refusal::new(Code::BadFrame, format!("the body of this frame of type 0x{kind:02x} cannot be read"))
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).expect("strings of messages are below 64 KiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

fn put_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    put_str(out, refusal.code.as_str());
    put_str(out, &refusal.message);
}

const WHICH_LAST: u8 = 0;
const WHICH_ALL: u8 = 1;
const WHICH_FROM: u8 = 2;
const WHICH_DAYS: u8 = 3;

fn put_which(out: &mut Vec<u8>, which: Which) {
    match which {
        Which::Last(count) => {
            out.push(WHICH_LAST);
            out.extend_from_slice(&count.to_be_bytes());
        }
        Which::All => out.push(WHICH_ALL),
        Which::From(seq) => {
            out.push(WHICH_FROM);
            out.extend_from_slice(&seq.to_be_bytes());
        }
        Which::Days(from, to) => {
            out.push(WHICH_DAYS);
            out.extend_from_slice(&day_number(from).to_be_bytes());
            out.extend_from_slice(&day_number(to).to_be_bytes());
        }
    }
}

const DAY_TODAY: u32 = 0;
const DAY_YESTERDAY: u32 = 1;

/// A day as `yyyymmdd`; 0 is the server's today, 1 its yesterday.
fn day_number(day: Day) -> u32 {
    match day {
        Day::Today => DAY_TODAY,
        Day::Yesterday => DAY_YESTERDAY,
        Day::Date(date) => {
            u32::from(date.year().unsigned_abs()) * 10_000
                + u32::from(date.month().unsigned_abs()) * 100
                + u32::from(date.day().unsigned_abs())
        }
    }
}

fn day_of_number(number: u32) -> Option<Day> {
    match number {
        DAY_TODAY => Some(Day::Today),
        DAY_YESTERDAY => Some(Day::Yesterday),
        _ => {
            let year = i16::try_from(number / 10_000).ok()?;
            let month = i8::try_from(number / 100 % 100).ok()?;
            let day = i8::try_from(number % 100).ok()?;
            Date::new(year, month, day).ok().map(Day::Date)
        }
    }
}

/// Reads the fields of a body, one after the other; `None` where it is too short or a value is wrong.
struct Body(Bytes);

impl Body {
    fn u8(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.0.try_get_u32().ok()
    }

    fn u64(&mut self) -> Option<u64> {
        self.0.try_get_u64().ok()
    }

    fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let length = usize::from(self.0.try_get_u16().ok()?);
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    fn string(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.into()).ok()
    }

    fn hello(&mut self) -> Option<Hello> {
        let version = self.u8()?;
        let author = self.string()?;
        let secret = self.bytes()?;
        if !(SECRET_MIN_BYTES..=SECRET_MAX_BYTES).contains(&secret.len()) {
            return None;
        }
        let resume = match self.flag()? {
            true => Some(Resume { id: self.u64()?, seq: self.u64()?, crc: self.u32()? }),
            false => None,
        };
        Some(Hello { version, author, secret, resume })
    }

    fn append(&mut self) -> Option<Append> {
        let first_counter = self.u64()?;
        let retry = self.flag()?;
        let texts = Texts::check(std::mem::take(&mut self.0))?;
        let count = u64::try_from(texts.iter().count()).ok()?;
        first_counter.checked_add(count)?;
        Some(Append { first_counter, retry, texts })
    }

    fn history(&mut self) -> Option<ClientMessage> {
        let id = self.u32()?;
        let which = match self.u8()? {
            WHICH_LAST => Which::Last(self.u64()?),
            WHICH_ALL => Which::All,
            WHICH_FROM => Which::From(self.u64().filter(|&seq| seq > 0)?),
            WHICH_DAYS => Which::Days(day_of_number(self.u32()?)?, day_of_number(self.u32()?)?),
            _ => return None,
        };
        Some(ClientMessage::History { id, which })
    }

    fn follow(&mut self) -> Option<ClientMessage> {
        let id = self.u32()?;
        let from = self.u64()?;
        Some(ClientMessage::Follow { id, from: (from > 0).then_some(from) })
    }

    fn search(&mut self) -> Option<ClientMessage> {
        let id = self.u32()?;
        let text = self.string().filter(|text| !text.is_empty())?;
        Some(ClientMessage::Search { id, text })
    }

    fn welcome(&mut self) -> Option<Welcome> {
        Some(Welcome {
            version: self.u8()?,
            journal_id: self.u64()?,
            head: self.u64()?,
            author: self.string()?,
            journal: self.string()?,
            zone: self.string()?,
        })
    }

    fn runs(&mut self) -> Option<Vec<Run>> {
        let mut runs = Vec::new();
        while !self.0.is_empty() {
            let run = Run {
                first_counter: self.u64()?,
                count: self.u32()?,
                first_seq: self.u64()?,
                time: Time { micros: self.0.try_get_i64().ok()?, offset_minutes: self.0.try_get_i16().ok()? },
            };
            // Whoever gets a run may count through it and write its time.
            run.first_counter.checked_add(run.count.into())?;
            run.first_seq.checked_add(run.count.into())?;
            runs.push(Time::parse(&run.time.to_bytes()).is_some_and(|time| time == run.time).then_some(run)?);
        }
        Some(runs)
    }

    /// A refusal. A code that this version does not know still ends what it was about.
    fn refusal(&mut self) -> Option<Refusal> {
        let code = self.string()?;
        let message = self.string()?;
        Some(match Code::from_word(&code) {
            Some(code) => Refusal::new(code, message),
            None => Refusal::new(Code::Denied, format!("{code}: {message}")),
        })
    }

    fn refused(&mut self) -> Option<ServerMessage> {
        let first_counter = self.u64()?;
        let count = self.u32()?;
        first_counter.checked_add(count.into())?;
        Some(ServerMessage::Refused { first_counter, count, refusal: self.refusal()? })
    }

    fn answer(&mut self) -> Option<ServerMessage> {
        Some(ServerMessage::Answer {
            id: self.u32()?,
            first: self.u64()?,
            last: self.u64()?,
            dense: self.flag()?,
        })
    }

    fn error(&mut self) -> Option<ServerMessage> {
        Some(ServerMessage::Error { id: self.u32()?, fatal: self.flag()?, refusal: self.refusal()? })
    }
}
