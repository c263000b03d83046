//! Reads input on its own thread in chunks, and cuts it into numbered lines.

use std::io::{self, Read};

use bytes::BytesMut;
use diary_client::{Code, Refusal};
use diary_proto::command;
use diary_proto::entry::check_text;
use diary_proto::limits::TEXT_MAX_BYTES;
use tokio::sync::mpsc;
use tokio_util::codec::{Decoder, LinesCodec, LinesCodecError};

/// What a user typed.
#[derive(Debug)]
pub(crate) enum Typed {
    /// An entry or a command, or why it is neither.
    Line(Result<String, Refusal>),
    /// Ctrl-C on an empty line.
    Interrupt,
    /// The input cannot be read any more.
    Failed(io::Error),
}

/// Whether a typed text is a command. One of several lines is none, as it was pasted, or written as an entry; only an
/// answer or a correction may have several.
pub(crate) fn is_command(text: &str) -> bool {
    let has_text = text.starts_with("/re ") || text.starts_with("/correct ");
    text.starts_with('/') && !text.starts_with("//") && (has_text || !text.contains('\n'))
}

/// Characters behind its prefix from which on a word is a token, or most of one.
const SECRET_MIN_CHARS: usize = 40;

/// Whether a typed text is `/login`, or was meant to be, or has a token in it: it is neither sent nor kept.
pub(crate) fn is_login(text: &str) -> bool {
    const LOGIN: &str = "/login";
    let is_meant = text.trim_start().get(..LOGIN.len()).is_some_and(|word| word.eq_ignore_ascii_case(LOGIN));
    let is_token = |word: &str| {
        let secret = word.trim_start_matches('/').strip_prefix(command::TOKEN_PREFIX);
        secret.is_some_and(|secret| {
            secret.len() >= SECRET_MIN_CHARS && secret.bytes().all(|b| b.is_ascii_alphanumeric())
        })
    };
    is_meant || text.split_whitespace().any(is_token)
}

/// Refuses a token that is about to become an entry.
///
/// # Errors
/// A refusal. The text is not to be quoted.
pub(crate) fn no_login(text: &str) -> Result<(), Refusal> {
    match command::is_login(text) {
        true => Err(Refusal::new(
            Code::BadArgument,
            "this is a token, and is neither sent nor kept; diary login takes it",
        )),
        false => Ok(()),
    }
}

/// Lines that are read ahead.
const LINES_AHEAD_MAX: usize = 64;

/// Cuts chunks into typed texts, without a line editor. A `\` at the end of a line continues with the next one.
/// Needs a Tokio runtime.
pub(crate) fn typed(mut chunks: Chunks) -> mpsc::Receiver<Typed> {
    let (sender, typed) = mpsc::channel(LINES_AHEAD_MAX);
    tokio::spawn(async move {
        let (mut lines, mut begun, mut is_over) = (Lines::default(), String::new(), false);
        while !is_over {
            match chunks.recv().await {
                Some(Ok(chunk)) => lines.push(&chunk),
                Some(Err(error)) => return drop(sender.send(Typed::Failed(error)).await),
                None => is_over = true,
            }
            while let Some(line) = lines.next(is_over) {
                if let Some(text) = go_on(&mut begun, line.text).transpose()
                    && sender.send(Typed::Line(text)).await.is_err()
                {
                    return;
                }
            }
        }
        // Ctrl-D in the middle of an entry ends it, too.
        let begun = begun.trim_end_matches('\n');
        if !begun.is_empty() {
            let _ = sender.send(Typed::Line(Ok(begun.to_owned()))).await;
        }
    });
    typed
}

/// Adds a line to an entry; `None` if another one follows.
fn go_on(begun: &mut String, line: Result<String, Refusal>) -> Result<Option<String>, Refusal> {
    begun.push_str(&line?);
    if begun.ends_with('\\') && check_text(begun).is_ok() {
        begun.pop();
        begun.push('\n');
        return Ok(None);
    }
    let text = std::mem::take(begun);
    check_text(&text).map(|()| Some(text))
}

/// Size of a read: the capacity of a pipe.
const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks that are read ahead, so that reading and sending overlap.
const CHUNKS_AHEAD_MAX: usize = 2;

/// Limit on a line without its line feed: a byte order mark, a text at its limit, and the CR of a CR LF.
const LINE_MAX_BYTES: usize = 3 + TEXT_MAX_BYTES + 1;

/// Chunks of the input; ends after the input or after an error.
pub(crate) type Chunks = mpsc::Receiver<io::Result<Vec<u8>>>;

/// Reads `input` on its own thread, with bounded read-ahead. The thread is never joined: it may block in a read
/// forever.
pub(crate) fn read(mut input: impl Read + Send + 'static) -> Chunks {
    let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD_MAX);
    std::thread::spawn(move || {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = match input.read(&mut chunk) {
                Ok(0) => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map(|count| chunk[..count].to_vec()),
            };
            let failed = read.is_err();
            if sender.blocking_send(read).is_err() || failed {
                return;
            }
        }
    });
    chunks
}

/// A nonempty line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its number in the input, from 1; empty lines count.
    pub(crate) number: u64,
    /// Its text, or why it cannot be an entry.
    pub(crate) text: Result<String, Refusal>,
}

/// Cuts chunks into lines, which end with LF or CR LF. Lines that are too long are not buffered.
#[derive(Debug)]
pub(crate) struct Lines {
    codec: LinesCodec,
    buffer: BytesMut,
    number: u64,
}

