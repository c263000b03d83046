use diary_proto::Time;
use diary_proto::{Date, Seal};
use jiff::tz::TimeZone;

use super::*;

pub(crate) fn clock(format: Option<&str>) -> Clock {
    Clock::new(TimeZone::get("Asia/Shanghai").unwrap(), format.map(|format| format.parse().unwrap()))
}

/// Reads a file; returns one line for each entry and each unreadable line, with its number.
fn read_as(bytes: &[u8], kind: Option<Kind>, format: Option<&str>) -> (Kind, Vec<String>) {
    let mut harvest = Harvest::default();
    let day = Some(Date::constant(2026, 11, 20));
    let kind = harvest.read(&Source { bytes, day }, kind, &clock(format));
    let entries = harvest.found.iter().map(|entry| {
        let author = entry.author.as_ref().map(|author| format!(" {author}")).unwrap_or_default();
        let exact = match entry.when.exactness {
            Exactness::Moment => "",
            Exactness::Clock => " fraction",
            Exactness::ClockSecond => " clock",
            Exactness::ClockMinute => " minute",
        };
        (
            entry.line,
            format!("{} {}{exact}{author}: {}", entry.line, entry.when.time, entry.text.escape_debug()),
        )
    });
    let troubles = harvest
        .troubles
        .iter()
        .map(|trouble| (trouble.line, format!("{} BAD {}", trouble.line, trouble.why)));
    let mut all: Vec<_> = entries.chain(troubles).collect();
    all.sort_by_key(|(line, _)| *line);
    (kind, all.into_iter().map(|(_, said)| said).collect())
}

fn check(bytes: impl AsRef<[u8]>, kind: Kind, expected: &[&str]) {
    let (detected, said) = read_as(bytes.as_ref(), None, None);
    assert_eq!((detected, said), (kind, expected.iter().map(|line| (*line).to_owned()).collect()));
}

#[test]
fn jrnl_text() {
    check(
        "[2026-11-21 08:15:02 AM] 今天天气很好。出去走走 *\n第一行\n\n  第二行 \n- [x] done\n[1] a note\n\n\
         [2026-11-21 08:15:03 PM] Two. Sentences.\r\nand a body\r\n[2026-11-21 09:00] minutes\n[2026-11-22] a day\n",
        Kind::Jrnl,
        &[
            "1 2026-11-21T08:15:02.000000+08:00 clock: 今天天气很好。出去走走 *\\n第一行\\n\\n  第二行 \\n- [x] done\\n[1] a note",
            "8 2026-11-21T20:15:03.000000+08:00 clock: Two. Sentences.\\nand a body",
            "10 2026-11-21T09:00:00.000000+08:00 minute: minutes",
            "11 2026-11-22T00:00:00.000000+08:00 minute: a day",
        ],
    );
}

#[test]
fn jrnl_text_that_is_damaged() {
    let long = "x".repeat(64 * 1024 + 1);
    let long_lines = "x\n".repeat(32 * 1024 + 1);
    check(
        [
            &b"[2026-13-21 08:15] no such month\nits body\n\n[2026-11-21 08:15] good\n"[..],
            b"[2026-11-21 08:16] bad \xff byte\nbody\n[2026-11-21 08:17] its\nbody \xfe\n",
            b"[2026-11-21 08:18] \n\n[2026-11-21 08:19] x\0y\n[2026-11-21 08:20] ",
            long.as_bytes(),
            b"\n[2026-11-21 08:21] long\n",
            long_lines.as_bytes(),
            b"\n\n[2026-11-21 08:22] x\0y\nz\n\n[2026-11-21 08:23] end",
        ]
        .concat(),
        Kind::Jrnl,
        &[
            "1 BAD [2026-13-21 08:15] is not a known time; give its format with --time-format",
            "2 BAD belongs to an unreadable entry above",
            "4 2026-11-21T08:15:00.000000+08:00 minute: good",
            "5 BAD not UTF-8; convert the file, for example with iconv; the entry on lines 5..6 is left out",
            "8 BAD not UTF-8; convert the file, for example with iconv; the entry on lines 7..8 is left out",
            "9 BAD an entry needs a text",
            "11 BAD a text cannot contain a NUL byte",
            "12 BAD the text is longer than 65536 bytes; split or shorten it",
            "13 BAD the text is longer than 65536 bytes; split or shorten it; the entry on lines 13..32782 is left out",
            "32785 BAD a text cannot contain a NUL byte; the entry on lines 32785..32786 is left out",
            "32788 2026-11-21T08:23:00.000000+08:00 minute: end",
        ],
    );
}

