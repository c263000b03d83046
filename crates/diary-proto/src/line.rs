//! Line mode, from bytes to lines. Any way of cutting the bytes into reads gives the same lines.
//!
//! A line ends with LF, CR LF or CR NUL. A CR before anything else belongs to the text. What was erased with telnet's EC
//! and EL does not, nor what a peer that has shown itself as a telnet erases with backspace or delete: from any other
//! peer these two are data. A byte order mark before the first line belongs to no text.

use crate::entry::check_text;
use crate::erase::{ends_inside_character, erase_character};
use crate::http::RequestLine;
use crate::limits::TEXT_MAX_BYTES;
use crate::proxy;
use crate::refusal::{Code, Refusal};
use crate::telnet::{IAC, Meaning, Telnet};

/// Longest line: a text at its limit with the `/` that lets it start with one.
const LINE_MAX_BYTES: usize = TEXT_MAX_BYTES + 1;

/// What is kept between lines at the most, so that an idle connection holds no large buffer.
const IDLE_CAPACITY_BYTES: usize = 1024;

/// Ctrl-D, which a telnet client in character mode sends as it is.
const END_OF_TRANSMISSION: u8 = 4;

/// The two that keys for erasing send in character mode.
const BACKSPACE: u8 = 8;
const DELETE: u8 = 0x7f;

/// U+FEFF, with which some programs begin whatever they write.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// `bytes` without the byte order mark that they may begin with.
pub fn without_byte_order_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// How a connection talks, as its first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Text lines.
    Line,
    /// Length-prefixed frames: a frame's length is below 2^24, so its first byte is always 0.
    Frame,
    /// A TLS hello, which the diary does not speak.
    Tls,
}

impl Mode {
    /// The mode of a connection that starts with `bytes`, once they are enough to tell.
    pub fn detect(bytes: &[u8]) -> Option<Self> {
        match bytes {
            // A TLS record of the type handshake, then its version 3.x (RFC 8446, 5.1).
            [] | [0x16] => None,
            [0, ..] => Some(Mode::Frame),
            [0x16, 3, ..] => Some(Mode::Tls),
            _ => Some(Mode::Line),
        }
    }
}

