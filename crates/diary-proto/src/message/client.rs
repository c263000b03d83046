//! What a client says.

use bytes::Bytes;
use jiff::civil::Date;

use super::append::{Append, Form};
use super::{Body, bad_body, kind, put_bytes, put_str, unknown_kind};
use crate::command::{Day, Scope, Which};
use crate::credential::Credential;
use crate::entry::Author;
use crate::filter::Filter;
use crate::frame::{self, Frame, IGNORABLE_FROM};
use crate::limits::{SECRET_MAX_BYTES, SECRET_MIN_BYTES, VERSION};
use crate::refusal::Refusal;

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
        scope: Scope,
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
    /// Asks for the entries that a filter takes.
    Search {
        /// Repeated by the answer.
        id: u32,
        /// Which; whether it keeps its limits is [`Filter::check`]'s to say.
        filter: Filter,
    },
    /// Asks for an entry with all that answers it: each entry comes right behind the one that it answers, or behind the
    /// older answers to that.
    Thread {
        /// Repeated by the answer.
        id: u32,
        /// The entry.
        seq: u64,
    },
    /// Asks for an entry and all its corrections, the oldest first.
    Versions {
        /// Repeated by the answer.
        id: u32,
        /// The entry, or a correction of it.
        seq: u64,
    },
    /// Asks whether an append would be taken now: answered with [`ServerMessage::End`](super::ServerMessage::End), or with
    /// an error that holds the refusal that the append would get.
    Check {
        /// Repeated by the answer.
        id: u32,
    },
    /// Goodbye: answered with [`ServerMessage::Bye`](super::ServerMessage::Bye) after all acks.
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
    /// The journal that it means; empty for the one that the greeting names.
    pub journal: String,
    /// The token that it logs in with.
    pub token: Option<Credential>,
}

impl Default for Hello {
    fn default() -> Self {
        let (author, journal) = (String::new(), String::new());
        Self { version: VERSION, author, secret: Bytes::new(), resume: None, journal, token: None }
    }
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

impl ClientMessage {
    /// Appends the message's frame to `out`.
    ///
    /// # Panics
    /// If a string in it is longer than its limit, or a filter has more texts or tags than 255.
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
                put_str(out, &hello.journal);
                put_str(out, hello.token.as_ref().map_or("", Credential::reveal));
            }),
            Self::Append(append) => frame::write(out, kind_of(append), |out| append.write(out)),
            Self::History { id, scope } => frame::write(out, kind::HISTORY, |out| {
                out.extend_from_slice(&id.to_be_bytes());
                put_scope(out, scope);
            }),
            Self::Follow { id, from } => frame::write(out, kind::FOLLOW, |out| {
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&from.unwrap_or(0).to_be_bytes());
            }),
            Self::FollowOff { id } => {
                frame::write(out, kind::FOLLOW_OFF, |out| out.extend_from_slice(&id.to_be_bytes()));
            }
            Self::Search { id, filter } => frame::write(out, kind::SEARCH, |out| {
                out.extend_from_slice(&id.to_be_bytes());
                let (first, more) = filter
                    .contains
                    .split_first()
                    .map_or(("", &[][..]), |(first, more)| (first.as_str(), more));
                put_str(out, first);
                put_scope(out, &filter.scope);
                put_texts(out, more);
                put_texts(out, &filter.without);
                put_str(out, filter.author.as_ref().map_or("", Author::as_str));
                put_texts(out, &filter.tags);
            }),
            Self::Thread { id, seq } => put_id_and_seq(out, kind::THREAD, *id, *seq),
            Self::Versions { id, seq } => put_id_and_seq(out, kind::VERSIONS, *id, *seq),
            Self::Check { id } => {
                frame::write(out, kind::CHECK, |out| out.extend_from_slice(&id.to_be_bytes()));
            }
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
            kind::APPEND => body.append(Form::Plain).map(Self::Append),
            kind::APPEND_OWN => body.append(Form::Own).map(Self::Append),
            kind::HISTORY => body.history(),
            kind::FOLLOW => body.follow(),
            kind::FOLLOW_OFF => body.u32().map(|id| Self::FollowOff { id }),
            kind::SEARCH => body.search(),
            kind::THREAD => body.id_and_seq().map(|(id, seq)| Self::Thread { id, seq }),
            kind::VERSIONS => body.id_and_seq().map(|(id, seq)| Self::Versions { id, seq }),
            kind::CHECK => body.u32().map(|id| Self::Check { id }),
            kind::QUIT => Some(Self::Quit),
            IGNORABLE_FROM.. => return Ok(None),
            _ => return Err(unknown_kind(kind)),
        };
        message.map(Some).ok_or_else(|| bad_body(kind))
    }
}

