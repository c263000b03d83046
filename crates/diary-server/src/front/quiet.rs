//! Quiet listeners: messages of programs that never read. What is refused is told to the log.

pub(crate) mod udp;

use std::net::IpAddr;

use diary_proto::command::{is_login, stray_login};
use diary_proto::syslog::{Message, SyslogDecoder};

use super::line::{http, proxy};
use super::refusals::{RefusalLog, quoting};
use super::{Answer, Decoded, Request};

/// Cuts a connection's bytes into messages.
#[derive(Debug, Default)]
pub(crate) struct QuietReader(SyslogDecoder);

impl QuietReader {
    /// `held` is a first byte that was kept until the mode was known.
    pub(crate) fn new(held: Option<u8>) -> Self {
        let mut reader = Self::default();
        if let Some(byte) = held {
            let ends_message = reader.0.next(&mut &[byte][..]).is_some();
            debug_assert!(!ends_message, "only 0x16 is held, which ends no message");
        }
        reader
    }

    pub(crate) fn partial_bytes(&self) -> usize {
        self.0.partial_bytes()
    }

    pub(crate) fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Option<Decoded<'s>> {
        self.0.next(input).map(decoded)
    }

    pub(crate) fn finish(&mut self) -> Option<Decoded<'_>> {
        self.0.finish().map(decoded)
    }
}

fn decoded(message: Message<'_>) -> Decoded<'_> {
    Decoded::Request(match message {
        Message::Text(text) if is_login(text) => Request::refused(stray_login()),
        Message::Text(text) => return Decoded::Text(text),
        Message::Refused { refusal, text } => Request::refused(quoting(&refusal, text)),
        Message::Http => Request::Fatal(http()),
        Message::Proxy => Request::Fatal(proxy()),
    })
}

/// What is said of a quiet connection: nothing to its peer, and to the log what is not stored.
#[derive(Debug)]
pub(crate) struct Voice {
    pub(crate) log: RefusalLog,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) peer: String,
}

impl Voice {
    pub(super) fn encode(&self, answer: &Answer<'_>) {
        let (refusal, count) = match answer {
            Answer::NotStored { count, refusal, .. } => (refusal, u64::from(*count)),
            Answer::Error { refusal, .. } => (refusal, 1),
            _ => return,
        };
        self.log.tell(self.ip, &self.peer, refusal, count);
    }
}