/// Lost lines are reported one by one.
#[test]
fn damaged_entries_of_several_lines() {
    check(
        b"[Sat Nov 21 08:15:02 2026] bad \xff\nand more\n\n[Sat Nov 21 08:15:03 2026] x\0y\nand more\n",
        Kind::Daily,
        &[
            "1 BAD not UTF-8; convert the file, for example with iconv; the entry on lines 1..2 is left out",
            "4 BAD a text cannot contain a NUL byte; the entry on lines 4..5 is left out",
        ],
    );
    check(
        b"{\"entries\": [\n{\n\"title\": \"\xff\"\n}, {\n\"title\": \"\xff\" }, {\n\
          \"title\": \"a\", \"date\": \"soon\", \"time\": \"\"\n},\n{\n\
          \"title\": \"\", \"date\": \"2026-11-21\", \"time\": \"08:15\"\n},\n{\n\"title\": 5\n},\n{\n\n\"ti",
        Kind::JrnlJson,
        &[
            "3 BAD not UTF-8; convert the file, for example with iconv; the entry on lines 2..4 is left out",
            "5 BAD not UTF-8; convert the file, for example with iconv; the entry on lines 4..5 is left out; \
             the entry on lines 5..7 is left out",
            "8 BAD an entry needs a text; the entry on lines 8..10 is left out",
            "11 BAD not a jrnl entry in JSON: invalid type: integer `5`, expected a string; \
             the entry on lines 11..13 is left out",
            "16 BAD not JSON as jrnl writes it; nothing after line 13 was read: EOF while parsing a string",
        ],
    );
}

#[test]
fn jrnl_text_of_old_and_of_other_clocks() {
    check(
        "2015-03-02 08:15 First. Of jrnl 1\nits body\n2015-3 goats\n\n2015-03-02 09:15 Second *\n",
        Kind::Jrnl,
        &[
            "1 2015-03-02T08:15:00.000000+08:00 minute: First. Of jrnl 1\\nits body\\n2015-3 goats",
            "5 2015-03-02T09:15:00.000000+08:00 minute: Second *",
        ],
    );
    let (kind, said) = read_as(b"[21.11.2026 08:15] Titel\n", None, Some("%d.%m.%Y %H:%M"));
    assert_eq!((kind, said[0].as_str()), (Kind::Jrnl, "1 2026-11-21T08:15:00.000000+08:00 minute: Titel"));
    let (kind, said) = read_as(b"[21.11.2026 08:15] Titel\nmehr\n", None, None);
    assert_eq!((kind, said.len()), (Kind::Jrnl, 2));
    assert!(said.iter().all(|said| said.contains("BAD")), "{said:?}");
}