/// A line. Empty ones are nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// A text to store, sound and within its limit.
    Text(&'a str),
    /// A line that starts with one `/`.
    Command(&'a str),
    /// A line that cannot be taken. The stream is still in step.
    Refused(Refusal),
    /// The user's end of input (Ctrl-D in telnet), at the start of a line.
    Quit,
    /// The first line is an HTTP request: no web page may write into a diary.
    Http,
    /// The first line is a PROXY header: what follows it is somebody else's than this connection's.
    Proxy,
}

/// Cuts a byte stream into lines.
#[derive(Debug, Clone, Default)]
pub struct LineDecoder {
    /// What came of a line that has not ended yet.
    carry: Vec<u8>,
    telnet: Telnet,
    /// The last byte was a CR, which may end the line.
    after_cr: bool,
    /// The line is over its limit: nothing of it is kept but whether it is an HTTP request, and its end is waited for.
    overlong: Option<RequestLine>,
    /// `carry` was given out as a line and is to be cleared.
    given: bool,
    /// A line has been seen, so that a later one is no HTTP request.
    begun: bool,
    /// A byte order mark here would belong to a text.
    past_mark: bool,
}

/// Where a raw line stands.
enum Raw<'i> {
    Input(&'i [u8]),
    Carry,
    Quit,
}

impl LineDecoder {
    /// A decoder for line mode, with commands and telnet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes held of a line that has not ended.
    pub fn partial_bytes(&self) -> usize {
        if self.given { 0 } else { self.carry.len() }
    }

    /// The next line of `input`, which is moved past it; `None` once `input` is used up. Telnet's
    /// answers are appended to `replies`.
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i [u8], replies: &mut Vec<u8>) -> Option<Line<'s>> {
        let raw = loop {
            self.clear_given();
            match self.next_raw(input, replies)? {
                Raw::Input([]) => {}
                Raw::Carry if self.carry.is_empty() && self.overlong.is_none() => self.given = true,
                raw => break raw,
            }
        };
        match raw {
            Raw::Quit => Some(Line::Quit),
            Raw::Input(line) => {
                let first = self.begin_line();
                Some(classify(line, None, first))
            }
            Raw::Carry => Some(self.take_carry()),
        }
    }

    /// The last line, where the input ended without a line feed.
    pub fn finish(&mut self) -> Option<Line<'_>> {
        self.clear_given();
        if self.telnet.end() {
            // What it swallowed may have been text. As it is no UTF-8 now, its writer is told.
            self.carry.push(IAC);
        }
        (!self.carry.is_empty() || self.overlong.is_some()).then(|| self.take_carry())
    }

    fn take_carry(&mut self) -> Line<'_> {
        let first = self.begin_line();
        self.given = true;
        classify(&self.carry, self.overlong.as_ref(), first)
    }

    /// A line that is not empty is given out. Whether it is the first.
    fn begin_line(&mut self) -> bool {
        self.past_mark = true;
        !std::mem::replace(&mut self.begun, true)
    }

    fn clear_given(&mut self) {
        if std::mem::take(&mut self.given) {
            self.erase_line();
            if self.carry.capacity() > IDLE_CAPACITY_BYTES {
                self.carry = Vec::new();
            }
        }
    }

    fn next_raw<'i>(&mut self, input: &mut &'i [u8], replies: &mut Vec<u8>) -> Option<Raw<'i>> {
        if !self.past_mark && self.is_fresh() && input.starts_with(BYTE_ORDER_MARK) {
            *input = &input[BYTE_ORDER_MARK.len()..];
            self.past_mark = true;
        }
        if let Some(line) = self.whole_line(input) {
            return Some(Raw::Input(line));
        }
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            let byte = match self.telnet.push(byte, replies) {
                Meaning::Nothing => continue,
                Meaning::EndOfFile if self.at_line_start() => return Some(Raw::Quit),
                Meaning::EndOfFile => continue,
                Meaning::Data(END_OF_TRANSMISSION) if self.at_line_start() => return Some(Raw::Quit),
                Meaning::EraseCharacter | Meaning::EraseLine if ends_inside_character(&self.carry) => {
                    // Nobody erases there: some telnets take a byte of a character for a key.
                    continue;
                }
                Meaning::EraseLine => {
                    self.erase_line();
                    continue;
                }
                Meaning::EraseCharacter => {
                    self.erase_character();
                    continue;
                }
                Meaning::Data(BACKSPACE | DELETE) if self.telnet.is_shown() => {
                    self.erase_character();
                    continue;
                }
                Meaning::Data(byte) => byte,
                Meaning::Stray(byte) => {
                    self.push_pending_cr();
                    self.push(0xff);
                    byte
                }
            };
            match (self.after_cr, byte) {
                (_, b'\n') | (true, 0) => return Some(Raw::Carry),
                (_, b'\r') => {
                    self.push_pending_cr();
                    self.after_cr = true;
                }
                _ => {
                    self.push_pending_cr();
                    self.push(byte);
                }
            }
        }
        None
    }

    /// A line that stands whole in `input` and has nothing in it to look at byte by byte: the usual
    /// case, without a copy.
    fn whole_line<'i>(&self, input: &mut &'i [u8]) -> Option<&'i [u8]> {
        if !self.is_fresh() || self.telnet.is_shown() {
            return None;
        }
        if input.first() == Some(&END_OF_TRANSMISSION) {
            return None;
        }
        let end = memchr::memchr(b'\n', input)?;
        let line = &input[..end];
        if memchr::memchr2(0, 0xff, line).is_some() {
            return None;
        }
        *input = &input[end + 1..];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// Whether nothing before the next byte has to do with it.
    fn is_fresh(&self) -> bool {
        self.at_line_start() && self.telnet.is_idle()
    }

    fn at_line_start(&self) -> bool {
        self.carry.is_empty() && !self.after_cr && self.overlong.is_none()
    }

    fn erase_line(&mut self) {
        self.overlong = None;
        self.after_cr = false;
        self.carry.clear();
    }

    fn erase_character(&mut self) {
        // It cannot bring back what is not kept of a line that is over its limit.
        if !std::mem::take(&mut self.after_cr) {
            erase_character(&mut self.carry);
        }
    }

    fn push_pending_cr(&mut self) {
        if std::mem::take(&mut self.after_cr) {
            self.push(b'\r');
        }
    }

    fn push(&mut self, byte: u8) {
        if let Some(request) = &mut self.overlong {
            return request.extend(&[byte]);
        }
        if self.carry.len() == LINE_MAX_BYTES {
            let request = self.overlong.insert(RequestLine::new());
            request.extend(&std::mem::take(&mut self.carry));
            return request.extend(&[byte]);
        }
        self.carry.push(byte);
        if !self.past_mark && self.carry.len() == BYTE_ORDER_MARK.len() {
            self.past_mark = true;
            if self.carry == BYTE_ORDER_MARK {
                self.carry.clear();
            }
        }
    }
}

