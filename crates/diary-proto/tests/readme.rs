//! Replays every example of the README, so that the page and the code cannot drift apart.
//!
//! Each fenced block of the page has a tag that says what its lines are; [`check_block`] knows them all.

use std::collections::BTreeMap;

use bytes::BytesMut;
use diary_proto::answer;
use diary_proto::block::Gap;
use diary_proto::entry::{NewLine, Producer, is_note};
use diary_proto::escape::{escape, unescape};
use diary_proto::frame::{Frame, FrameCodec, IGNORABLE_FROM};
use diary_proto::line::{Line, LineDecoder};
use diary_proto::message::{ClientMessage, NewText, Run, ServerMessage};
use diary_proto::seal::{SEAL_BYTES, id_in_header};
use diary_proto::syslog::{Message, SyslogDecoder};
use diary_proto::tags::tags;
use diary_proto::{
    Author, Code, Command, Filter, Refusal, Relation, Scope, Seal, StoredLine, filter, limits, message,
};
use tokio_util::codec::Decoder;

/// The id of the journal in the examples.
const ID: u64 = 0x5f0c_9e27_a1b3_4d68;

const README: &str = include_str!("../README.md");

/// A fenced block: its tag and its lines.
struct Block {
    tag: &'static str,
    lines: Vec<&'static str>,
}

fn blocks() -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for line in README.lines() {
        match line.strip_prefix("```") {
            Some("") if open => open = false,
            Some(tag) => {
                assert!(!open && !tag.is_empty(), "a fence without a tag, or in a block: {line}");
                blocks.push(Block { tag, lines: Vec::new() });
                open = true;
            }
            None if open => blocks.last_mut().expect("a block is open").lines.push(line),
            None => {}
        }
    }
    assert!(!open, "the last block ends");
    blocks
}

/// Checks a block, and writes down which frame types it shows.
fn check_block(block: &Block, seen: &mut Seen) {
    let Block { tag, lines } = block;
    match *tag {
        "text" => {}
        "greeting" => {
            let greeting = answer::greeting("diary", ID, 41);
            assert_eq!(whole(lines), greeting);
        }
        "help" => assert_eq!(whole(lines), answer::HELP),
        "acks" => {
            let mut expected = Vec::new();
            let time = b"2026-11-21T08:15:02.123456+08:00";
            answer::push_ack(&mut expected, 414, time, false);
            answer::push_ack(&mut expected, 415, time, true);
            answer::push_gap(&mut expected, Gap { first: 7, last: 9 });
            assert_eq!(whole(lines).as_bytes(), expected);
        }
        "lines" => lines.iter().for_each(|line| check_lines(line)),
        "messages" => lines.iter().for_each(|line| check_messages(line)),
        "commands" => lines.iter().for_each(|line| check_command(line)),
        "frames" => check_frames(lines, seen),
        "unreadable" => lines.iter().for_each(|line| check_unreadable(line)),
        "stored" => lines.iter().for_each(|line| check_stored(line, seen)),
        "escape" => {
            for line in lines {
                let (text, stored) = literal(line);
                let text = String::from_utf8(text).expect("UTF-8");
                assert_eq!(escape(&text), stored.trim_start());
                assert_eq!(unescape(stored.trim_start()).as_deref(), Ok(text.as_str()));
            }
        }
        "tags" => {
            for line in lines {
                let (text, found) = literal(line);
                let text = String::from_utf8(text).expect("UTF-8");
                assert_eq!(tags(&text).collect::<Vec<_>>().join(" "), found.trim_start(), "{line}");
            }
        }
        "not-escaped" => lines.iter().for_each(|line| assert!(unescape(line).is_err(), "{line}")),
        tag => panic!("the README has a block of an unknown kind: {tag}"),
    }
    *seen.tags.entry(tag).or_default() += lines.len();
}

/// What the examples have shown.
#[derive(Default)]
struct Seen {
    /// Lines by the tag of their block.
    tags: BTreeMap<&'static str, usize>,
    /// The names of messages by their types.
    client: BTreeMap<u8, String>,
    server: BTreeMap<u8, String>,
    /// Which parts of stored lines occurred.
    stored: BTreeMap<&'static str, usize>,
}