#[test]
fn jrnl_json() {
    check(
        r#"{
  "tags": {"@work": 1},
  "entries": [
    {"title": "Title.", "body": "Body\n@work", "date": "2026-11-21", "time": "08:15", "tags": ["@work"], "starred": true},
    {"title": "今天", "body": "", "date": "2026-11-21", "time": "23:59", "tags": [], "starred": false, "uuid": "x"},
    {"title": "bad", "body": "", "date": "2026-02-30", "time": "23:59"},
    {"title": 5},
    {"title": "", "body": "", "date": "2026-11-21", "time": "23:59"}
  ]
}
"#,
        Kind::JrnlJson,
        &[
            "4 2026-11-21T08:15:00.000000+08:00 minute: Title. *\\nBody\\n@work",
            "5 2026-11-21T23:59:00.000000+08:00 minute: 今天",
            "6 BAD \"2026-02-30 23:59\" is not a time",
            "7 BAD not a jrnl entry in JSON: invalid type: integer `5`, expected a string",
            "8 BAD an entry needs a text",
        ],
    );
    check(
        b"{\"entries\": [\n{\"title\": \"a\", \"date\": \"2026-11-21\", \"time\": \"08:15\"},\n{\"title\": \"\xff\", \"date\": \"2026-11-21\", \"time\": \"08:15\"},\n{\"title\"",
        Kind::JrnlJson,
        &[
            "2 2026-11-21T08:15:00.000000+08:00 minute: a",
            "3 BAD not UTF-8; convert the file, for example with iconv",
            "4 BAD not JSON as jrnl writes it; nothing after line 3 was read: EOF while parsing an object",
        ],
    );
    check(
        "{}",
        Kind::JrnlJson,
        &["1 BAD not JSON as jrnl writes it; nothing after line 1 was read: missing field `entries`"],
    );
}

#[test]
fn jrnl_text_keeps_its_blanks() {
    check(
        "[2026-11-21 08:15:02] Title \n   indented\n\n  more \n\n\n[2026-11-21 08:15:03] Two\n\nparagraphs\n[2026-11-21 08:15:04]  \nbody\n",
        Kind::Jrnl,
        &[
            "1 2026-11-21T08:15:02.000000+08:00 clock: Title \\n   indented\\n\\n  more",
            "7 2026-11-21T08:15:03.000000+08:00 clock: Two\\n\\nparagraphs",
            "10 2026-11-21T08:15:04.000000+08:00 clock: body",
        ],
    );
}

#[test]
fn jrnl_text_with_wrong_dates() {
    check(
        "2015-03-02 08:15 First\nits body\n2015-02-30 08:15 no such day\nits body\n2015-03-02 was fine\n2015-03-02 09:15 Second\n",
        Kind::Jrnl,
        &[
            "1 2015-03-02T08:15:00.000000+08:00 minute: First\\nits body",
            "3 BAD [2015-02-30 08:15] is not a known time; give its format with --time-format",
            "4 BAD belongs to an unreadable entry above",
            "5 BAD belongs to an unreadable entry above",
            "6 2015-03-02T09:15:00.000000+08:00 minute: Second",
        ],
    );
    check(
        "[2026-11-21 08:15] a\n[2026-02-30 08:15] b\n[2026-11-21 25:15] c\n[2026-11-21 08:61:00] d\n",
        Kind::Jrnl,
        &[
            "1 2026-11-21T08:15:00.000000+08:00 minute: a",
            "2 BAD [2026-02-30 08:15] is not a known time; give its format with --time-format",
            "3 BAD [2026-11-21 25:15] is not a known time; give its format with --time-format",
            "4 BAD [2026-11-21 08:61:00] is not a known time; give its format with --time-format",
        ],
    );
}

#[test]
fn jrnl_json_with_many_entries_that_are_not_utf8() {
    let good = r#"{"title": "a", "date": "2026-11-21", "time": "08:15"}"#;
    let bad = b"{\"title\":\n\"\xff\", \"date\": \"2026-11-21\", \"time\": \"08:15\"}";
    let mut bytes = b"{\"entries\": [\n".to_vec();
    for _ in 0..3 {
        bytes.extend_from_slice(bad);
        bytes.extend_from_slice(b",\n");
        bytes.extend_from_slice(good.as_bytes());
        bytes.extend_from_slice(b",\n");
    }
    bytes.extend_from_slice(good.as_bytes());
    bytes.extend_from_slice(b"]}");
    let (_, said) = read_as(&bytes, None, None);
    let lines: Vec<_> = said.iter().map(|said| said.split(": ").next().unwrap_or_default()).collect();
    let entry = |line: u64| format!("{line} 2026-11-21T08:15:00.000000+08:00 minute");
    let not_utf8 = |line: u64| {
        let above = line - 1;
        format!(
            "{line} BAD not UTF-8; convert the file, for example with iconv; \
             the entry on lines {above}..{line} is left out"
        )
    };
    assert_eq!(lines, [not_utf8(3), entry(4), not_utf8(6), entry(7), not_utf8(9), entry(10), entry(11)]);
}

