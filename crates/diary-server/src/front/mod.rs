//! Fronts: bytes to requests, answers to bytes. A front knows no file and no other session.

pub(crate) mod frame;
pub(crate) mod line;
pub(crate) mod quiet;
pub(crate) mod refusals;
pub(crate) mod udp;

use diary_proto::block::{Gap, Walker};
use diary_proto::line::Mode;
use diary_proto::message::{Append, Hello, Welcome};
use diary_proto::relation::Levels;
use diary_proto::{
    Author, Code, Command, Credential, Filter, JournalName, Refusal, Relation, Scope, Seal, Time,
};

use frame::FrameDecoder;
use line::{LineReader, Voice};
use quiet::QuietReader;

use diary_access::Right;

/// What a decoder finds. A text is not copied: most input is texts.
#[derive(Debug)]
pub(crate) enum Decoded<'a> {
    Text(&'a str),
    Request(Request),
}

/// What a client wants. The answer comes when everything before it is answered.
#[derive(Debug)]
pub(crate) enum Request {
    /// Texts to append, with keys.
    Append(Append),
    /// Boxed for the same reason as a search.
    Hello(Box<Hello>),
    History {
        id: u32,
        scope: Scope,
    },
    Follow {
        id: u32,
        from: Option<u64>,
    },
    FollowOff {
        id: u32,
    },
    /// Boxed so that other requests do not hold its space.
    Search {
        id: u32,
        filter: Box<Filter>,
    },
    /// An entry with all that answers it.
    Thread {
        id: u32,
        seq: u64,
    },
    /// An entry and all its corrections.
    Versions {
        id: u32,
        seq: u64,
    },
    /// An entry that belongs to an earlier one, in line mode.
    Related(Relation, String),
    /// Whether an append would be taken now.
    Check {
        id: u32,
    },
    Name(Author),
    /// Go to this journal, or list those that there are.
    Journal(Option<JournalName>),
    Login(Credential),
    Quiet,
    Help,
    Quit,
    /// Something invalid, or not allowed. The stream is still in step.
    Refused {
        id: u32,
        refusal: Refusal,
    },
    /// Something after which the stream is out of step, or must not go on.
    Fatal(Refusal),
}

impl Request {
    /// Something without an id that cannot be taken.
    pub(crate) fn refused(refusal: Refusal) -> Self {
        Self::Refused { id: 0, refusal }
    }

    /// The id that its answer repeats; 0 if it has none.
    pub(crate) fn id(&self) -> u32 {
        match self {
            Request::History { id, .. }
            | Request::Follow { id, .. }
            | Request::FollowOff { id }
            | Request::Search { id, .. }
            | Request::Thread { id, .. }
            | Request::Versions { id, .. }
            | Request::Check { id }
            | Request::Refused { id, .. } => *id,
            _ => 0,
        }
    }

    /// Memory beside its own size, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Request::Search { filter, .. } => {
                let texts = filter.contains.iter().chain(&filter.without).chain(&filter.tags);
                size_of::<Filter>() + texts.map(String::len).sum::<usize>()
            }
            Request::Refused { refusal, .. } => refusal.message.len(),
            Request::Related(_, text) => text.len(),
            Request::Hello(hello) => {
                size_of::<Hello>() + hello.author.len() + hello.journal.len() + hello.secret.len()
            }
            _ => 0,
        }
    }

    /// What its client must be allowed to do, if anything.
    pub(crate) fn right(&self) -> Option<Right> {
        match self {
            Request::Append(_) | Request::Related(..) | Request::Check { .. } | Request::Name(_) => {
                Some(Right::Append)
            }
            Request::History { .. }
            | Request::Follow { .. }
            | Request::Search { .. }
            | Request::Thread { .. }
            | Request::Versions { .. } => Some(Right::Read),
            Request::Hello(_)
            | Request::FollowOff { .. }
            | Request::Journal(_)
            | Request::Login(_)
            | Request::Quiet
            | Request::Help
            | Request::Quit
            | Request::Refused { .. }
            | Request::Fatal(_) => None,
        }
    }
}