#[test]
fn every_example_is_true_and_nothing_is_left_out() {
    let mut seen = Seen::default();
    blocks().iter().for_each(|block| check_block(block, &mut seen));

    let tags: Vec<_> = seen.tags.keys().copied().collect();
    let expected = [
        "acks",
        "commands",
        "escape",
        "frames",
        "greeting",
        "help",
        "lines",
        "messages",
        "not-escaped",
        "stored",
        "tags",
        "text",
        "unreadable",
    ];
    assert_eq!(tags, expected);
    let parts: Vec<_> = seen.stored.keys().copied().collect();
    let kinds = [
        "answer",
        "correction",
        "header",
        "key",
        "note",
        "of the day before",
        "own time",
        "own time of the day before",
        "plain",
        "redaction",
        "unknown field",
    ];
    assert_eq!(parts, kinds);

    // Every message that the code knows has an example and a row, and no other has.
    let client_kinds = known_kinds(|frame| ClientMessage::read(frame).err());
    let server_kinds = known_kinds(|frame| ServerMessage::read(frame).err());
    assert_eq!(seen.client.keys().copied().collect::<Vec<_>>(), client_kinds);
    assert_eq!(seen.server.keys().copied().collect::<Vec<_>>(), server_kinds);
    let rows: Vec<_> = table_rows().filter(|row| row[0].starts_with("`0x")).collect();
    let examples = seen.client.iter().chain(&seen.server);
    let expected: Vec<_> = examples.map(|(kind, name)| (format!("`0x{kind:02x}`"), name.as_str())).collect();
    assert_eq!(rows.iter().map(|row| (row[0].to_owned(), row[1])).collect::<Vec<_>>(), expected);
}

#[test]
fn the_table_of_codes_is_complete_and_in_order() {
    let (_, section) = README.split_once("\n## Errors\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows: Vec<_> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|row| row.0)
        .collect();
    assert_eq!(rows, Code::ALL.iter().map(|code| code.as_str()).collect::<Vec<_>>());
}

#[test]
fn the_table_of_limits_is_true() {
    let rows: Vec<_> = table_rows()
        .filter_map(|row| Some((row[0].strip_prefix('`')?.split_once("_")?.0, row)))
        .map(|(_, row)| (row[0].trim_start_matches('`').split('`').next().unwrap(), row[1].to_owned()))
        .collect();
    let limits = [
        ("TEXT_MAX_BYTES", limits::TEXT_MAX_BYTES),
        ("AUTHOR_MAX_BYTES", limits::AUTHOR_MAX_BYTES),
        ("JOURNAL_NAME_MAX_BYTES", limits::JOURNAL_NAME_MAX_BYTES),
        ("PROXY_HEADER_MAX_BYTES", limits::PROXY_HEADER_MAX_BYTES),
        ("SECRET_MIN_BYTES", limits::SECRET_MIN_BYTES),
        ("SECRET_MAX_BYTES", limits::SECRET_MAX_BYTES),
        ("SEARCH_MAX_BYTES", filter::SEARCH_MAX_BYTES),
        ("FILTER_MAX_TEXTS", filter::FILTER_MAX_TEXTS),
        ("APPEND_MAX_ENTRIES", message::APPEND_MAX_ENTRIES),
        ("RELATED_MAX_ENTRIES", message::RELATED_MAX_ENTRIES),
        ("ACKS_MAX_RUNS", message::ACKS_MAX_RUNS),
        ("FRAME_MAX_BYTES", limits::FRAME_MAX_BYTES),
        ("BLOCK_MAX_BYTES", message::BLOCK_MAX_BYTES),
        ("STORED_LINE_MAX_BYTES", limits::STORED_LINE_MAX_BYTES),
    ];
    assert_eq!(rows, limits.map(|(name, limit)| (name, limit.to_string())));
    assert!(README.starts_with(&format!("# The diary's protocol, version {}\n", limits::VERSION)));
}

#[test]
fn the_texts_that_get_a_hint_are_named() {
    let (_, sentence) = README.split_once("A text that is exactly ").unwrap();
    let (sentence, _) = sentence.split_once(" is stored").unwrap();
    let named: Vec<_> = sentence.split('`').skip(1).step_by(2).collect();
    assert_eq!(named, answer::OLD_COMMANDS);
}

/// The cells of all tables' rows. No table that is looked at here has a bar in its first two cells.
fn table_rows() -> impl Iterator<Item = Vec<&'static str>> {
    README.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
        (cells.len() > 1).then_some(cells)
    })
}

/// The types that a reader does not call unknown.
fn known_kinds(error: impl Fn(Frame) -> Option<Refusal>) -> Vec<u8> {
    let body = bytes::Bytes::new();
    let unknown = |kind| {
        error(Frame { kind, body: body.clone() }).is_some_and(|e| e.message.contains("is not a frame type"))
    };
    (0..IGNORABLE_FROM).filter(|&kind| !unknown(kind)).collect()
}