#[test]
fn own_json() {
    check(
        b"{\"time\":\"2026-11-21T08:15:02.123456+08:00\",\"author\":\"anna\",\"text\":\"a\\nb\"}\n\
          {\"seq\":7,\"time\":\"2026-11-21T08:15:02.123456+08:00\",\"at\":\"2015-03-02T08:15:00.000000-03:30\",\"author\":\"\xe5\xb0\x8f\xe6\x98\x8e\",\"text\":\"\xe9\x9b\xaa\",\"key\":\"6b1f09c2d4e8a735.1\"}\n\
          \n{\"time\":\"2026-11-21T08:15:02Z\",\"text\":\"no name\"}\n{\"gap\":{\"first\":3,\"last\":4}}\n\
          {\"time\":\"2026-11-21T08:15:02Z\",\"author\":\"a b\",\"text\":\"x\"}\n{\"text\":\"x\"}\n{\"time\":\"soon\",\"text\":\"x\"}\n\
          {\"time\":\"2026-11-21T08:15:02Z\"}\nnot json\n{\"text\":\"\xff\"}\n",
        Kind::Json,
        &[
            "1 2026-11-21T08:15:02.123456+08:00 anna: a\\nb",
            "2 2015-03-02T08:15:00.000000-03:30 小明: 雪",
            "4 2026-11-21T08:15:02.000000+00:00: no name",
            "5 BAD entries were damaged or missing here when this was exported",
            "6 BAD a name cannot contain spaces, control characters or backslashes",
            "7 BAD no time",
            "8 BAD \"soon\" is not a time",
            "9 BAD no text",
            "10 BAD not an entry in JSON: expected ident (column 2)",
            "11 BAD not UTF-8; convert the file, for example with iconv",
        ],
    );
}

#[test]
fn day_files() {
    check(
        "# diary 1 2026-11-21 id=3717ff67fcd1b5c3 first=1 after=-\t4b471f60\n\
         1 2026-11-21T18:56:11.330699+08:00 local hello from telnet\t0 - 601f094e\n\
         2 2026-11-21T18:56:11.340134+08:00 local 今天天气很坏\t0 - 458fe6b2\n\
         418 2026-11-21T12:00:02.000000+08:00 anna (2026-11-21 01:30) home late\t0 - at=2026-11-21T01:30:00.000000+08:00 day=2026-11-20 5c74ee24\n",
        Kind::Log,
        &[
            "2 2026-11-21T18:56:11.330699+08:00 local: hello from telnet",
            "3 BAD damaged: the checksum does not match",
            "4 2026-11-21T01:30:00.000000+08:00 anna: home late",
        ],
    );
}

/// Concatenated files of two journals: each header gives the seal of its lines.
#[test]
fn day_files_one_behind_the_other() {
    let header = |id: u64| format!("# diary 1 2026-11-21 id={id:016x} first=1 after=-\t");
    let entry = |seq: u64| format!("{seq} 2026-11-21T08:15:02.123456+08:00 anna text {seq}\t0 - ");
    let (first, second) = (Seal::of_journal(1), Seal::of_journal(2));
    let mut file = Vec::new();
    for (line, seal) in [
        (header(1), Seal::PLAIN),
        (entry(1), first),
        ("# a note\t".to_owned(), first),
        (entry(2), second),
        // A damaged header: its own checksum is invalid, and its id is that of the lines.
        (header(2), first),
        (entry(3), second),
        (entry(4), first),
    ] {
        let start = file.len();
        file.extend_from_slice(line.as_bytes());
        seal.write(&mut file, start);
    }
    check(
        file,
        Kind::Log,
        &[
            "2 2026-11-21T08:15:02.123456+08:00 anna: text 1",
            "4 BAD damaged: the checksum does not match",
            "5 BAD damaged: the checksum does not match",
            "6 2026-11-21T08:15:02.123456+08:00 anna: text 3",
            "7 BAD damaged: the checksum does not match",
        ],
    );
}