/// `overlong` is what is known of a line of which nothing is kept.
fn classify<'a>(line: &'a [u8], overlong: Option<&RequestLine>, first: bool) -> Line<'a> {
    if first {
        if overlong.map_or_else(|| RequestLine::of(line), RequestLine::clone).is_request() {
            return Line::Http;
        }
        if proxy::begins_header(line) {
            return Line::Proxy;
        }
    }
    if overlong.is_some() || line.len() > LINE_MAX_BYTES {
        let message = format!("the line is longer than {TEXT_MAX_BYTES} bytes and is not stored");
        return Line::Refused(Refusal::new(Code::TooLong, message));
    }
    let Ok(line) = std::str::from_utf8(line) else {
        return Line::Refused(Refusal::new(
            Code::Utf8,
            "this line is not valid UTF-8 and is not stored; in telnet, type it again",
        ));
    };
    let text = match line.strip_prefix('/') {
        Some(rest) if rest.starts_with('/') => rest,
        Some(_) => return Line::Command(line),
        None => line,
    };
    match check_text(text) {
        Ok(()) => Line::Text(text),
        Err(refusal) => Line::Refused(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes `chunks`, and writes down every line and every telnet answer.
    fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Vec<u8>) {
        let (mut decoder, mut lines, mut replies) = (LineDecoder::new(), Vec::new(), Vec::new());
        for chunk in chunks {
            let mut input = chunk;
            while let Some(line) = decoder.next(&mut input, &mut replies) {
                lines.push(show(&line));
            }
            assert!(input.is_empty());
            assert!(decoder.partial_bytes() <= LINE_MAX_BYTES);
        }
        lines.extend(decoder.finish().map(|line| show(&line)));
        assert!(decoder.finish().is_none(), "an end comes once");
        (lines, replies)
    }

    fn show(line: &Line<'_>) -> String {
        match line {
            Line::Text(text) if text.len() > 100 => format!("text of {}", text.len()),
            Line::Text(text) => format!("text {text}"),
            Line::Command(command) => format!("command {command}"),
            Line::Refused(refusal) => format!("refused {}", refusal.code),
            Line::Quit => "quit".into(),
            Line::Http => "http".into(),
            Line::Proxy => "proxy".into(),
        }
    }

    fn check(input: &[u8], expected: &[&str]) {
        assert_eq!(decode([input]).0, expected, "whole");
        assert_eq!(decode(input.chunks(1)).0, expected, "byte by byte");
    }

    #[test]
    fn line_ends() {
        check(b"a\nb\r\nc\r\0d\re\n\n\r\nf", &["text a", "text b", "text c", "text d\re", "text f"]);
        check(b"a\r\r\nb\r", &["text a\r", "text b"]);
        check(b"", &[]);
        check(b"\n\r\n", &[]);
    }

    #[test]
    fn commands_and_texts() {
        check(
            b"/help\n//usr/bin\n// x\n /x\n/\n",
            &["command /help", "text /usr/bin", "text / x", "text  /x", "command /"],
        );
        check("今天\n".as_bytes(), &["text 今天"]);
        check(b"a\x04\n\x04", &["text a\x04", "quit"]);
    }

    #[test]
    fn what_is_refused_does_not_break_the_next_line() {
        check(b"a\0b\nok\n", &["refused nul", "text ok"]);
        check(b"\xc3\x28\nok\n", &["refused utf8", "text ok"]);
        check(b"\xc0\xaf\nok\n", &["refused utf8", "text ok"]);
        check(b"\xed\xa0\x80\nok\n", &["refused utf8", "text ok"]);
        check(b"caf\xff\nok\n", &["refused utf8", "text ok"]);
        check(b"\xff\xff\nok\n", &["refused utf8", "text ok"]);
    }

    #[test]
    fn the_limit_and_one_over_it() {
        let at_limit = [&b"x".repeat(TEXT_MAX_BYTES)[..], b"\nok\n"].concat();
        check(&at_limit, &["text of 65536", "text ok"]);
        let over = [&b"x".repeat(TEXT_MAX_BYTES + 1)[..], b"\nok\n"].concat();
        check(&over, &["refused too-long", "text ok"]);
        let far_over = [&b"x/".repeat(TEXT_MAX_BYTES)[..], b"\nok\n"].concat();
        check(&far_over, &["refused too-long", "text ok"]);
        let slashed = [&b"/"[..], &b"/".repeat(TEXT_MAX_BYTES), b"\nok\n"].concat();
        check(&slashed, &["text of 65536", "text ok"]);
        check(&b"x".repeat(TEXT_MAX_BYTES + 9), &["refused too-long"]);
    }

    #[test]
    fn an_http_request_as_the_first_line() {
        check(b"GET / HTTP/1.1\r\nHost: x\r\n", &["http", "text Host: x"]);
        check(b"\r\nPOST /a HTTP/2.0\n", &["http"]);
        check(b"hello\nGET / HTTP/1.1\n", &["text hello", "text GET / HTTP/1.1"]);
        check(b"I learned about HTTP/2\nand more\n", &["text I learned about HTTP/2", "text and more"]);
        check(b"\xff\xfb\x01GET /\xff\xf8GET / HTTP/1.1\n", &["http"]);
        for excess in [0, 1, 2, 8, 9, 10, 5000] {
            let address = b"x".repeat(TEXT_MAX_BYTES - b"POST /".len() - b" HTTP/1.1\r".len() + excess);
            let long = [b"POST /", &address[..], b" HTTP/1.1\r\nHost: x\n"].concat();
            check(&long, &["http", "text Host: x"]);
            let text = [b"POST /", &address[..], b" and HTTP/1.1\r\nHost: x\n"].concat();
            check(&text, &["refused too-long", "text Host: x"]);
        }
    }

    #[test]
    fn a_telnet_command_without_an_end_is_told() {
        for cut in [&b"\xff"[..], b"\xff\xfa", b"\xff\xfa\x18 gone\nand this\n", b"\xff\xfa\xff", b"\xff\xfb"]
        {
            check(&[b"text", cut].concat(), &["refused utf8"]);
            check(&[b"text\n", cut].concat(), &["text text", "refused utf8"]);
        }
    }

    #[test]
    fn a_proxy_header_as_the_first_line() {
        let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 8888\r\nhello\n";
        check(header, &["proxy", "text hello"]);
        let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\xc8\x22\x22\xb8";
        check(&header[..16], &["proxy", "text QUIT", "refused nul"]);
        check(
            b"PROXY servers are slow\nPROXY UNKNOWN\n",
            &["text PROXY servers are slow", "text PROXY UNKNOWN"],
        );
    }

    #[test]
    fn a_byte_order_mark_before_the_first_line_belongs_to_no_text() {
        check("\u{feff}hello\n\u{feff}x\n".as_bytes(), &["text hello", "text \u{feff}x"]);
        check("\r\n\u{feff}hello".as_bytes(), &["text hello"]);
        check("\u{feff}/help\r\n".as_bytes(), &["command /help"]);
        check("\u{feff}GET / HTTP/1.1\r\n".as_bytes(), &["http"]);
        check("\u{feff}\u{feff}x\n".as_bytes(), &["text \u{feff}x"]);
        check("x\u{feff}\n".as_bytes(), &["text x\u{feff}"]);
        check("\u{feff}\n\u{feff}x\n".as_bytes(), &["text \u{feff}x"]);
        check("\u{feff}\u{4}".as_bytes(), &["quit"]);
        check("\u{feff}".as_bytes(), &[]);
        check(b"\xef\xbb\nx\n", &["refused utf8", "text x"]);
        let at_limit = ["\u{feff}", &"x".repeat(TEXT_MAX_BYTES), "\r\n"].concat();
        check(at_limit.as_bytes(), &["text of 65536"]);
    }

    #[test]
    fn a_line_is_what_its_writer_saw() {
        check("ab天\u{301}\u{7f}c\n".as_bytes(), &["text ab天\u{301}\u{7f}c"]);
        check(b"abx\xff\xf7c\xff\xf7\xff\xf7\xff\xf7\xff\xf7d\n", &["text d"]);
        check(b"one\ntwo\xff\xf8/nope\xff\xf8three\n", &["text one", "text three"]);
        let telnet = |typed: &str| [b"\xff\xfd\x03", typed.as_bytes()].concat();
        check(&telnet("ab👩‍👩‍👧\u{8}天\u{7f}c\r\0e\u{301}\u{8}f\r\n"), &["text abc", "text f"]);
        check(&telnet("/qx\u{8}uit\r\n\u{8}\u{8}x\u{8}\r\ny\n"), &["command /quit", "text y"]);
        check(&telnet("a\r\u{8}b\r\n"), &["text ab"]);
        check(&telnet("x\u{8}\u{4}"), &["quit"]);
        let over = [&b"x".repeat(TEXT_MAX_BYTES + 9)[..], b"\xff\xf7\ny"].concat();
        check(&over, &["refused too-long", "text y"]);
        let erased = [&b"x".repeat(TEXT_MAX_BYTES + 9)[..], b"\xff\xf8y\n"].concat();
        check(&erased, &["text y"]);
    }

    /// 在, of which a telnet that does not know UTF-8 takes a byte for the key that erases a line.
    #[test]
    fn a_broken_character_does_not_erase_what_is_before_it() {
        for broken in
            [&b"\xe5\xff\xf8\xa8"[..], b"\xe5\xff\xf7\xff\xf7", b"\xe5\xff\xf8\xff\xf8", b"\xe5\x9c\xff\xf8"]
        {
            check(&[b"before", broken, b"behind\nx\n"].concat(), &["refused utf8", "text x"]);
        }
        check(b"\xff\xfd\x03a\xe5\xff\xf8\xa8\x08b\n", &["text ab"]);
    }

    #[test]
    fn telnet_is_taken_out_and_answered() {
        let (lines, replies) = decode([&b"a\xff\xfd\x06b\r\xff\xfb\x01\nc\n"[..]]);
        assert_eq!(lines, ["text ab", "text c"]);
        assert_eq!(replies, b"\xff\xfd\x00\xff\xfc\x06\xff\xfe\x01");
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_lines(
            pieces in proptest::collection::vec(prop_oneof![
                Just(&b"\n"[..]), Just(&b"\r"[..]), Just(&b"\0"[..]), Just(&b"\xff"[..]), Just(&b"\xfd\x06"[..]),
                Just(&b"\xfb\x01"[..]), Just(&b"\xfa"[..]), Just(&b"\xff\xf0"[..]), Just(&b"\xec"[..]), Just(&b"\x04"[..]),
                Just(&b"/"[..]), Just("今天".as_bytes()), Just(&b"word"[..]), Just(&b" HTTP/1.1"[..]), Just(&b"\xe4"[..]),
                Just(&b"GET /"[..]), Just("\u{feff}".as_bytes()), Just(&b"\xef"[..]), Just(&b"\xbb\xbf"[..]),
                Just(&b"\xff\xf7"[..]), Just(&b"\xff\xf8"[..]), Just(&b"\x08"[..]), Just(&b"\x7f"[..]),
                Just("e\u{301}".as_bytes()), Just("👩‍👩‍👧".as_bytes()), Just(&b"PROXY UNKNOWN"[..]),
            ], 0..40),
            cuts in proptest::collection::vec(1usize..7, 1..40),
        ) {
            let input = pieces.concat();
            let whole = decode([&input[..]]);
            let mut chunks = Vec::new();
            let mut rest = &input[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk);
                rest = tail;
            }
            prop_assert_eq!(decode(chunks), whole);
        }
    }
}
