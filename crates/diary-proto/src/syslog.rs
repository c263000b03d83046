//! Messages of programs that never read, such as syslog forwarders: from bytes to messages. Any way of cutting the
//! bytes into reads gives the same messages.
//!
//! A message tells by its own first bytes how it is framed (RFC 6587, 3.4), so a connection may mix framings, and what
//! is broken in one message costs no other:
//!
//! - `COUNT SP <PRI>…` is counted (3.4.1): COUNT bytes from `<` on. Without a priority it is a line, as `12 monkeys` is.
//! - Anything else ends with LF, CR LF or NUL (3.4.2).
//!
//! How the message before it ended decides what else ends a message that is not counted:
//!
//! - With NUL: a message with a priority keeps its line feeds. It ends with NUL, or with a line feed before the next
//!   priority, so that one stray NUL cannot join all messages of a sender that ends them with LF.
//! - By its count: the count may have been too small. The rest is a message of its own, up to the next count.
//!
//! LF and NUL at the end of any message belong to its framing, and so does a byte order mark before it: forwarders send in
//! one connection what each was a file of its own.

#[cfg(test)]
mod tests;

use crate::entry::check_text;
use crate::http::RequestLine;
use crate::limits::TEXT_MAX_BYTES;
use crate::line::without_byte_order_mark;
use crate::proxy;
use crate::refusal::{Code, Refusal};

/// Digits of the longest count, almost 10 MB: no forwarder sends more in a message. The seconds of today have ten, so
/// no text that begins with a time is taken for a count.
const COUNT_MAX_DIGITS: usize = 7;

/// `<191>` is the longest priority (RFC 5424, 6.2.1).
const PRIORITY_MAX_DIGITS: usize = 3;

/// Longest message with what may stand around its text: a byte order mark in front, CR LF and NUL behind.
const MESSAGE_MAX_BYTES: usize = TEXT_MAX_BYTES + 6;

/// What is kept of the beginning of a message over its limit, to tell which one it was.
const HEAD_BYTES: usize = 128;

/// What is kept of its end: the next count and priority can be found in it.
const TAIL_BYTES: usize = 16;

const _: () = assert!(COUNT_MAX_DIGITS + b" <>".len() + PRIORITY_MAX_DIGITS < TAIL_BYTES);

/// What is kept between messages at the most, so that an idle connection holds no large buffer.
const IDLE_CAPACITY_BYTES: usize = 1024;

/// A message. Empty ones are nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text to store, valid and within its limit.
    Text(&'a str),
    /// A message that cannot be taken. The stream is still in step.
    Refused {
        /// Why not.
        refusal: Refusal,
        /// The message, or at least its beginning, as it came.
        text: &'a [u8],
    },
    /// The first message is an HTTP request: no web page may write into a diary.
    Http,
    /// The first message is a PROXY header: what follows it is somebody else's than this connection's.
    Proxy,
}

/// Cuts a byte stream into messages.
#[derive(Debug, Clone, Default)]
pub struct SyslogDecoder {
    /// What came of a message that has not ended yet. Of one over its limit: its head, and if it is not counted its tail.
    carry: Vec<u8>,
    /// The message is counted.
    counted: Option<Counted>,
    last: Last,
    overlong: Option<RequestLine>,
    /// Bytes of `carry` that were given out and are to be dropped.
    given: usize,
    /// A message has been seen, so that a later one is no HTTP request.
    begun: bool,
    /// A NUL came before all messages, as in the signature of a PROXY header.
    nul_first: bool,
}

#[derive(Debug, Clone, Copy)]
struct Counted {
    bytes: usize,
    /// Those that have not come.
    missing: usize,
}

/// How the last message ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Last {
    /// With a line feed; or there was none.
    #[default]
    LineFeed,
    Nul,
    Count,
}

/// Where a message stands.
enum Raw<'i> {
    Input(&'i [u8]),
    /// So many bytes of the carry.
    Carry(usize),
}

impl SyslogDecoder {
    /// Bytes held of a message that has not ended.
    pub fn partial_bytes(&self) -> usize {
        self.carry.len() - self.given
    }