#[test]
fn any_log() {
    check(
        b"no time yet\r50%\n2026-11-21T08:15:02Z rfc\n\n2026-11-21 08:15:02,123 python\n  indented\n2026-11-21T08:15:02.5+0800 offset\n\
          [2026-11-21 08:15:02] brackets\n2026-11-21T08:15:02 \xff\n2026-11-21x\n",
        Kind::Log,
        &[
            "1 2026-11-20T00:00:00.000000+08:00 minute: no time yet\\r50%",
            "2 2026-11-21T08:15:02.000000+00:00: rfc",
            "4 2026-11-21T08:15:02.123000+08:00 fraction: python",
            "5 2026-11-21T08:15:02.123000+08:00 fraction:   indented",
            "6 2026-11-21T08:15:02.500000+08:00: offset",
            "7 2026-11-21T08:15:02.000000+08:00 clock: brackets",
            "8 BAD not UTF-8; convert the file, for example with iconv",
            "9 2026-11-21T08:15:02.000000+08:00 clock: 2026-11-21x",
        ],
    );
    check(
        b"2026-11-21 08:15:00 a\n2026-11-21 08:16 b \xff\nc\n[2026-11-21 08:17 \xff] d\ne\n\xff 2026\nf\n2026-11-21 08:18:0\xff g\nh\n\
          2026-02-30 08:15 \xff\ni\n",
        Kind::Log,
        &[
            "1 2026-11-21T08:15:00.000000+08:00 clock: a",
            "2 BAD not UTF-8; convert the file, for example with iconv",
            "3 2026-11-21T08:16:00.000000+08:00 minute: c",
            "4 BAD not UTF-8; convert the file, for example with iconv",
            "5 2026-11-21T08:17:00.000000+08:00 minute: e",
            "6 BAD not UTF-8; convert the file, for example with iconv",
            "7 2026-11-21T08:17:00.000000+08:00 minute: f",
            "8 BAD not UTF-8; convert the file, for example with iconv",
            "9 2026-11-21T00:00:00.000000+08:00 minute: h",
            "10 BAD starts like a time but is not one; left out",
            "11 BAD no time, and the time of the line above is unreadable",
        ],
    );
    check(
        b"2026-11-21 was a day\n2026-11-21 08:15 x\n2026-11-21 08:15 PM y\n2026-11-21 13:15 z\n[2026-11-21 08:15:02 INFO] w\n",
        Kind::Log,
        &[
            "1 2026-11-21T00:00:00.000000+08:00 minute: was a day",
            "2 2026-11-21T08:15:00.000000+08:00 minute: x",
            "3 2026-11-21T20:15:00.000000+08:00 minute: y",
            "4 2026-11-21T13:15:00.000000+08:00 minute: z",
            "5 2026-11-21T08:15:02.000000+08:00 clock: [2026-11-21 08:15:02 INFO] w",
        ],
    );
    check(
        "[   12.345678] usb\n[12345.678901] usb\n2026-11-21 08:15:02: colon\n2026-11-21: day\n2026-11-21 08:15 :) x\n",
        Kind::Log,
        &[
            "1 2026-11-20T00:00:00.000000+08:00 minute: [   12.345678] usb",
            "2 2026-11-20T00:00:00.000000+08:00 minute: [12345.678901] usb",
            "3 2026-11-21T08:15:02.000000+08:00 clock: colon",
            "4 2026-11-21T00:00:00.000000+08:00 minute: day",
            "5 2026-11-21T08:15:00.000000+08:00 minute: :) x",
        ],
    );
    let (kind, said) = read_as(b"[2026-11-21 08:15:02 INFO] x\n", None, None);
    let expected = ["1 2026-11-21T08:15:02.000000+08:00 clock: [2026-11-21 08:15:02 INFO] x"];
    assert_eq!((kind, said.as_slice()), (Kind::Log, &expected.map(str::to_owned)[..]));
    check("", Kind::Log, &[]);
}

