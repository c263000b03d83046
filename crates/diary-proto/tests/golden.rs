//! The golden day files pin format 1, byte for byte: what is written today must be readable, and be
//! written the same, in twenty years. Never change a file in `golden/`; what is new gets new files.

use diary_proto::entry::{NewLine, is_note};
use diary_proto::seal::SEAL_BYTES;
use diary_proto::{Author, DayStart, Key, OwnTime, Producer, Relation, Seal, StoredLine, Time};

const FIRST_DAY: &[u8] = include_bytes!("golden/2026-11-20.log");
const SECOND_DAY: &[u8] = include_bytes!("golden/2026-11-21.log");
const THIRD_DAY: &[u8] = include_bytes!("golden/2026-11-22.log");

/// The journal's id, as it stands in the headers.
const ID: u64 = 0x5f0c_9e27_a1b3_4d68;

const XIAOMING: u64 = 0x6b1f_09c2_d4e8_a735;

/// What a line of a day file says.
enum Line {
    Header { rest: &'static str },
    Note(&'static str),
    Entry(Expected),
}

struct Expected {
    seq: u64,
    time: &'static str,
    author: &'static str,
    text: &'static str,
    index: u32,
    key: Option<(u64, u64)>,
    at: Option<&'static str>,
    relation: Option<Relation>,
    /// Fields that this version does not know, each with the space behind it.
    unknown: &'static str,
}

const PLAIN: Expected = Expected {
    seq: 0,
    time: "",
    author: "",
    text: "",
    index: 0,
    key: None,
    at: None,
    relation: None,
    unknown: "",
};

fn first_day() -> Vec<Line> {
    vec![
        Line::Header { rest: "2026-11-20 id=5f0c9e27a1b34d68 first=1 after=-" },
        Line::Entry(Expected {
            seq: 1,
            time: "2026-11-20T07:58:40.000123+08:00",
            author: "anna",
            text: "The first entry.",
            ..PLAIN
        }),
        // One batch of three, from two writers.
        Line::Entry(Expected {
            seq: 2,
            time: "2026-11-20T08:15:02.123456+08:00",
            author: "小明",
            text: "今天天气很好",
            key: Some((XIAOMING, 1)),
            ..PLAIN
        }),
        Line::Entry(Expected {
            seq: 3,
            time: "2026-11-20T08:15:02.123456+08:00",
            author: "local",
            text: "hello from telnet",
            index: 1,
            ..PLAIN
        }),
        Line::Entry(Expected {
            seq: 4,
            time: "2026-11-20T08:15:02.123456+08:00",
            author: "小明",
            text: "第一行\n第二行",
            index: 2,
            key: Some((XIAOMING, 2)),
            ..PLAIN
        }),
        // Everything that is escaped, and beside it the nearest that is not.
        Line::Entry(Expected {
            seq: 5,
            time: "2026-11-20T12:00:00.000000+08:00",
            author: "anna",
            text: "back\\slash\ttab\rreturn\u{1}\u{1f}\u{1b}[31m\u{7f}~\u{80}\u{9f}\u{a0}\u{2027}\u{2028}\u{2029}\u{202a}\u{202e}\u{202f}\u{2065}\u{2066}\u{2069}\u{206a}😀",
            ..PLAIN
        }),
        // An own time: long ago and far away.
        Line::Entry(Expected {
            seq: 6,
            time: "2026-11-20T12:00:01.000000+08:00",
            author: "anna",
            text: "(written down later) moved in",
            at: Some("2015-03-02T08:15:00.000000-03:30"),
            ..PLAIN
        }),
        Line::Entry(Expected {
            seq: 7,
            time: "2026-11-20T18:30:00.500000+08:00",
            author: "192.0.2.7",
            text: "# not a note",
            ..PLAIN
        }),
        Line::Entry(Expected {
            seq: 8,
            time: "2026-11-20T23:59:59.999999+08:00",
            author: "uid:1000",
            text: "  spaces at both ends  ",
            ..PLAIN
        }),
    ]
}

fn second_day() -> Vec<Line> {
    vec![
        Line::Header { rest: "2026-11-21 id=5f0c9e27a1b34d68 first=9 after=2026-11-20.log:8:LASTCRC" },
        Line::Entry(Expected {
            seq: 9,
            time: "2026-11-21T00:00:00.000000+08:00",
            author: "2001:db8::7",
            text: "x",
            key: Some((255, 18_446_744_073_709_551_614)),
            ..PLAIN
        }),
        // A later version's field: kept and ignored.
        Line::Entry(Expected {
            seq: 10,
            time: "2026-11-21T08:15:02.123456+08:00",
            author: "anna",
            text: "雨",
            unknown: "mood=good ",
            ..PLAIN
        }),
        Line::Note("# a later version may add notes like this one\t"),
        // An own time and a key and an unknown field on one line, second in its batch.
        Line::Entry(Expected {
            seq: 11,
            time: "2026-11-21T09:00:00.000001+08:00",
            author: "小明",
            text: "/help",
            key: Some((XIAOMING, 3)),
            ..PLAIN
        }),
        Line::Entry(Expected {
            seq: 12,
            time: "2026-11-21T09:00:00.000001+08:00",
            author: "小明",
            text: "早",
            index: 1,
            key: Some((XIAOMING, 4)),
            at: Some("2026-11-21T06:30:00.250000+08:00"),
            unknown: "mood=sleepy via=phone ",
            ..PLAIN
        }),
    ]
}

/// What entries are to earlier ones.
fn third_day() -> Vec<Line> {
    vec![
        Line::Header { rest: "2026-11-22 id=5f0c9e27a1b34d68 first=13 after=2026-11-21.log:12:LASTCRC" },
        Line::Entry(Expected {
            seq: 13,
            time: "2026-11-22T08:00:00.000000+08:00",
            author: "小明",
            text: "你好",
            key: Some((XIAOMING, 5)),
            relation: Some(Relation::Answers(3)),
            ..PLAIN
        }),
        Line::Entry(Expected {
            seq: 14,
            time: "2026-11-22T08:00:00.000000+08:00",
            author: "anna",
            text: "The very first entry.",
            index: 1,
            relation: Some(Relation::Corrects(1)),
            ..PLAIN
        }),
        // With an own time before it, and a field of a later version behind it.
        Line::Entry(Expected {
            seq: 15,
            time: "2026-11-22T08:30:00.000000+08:00",
            author: "anna",
            text: "a password",
            at: Some("2026-11-22T07:15:00.000000+08:00"),
            relation: Some(Relation::Redacts(9)),
            unknown: "mood=sorry ",
            ..PLAIN
        }),
        // What a text begins with is not what the entry is.
        Line::Entry(Expected {
            seq: 16,
            time: "2026-11-22T09:00:00.000000+08:00",
            author: "anna",
            text: "(re 3) is how an answer looks",
            ..PLAIN
        }),
        Line::Entry(Expected {
            seq: 17,
            time: "2026-11-22T09:00:00.000000+08:00",
            author: "anna",
            text: "(re 3) twice",
            index: 1,
            relation: Some(Relation::Answers(16)),
            ..PLAIN
        }),
    ]
}

fn seal() -> Seal {
    Seal::of_journal(ID)
}

impl Expected {
    /// The line as this version writes it; a field that it does not know is put in by hand.
    fn write(&self) -> Vec<u8> {
        let author = Author::new(self.author).expect("a name");
        let line = NewLine {
            seq: self.seq,
            time: self.time.as_bytes().try_into().expect("32 bytes"),
            own: self.at.map(|at| {
                let at = Time::parse(at.as_bytes()).expect("a time");
                OwnTime::new(at, DayStart::default())
            }),
            day: None,
            relation: self.relation,
            author: &author,
            text: self.text,
            index: self.index,
            key: self.key.map(|(producer, counter)| Key { producer: Producer(producer), counter }),
        };
        let mut out = Vec::new();
        line.write(&mut out, seal());
        if !self.unknown.is_empty() {
            out.truncate(out.len() - SEAL_BYTES - 1);
            out.extend_from_slice(self.unknown.as_bytes());
            seal().write(&mut out, 0);
        }
        out
    }

    fn check(&self, line: &[u8]) {
        let stored = StoredLine::parse(line, seal()).expect("a sound line");
        assert_eq!(stored.seq, self.seq);
        assert_eq!(stored.time, self.time);
        assert_eq!(stored.author, self.author);
        assert_eq!(stored.unescaped(), self.text);
        assert_eq!(stored.index, self.index);
        assert_eq!(stored.batch(), self.seq - u64::from(self.index));
        assert_eq!(stored.key.map(|key| (key.producer.0, key.counter)), self.key);
        assert_eq!(line.strip_prefix(stored.left.as_bytes()).and_then(|right| right.first()), Some(&b'\t'));
        let entry = stored.to_entry().expect("a time and an author");
        assert_eq!(entry.time.to_string(), self.time);
        assert_eq!(entry.own.map(|own| own.at.to_string()).as_deref(), self.at);
        assert_eq!((stored.relation, entry.relation), (self.relation, self.relation));
    }
}

/// Checks every line of a file against what it should say. Returns the checksum of its last entry.
fn check(file: &[u8], expected: &[Line], last_crc: u32) -> u32 {
    let mut lines = file.split_inclusive(|&b| b == b'\n');
    let mut crc = None;
    for expected in expected {
        let line = lines.next().expect("as many lines as expected");
        let bare = line.strip_suffix(b"\n").expect("a line feed at the end");
        match expected {
            Line::Header { rest } => {
                let last_crc = format!("{last_crc:08x}");
                check_sealed(
                    line,
                    &format!("# diary 1 {}\t", rest.replace("LASTCRC", &last_crc)),
                    Seal::PLAIN,
                );
            }
            Line::Note(note) => {
                check_sealed(line, note, seal());
                assert!(is_note(bare, seal()));
            }
            Line::Entry(entry) => {
                entry.check(bare);
                assert_eq!(text(&entry.write()), text(line));
                crc = Some(StoredLine::parse(bare, seal()).expect("it was checked").crc);
            }
        }
    }
    assert_eq!(lines.next(), None, "no line more than expected");
    crc.expect("a day file holds entries")
}

fn check_sealed(line: &[u8], body: &str, seal: Seal) {
    let mut sealed = body.as_bytes().to_vec();
    seal.write(&mut sealed, 0);
    assert_eq!(text(&sealed), text(line));
}

fn text(line: &[u8]) -> &str {
    std::str::from_utf8(line).expect("UTF-8")
}

#[test]
fn the_golden_days_are_read_and_written_byte_for_byte() {
    let last_crc = check(FIRST_DAY, &first_day(), 0);
    let last_crc = check(SECOND_DAY, &second_day(), last_crc);
    check(THIRD_DAY, &third_day(), last_crc);
}

#[test]
fn the_left_parts_read_as_a_diary() {
    let left = |file: &'static [u8]| {
        text(file)
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split('\t').next().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        left(SECOND_DAY),
        [
            "9 2026-11-21T00:00:00.000000+08:00 2001:db8::7 x",
            "10 2026-11-21T08:15:02.123456+08:00 anna 雨",
            "11 2026-11-21T09:00:00.000001+08:00 小明 /help",
            "12 2026-11-21T09:00:00.000001+08:00 小明 (2026-11-21 06:30) 早",
        ]
    );
    assert_eq!(
        left(THIRD_DAY),
        [
            "13 2026-11-22T08:00:00.000000+08:00 小明 (re 3) 你好",
            "14 2026-11-22T08:00:00.000000+08:00 anna (corrects 1) The very first entry.",
            "15 2026-11-22T08:30:00.000000+08:00 anna (2026-11-22 07:15) (redacts 9) a password",
            "16 2026-11-22T09:00:00.000000+08:00 anna (re 3) is how an answer looks",
            "17 2026-11-22T09:00:00.000000+08:00 anna (re 16) (re 3) twice",
        ]
    );
    assert!(left(FIRST_DAY).contains(&"4 2026-11-20T08:15:02.123456+08:00 小明 第一行\\n第二行"));
}

/// What is sound in one journal says nothing in another: the id is part of every checksum but the header's.
#[test]
fn another_journal_takes_no_line() {
    let others = (0..u64::BITS).map(|bit| Seal::of_journal(ID ^ 1 << bit)).chain([Seal::PLAIN]);
    for other in others {
        for line in
            [FIRST_DAY, SECOND_DAY, THIRD_DAY].iter().flat_map(|day| day.split(|&b| b == b'\n').skip(1))
        {
            assert!(StoredLine::parse(line, other).is_err() && !is_note(line, other), "{}", text(line));
        }
    }
}

/// Each bit of a golden file that is turned over is found, except those of the line feeds.
#[test]
fn a_changed_bit_is_never_served() {
    for line in [SECOND_DAY, THIRD_DAY].iter().flat_map(|day| day.split_inclusive(|&b| b == b'\n')) {
        let bare = &line[..line.len() - 1];
        for bit in 0..bare.len() * 8 {
            let mut changed = bare.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(
                StoredLine::parse(&changed, seal()).is_err() && !is_note(&changed, seal()),
                "bit {bit} of {}",
                text(bare)
            );
        }
    }
}