impl From<Command> for Request {
    fn from(command: Command) -> Self {
        match command {
            Command::History(which) => Request::History { id: 0, scope: Scope::from(which).shown() },
            Command::Follow(from) => Request::Follow { id: 0, from },
            Command::FollowOff => Request::FollowOff { id: 0 },
            Command::Search(text) => {
                let mut filter = Filter::of_text(text);
                filter.scope.shown = true;
                Request::Search { id: 0, filter: filter.into() }
            }
            Command::Related(relation, text) => Request::Related(relation, text),
            Command::Thread(seq) => Request::Thread { id: 0, seq },
            Command::Name(name) => Request::Name(name),
            Command::Journal(name) => Request::Journal(name),
            Command::Login(credential) => Request::Login(credential),
            Command::Quiet => Request::Quiet,
            Command::Help => Request::Help,
            Command::Quit => Request::Quit,
        }
    }
}

/// What the server says.
#[derive(Debug)]
pub(crate) enum Answer<'a> {
    Welcome(&'a Welcome),
    Acked {
        first_counter: u64,
        count: u32,
        first_seq: u64,
        time: Time,
        hint: bool,
    },
    NotStored {
        first_counter: u64,
        count: u32,
        refusal: &'a Refusal,
    },
    /// Entries begin: those of a history or a search, or of a follow.
    Begin {
        id: u32,
        first: u64,
        last: u64,
        kind: Kind,
        /// Every entry of the range comes.
        dense: bool,
        /// They come as people see them.
        shown: bool,
    },
    /// Whole stored lines.
    Lines {
        id: u32,
        lines: &'a [u8],
        walk: &'a mut Walk,
    },
    /// Everything up to this seq has been sent. Entries that have not come are missing.
    CaughtUp {
        last: u64,
        walk: &'a mut Walk,
    },
    End {
        id: u32,
        walk: &'a Walk,
    },
    FollowOff {
        id: u32,
    },
    /// An append would be taken.
    WouldTake {
        id: u32,
    },
    Quiet,
    /// The answer to a command of line mode that needs no more than words, as whole lines.
    Words(&'a str),
    Error {
        id: u32,
        fatal: bool,
        refusal: &'a Refusal,
    },
    Bye(&'a str),
}

/// What kind of entries an answer brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    History,
    Search,
    Thread,
    Follow,
}

/// Progress of an answer whose lines the server checks and counts.
#[derive(Debug)]
pub(crate) struct Walk {
    /// What the lines are sealed with.
    pub(crate) seal: Seal,
    /// Finds gaps; none where entries are not dense.
    pub(crate) walker: Option<Walker>,
    /// Lines come as people see them: corrections stand before their entries.
    pub(crate) shown: bool,
    /// Of a thread: how deep its lines are in it.
    pub(crate) levels: Option<Levels>,
    /// Entries that were given out.
    pub(crate) count: u64,
    /// Gaps that were met and are to be told in the log.
    pub(crate) gaps: Vec<Gap>,
}

impl Walk {
    /// The beginning of an answer whose lines are as they are stored, and not dense.
    pub(crate) fn of(seal: Seal) -> Self {
        Self { seal, walker: None, shown: false, levels: None, count: 0, gaps: Vec::new() }
    }
}

/// Cuts a connection's bytes into requests, in the mode that its first bytes chose.
#[derive(Debug)]
pub(crate) enum Decoder {
    /// Nothing has come yet, or only the first byte of what may become a TLS hello.
    Undecided {
        held: Option<u8>,
        quiet: bool,
    },
    Line(LineReader),
    Quiet(QuietReader),
    Frame(FrameDecoder),
}

impl Decoder {
    /// The decoder of a connection of which nothing is known yet.
    pub(crate) const NEW: Self = Decoder::Undecided { held: None, quiet: false };

    /// That of a connection to a quiet listener.
    pub(crate) const QUIET: Self = Decoder::Undecided { held: None, quiet: true };

    /// The next request in `input`, which is moved past it. `None`: all of it is used up. Telnet's answers are
    /// appended to `out`.
    pub(crate) fn next<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
        out: &mut Vec<u8>,
    ) -> Option<Decoded<'s>> {
        if let Decoder::Undecided { held, quiet } = self {
            let first: Vec<u8> = held.iter().chain(input.iter().take(2)).copied().collect();
            match Mode::detect(&first) {
                None => {
                    *held = first.first().copied();
                    *input = &[];
                    return None;
                }
                Some(Mode::Tls) => {
                    let refusal = Refusal::new(Code::Tls, "this address speaks plain text, not TLS");
                    return Some(Decoded::Request(Request::Fatal(refusal)));
                }
                Some(Mode::Frame) if *quiet => {
                    let refusal = Refusal::new(Code::BadFrame, "this listener takes texts, not frames");
                    return Some(Decoded::Request(Request::Fatal(refusal)));
                }
                Some(Mode::Frame) => *self = Decoder::Frame(FrameDecoder::default()),
                Some(Mode::Line) => *self = Self::of_lines(*held, *quiet),
            }
        }
        match self {
            Decoder::Undecided { .. } => None,
            Decoder::Line(reader) => reader.next(input, out),
            Decoder::Quiet(reader) => reader.next(input),
            Decoder::Frame(decoder) => decoder.next(input).map(Decoded::Request),
        }
    }

    /// The last request, where the input ended without its end.
    pub(crate) fn finish(&mut self) -> Option<Decoded<'_>> {
        if let Decoder::Undecided { held: Some(byte), quiet } = *self {
            *self = Self::of_lines(Some(byte), quiet);
        }
        match self {
            Decoder::Undecided { .. } => None,
            Decoder::Line(reader) => reader.finish(),
            Decoder::Quiet(reader) => reader.finish(),
            Decoder::Frame(decoder) => decoder.finish().map(Decoded::Request),
        }
    }

    fn of_lines(held: Option<u8>, quiet: bool) -> Self {
        if quiet { Decoder::Quiet(QuietReader::new(held)) } else { Decoder::Line(LineReader::new(held)) }
    }

    pub(crate) fn is_frame(&self) -> bool {
        matches!(self, Decoder::Frame(_))
    }

    /// Whether a frame client has begun and not said Hello.
    pub(crate) fn awaits_hello(&self) -> bool {
        matches!(self, Decoder::Frame(decoder) if decoder.awaits_hello())
    }

    /// Bytes held of a message that has not arrived whole.
    pub(crate) fn partial_bytes(&self) -> usize {
        match self {
            Decoder::Undecided { held, .. } => usize::from(held.is_some()),
            Decoder::Line(reader) => reader.partial_bytes(),
            Decoder::Quiet(reader) => reader.partial_bytes(),
            Decoder::Frame(decoder) => decoder.partial_bytes(),
        }
    }
}

/// Writes answers down. Before it is known how a client talks, it is told in words.
#[derive(Debug)]
pub(crate) enum Encoder {
    Line(Voice),
    Frame,
    /// Nothing is answered. Boxed so that other sessions do not hold its space.
    Quiet(Box<quiet::Voice>),
}

impl Encoder {
    pub(crate) fn is_frame(&self) -> bool {
        matches!(self, Encoder::Frame)
    }

    pub(crate) fn encode(&mut self, answer: Answer<'_>, out: &mut Vec<u8>) {
        match self {
            Encoder::Line(voice) => line::encode(voice, answer, out),
            Encoder::Frame => frame::encode(answer, out),
            Encoder::Quiet(voice) => voice.encode(&answer),
        }
    }
}