#[test]
fn logs_with_zones() {
    let said = |line: &str| {
        let (_, said) = read_as(line.as_bytes(), Some(Kind::Log), None);
        said.join("; ")
    };
    for (line, expected) in [
        ("2026-11-21 08:15:02 +0100 x", "08:15:02.000000+01:00: x"),
        ("2026-11-21 08:15:02 -03:30 x", "08:15:02.000000-03:30: x"),
        ("2026-11-21 08:15:02+01 x", "08:15:02.000000+01:00: x"),
        ("2026-11-21T08:15+01:00 x", "08:15:00.000000+01:00: x"),
        ("2026-11-21T08:15:02,5Z x", "08:15:02.500000+00:00: x"),
        ("2026-11-21 08:15:02 Z x", "08:15:02.000000+00:00: x"),
        ("2026-11-21 08:15:02 UTC x", "08:15:02.000000+00:00: x"),
        ("2026-11-21 08:15:02.25 GMT", "08:15:02.250000+00:00: "),
        ("2026-11-21 08:15:02 AM CET x", "08:15:02.000000+01:00: x"),
        ("2026-11-21 08:15:02 Europe/Berlin x", "08:15:02.000000+01:00: x"),
        ("2026-11-21T08:15:02+01:00[Europe/Berlin] x", "08:15:02.000000+01:00: x"),
        ("2026-11-21T08:15:02+01:00: x", "08:15:02.000000+01:00: x"),
        ("2026-11-21 08:15:02 -1200 x", "08:15:02.000000-12:00: x"),
        ("2026-11-21 08:15:02 +1400 x", "08:15:02.000000+14:00: x"),
        ("2026-11-21 08:15:02 +05:45 x", "08:15:02.000000+05:45: x"),
        ("2026-11-21 08:15+0100 x", "08:15:00.000000+01:00: x"),
        ("2026-11-21 08:15 +01:00 x", "08:15:00.000000+01:00: x"),
        ("[2026-11-21 08:15 +0100] x", "08:15:00.000000+01:00: x"),
        ("2026-11-21 08:15 +0100", "08:15:00.000000+01:00: "),
        ("[2026-11-21 08:15:02 +01] x", "08:15:02.000000+01:00: x"),
        ("[2026-11-21 08:15:02 EST] x", "08:15:02.000000-05:00: x"),
        // Ambiguous words stay in the text.
        ("2026-11-21 08:15:02 -10 degrees", "08:15:02.000000+08:00 clock: -10 degrees"),
        ("2026-11-21 08:15:02 +1 for tea", "08:15:02.000000+08:00 clock: +1 for tea"),
        ("2026-11-21 08:15:02 Japan is far", "08:15:02.000000+08:00 clock: Japan is far"),
        ("2026-11-21 08:15:02 WET day", "08:15:02.000000+08:00 clock: WET day"),
        ("2026-11-21 08:15:02 CEST x", "08:15:02.000000+08:00 clock: CEST x"),
        ("2026-11-21 08:15:02 and/or x", "08:15:02.000000+08:00 clock: and/or x"),
        ("2026-11-21 08:15:02 Zoo", "08:15:02.000000+08:00 clock: Zoo"),
        ("2026-11-21 08:15:02 +9999 x", "08:15:02.000000+08:00 clock: +9999 x"),
        ("2026-11-21 08:15:02 +2000 steps", "08:15:02.000000+08:00 clock: +2000 steps"),
        ("2026-11-21 08:15:02 -1215 x", "08:15:02.000000+08:00 clock: -1215 x"),
        ("2026-11-21 08:15:02 +14:15 x", "08:15:02.000000+08:00 clock: +14:15 x"),
        ("2026-11-21 08:15:02 +0120 x", "08:15:02.000000+08:00 clock: +0120 x"),
        ("2026-11-21 08:15 +1200 words written", "08:15:00.000000+08:00 minute: +1200 words written"),
        ("2026-11-21 08:15 +2000 steps", "08:15:00.000000+08:00 minute: +2000 steps"),
        ("2026-11-21 08:15 AM +1200 words", "08:15:00.000000+08:00 minute: +1200 words"),
        ("2026-11-21 10:30-11:00 meeting", "00:00:00.000000+08:00 minute: 10:30-11:00 meeting"),
        ("2026-11-21 UTC is a zone", "00:00:00.000000+08:00 minute: UTC is a zone"),
    ] {
        let expected = expected
            .strip_suffix(": ")
            .map_or(format!("1 2026-11-21T{expected}"), |_| "1 BAD an entry needs a text".to_owned());
        assert_eq!(said(line), expected, "{line}");
    }
    let (_, said) = read_as(b"21.11.2026 08:15 +01:00 x\n", Some(Kind::Log), Some("%d.%m.%Y %H:%M"));
    assert_eq!(said, ["1 2026-11-21T08:15:00.000000+01:00: x"]);
}