fn whole(lines: &[&str]) -> String {
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

/// `"bytes"  what comes of them; answered HEX`
fn check_lines(example: &str) {
    let (input, expected) = literal(example);
    let (expected, answered) = expected.split_once("; answered ").unwrap_or((expected, ""));
    for chunk in [input.len(), 1] {
        let (mut decoder, mut seen, mut replies) = (LineDecoder::new(), Vec::new(), Vec::new());
        for mut input in input.chunks(chunk) {
            while let Some(line) = decoder.next(&mut input, &mut replies) {
                seen.push(show(&line));
            }
        }
        seen.extend(decoder.finish().map(|line| show(&line)));
        assert_eq!(seen.join(" | "), expected.trim(), "{example}");
        assert_eq!(replies, hex(answered), "{example}");
    }
}

/// `"bytes"  what a quiet listener makes of them`
fn check_messages(example: &str) {
    let (input, expected) = literal(example);
    for chunk in [input.len(), 1] {
        let (mut decoder, mut seen) = (SyslogDecoder::default(), Vec::new());
        for mut input in input.chunks(chunk) {
            while let Some(message) = decoder.next(&mut input) {
                seen.push(show_message(&message));
            }
        }
        seen.extend(decoder.finish().map(|message| show_message(&message)));
        assert_eq!(seen.join(" | "), expected.trim(), "{example}");
    }
}

fn show_message(message: &Message<'_>) -> String {
    match message {
        Message::Text(text) => format!("text {text:?}"),
        Message::Refused { refusal, .. } => format!("refused {}", refusal.code),
        Message::Http => "http".into(),
        Message::Proxy => "proxy".into(),
    }
}

fn show(line: &Line<'_>) -> String {
    match line {
        Line::Text(text) => format!("text {text:?}"),
        Line::Command(command) => format!("command {command:?}"),
        Line::Refused(refusal) => format!("refused {}", refusal.code),
        Line::Quit => "quit".into(),
        Line::Http => "http".into(),
        Line::Proxy => "proxy".into(),
    }
}

/// `/command  ok` or `/command  error CODE: …`
fn check_command(example: &str) {
    let (line, expected) = example.split_once("  ").expect("two spaces before the outcome");
    let outcome = Command::parse(line).map_or_else(|refusal| format!("error {refusal}"), |_| "ok".into());
    assert_eq!(outcome, expected.trim(), "{line}");
}

/// A `>` or `<` with the description of a message, then its frame in rows of `hex  comment`.
fn check_frames(lines: &[&str], seen: &mut Seen) {
    for message in lines.chunk_by(|_, next| next.starts_with(' ')) {
        let bytes: Vec<u8> = message[1..].iter().flat_map(|row| hex(row.trim_start())).collect();
        let frame = decode(&bytes).expect("a sound length");
        let kind = frame.kind;
        let mut again = Vec::new();
        let (shown, seen) = match &message[0][..2] {
            "> " => {
                let message = ClientMessage::read(frame).expect("a readable body").expect("a known type");
                message.write(&mut again);
                (describe_client(&message), &mut seen.client)
            }
            "< " => {
                let message = ServerMessage::read(frame).expect("a readable body").expect("a known type");
                message.write(&mut again);
                (describe_server(&message), &mut seen.server)
            }
            _ => panic!("neither > nor <: {}", message[0]),
        };
        assert_eq!(shown, message[0][2..]);
        assert_eq!(again, bytes, "{shown}");
        let name = shown.split(' ').next().expect("a description starts with a name");
        seen.insert(kind, name.to_owned());
    }
}

/// The one frame that `bytes` are.
fn decode(bytes: &[u8]) -> Result<Frame, String> {
    let mut input = BytesMut::from(bytes);
    let frame = FrameCodec.decode(&mut input).map_err(|e| e.to_string())?.expect("a whole frame");
    assert!(input.is_empty(), "no bytes behind the frame");
    Ok(frame)
}

/// `> HEX  why it cannot be read`
fn check_unreadable(example: &str) {
    let (from_client, rest) = (example.starts_with("> "), &example[2..]);
    let (_, expected) = rest.split_once("  ").expect("two spaces before the reason");
    let outcome = decode(&hex(rest)).and_then(|frame| {
        let known = if from_client {
            ClientMessage::read(frame).map(|m| m.is_some())
        } else {
            ServerMessage::read(frame).map(|m| m.is_some())
        };
        known.map_err(|refusal| refusal.to_string())
    });
    let outcome = match outcome {
        Ok(true) => "readable".into(),
        Ok(false) => "ignored".into(),
        Err(why) => why,
    };
    assert_eq!(outcome, expected.trim(), "{example}");
}

fn check_stored(line: &str, seen: &mut Seen) {
    let mut mark = |part| *seen.stored.entry(part).or_default() += 1;
    let seal = Seal::of_journal(ID);
    if is_note(line.as_bytes(), seal) {
        return mark("note");
    }
    if id_in_header(line.as_bytes()) == Some(ID) && Seal::PLAIN.check(line.as_bytes()).is_some() {
        return mark("header");
    }
    let stored = StoredLine::parse(line.as_bytes(), seal).expect("a sound line");
    let entry = stored.to_entry().expect("a time and an author");
    let author = Author::new(stored.author).expect("a name");
    let mut again = Vec::new();
    NewLine {
        seq: stored.seq,
        time: stored.time.as_bytes().try_into().expect("32 bytes"),
        own: entry.own,
        day: entry.day,
        relation: entry.relation,
        author: &author,
        text: &entry.text,
        index: stored.index,
        key: stored.key,
    }
    .write(&mut again, seal);
    // A field that this version does not know stands behind those that it writes.
    let (_, right) = line.split_once('\t').expect("a TAB");
    let fields = right.rsplit_once(' ').expect("a crc").0.split(' ');
    let unknown: String = fields
        .skip(2)
        .filter(|field| {
            !["at=", "day=", "re=", "corrects=", "redacts="].iter().any(|known| field.starts_with(known))
        })
        .flat_map(|field| [field, " "])
        .collect();
    if !unknown.is_empty() {
        again.truncate(again.len() - SEAL_BYTES - 1);
        again.extend_from_slice(unknown.as_bytes());
        seal.write(&mut again, 0);
        mark("unknown field");
    }
    assert_eq!(String::from_utf8(again).expect("UTF-8"), format!("{line}\n"));
    mark(match entry.own {
        None if entry.day.is_some() => "of the day before",
        None => "plain",
        Some(own) if own.day == own.at.date() => "own time",
        Some(_) => "own time of the day before",
    });
    if stored.key.is_some() {
        mark("key");
    }
    match stored.relation {
        Some(Relation::Answers(_)) => mark("answer"),
        Some(Relation::Corrects(_)) => mark("correction"),
        Some(Relation::Redacts(_)) => mark("redaction"),
        None => {}
    }
}

fn describe_client(message: &ClientMessage) -> String {
    match message {
        ClientMessage::Hello(message::Hello { version, author, secret, resume, journal, token }) => {
            let producer = Producer::of_secret(secret);
            let secret = std::str::from_utf8(secret).expect("a secret that can be shown");
            let resume = resume.map_or("none".into(), |message::Resume { id, seq, crc }| {
                format!("{id:016x}:{seq}:{crc:08x}")
            });
            let journal = if journal.is_empty() { String::new() } else { format!(" journal={journal:?}") };
            let token = token.as_ref().map_or_else(String::new, |token| format!(" token={}", token.reveal()));
            format!(
                "Hello version={version} author={author:?} secret={secret:?} resume={resume}{journal}{token} (producer {producer})"
            )
        }
        ClientMessage::Append(message::Append { first_counter, retry, texts }) => {
            fn utf8(bytes: &[u8]) -> &str {
                std::str::from_utf8(bytes).expect("UTF-8")
            }
            let show = |new: NewText<'_>| {
                let at = new.at.map_or_else(String::new, |at| format!(" at {at}"));
                let author =
                    if new.author.is_empty() { String::new() } else { format!(" by {}", utf8(new.author)) };
                let re = new.relation().map_or_else(String::new, |relation| format!(" {relation}"));
                format!("{:?}{at}{author}{re}", utf8(new.text))
            };
            let name = if texts.are_own() { "AppendOwn" } else { "Append" };
            let texts = texts.iter().map(show).collect::<Vec<_>>().join(", ");
            format!("{name} first_counter={first_counter} retry={retry} texts=[{texts}]")
        }
        ClientMessage::History { id, scope } => format!("History id={id} {}", describe_scope(scope)),
        ClientMessage::Follow { id, from } => {
            format!("Follow id={id} from={}", from.map_or("now".into(), |seq| seq.to_string()))
        }
        ClientMessage::FollowOff { id } => format!("FollowOff id={id}"),
        ClientMessage::Search { id, filter: Filter { scope, contains, without, author, tags } } => {
            let scope = describe_scope(scope);
            let author = author.as_ref().map_or("any", Author::as_str);
            format!(
                "Search id={id} {scope} contains={contains:?} without={without:?} author={author} \
                 tags={tags:?}"
            )
        }
        ClientMessage::Versions { id, seq } => format!("Versions id={id} seq={seq}"),
        ClientMessage::Thread { id, seq } => format!("Thread id={id} seq={seq}"),
        ClientMessage::Check { id } => format!("Check id={id}"),
        ClientMessage::Quit => "Quit".into(),
    }
}