    /// The next message of `input`, which is moved past it; `None` once `input` is used up.
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8]) -> Option<Message<'s>> {
        let raw = loop {
            self.drop_given();
            let (raw, text) = match self.whole_message(input) {
                Some(message) => (Raw::Input(message), message),
                None => {
                    let bytes = self.gather(input)?;
                    (Raw::Carry(bytes), &self.carry[..bytes])
                }
            };
            if !trim(text).is_empty() {
                break raw;
            }
        };
        let text = match raw {
            Raw::Input(message) => trim(message),
            Raw::Carry(bytes) => trim(&self.carry[..bytes]),
        };
        let first = !std::mem::replace(&mut self.begun, true);
        Some(self.classify(text, first))
    }

    /// The last message, where the input ended without its end. A counted one that is not whole is refused.
    pub fn finish(&mut self) -> Option<Message<'_>> {
        self.drop_given();
        self.given = self.carry.len();
        let first = !std::mem::replace(&mut self.begun, true);
        let text = trim(&self.carry);
        match self.counted.take() {
            Some(Counted { bytes, missing }) => {
                let message =
                    format!("the input ended {missing} bytes before the end of this message of {bytes}");
                Some(Message::Refused { refusal: Refusal::new(Code::BadFrame, message), text })
            }
            None if text.is_empty() => None,
            None => Some(self.classify(text, first)),
        }
    }

    fn classify<'a>(&self, text: &'a [u8], first: bool) -> Message<'a> {
        if first && let Some(guarded) = self.guard(text) {
            return guarded;
        }
        let too_long = || {
            let message = format!("the message is longer than {TEXT_MAX_BYTES} bytes and is not stored");
            Refusal::new(Code::TooLong, message)
        };
        match if self.overlong.is_some() { Err(too_long()) } else { check_message(text) } {
            Ok(text) => Message::Text(text),
            Err(refusal) => Message::Refused { refusal, text },
        }
    }

    /// What the first message must not be.
    fn guard(&self, text: &[u8]) -> Option<Message<'static>> {
        if self.overlong.as_ref().map_or_else(|| RequestLine::of(text), RequestLine::clone).is_request() {
            return Some(Message::Http);
        }
        let is_signature = self.nul_first && text == proxy::SIGNATURE_END;
        (is_signature || proxy::begins_header(text)).then_some(Message::Proxy)
    }

    fn drop_given(&mut self) {
        if self.given > 0 {
            self.carry.drain(..std::mem::take(&mut self.given));
            self.overlong = None;
            if self.carry.capacity() > IDLE_CAPACITY_BYTES {
                self.carry.shrink_to(IDLE_CAPACITY_BYTES);
            }
        }
    }

    /// A message that stands whole in `input` and is easily found: the usual case, without a copy.
    fn whole_message<'i>(&mut self, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        if !self.carry.is_empty() {
            return None;
        }
        if let Some((header, bytes)) = header(input) {
            *input = &input[header..];
            self.begin_counted(bytes, bytes);
        }
        if let Some(counted) = self.counted {
            let (message, rest) = input.split_at_checked(counted.missing)?;
            self.counted = None;
            *input = rest;
            return Some(message);
        }
        match self.last {
            Last::LineFeed => {}
            Last::Nul if input.first() != Some(&b'<') => {}
            Last::Nul | Last::Count => return None,
        }
        let end = memchr::memchr2(b'\n', 0, input)?;
        let (message, rest) = input.split_at(end);
        self.note_end(end > 0, rest[0]);
        *input = &rest[1..];
        Some(message)
    }

    /// Takes input into the carry until a message has ended: how many bytes it has.
    fn gather(&mut self, input: &mut &[u8]) -> Option<usize> {
        loop {
            if self.counted.is_some() {
                return self.gather_counted(input);
            }
            let (&byte, rest) = input.split_first()?;
            *input = rest;
            match byte {
                0 => return Some(self.end_here(byte)),
                b'\n' if !self.keeps_line_feeds() => return Some(self.end_here(byte)),
                _ => self.push(byte),
            }
            if byte == b'>'
                && let Some(bytes) = self.begin_next()
            {
                return Some(bytes);
            }
        }
    }

    fn gather_counted(&mut self, input: &mut &[u8]) -> Option<usize> {
        let counted = self.counted.as_mut()?;
        let (part, rest) = input.split_at(counted.missing.min(input.len()));
        *input = rest;
        counted.missing -= part.len();
        if counted.bytes > MESSAGE_MAX_BYTES {
            self.overlong.get_or_insert_with(RequestLine::new);
        }
        let kept =
            if self.overlong.is_some() { HEAD_BYTES.saturating_sub(self.carry.len()) } else { usize::MAX };
        self.carry.extend_from_slice(&part[..kept.min(part.len())]);
        if counted.missing > 0 {
            return None;
        }
        self.counted = None;
        self.given = self.carry.len();
        Some(self.given)
    }

    fn begin_counted(&mut self, bytes: usize, missing: usize) {
        self.counted = Some(Counted { bytes, missing });
        self.last = Last::Count;
    }

    /// The carry ends with `>`, and perhaps with the beginning of the next message: how many bytes are before it.
    fn begin_next(&mut self) -> Option<usize> {
        let priority_at = priority_at_end(&self.carry)?;
        let (before, priority) = self.carry.split_at(priority_at);
        if let Some((count_at, bytes)) = count_at_end(before)
            && (count_at == 0 || self.last == Last::Count)
            && let Some(missing) = bytes.checked_sub(priority.len())
        {
            self.begin_counted(bytes, missing);
            self.given = priority_at;
            return Some(count_at);
        }
        if before.ends_with(b"\n") {
            self.last = Last::LineFeed;
            self.given = priority_at;
            return Some(priority_at);
        }
        None
    }

    /// Whether a line feed belongs to the message.
    fn keeps_line_feeds(&self) -> bool {
        self.last == Last::Nul && priority(&self.carry).is_some()
    }

    fn end_here(&mut self, end: u8) -> usize {
        self.given = self.carry.len();
        self.note_end(self.given > 0, end);
        self.given
    }

    /// What stands between messages says nothing about them.
    fn note_end(&mut self, ends_message: bool, end: u8) {
        if ends_message {
            self.last = if end == 0 { Last::Nul } else { Last::LineFeed };
        } else {
            self.nul_first |= end == 0 && !self.begun;
        }
    }

    fn push(&mut self, byte: u8) {
        if let Some(request) = &mut self.overlong {
            request.extend(&[byte]);
            self.carry.copy_within(HEAD_BYTES + 1.., HEAD_BYTES);
            self.carry.pop();
        } else if self.carry.len() == MESSAGE_MAX_BYTES {
            let request = self.overlong.insert(RequestLine::new());
            request.extend(without_byte_order_mark(&self.carry));
            request.extend(&[byte]);
            self.carry.copy_within(MESSAGE_MAX_BYTES - TAIL_BYTES + 1.., HEAD_BYTES);
            self.carry.truncate(HEAD_BYTES + TAIL_BYTES - 1);
            self.carry.shrink_to(IDLE_CAPACITY_BYTES);
        }
        self.carry.push(byte);
    }
}