#[test]
fn logs_with_wrong_dates() {
    check(
        "2026-11-21 08:15:02 good\n2026-02-30 08:15:02 no such day\n  indented\n[2026-11-21 24:15:02] no such hour\n\
         2026-11-21 08:61 no such minute\n2026-11-21T08:15:02x\n2026-11-21 08:15:03 again\n[12345.678901] usb\n1234-56 7\n",
        Kind::Log,
        &[
            "1 2026-11-21T08:15:02.000000+08:00 clock: good",
            "2 BAD starts like a time but is not one; left out",
            "3 BAD no time, and the time of the line above is unreadable",
            "4 BAD starts like a time but is not one; left out",
            "5 BAD starts like a time but is not one; left out",
            "6 BAD starts like a time but is not one; left out",
            "7 2026-11-21T08:15:03.000000+08:00 clock: again",
            "8 2026-11-21T08:15:03.000000+08:00 clock: [12345.678901] usb",
            "9 2026-11-21T08:15:03.000000+08:00 clock: 1234-56 7",
        ],
    );
    let file = b"21.11.2026 08:15 a\n30.02.2026 08:15 b\nmore\n21.11.2026 is a day\n";
    let (_, said) = read_as(file, Some(Kind::Log), Some("%d.%m.%Y %H:%M"));
    assert_eq!(
        said,
        [
            "1 2026-11-21T08:15:00.000000+08:00 minute: a",
            "2 BAD starts like a time but is not one; left out",
            "3 BAD no time, and the time of the line above is unreadable",
            "4 BAD no time, and the time of the line above is unreadable",
        ]
    );
}

#[test]
fn days_in_names() {
    for (name, day) in [
        ("2026-11-21.log", Some("2026-11-21")),
        ("journal-2026-11-21.log", Some("2026-11-21")),
        ("2026-11-21-work.log", Some("2026-11-21")),
        ("20261121.log", Some("2026-11-21")),
        ("logs/app.log-20261121", Some("2026-11-21")),
        ("2015-03-02/app.log.2026-11-21", Some("2026-11-21")),
        ("日记2026-11-21的.log", Some("2026-11-21")),
        ("1234-2026-11-21.log", Some("2026-11-21")),
        ("2026-02-30.log", None),
        ("2026-11-210.log", None),
        ("120261121.log", None),
        ("12341121.log", None),
        ("journal.log", None),
    ] {
        let expected = day.map(|day| day.parse::<Date>().unwrap());
        assert_eq!(Source::day_in_name(Path::new(name)), expected, "{name}");
    }
}

