//! Line mode: lines to requests, answers to lines.

use diary_proto::answer::{push_ack, push_error, push_gap};
use diary_proto::block::{Gap, Step};
use diary_proto::command::{is_login, stray_login};
use diary_proto::entry::{SealedLine, StoredLine};
use diary_proto::escape::is_safe;
use diary_proto::line::{Line, LineDecoder};
use diary_proto::{Code, Refusal};

use super::{Answer, Decoded, Kind, Request, Walk};

/// `ok SEQ TIME` and its line feed, with a seq of ten digits.
const ACK_BYTES: usize = 48;

/// Before each line of a thread, once for each level.
const INDENT: &[u8] = b"  ";

/// How much a connection is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voice {
    Full,
    /// No acks.
    Quiet,
}

/// Cuts a connection's bytes into lines.
#[derive(Debug)]
pub(crate) struct LineReader(LineDecoder);

impl LineReader {
    /// `held` is a first byte that was kept until the mode was known.
    pub(crate) fn new(held: Option<u8>) -> Self {
        let mut decoder = LineDecoder::new();
        if let Some(byte) = held {
            let ends_line = decoder.next(&mut &[byte][..], &mut Vec::new()).is_some();
            debug_assert!(!ends_line, "only 0x16 is held, which ends no line");
        }
        Self(decoder)
    }

    pub(crate) fn partial_bytes(&self) -> usize {
        self.0.partial_bytes()
    }

    pub(crate) fn next<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
        out: &mut Vec<u8>,
    ) -> Option<Decoded<'s>> {
        self.0.next(input, out).map(decoded)
    }

    pub(crate) fn finish(&mut self) -> Option<Decoded<'_>> {
        self.0.finish().map(decoded)
    }
}

fn decoded(line: Line<'_>) -> Decoded<'_> {
    Decoded::Request(match line {
        Line::Text(text) if is_login(text) => Request::refused(stray_login()),
        Line::Text(text) => return Decoded::Text(text),
        Line::Refused(refusal) => Request::refused(refusal),
        Line::Quit => Request::Quit,
        Line::Http => Request::Fatal(http()),
        Line::Proxy => Request::Fatal(proxy()),
        Line::Command(line) => match diary_proto::Command::parse(line) {
            Err(refusal) => Request::refused(refusal),
            Ok(command) => command.into(),
        },
    })
}

/// Why a request of HTTP ends a connection.
pub(super) fn http() -> Refusal {
    Refusal::new(Code::Http, "this is a diary, not a web server")
}

/// Why a PROXY header ends a connection.
pub(super) fn proxy() -> Refusal {
    let message = "this address takes no PROXY header; --listen proxy:ADDR makes one that does";
    Refusal::new(Code::Proxy, message)
}

/// Writes an answer as lines.
pub(super) fn encode(voice: &mut Voice, answer: Answer<'_>, out: &mut Vec<u8>) {
    match answer {
        Answer::Acked { .. } if *voice == Voice::Quiet => {}
        Answer::Acked { count, first_seq, time, hint, .. } => {
            let time = time.to_bytes();
            out.reserve(count as usize * ACK_BYTES);
            for seq in first_seq..first_seq + u64::from(count) {
                push_ack(out, seq, &time, hint);
            }
        }
        Answer::NotStored { count, refusal, .. } => (0..count).for_each(|_| push_error(out, refusal)),
        Answer::Begin { kind: Kind::Follow, first, .. } => {
            out.extend_from_slice(format!("ok follow from {first}\n").as_bytes());
        }
        Answer::Begin { kind: Kind::History, .. } => out.extend_from_slice(b"ok history\n"),
        Answer::Begin { kind: Kind::Thread, .. } => out.extend_from_slice(b"ok thread\n"),
        Answer::Begin { kind: Kind::Search, .. } => out.extend_from_slice(b"ok search\n"),
        Answer::Lines { lines, walk, .. } if walk.levels.is_some() => push_thread(out, lines, walk),
        Answer::Lines { lines, walk, .. } => push_lines(out, lines, walk),
        Answer::CaughtUp { last, walk } => {
            if let Some(gap) = walk.walker.as_mut().and_then(|walker| walker.finish(last)) {
                walk.gaps.push(gap);
                push_gap(out, gap);
            }
        }
        Answer::End { walk, .. } => out.extend_from_slice(format!("end {}\n", walk.count).as_bytes()),
        Answer::Words(words) => out.extend_from_slice(words.as_bytes()),
        Answer::FollowOff { .. } => out.extend_from_slice(b"ok follow off\n"),
        Answer::Quiet => {
            *voice = Voice::Quiet;
            out.extend_from_slice(b"ok quiet\n");
        }
        Answer::Error { refusal, .. } => push_error(out, refusal),
        Answer::Bye(reason) => out.extend_from_slice(format!("bye{reason}\n").as_bytes()),
        // They belong to frame mode.
        Answer::Welcome(_) | Answer::WouldTake { .. } => {}
    }
}

/// The left parts of stored lines, each checked; a gap where some are missing or damaged.
fn push_lines(out: &mut Vec<u8>, lines: &[u8], walk: &mut Walk) {
    let Walk { seal, walker, count, gaps, .. } = walk;
    out.reserve(lines.len());
    let mut push = |step: Step<SealedLine<'_>>| match step {
        Step::Gap(gap) => {
            gaps.push(gap);
            push_gap(out, gap);
        }
        Step::Entry(line) => {
            out.extend_from_slice(line.left);
            out.push(b'\n');
            *count += 1;
        }
    };
    match walker {
        Some(walker) => walker.pass(lines, is_showable, push),
        None => lines.split(|&b| b == b'\n').for_each(|line| {
            if let Some(line) = SealedLine::check(line, *seal).filter(is_showable) {
                push(Step::Entry(line));
            } else if let Some(gap) = Gap::of_note(line, *seal) {
                push(Step::Gap(gap));
            }
        }),
    }
}

/// The same of a thread: each entry is indented as deep as it is in it.
fn push_thread(out: &mut Vec<u8>, lines: &[u8], walk: &mut Walk) {
    for line in lines.split(|&b| b == b'\n') {
        let before = out.len();
        if let (Ok(stored), Some(levels)) = (StoredLine::parse(line, walk.seal), &mut walk.levels) {
            (0..levels.next(stored.seq, stored.relation)).for_each(|_| out.extend_from_slice(INDENT));
        }
        let begun = out.len();
        push_lines(out, line, walk);
        if out.len() == begun {
            out.truncate(before);
        }
    }
}

/// Whether the left part may reach a terminal. Bytes that should have been escaped, or that are not UTF-8, are damage
/// whatever the checksum says. Other fields of a line with a valid checksum need no second look.
pub(super) fn is_showable(line: &SealedLine<'_>) -> bool {
    is_safe(line.left) && std::str::from_utf8(line.left).is_ok()
}
