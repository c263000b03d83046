//! Fronts: bytes to requests, answers to bytes. A front knows no file and no other session.

pub(crate) mod frame;
pub(crate) mod line;
pub(crate) mod udp;

use diary_proto::block::{Gap, Walker};
use diary_proto::line::Mode;
use diary_proto::message::{Append, Hello, Welcome};
use diary_proto::{Author, Code, Filter, Refusal, Time, Which};

use frame::FrameFront;
use line::LineFront;

/// What a client wants.
#[derive(Debug)]
pub(crate) enum Request<'a> {
    /// A text to append (line mode).
    Text(&'a str),
    /// Texts to append, with keys (frame mode).
    Append(Append),
    /// Everything else, which is done once all before it is answered.
    Other(Command),
}

/// A request that is not an append. Sessions keep these in line behind the appends before them.
#[derive(Debug)]
pub(crate) enum Command {
    Hello(Hello),
    History {
        id: u32,
        which: Which,
    },
    Follow {
        id: u32,
        from: Option<u64>,
    },
    FollowOff {
        id: u32,
    },
    Search {
        id: u32,
        filter: Filter,
    },
    Name(Author),
    Quiet,
    Help,
    Quit,
    /// Something that cannot be taken; the stream is still in step.
    Refused(Refusal),
    /// Something after which the connection cannot go on.
    Fatal(Refusal),
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
    },
    /// Whole stored lines.
    Lines {
        id: u32,
        lines: &'a [u8],
        walk: &'a mut Walk,
    },
    /// So far everything has been sent, up to this seq; what has not come is missing.
    CaughtUp {
        last: u64,
        walk: &'a mut Walk,
    },
    End {
        id: u32,
        walk: &'a Walk,
    },
    Name(&'a Author),
    FollowOff {
        id: u32,
    },
    Quiet,
    Help,
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
    Follow,
}

/// How far an answer's entries have been checked and counted, where the server does that.
#[derive(Debug)]
pub(crate) struct Walk {
    /// Finds gaps; none where entries are not dense.
    pub(crate) walker: Option<Walker>,
    /// Entries that were given out.
    pub(crate) count: u64,
    /// Gaps that were met and are to be told in the log.
    pub(crate) gaps: Vec<Gap>,
}

/// A connection's front, as its first bytes chose it.
#[derive(Debug)]
pub(crate) enum Front {
    /// Nothing yet, or only the first byte of what may become a TLS hello.
    Undecided {
        held: Option<u8>,
    },
    Line(LineFront),
    Frame(FrameFront),
}

impl Front {
    /// A connection of which nothing is known yet.
    pub(crate) const NEW: Self = Front::Undecided { held: None };

    /// The next request in `input`, which is moved past it. `None`: all of it is used up.
    pub(crate) fn decode<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
        out: &mut Vec<u8>,
    ) -> Option<Request<'s>> {
        if let Front::Undecided { held } = self {
            let first: Vec<u8> = held.iter().chain(input.iter().take(2)).copied().collect();
            match Mode::detect(&first) {
                None => {
                    *held = first.first().copied();
                    *input = &[];
                    return None;
                }
                Some(Mode::Tls) => {
                    let refusal = Refusal::new(Code::Tls, "this diary speaks plain text, not TLS");
                    return Some(Request::Other(Command::Fatal(refusal)));
                }
                Some(Mode::Frame) => *self = Front::Frame(FrameFront::default()),
                Some(Mode::Line) => *self = Front::Line(LineFront::new(*held)),
            }
        }
        match self {
            Front::Undecided { .. } => None,
            Front::Line(front) => front.decode(input, out),
            Front::Frame(front) => front.decode(input),
        }
    }

    /// The last request, where the input ended without its end.
    pub(crate) fn finish(&mut self) -> Option<Request<'_>> {
        if let Front::Undecided { held: Some(byte) } = *self {
            *self = Front::Line(LineFront::new(Some(byte)));
        }
        match self {
            Front::Undecided { .. } => None,
            Front::Line(front) => front.finish(),
            Front::Frame(front) => front.finish(),
        }
    }

    /// Whether a frame client has begun and not said Hello.
    pub(crate) fn awaits_hello(&self) -> bool {
        matches!(self, Front::Frame(front) if front.awaits_hello())
    }

    /// Bytes held of a message that has not arrived whole.
    pub(crate) fn partial_bytes(&self) -> usize {
        match self {
            Front::Undecided { held } => usize::from(held.is_some()),
            Front::Line(front) => front.partial_bytes(),
            Front::Frame(front) => front.partial_bytes(),
        }
    }

    pub(crate) fn encode(&mut self, answer: Answer<'_>, out: &mut Vec<u8>) {
        match self {
            Front::Frame(front) => front.encode(answer, out),
            Front::Line(front) => front.encode(answer, out),
            // Before it is known how a client talks, it is told in words.
            Front::Undecided { .. } => LineFront::new(None).encode(answer, out),
        }
    }
}