fn describe_scope(&Scope { which, up_to, newest, reverse, shown }: &Scope) -> String {
    let bound = |bound: Option<u64>, none: &str| bound.map_or(none.to_owned(), |bound| bound.to_string());
    let (up_to, newest) = (bound(up_to, "head"), bound(newest, "all"));
    let shown = if shown { " shown=true" } else { "" };
    format!("which={which} up_to={up_to} newest={newest} reverse={reverse}{shown}")
}

fn describe_server(message: &ServerMessage) -> String {
    match message {
        ServerMessage::Welcome(message::Welcome {
            version,
            journal_id,
            head,
            author,
            journal,
            zone,
            day_start,
            clock_micros,
        }) => {
            format!(
                "Welcome version={version} journal_id={journal_id:016x} head={head} author={author:?} \
                 journal={journal:?} zone={zone:?} day_start={day_start} clock={clock_micros}"
            )
        }
        ServerMessage::Acks(runs) => {
            let runs: Vec<_> = runs.iter().map(describe_run).collect();
            format!("Acks [{}]", runs.join(", "))
        }
        ServerMessage::Refused { first_counter, count, refusal } => {
            format!("Refused first_counter={first_counter} count={count} {refusal}")
        }
        ServerMessage::Answer { id, first, last, dense, shown } => {
            let shown = if *shown { " shown=true" } else { "" };
            format!("Answer id={id} first={first} last={last} dense={dense}{shown}")
        }
        ServerMessage::Block { id, lines } => {
            for line in lines.split_inclusive(|&b| b == b'\n') {
                let line = line.strip_suffix(b"\n").expect("whole lines");
                StoredLine::parse(line, Seal::of_journal(ID)).expect("sound lines");
            }
            format!("Block id={id} lines={:?}", std::str::from_utf8(lines).expect("UTF-8"))
        }
        ServerMessage::End { id } => format!("End id={id}"),
        ServerMessage::Error { id, fatal, refusal } => format!("Error id={id} fatal={fatal} {refusal}"),
        ServerMessage::Bye { reason } => format!("Bye reason={reason:?}"),
    }
}

