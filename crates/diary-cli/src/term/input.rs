//! What is read: chunks from a thread of its own, cut into numbered lines.

use std::io::{self, Read};

use diary_client::{Code, Refusal};
use diary_proto::entry::check_text;
use diary_proto::limits::TEXT_MAX_BYTES;
use diary_proto::line::without_byte_order_mark;
use tokio::sync::mpsc;

/// What a person typed.
#[derive(Debug)]
pub(crate) enum Typed {
    /// An entry or a command, or why it can be neither.
    Line(Result<String, Refusal>),
    /// Ctrl-C, with nothing typed.
    Interrupt,
    /// It cannot be read any more.
    Failed(io::Error),
}

/// Whether a typed text is a command. One of several lines never is: it was pasted, or written as a text.
pub(crate) fn is_command(text: &str) -> bool {
    text.starts_with('/') && !text.starts_with("//") && !text.contains('\n')
}

/// Lines that were read and not taken yet.
const LINES_AHEAD_MAX: usize = 64;

/// Cuts chunks into what was typed. It needs a Tokio runtime around it.
pub(crate) fn typed(mut chunks: Chunks) -> mpsc::Receiver<Typed> {
    let (sender, typed) = mpsc::channel(LINES_AHEAD_MAX);
    tokio::spawn(async move {
        let mut lines = Lines::default();
        while let Some(chunk) = chunks.recv().await {
            match chunk {
                Ok(chunk) => lines.push(chunk),
                Err(error) => return drop(sender.send(Typed::Failed(error)).await),
            }
            while let Some(line) = lines.next() {
                if sender.send(Typed::Line(line.text)).await.is_err() {
                    return;
                }
            }
        }
        // Ctrl-D in the middle of a line ends that, too.
        if let Some(line) = lines.finish() {
            let _ = sender.send(Typed::Line(line.text)).await;
        }
    });
    typed
}

/// What is read at once: what a pipe holds.
const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks that are read ahead, so that reading and sending overlap.
const CHUNKS_AHEAD_MAX: usize = 2;

/// Longest line without its line feed: a byte order mark, a text at its limit, and the CR of a CR LF.
const LINE_MAX_BYTES: usize = 3 + TEXT_MAX_BYTES + 1;

/// Chunks as they come; it ends with the input, or with an error.
pub(crate) type Chunks = mpsc::Receiver<io::Result<Vec<u8>>>;

/// Reads `input` on a thread of its own, as far ahead as is bounded. Nothing waits for that thread at
/// the end: it may sit in a read that no one answers.
pub(crate) fn read(mut input: impl Read + Send + 'static) -> Chunks {
    let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD_MAX);
    std::thread::spawn(move || {
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let read = match input.read(&mut chunk) {
                Ok(0) => return,
                Ok(count) => {
                    chunk.truncate(count);
                    Ok(chunk)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = read.is_err();
            if sender.blocking_send(read).is_err() || failed {
                return;
            }
        }
    });
    chunks
}

/// A line that is not empty.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its number in the input, from 1; empty lines count.
    pub(crate) number: u64,
    /// Its text, or why it cannot be an entry.
    pub(crate) text: Result<String, Refusal>,
}

/// Cuts chunks into lines, which end with LF or CR LF. Of a line that is too long, nothing is held.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    chunk: Vec<u8>,
    /// How much of `chunk` was cut.
    cut: usize,
    /// The start of a line that has not ended yet.
    carry: Vec<u8>,
    overlong: bool,
    /// How many lines have ended.
    number: u64,
}

impl Lines {
    /// More of the input. What was pushed before must have been cut.
    pub(crate) fn push(&mut self, chunk: Vec<u8>) {
        (self.chunk, self.cut) = (chunk, 0);
    }

    /// The next line that has ended.
    pub(crate) fn next(&mut self) -> Option<Line> {
        loop {
            let rest = &self.chunk[self.cut..];
            let Some(length) = rest.iter().position(|&b| b == b'\n') else {
                self.cut = self.chunk.len();
                let rest = rest.to_vec();
                self.hold(&rest);
                return None;
            };
            self.cut += length + 1;
            if self.carry.is_empty() && !self.overlong {
                self.number += 1;
                let line = &self.chunk[self.cut - length - 1..self.cut - 1];
                if let Some(text) = classify(line, self.number) {
                    return Some(Line { number: self.number, text });
                }
            } else {
                let end = self.chunk[self.cut - length - 1..self.cut - 1].to_vec();
                self.hold(&end);
                if let Some(line) = self.finish() {
                    return Some(line);
                }
            }
        }
    }

    /// How many lines have ended.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The line that has not ended, where the input did.
    pub(crate) fn finish(&mut self) -> Option<Line> {
        let overlong = std::mem::take(&mut self.overlong);
        let line = std::mem::take(&mut self.carry);
        if line.is_empty() && !overlong {
            return None;
        }
        self.number += 1;
        let text = if overlong { Some(Err(too_long())) } else { classify(&line, self.number) };
        text.map(|text| Line { number: self.number, text })
    }

    fn hold(&mut self, part: &[u8]) {
        if self.overlong || self.carry.len() + part.len() > LINE_MAX_BYTES {
            self.overlong = true;
            self.carry = Vec::new();
        } else {
            self.carry.extend_from_slice(part);
        }
    }
}

/// What the line with this number says; `None` if it is empty. A byte order mark before the first one belongs to no text.
fn classify(line: &[u8], number: u64) -> Option<Result<String, Refusal>> {
    let line = if number == 1 { without_byte_order_mark(line) } else { line };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return None;
    }
    if line.len() > TEXT_MAX_BYTES {
        return Some(Err(too_long()));
    }
    let Ok(text) = std::str::from_utf8(line) else {
        return Some(Err(Refusal::new(Code::Utf8, "this line is not valid UTF-8 and is not stored")));
    };
    Some(check_text(text).map(|()| text.to_owned()))
}

fn too_long() -> Refusal {
    Refusal::new(Code::TooLong, format!("a line may have {TEXT_MAX_BYTES} bytes; this one is not stored"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of `input`, given in chunks of `cut` bytes.
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
            lines.push(chunk.to_vec());
            while let Some(line) = lines.next() {
                show(line);
            }
            assert!(lines.carry.len() <= LINE_MAX_BYTES);
        }
        if let Some(line) = lines.finish() {
            show(line);
        }
        assert!(lines.finish().is_none());
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
