//! What a server says.

use bytes::{Buf, Bytes};

use super::{Body, bad_body, kind, put_str, put_time, unknown_kind};
use crate::frame::{self, Frame, IGNORABLE_FROM};
use crate::limits::FRAME_MAX_BYTES;
use crate::own_time::DayStart;
use crate::refusal::{Code, Refusal};
use crate::time::Time;

/// Bytes of lines that one block may carry, so that its frame stays within the limit.
pub const BLOCK_MAX_BYTES: usize = FRAME_MAX_BYTES - 16;

/// Most runs in one frame of acks, so that it stays within the limit.
pub const ACKS_MAX_RUNS: usize = (FRAME_MAX_BYTES - 1) / RUN_BYTES;

/// Counter, count, seq, microseconds, offset.
const RUN_BYTES: usize = 8 + 4 + 8 + 8 + 2;

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
        /// They come as people see them. A server leaves it out where it does not know yet what was corrected.
        shown: bool,
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    /// When its days begin.
    pub day_start: DayStart,
    /// What its clock says, in microseconds since 1970-01-01T00:00:00Z.
    pub clock_micros: i64,
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
                out.extend_from_slice(&welcome.day_start.minutes().to_be_bytes());
                out.extend_from_slice(&welcome.clock_micros.to_be_bytes());
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
            Self::Answer { id, first, last, dense, shown } => frame::write(out, kind::ANSWER, |out| {
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&first.to_be_bytes());
                out.extend_from_slice(&last.to_be_bytes());
                out.push(u8::from(*dense));
                out.push(u8::from(*shown));
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
            put_time(out, run.time);
        }
    });
}

fn put_refusal(out: &mut Vec<u8>, refusal: &Refusal) {
    put_str(out, refusal.code.as_str());
    put_str(out, &refusal.message);
}

impl Body {
    fn welcome(&mut self) -> Option<Welcome> {
        Some(Welcome {
            version: self.u8()?,
            journal_id: self.u64()?,
            head: self.u64()?,
            author: self.string()?,
            journal: self.string()?,
            zone: self.string()?,
            day_start: DayStart::from_minutes(self.0.try_get_u16().ok()?)?,
            clock_micros: self.0.try_get_i64().ok()?,
        })
    }

    fn runs(&mut self) -> Option<Vec<Run>> {
        let mut runs = Vec::new();
        while !self.0.is_empty() {
            let run = Run {
                first_counter: self.u64()?,
                count: self.u32()?,
                first_seq: self.u64()?,
                time: self.time()?,
            };
            // Whoever gets a run may count through it.
            run.first_counter.checked_add(run.count.into())?;
            run.first_seq.checked_add(run.count.into())?;
            runs.push(run);
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
        let (id, first, last, dense) = (self.u32()?, self.u64()?, self.u64()?, self.flag()?);
        // Earlier servers end here.
        let shown = if self.0.is_empty() { false } else { self.flag()? };
        Some(ServerMessage::Answer { id, first, last, dense, shown })
    }

    fn error(&mut self) -> Option<ServerMessage> {
        Some(ServerMessage::Error { id: self.u32()?, fatal: self.flag()?, refusal: self.refusal()? })
    }
}