fn describe_run(run: &Run) -> String {
    let Run { first_counter, count, first_seq, time } = *run;
    let more = u64::from(count) - 1;
    format!("{first_counter}..{} -> {first_seq}..{} at {time}", first_counter + more, first_seq + more)
}

/// The bytes at the start of a row, up to its end or two spaces.
fn hex(row: &str) -> Vec<u8> {
    let row = row.split("  ").next().unwrap_or("");
    row.split_whitespace()
        .map(|digits| {
            assert_eq!(digits.len(), 2, "two digits a byte: {row}");
            u8::from_str_radix(digits, 16).expect("hex digits")
        })
        .collect()
}

/// The bytes that a literal in quotes stands for, and what is behind it.
fn literal(line: &str) -> (Vec<u8>, &str) {
    let mut rest = line.strip_prefix('"').expect("a literal in quotes");
    let mut bytes = Vec::new();
    loop {
        let c = rest.chars().next().expect("a closing quote");
        rest = &rest[c.len_utf8()..];
        match c {
            '"' => return (bytes, rest),
            '\\' => {
                let (escape, tail) = rest.split_at(1);
                rest = tail;
                let c = match escape {
                    "n" => '\n',
                    "r" => '\r',
                    "t" => '\t',
                    "0" => '\0',
                    "\\" | "\"" => escape.chars().next().expect("one character"),
                    "x" => {
                        bytes.extend(hex(&rest[..2]));
                        rest = &rest[2..];
                        continue;
                    }
                    "u" => {
                        let (digits, tail) = rest[1..].split_once('}').expect("a closing brace");
                        rest = tail;
                        let number = u32::from_str_radix(digits, 16).expect("hex digits");
                        char::from_u32(number).expect("a character")
                    }
                    _ => panic!("no such escape: {line}"),
                };
                bytes.extend_from_slice(c.to_string().as_bytes());
            }
            c => bytes.extend_from_slice(c.to_string().as_bytes()),
        }
    }
}