#[test]
fn daily_log() {
    check(
        "[Sat Nov 21 08:15:02 2026] 今天\n[Sun Nov  1 08:15:02 2026] spaces\nand a second line\n\nSat Nov 21 08:15:04 2026 bare\n[Sat Feb 30 10:00:00 2026] none\n",
        Kind::Daily,
        &[
            "1 2026-11-21T08:15:02.000000+08:00 clock: 今天",
            "2 2026-11-01T08:15:02.000000+08:00 clock: spaces\\nand a second line",
            "5 2026-11-21T08:15:04.000000+08:00 clock: bare\\n[Sat Feb 30 10:00:00 2026] none",
            "6 BAD starts like a time but is not one; kept as a line of the entry above",
        ],
    );
    // A line kept in an entry is not counted as left out.
    for (file, not_readable) in
        [("[Sat Nov 21 08:15:02 2026] a\n[Sat Feb 30 10:00:00 2026] b\n", 0), ("lost\n", 1)]
    {
        let mut harvest = Harvest::default();
        harvest.read(&Source { bytes: file.as_bytes(), day: None }, Some(Kind::Daily), &clock(None));
        assert_eq!((harvest.not_readable, harvest.troubles.len()), (not_readable, 1), "{file}");
    }
    let (_, said) = read_as(b"lost\n[Sat Nov 21 08:15:02 2026] a\n", Some(Kind::Daily), None);
    assert_eq!(said[0], "1 BAD no time such as [Sat Nov 21 08:15:02 2026], and no entry above it");
    // A Monday that was a Saturday.
    let (_, said) = read_as(b"[Mon Nov 21 08:15:02 2026] a\n", Some(Kind::Daily), None);
    assert!(said[0].starts_with("1 BAD"), "{said:?}");
}

#[test]
fn clocks_that_were_set() {
    let clock = Clock::new(TimeZone::get("Europe/Berlin").unwrap(), None);
    for (said, time) in [
        ("2026-03-29 02:30:00", "2026-03-29T02:30:00.000000+01:00"),
        ("2026-10-25 02:30:00", "2026-10-25T02:30:00.000000+02:00"),
        ("1890-01-01 12:00:00", "1890-01-01T12:00:00.000000+00:53"),
    ] {
        assert_eq!(clock.whole(said).unwrap().time, Time::parse(time.as_bytes()).unwrap(), "{said}");
    }
}

#[test]
fn what_only_looks_like_an_export_is_a_log() {
    for bytes in [
        "## 2026-11-21 Saturday\n\nsome prose\n",
        "2026-11-21 Saturday\n\na quiet day\n",
        "2026-11-21 Sunday\n\n00:15 anna\n    x\n",
        "seq,time,text\n",
    ] {
        assert_eq!(read_as(bytes.as_bytes(), None, None).0, Kind::Log, "{bytes}");
    }
}

/// With a time format that matches nothing, lines do not get today's date.
#[test]
fn a_time_format_that_fits_no_line() {
    let file = b"24.12.2023 18:00 Heiligabend\n25.12.2023 09:00 snow\n";
    let (kind, said) = read_as(file, None, Some("%d/%m/%Y %H:%M"));
    let why = "BAD no time, here or above";
    assert_eq!((kind, said), (Kind::Log, vec![format!("1 {why}"), format!("2 {why}")]));
    let (_, said) = read_as(file, None, Some("%d.%m.%Y %H:%M"));
    assert_eq!(said.len(), 2);
    assert!(said[0].starts_with("1 2023-12-24T18:00:00"), "{said:?}");
}

#[test]
fn what_is_a_time_format() {
    for good in ["%d.%m.%Y %H:%M", "%F %I:%M:%S %p", "%Y-%m-%d", "%a %b %e %H:%M:%S %Y", "%FT%TZ"] {
        assert!(good.parse::<TimeFormat>().is_ok(), "{good}");
    }
    for bad in ["", "%", "foo", "%Q?", "%H:%M", "%d.%m. %H:%M", "%s"] {
        assert!(bad.parse::<TimeFormat>().is_err(), "{bad}");
    }
}
