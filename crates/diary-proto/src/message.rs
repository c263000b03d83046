//! The messages that frames carry. Numbers are big-endian; a string is `u16 length | UTF-8`. Bytes
//! behind the fields of a message are ignored, so that later versions can add some.

mod append;
mod client;
mod server;

use bytes::{Buf, Bytes};

use crate::refusal::{Code, Refusal};
use crate::time::Time;

pub use append::{APPEND_MAX_ENTRIES, Append, NewText, RELATED_MAX_ENTRIES, Texts};
pub use client::{ClientMessage, Hello, Resume};
pub use server::{ACKS_MAX_RUNS, BLOCK_MAX_BYTES, Run, ServerMessage, Welcome};

mod kind {
    pub(super) const HELLO: u8 = 0x01;
    pub(super) const APPEND: u8 = 0x02;
    pub(super) const HISTORY: u8 = 0x03;
    pub(super) const FOLLOW: u8 = 0x04;
    pub(super) const FOLLOW_OFF: u8 = 0x05;
    pub(super) const SEARCH: u8 = 0x06;
    pub(super) const QUIT: u8 = 0x07;
    pub(super) const APPEND_OWN: u8 = 0x08;
    pub(super) const CHECK: u8 = 0x09;
    pub(super) const THREAD: u8 = 0x0a;
    pub(super) const VERSIONS: u8 = 0x0b;
    pub(super) const WELCOME: u8 = 0x11;
    pub(super) const ACKS: u8 = 0x12;
    pub(super) const REFUSED: u8 = 0x13;
    pub(super) const ANSWER: u8 = 0x14;
    pub(super) const BLOCK: u8 = 0x15;
    pub(super) const END: u8 = 0x16;
    pub(super) const ERROR: u8 = 0x17;
    pub(super) const BYE: u8 = 0x18;
}

fn unknown_kind(kind: u8) -> Refusal {
    Refusal::new(Code::BadFrame, format!("0x{kind:02x} is not a frame type of this direction"))
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

fn put_time(out: &mut Vec<u8>, time: Time) {
    out.extend_from_slice(&time.micros.to_be_bytes());
    out.extend_from_slice(&time.offset_minutes.to_be_bytes());
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

    fn time(&mut self) -> Option<Time> {
        Time::checked(self.0.try_get_i64().ok()?, self.0.try_get_i16().ok()?)
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
}
