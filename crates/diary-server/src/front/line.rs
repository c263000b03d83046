//! Line mode: lines to requests, answers to lines.

use diary_proto::answer::{push_ack, push_error, push_gap};
use diary_proto::block::{Gap, Step};
use diary_proto::command::{is_login, stray_login};
use diary_proto::entry::{SealedLine, StoredLine, seq_of};
use diary_proto::escape::is_safe;
use diary_proto::line::{Line, LineDecoder};
use diary_proto::{Code, Refusal, Relation, Seal};

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
pub(super) fn push_lines(out: &mut Vec<u8>, lines: &[u8], walk: &mut Walk) {
    let has_corrections = || memchr::memmem::find(lines, b" corrects=").is_some();
    if walk.levels.is_some() || (walk.shown && has_corrections()) {
        return push_as_seen(out, lines, walk);
    }
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
        None => each_line(lines, *seal, &mut push),
    }
}

/// Visits the entries and noted gaps among lines that are not dense.
fn each_line(lines: &[u8], seal: Seal, visit: &mut impl FnMut(Step<SealedLine<'_>>)) {
    for line in lines.split(|&b| b == b'\n') {
        if let Some(line) = SealedLine::check(line, seal).filter(is_showable) {
            visit(Step::Entry(line));
        } else if let Some(gap) = Gap::of_note(line, seal) {
            visit(Step::Gap(gap));
        }
    }
}

/// The same where people see some entries otherwise: with the text of the correction before them, without corrections of
/// their own place, and indented in a thread.
fn push_as_seen(out: &mut Vec<u8>, lines: &[u8], walk: &mut Walk) {
    let Walk { seal, walker, levels, count, gaps, .. } = walk;
    let mut newest: Option<StoredLine<'_>> = None;
    let mut rest = lines.split_inclusive(|&b| b == b'\n').peekable();
    while let Some(line) = rest.next() {
        let stored = StoredLine::parse(line.strip_suffix(b"\n").unwrap_or(line), *seal).ok();
        let corrected = match stored.and_then(|stored| stored.relation) {
            Some(Relation::Corrects(corrected)) => Some(corrected),
            _ => None,
        };
        if corrected.is_some() && rest.peek().and_then(|next| seq_of(next)) == corrected {
            newest = stored.filter(|stored| is_safe(stored.left.as_bytes()));
            continue;
        }
        let newest = newest.take();
        let mut push = |step: Step<SealedLine<'_>>| match step {
            Step::Gap(gap) => {
                gaps.push(gap);
                push_gap(out, gap);
            }
            Step::Entry(_) if corrected.is_some() => {}
            Step::Entry(sealed) => {
                *count += 1;
                if let (Some(levels), Some(stored)) = (&mut *levels, stored) {
                    let level = levels.next(stored.seq, stored.relation);
                    (0..level.depth).for_each(|_| out.extend_from_slice(INDENT));
                }
                match stored.zip(newest) {
                    Some((stored, newest)) => {
                        out.extend_from_slice(stored.corrected_left(&newest).as_bytes());
                    }
                    None => out.extend_from_slice(sealed.left),
                }
                out.push(b'\n');
            }
        };
        match walker {
            Some(walker) => walker.pass(line, is_showable, push),
            None => each_line(line, *seal, &mut push),
        }
    }
}

/// Whether the left part may reach a terminal. Bytes that should have been escaped, or that are not UTF-8, are damage
/// whatever the checksum says. Other fields of a line with a valid checksum need no second look.
pub(super) fn is_showable(line: &SealedLine<'_>) -> bool {
    is_safe(line.left) && std::str::from_utf8(line.left).is_ok()
}