impl Default for Lines {
    fn default() -> Self {
        let codec = LinesCodec::new_with_max_length(LINE_MAX_BYTES);
        Self { codec, buffer: BytesMut::new(), number: 0 }
    }
}

impl Lines {
    /// Adds a chunk of the input.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// Returns the next complete line. The last one is complete once the input `is_over`.
    pub(crate) fn next(&mut self, is_over: bool) -> Option<Line> {
        loop {
            let decode = if is_over { LinesCodec::decode_eof } else { LinesCodec::decode };
            let read = decode(&mut self.codec, &mut self.buffer).transpose()?;
            if let Some(line) = self.line(read) {
                return Some(line);
            }
        }
    }

    /// Returns the number of lines cut so far.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Checks a line; `None` if it is empty. A byte order mark before the first line is dropped.
    fn line(&mut self, read: Result<String, LinesCodecError>) -> Option<Line> {
        self.number += 1;
        let text = match read {
            Ok(mut line) => {
                if self.number == 1 && line.starts_with('\u{feff}') {
                    line.remove(0);
                }
                if line.is_empty() {
                    return None;
                }
                check_text(&line).map(|()| line)
            }
            Err(LinesCodecError::MaxLineLengthExceeded) => {
                let message = format!("the line is longer than {TEXT_MAX_BYTES} bytes and is not stored");
                Err(Refusal::new(Code::TooLong, message))
            }
            Err(LinesCodecError::Io(_)) => {
                Err(Refusal::new(Code::Utf8, "this line is not valid UTF-8 and is not stored"))
            }
        };
        Some(Line { number: self.number, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the lines of `input`, given in chunks of `cut` bytes.
    fn lines(input: &[u8], cut: usize) -> Vec<String> {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        let mut show = |line: Line| {
            seen.push(match line.text {
                Ok(text) if text.len() > 100 => format!("{} of {}", line.number, text.len()),
                Ok(text) => format!("{} {text}", line.number),
                Err(refusal) => format!("{} {}", line.number, refusal.code),
            });
        };
        for chunk in input.chunks(cut) {
            lines.push(chunk);
            while let Some(line) = lines.next(false) {
                show(line);
            }
            assert!(lines.buffer.len() <= LINE_MAX_BYTES);
        }
        if let Some(line) = lines.next(true) {
            show(line);
        }
        assert!(lines.next(true).is_none());
        seen
    }

    fn check(input: &[u8], expected: &[&str]) {
        for cut in [usize::MAX, 1, 2, 3, 7, 4096] {
            assert_eq!(lines(input, cut), expected, "{cut}");
        }
    }

    #[test]
    fn every_line_has_its_number() {
        check(b"", &[]);
        check(b"\n\r\n\n", &[]);
        check(b"a\n\nb\r\n/history\nc", &["1 a", "3 b", "4 /history", "5 c"]);
        check(b"a\rb\r\r\nc\r", &["1 a\rb\r", "2 c"]);
        check("今天\n".as_bytes(), &["1 今天"]);
        check("\u{feff}今天\n\u{feff}b\n".as_bytes(), &["1 今天", "2 \u{feff}b"]);
        check("\u{feff}\r\na".as_bytes(), &["2 a"]);
    }

    #[test]
    fn what_is_refused_is_counted_and_the_next_line_is_not() {
        check(b"a\0b\n\xc3\x28\nok\n\xff", &["1 nul", "2 utf8", "3 ok", "4 utf8"]);
    }

    #[tokio::test]
    async fn a_backslash_goes_on_with_the_next_line() {
        for (input, texts) in [
            ("one\\\ntwo\\\nthree\nfour\n", &["one\ntwo\nthree", "four"][..]),
            ("one\\\n", &["one"]),
            ("one\\", &["one"]),
            ("one\\\nt\0wo\nthree\n", &["nul", "one\nthree"]),
            ("a\\b\n", &["a\\b"]),
        ] {
            let (sender, chunks) = mpsc::channel(1);
            sender.try_send(Ok(input.as_bytes().to_vec())).unwrap();
            drop(sender);
            let (mut typed, mut seen) = (typed(chunks), Vec::new());
            while let Some(Typed::Line(text)) = typed.recv().await {
                seen.push(text.unwrap_or_else(|refusal| refusal.code.to_string()));
            }
            assert_eq!(seen, texts, "{input:?}");
        }
        let mut begun = "x".repeat(TEXT_MAX_BYTES);
        assert!(go_on(&mut begun, Ok("\\".to_owned())).is_err());
        assert!(begun.is_empty());
    }

    #[test]
    fn the_limit_and_one_over_it() {
        let x = |count| b"x".repeat(count);
        check(&[&x(TEXT_MAX_BYTES)[..], b"\nok"].concat(), &["1 of 65536", "2 ok"]);
        check(&[&x(TEXT_MAX_BYTES)[..], b"\r\nok"].concat(), &["1 of 65536", "2 ok"]);
        check(&["\u{feff}".as_bytes(), &x(TEXT_MAX_BYTES), b"\r\nok"].concat(), &["1 of 65536", "2 ok"]);
        check(&[&x(TEXT_MAX_BYTES + 1)[..], b"\nok"].concat(), &["1 too-long", "2 ok"]);
        check(&[&x(3 * TEXT_MAX_BYTES)[..], b"\n\nok\n"].concat(), &["1 too-long", "3 ok"]);
        check(&x(TEXT_MAX_BYTES + 2), &["1 too-long"]);
    }
}
