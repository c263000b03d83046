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

/// Cuts chunks into what was typed, where there is no line editor. A `\` at the end of a line goes on with the next
/// one. Needs a Tokio runtime.
pub(crate) fn typed(mut chunks: Chunks) -> mpsc::Receiver<Typed> {
    let (sender, typed) = mpsc::channel(LINES_AHEAD_MAX);
    tokio::spawn(async move {
        let (mut lines, mut begun) = (Lines::default(), String::new());
        while let Some(chunk) = chunks.recv().await {
            match chunk {
                Ok(chunk) => lines.push(chunk),
                Err(error) => return drop(sender.send(Typed::Failed(error)).await),
            }
            while let Some(line) = lines.next() {
                if let Some(text) = go_on(&mut begun, line.text)
                    && sender.send(Typed::Line(text)).await.is_err()
                {
                    return;
                }
            }
        }
        // Ctrl-D in the middle of an entry ends that, too.
        let last = lines.finish().and_then(|line| go_on(&mut begun, line.text));
        let begun = Some(begun.trim_end_matches('\n')).filter(|begun| !begun.is_empty());
        if let Some(text) = last.or_else(|| begun.map(|begun| Ok(begun.to_owned()))) {
            let _ = sender.send(Typed::Line(text)).await;
        }
    });
    typed
}

/// Adds a line to what was begun; `None` if another one is to follow.
fn go_on(begun: &mut String, line: Result<String, Refusal>) -> Option<Result<String, Refusal>> {
    match line {
        Ok(line) => begun.push_str(&line),
        Err(refusal) => return Some(Err(refusal)),
    }
    let checked = check_text(begun);
    if checked.is_ok() && begun.ends_with('\\') {
        begun.pop();
        begun.push('\n');
        return None;
    }
    let text = std::mem::take(begun);
    Some(checked.map(|()| text))
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
            let end = rest.iter().position(|&b| b == b'\n');
            let part = &rest[..end.unwrap_or(rest.len())];
            self.overlong |= self.carry.len() + part.len() > LINE_MAX_BYTES;
            if self.overlong {
                self.carry = Vec::new();
            } else {
                self.carry.extend_from_slice(part);
            }
            self.cut += part.len() + usize::from(end.is_some());
            end?;
            if let Some(line) = self.end_line() {
                return Some(line);
            }
        }
    }

    /// How many lines have ended.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The line that has not ended, where the input did.
    pub(crate) fn finish(&mut self) -> Option<Line> {
        if self.carry.is_empty() && !self.overlong { None } else { self.end_line() }
    }

    fn end_line(&mut self) -> Option<Line> {
        self.number += 1;
        let text = match std::mem::take(&mut self.overlong) {
            true => Some(Err(too_long())),
            false => classify(&self.carry, self.number),
        };
        self.carry.clear();
        Some(Line { number: self.number, text: text? })
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
        assert!(go_on(&mut begun, Ok("\\".to_owned())).is_some_and(|text| text.is_err()));
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