fn put_id_and_seq(out: &mut Vec<u8>, kind: u8, id: u32, seq: u64) {
    frame::write(out, kind, |out| {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&seq.to_be_bytes());
    });
}

fn kind_of(append: &Append) -> u8 {
    match append.texts.form() {
        Form::Plain => kind::APPEND,
        Form::Own => kind::APPEND_OWN,
    }
}

/// `u8 count`, then the texts.
fn put_texts(out: &mut Vec<u8>, texts: &[String]) {
    out.push(u8::try_from(texts.len()).expect("a filter has few texts"));
    texts.iter().for_each(|text| put_str(out, text));
}

const HOW_REVERSE: u8 = 1;
const HOW_SHOWN: u8 = 2;

const WHICH_LAST: u8 = 0;
const WHICH_ALL: u8 = 1;
const WHICH_FROM: u8 = 2;
const WHICH_DAYS: u8 = 3;

/// Stands for a bound that is not there.
const UNBOUNDED: u64 = u64::MAX;

fn put_scope(out: &mut Vec<u8>, scope: &Scope) {
    put_which(out, scope.which);
    out.extend_from_slice(&scope.up_to.unwrap_or(UNBOUNDED).to_be_bytes());
    out.extend_from_slice(&scope.newest.unwrap_or(UNBOUNDED).to_be_bytes());
    out.push(u8::from(scope.reverse) * HOW_REVERSE + u8::from(scope.shown) * HOW_SHOWN);
}

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

impl Body {
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
        // Earlier clients end here.
        let journal = if self.0.is_empty() { String::new() } else { self.string()? };
        let token = if self.0.is_empty() { String::new() } else { self.string()? };
        let token = Some(token).filter(|token| !token.is_empty()).map(|token| Credential::new(&token));
        // A copy lets go of the frame.
        let secret = Bytes::copy_from_slice(&secret);
        Some(Hello { version, author, secret, resume, journal, token })
    }

    fn history(&mut self) -> Option<ClientMessage> {
        Some(ClientMessage::History { id: self.u32()?, scope: self.scope()? })
    }

    fn scope(&mut self) -> Option<Scope> {
        let which = self.which()?;
        let mut bound = || self.u64().map(|bound| Some(bound).filter(|&bound| bound != UNBOUNDED));
        let (up_to, newest) = (bound()?, bound()?);
        let how = self.u8().filter(|how| how & !(HOW_REVERSE | HOW_SHOWN) == 0)?;
        let (reverse, shown) = (how & HOW_REVERSE != 0, how & HOW_SHOWN != 0);
        Some(Scope { which, up_to, newest, reverse, shown })
    }

    fn which(&mut self) -> Option<Which> {
        Some(match self.u8()? {
            WHICH_LAST => Which::Last(self.u64()?),
            WHICH_ALL => Which::All,
            WHICH_FROM => Which::From(self.u64().filter(|&seq| seq > 0)?),
            WHICH_DAYS => Which::Days(day_of_number(self.u32()?)?, day_of_number(self.u32()?)?),
            _ => return None,
        })
    }

    fn follow(&mut self) -> Option<ClientMessage> {
        let id = self.u32()?;
        let from = self.u64()?;
        Some(ClientMessage::Follow { id, from: (from > 0).then_some(from) })
    }

    /// The text may stand alone. One that is empty is none.
    fn search(&mut self) -> Option<ClientMessage> {
        let id = self.u32()?;
        let first = self.string()?;
        if self.0.is_empty() {
            return (!first.is_empty()).then(|| ClientMessage::Search { id, filter: Filter::of_text(first) });
        }
        let scope = self.scope()?;
        let mut contains: Vec<String> = Some(first).filter(|first| !first.is_empty()).into_iter().collect();
        contains.extend(self.texts()?);
        let without = self.texts()?;
        let author = Some(self.string()?).filter(|author| !author.is_empty());
        let author = author.map(|author| Author::new(&author)).transpose().ok()?;
        let tags = self.texts()?;
        Some(ClientMessage::Search { id, filter: Filter { scope, contains, without, author, tags } })
    }

    fn id_and_seq(&mut self) -> Option<(u32, u64)> {
        Some((self.u32()?, self.u64()?))
    }

    /// Texts or tags to look for, none of them empty.
    fn texts(&mut self) -> Option<Vec<String>> {
        let count = self.u8()?;
        (0..count).map(|_| self.string().filter(|text| !text.is_empty())).collect()
    }
}