/// The text of a datagram, which is a message (RFC 5426); `None` if it is empty.
///
/// # Errors
/// Why it cannot be stored.
pub fn datagram(bytes: &[u8]) -> Option<Result<&str, Refusal>> {
    // Some senders count there, too.
    let message = match header(bytes) {
        Some((header, count)) if header + count == bytes.len() => &bytes[header..],
        _ => bytes,
    };
    let text = trim(message);
    (!text.is_empty()).then(|| check_message(text))
}

/// Without the byte order mark before it, the line feeds and NULs behind it, and the CR before them.
fn trim(message: &[u8]) -> &[u8] {
    let message = without_byte_order_mark(message);
    let end = message.iter().rposition(|byte| !matches!(byte, b'\n' | 0)).map_or(0, |last| last + 1);
    message[..end].strip_suffix(b"\r").unwrap_or(&message[..end])
}

fn check_message(text: &[u8]) -> Result<&str, Refusal> {
    let text = std::str::from_utf8(text)
        .map_err(|_| Refusal::new(Code::Utf8, "this message is not valid UTF-8 and is not stored"))?;
    check_text(text).map(|()| text)
}

/// `COUNT SP` before a priority: its length, and the count.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    let digits = bytes.iter().take(COUNT_MAX_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
    let length = digits + 1;
    let (at, count) = count_at_end(bytes.get(..length)?)?;
    (at == 0 && count >= priority(&bytes[length..])?).then_some((length, count))
}

/// The length of `<PRI>` at the beginning.
fn priority(bytes: &[u8]) -> Option<usize> {
    let digits = bytes.get(1..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let fits = bytes[0] == b'<'
        && (1..=PRIORITY_MAX_DIGITS).contains(&digits)
        && bytes.get(digits + 1) == Some(&b'>');
    fits.then_some(digits + 2)
}

/// Where `<PRI>` at the end begins.
fn priority_at_end(bytes: &[u8]) -> Option<usize> {
    let from = bytes.len().saturating_sub(PRIORITY_MAX_DIGITS + 2);
    let at = from + memchr::memrchr(b'<', &bytes[from..])?;
    (priority(&bytes[at..])? == bytes.len() - at).then_some(at)
}

/// Where `COUNT SP` at the end begins, and the count.
fn count_at_end(bytes: &[u8]) -> Option<(usize, usize)> {
    let digits = bytes.strip_suffix(b" ")?;
    let at = digits.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |last| last + 1);
    let digits = &digits[at..];
    let fits = (1..=COUNT_MAX_DIGITS).contains(&digits.len()) && digits[0] != b'0';
    fits.then(|| (at, digits.iter().fold(0, |count, digit| count * 10 + usize::from(digit - b'0'))))
}
