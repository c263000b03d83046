//! The lines of an outbox file: a header, then records, one JSON object per line.
//!
//! ```text
//! {"diary-outbox":1,"server":"127.0.0.1:8888","secret":"00ff…","author":"anna"}
//! {"entry":{"counter":1,"time":"2026-11-21T08:15:02.123456+08:00","text":"今天天气很好"}}
//! {"journal":{"id":"3717ff67fcd1b5c3"}}
//! {"author":{"name":"anna/phone","is_default":false}}
//! {"not_sent":{"from":1}}
//! {"sending":{}}
//! {"acked":{"counter":1}}
//! ```
//!
//! A default author, which nobody chose, is that of the entries only where the server knows the client by no token.
//! An entry is for the journal of the newest `journal` line, or else for the first journal that is met. A line
//! without its line feed is unfinished, and nothing relies on it.

use std::collections::BTreeMap;
use std::ops::Not;

use diary_client::{Address, Author, Code, Refusal, Secret, Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Version of the format that is written, and the only one that is read.
const FORMAT: u64 = 1;

/// The first line: the server, and the source of the keys.
#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(rename = "diary-outbox")]
    format: u64,
    server: String,
    /// In hex.
    secret: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    #[serde(default, skip_serializing_if = "Not::not")]
    author_is_default: bool,
}

/// A line after the header.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    /// An entry is kept, and may be sent from now on.
    Entry {
        counter: u64,
        time: String,
        /// Explicit time, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<String>,
        /// Number of the entry that it answers, if it answers one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        re: Option<u64>,
        /// Number of the entry that it corrects, if it corrects one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        corrects: Option<u64>,
        text: String,
        /// Counter of the entry that this one replaces. In the same record, so that the text is never kept twice.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instead_of: Option<u64>,
    },
    /// Entries are written as this author from now on, also those before this line.
    Author {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        is_default: bool,
    },
    /// The server serves this journal (in hex). Entries without a journal, and all later ones, are for it.
    Journal { id: String },
    /// The entry is in the diary.
    Acked { counter: u64 },
    /// The entry is refused under its key.
    Refused { counter: u64, code: String, message: String },
    /// Entries from this counter on were certainly not sent.
    NotSent { from: u64 },
    /// Every kept entry may be sent from now on.
    Sending {},
    /// A person dropped the entry.
    Dropped { counter: u64 },
}

/// An entry in an outbox: neither acked nor dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptEntry {
    /// Counter in its key.
    pub counter: u64,
    /// When it was written.
    pub time: Time,
    /// Explicit time, if it has one.
    pub at: Option<Time>,
    /// Number of the entry that it answers, if it answers one.
    pub answers: Option<u64>,
    /// Number of the entry that it corrects, if it corrects one.
    pub corrects: Option<u64>,
    /// Its text.
    pub text: String,
    /// Why the server refuses it under its key. The entry waits for a person to decide.
    pub refusal: Option<Refusal>,
    /// Journal that it is for, if one was met.
    pub journal: Option<u64>,
    /// Whether it may have been sent, so it may be in the diary.
    pub sent: bool,
}

impl KeptEntry {
    /// The journal that it is for once a person resends it as new: whichever is served then, unless it names an entry by
    /// its number, which is another one elsewhere.
    pub(crate) fn journal_as_new(&self) -> Option<u64> {
        self.journal.filter(|_| self.answers.or(self.corrects).is_some())
    }
}

/// The server, and the source of the keys.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Heading {
    pub(crate) server: Address,
    pub(crate) author: Option<Author>,
    /// Whether nobody chose the author: the name of a token goes before it.
    pub(crate) author_is_default: bool,
    pub(crate) secret: Secret,
}

/// The contents of a file.
pub(crate) struct Contents {
    pub(crate) heading: Heading,
    /// Entries neither acked nor dropped, by counter.
    pub(crate) entries: BTreeMap<u64, KeptEntry>,
    /// Above every counter in the file, including those in unreadable lines.
    pub(crate) next_counter: u64,
    /// Journal that new entries are for.
    pub(crate) journal: Option<u64>,
    /// Whether the author is another than the header's.
    pub(crate) is_renamed: bool,
    /// Whether the file says of some entry that it was not sent.
    pub(crate) says_unsent: bool,
    /// Numbers of the unreadable lines.
    pub(crate) damaged: Vec<usize>,
    /// Length of the header in bytes, with its line feed.
    pub(crate) header_bytes: u64,
    /// Length of all whole lines in bytes.
    pub(crate) whole_bytes: u64,
}

impl Heading {
    /// Returns the first line of a new file.
    pub(crate) fn line(&self) -> Vec<u8> {
        line(&Header {
            author_is_default: self.author_is_default,
            format: FORMAT,
            server: self.server.to_string(),
            secret: self.secret.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect(),
            author: self.author.as_ref().map(|author| author.as_str().to_owned()),
        })
    }

    fn parse(line: &[u8]) -> Result<Self, String> {
        let not_ours = || "not an outbox file".to_owned();
        let header: Value = serde_json::from_slice(line).map_err(|_| not_ours())?;
        // The version first: other versions may have another header.
        let format = header["diary-outbox"].as_u64().ok_or_else(not_ours)?;
        if format != FORMAT {
            return Err(format!("it has format {format}, and this program reads {FORMAT}; use a newer one"));
        }
        let header = Header::deserialize(header).map_err(|_| not_ours())?;
        let author = header.author.map(|author| Author::new(&author)).transpose();
        Ok(Self {
            server: header
                .server
                .parse()
                .map_err(|error| format!("its server is not an address: {error}"))?,
            author_is_default: header.author_is_default,
            author: author.map_err(|refusal| format!("its author is not a name: {}", refusal.message))?,
            secret: from_hex(&header.secret).ok_or("its secret is invalid")?,
        })
    }
}

impl Record {
    pub(crate) fn entry(kept: &KeptEntry, instead_of: Option<u64>) -> Self {
        let KeptEntry { counter, time, at, answers, corrects, text, .. } = kept;
        let (time, at) = (time.to_string(), at.map(|at| at.to_string()));
        Self::Entry {
            counter: *counter,
            time,
            at,
            re: *answers,
            corrects: *corrects,
            text: text.clone(),
            instead_of,
        }
    }

    pub(crate) fn journal(id: u64) -> Self {
        Self::Journal { id: format!("{id:016x}") }
    }

    /// The author of a heading, where it is no longer that of the header.
    pub(crate) fn author(heading: &Heading) -> Self {
        let name = heading.author.as_ref().map(|author| author.as_str().to_owned());
        Self::Author { name, is_default: heading.author_is_default }
    }

    pub(crate) fn refused(counter: u64, refusal: &Refusal) -> Self {
        let (code, message) = (refusal.code.as_str().to_owned(), refusal.message.to_string());
        Self::Refused { counter, code, message }
    }

    /// Returns the record as a line, with its line feed.
    pub(crate) fn line(&self) -> Vec<u8> {
        line(self)
    }
}

impl Contents {
    /// Returns the contents of a file that does not exist yet.
    pub(crate) fn new(heading: Heading) -> Self {
        Self {
            heading,
            entries: BTreeMap::new(),
            next_counter: 1,
            journal: None,
            is_renamed: false,
            says_unsent: false,
            damaged: Vec::new(),
            header_bytes: 0,
            whole_bytes: 0,
        }
    }

    ///
    /// # Errors
    /// What is wrong with the header.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let mut lines = bytes[..whole].split_inclusive(|&byte| byte == b'\n');
        let header = lines.next().ok_or("it has no complete line")?;
        let mut contents = Self::new(Heading::parse(header)?);
        (contents.header_bytes, contents.whole_bytes) = (header.len() as u64, whole as u64);
        for (line, number) in lines.zip(2..) {
            let record = serde_json::from_slice(line).ok();
            if record.and_then(|record| contents.take_in(record)).is_none() {
                contents.damaged.push(number);
            }
        }
        // Each unreadable line may have been an entry, and a counter is never used for two texts.
        contents.next_counter = contents.next_counter.saturating_add(contents.damaged.len() as u64);
        Ok(contents)
    }

    /// Returns the entries that can go to the server at `to`, which serves `journal` if known: those for that
    /// journal, and those without a journal for that address. Refused entries are left out; they wait for a person.
    pub(crate) fn deliverable(&self, to: &Address, journal: Option<u64>) -> impl Iterator<Item = &KeptEntry> {
        let is_here = self.heading.server == *to;
        let fits = move |kept: &&KeptEntry| match (kept.journal, journal) {
            (Some(kept), Some(journal)) => kept == journal,
            _ => is_here,
        };
        self.entries.values().filter(|kept| kept.refusal.is_none()).filter(fits)
    }

    /// Whether nothing is kept and every line was readable.
    pub(crate) fn is_settled(&self) -> bool {
        self.entries.is_empty() && self.damaged.is_empty()
    }

    /// Applies a record; `None` if it is invalid.
    pub(crate) fn take_in(&mut self, record: Record) -> Option<()> {
        match record {
            Record::Entry { counter, time, at, re: answers, corrects, text, instead_of } => {
                if counter < self.next_counter {
                    return None;
                }
                let time = Time::parse(time.as_bytes())?;
                let at = match at {
                    Some(at) => Some(Time::parse(at.as_bytes())?),
                    None => None,
                };
                self.next_counter = counter.checked_add(1)?;
                let journal = match instead_of.map(|other| self.entries.remove(&other)) {
                    None => self.journal,
                    Some(renewed) => renewed.and_then(|renewed| renewed.journal_as_new()),
                };
                let (refusal, sent) = (None, true);
                let kept = KeptEntry { counter, time, at, answers, corrects, text, refusal, journal, sent };
                self.entries.insert(counter, kept);
            }
            Record::Author { name, is_default } => {
                self.heading.author = match name {
                    Some(name) => Some(Author::new(&name).ok()?),
                    None => None,
                };
                (self.heading.author_is_default, self.is_renamed) = (is_default, true);
            }
            Record::Journal { id } => {
                let id = u64::from_str_radix(&id, 16).ok()?;
                let fresh = self.entries.values_mut().filter(|kept| kept.journal.is_none());
                fresh.for_each(|kept| kept.journal = Some(id));
                self.journal = Some(id);
            }
            // An entry that is not kept may have been settled before.
            Record::Acked { counter } | Record::Dropped { counter } => {
                self.entries.remove(&counter);
            }
            Record::Refused { counter, code, message } => {
                let refusal = Refusal::new(Code::from_word(&code)?, message);
                if let Some(kept) = self.entries.get_mut(&counter) {
                    kept.refusal = Some(refusal);
                }
            }
            Record::NotSent { from } => {
                self.entries.range_mut(from..).for_each(|(_, kept)| kept.sent = false);
                self.says_unsent = true;
            }
            Record::Sending {} => {
                self.entries.values_mut().for_each(|kept| kept.sent = true);
                self.says_unsent = false;
            }
        }
        Some(())
    }
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("strings and numbers can be written as JSON");
    line.push(b'\n');
    line
}

fn from_hex(hex: &str) -> Option<Secret> {
    let digits: Option<Vec<u8>> = hex.chars().map(|c| c.to_digit(16)?.try_into().ok()).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Secret::new(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<u8>>()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-21T08:15:02.123456+08:00";

    fn heading() -> Heading {
        Heading {
            server: "127.0.0.1:8888".parse().unwrap(),
            author: Some(Author::new("小明").unwrap()),
            author_is_default: false,
            secret: Secret::new(vec![0xa5; 32]).unwrap(),
        }
    }

    fn kept(counter: u64, text: &str) -> KeptEntry {
        let time = Time::parse(TIME.as_bytes()).unwrap();
        let text = text.to_owned();
        KeptEntry {
            counter,
            time,
            at: None,
            answers: None,
            corrects: None,
            text,
            refusal: None,
            journal: None,
            sent: true,
        }
    }

    fn entry(counter: u64, text: &str) -> Record {
        Record::entry(&kept(counter, text), None)
    }

    /// Returns what a file with these records keeps: `counter text`, with `?` for one that may have been sent.
    fn keeps(records: &[Record]) -> Vec<String> {
        let mut bytes = heading().line();
        records.iter().for_each(|record| bytes.extend(record.line()));
        shown(&Contents::read(&bytes).unwrap())
    }

    fn shown(contents: &Contents) -> Vec<String> {
        let show = |kept: &KeptEntry| {
            let sent = if kept.sent { "?" } else { "" };
            let refusal = kept.refusal.as_ref().map(|refusal| format!(" {refusal}")).unwrap_or_default();
            let journal = kept.journal.map(|id| format!(" for {id:x}")).unwrap_or_default();
            format!("{}{sent} {}{refusal}{journal}", kept.counter, kept.text)
        };
        contents.entries.values().map(show).collect()
    }

    #[test]
    fn a_file_without_a_sound_header_is_not_read() {
        let secret = "a5".repeat(32);
        for (header, why) in [
            (String::new(), "no complete line"),
            ("{\"diary-outbox\":1,".to_owned(), "no complete line"),
            ("\n".to_owned(), "not an outbox file"),
            ("\0\0\0\n".to_owned(), "not an outbox file"),
            ("{\"diary-outbox\":2,\"more\":3}\n".to_owned(), "format 2, and this program reads 1"),
            ("{\"diary-outbox\":1,\"server\":\"h:1\"}\n".to_owned(), "not an outbox file"),
            (format!("{{\"diary-outbox\":1,\"server\":\"h:\",\"secret\":\"{secret}\"}}\n"), "a port is"),
            (
                format!(
                    "{{\"diary-outbox\":1,\"server\":\"h:1\",\"secret\":\"{secret}\",\"author\":\"a b\"}}\n"
                ),
                "not a name",
            ),
            ("{\"diary-outbox\":1,\"server\":\"h:1\",\"secret\":\"a5\"}\n".to_owned(), "its secret"),
            (format!("{{\"diary-outbox\":1,\"server\":\"h:1\",\"secret\":\"+{secret}\"}}\n"), "its secret"),
            (format!("{{\"diary-outbox\":1,\"server\":\"h:1\",\"secret\":\"{secret}é\"}}\n"), "its secret"),
        ] {
            let error = Contents::read(header.as_bytes()).err().unwrap_or_default();
            assert!(error.contains(why), "{header}: {error}");
        }
    }

    #[test]
    fn damaged_lines_are_counted_and_the_rest_is_used() {
        let line = |record: Record| String::from_utf8(record.line()).unwrap();
        for bad in [
            "nonsense\n",
            "\n",
            "\0\0\n",
            "{\"entry\":{\"counter\":2}}\n",
            "{\"unheard_of\":{}}\n",
            "{\"journal\":{\"id\":\"none\"}}\n",
            "{\"entry\":{\"counter\":2,\"time\":\"today\",\"text\":\"a\"}}\n",
            "{\"refused\":{\"counter\":1,\"code\":\"none\",\"message\":\"m\"}}\n",
            // A counter is never used for two texts.
            &line(entry(1, "again")),
            &line(entry(u64::MAX, "the last")),
        ] {
            let header = String::from_utf8(heading().line()).unwrap();
            let file = [&header, &line(entry(1, "a")), bad, &line(entry(9, "b"))].concat();
            let contents = Contents::read(file.as_bytes()).unwrap();
            assert_eq!(shown(&contents), ["1? a", "9? b"], "{bad}");
            assert_eq!(contents.damaged, [3], "{bad}");

            let file = [&header, &line(entry(1, "a")), bad].concat();
            assert_eq!(Contents::read(file.as_bytes()).unwrap().next_counter, 3, "{bad}");

            let file = [&header, &line(entry(1, "a")), bad, &line(entry(2, "b"))].concat();
            assert_eq!(shown(&Contents::read(file.as_bytes()).unwrap()), ["1? a", "2? b"], "{bad}");
        }
    }

    #[test]
    fn what_happened_is_told_in_order() {
        use Record::{Acked, Dropped, NotSent, Sending};
        let stale = || Refusal::new(Code::StaleKey, "why");
        assert_eq!(keeps(&[entry(1, "a"), entry(2, "b"), Acked { counter: 1 }]), ["2? b"]);
        assert_eq!(keeps(&[entry(1, "a"), entry(2, "b"), Dropped { counter: 2 }]), ["1? a"]);
        let mut records = vec![entry(1, "a"), entry(2, "b"), NotSent { from: 2 }, entry(3, "c")];
        assert_eq!(keeps(&records), ["1? a", "2 b", "3? c"], "what comes later may be sent");
        records.push(Sending {});
        assert_eq!(keeps(&records), ["1? a", "2? b", "3? c"]);
        records.push(Record::refused(2, &stale()));
        assert_eq!(keeps(&records), ["1? a", "2? b stale-key: why", "3? c"]);
        records.push(Record::entry(&kept(4, "b"), Some(2)));
        assert_eq!(keeps(&records), ["1? a", "3? c", "4? b"]);
        records.extend([Acked { counter: 1 }, Acked { counter: 1 }, Record::refused(7, &stale())]);
        assert_eq!(keeps(&records), ["3? c", "4? b"], "what is not kept is not settled again");
    }

    #[test]
    fn what_an_entry_says_of_itself_is_kept() {
        let at = Time::parse(TIME.as_bytes());
        let entry = KeptEntry { at, answers: Some(413), corrects: Some(414), ..kept(1, "a") };
        let bytes = [heading().line(), Record::entry(&entry, None).line()].concat();
        assert_eq!(Contents::read(&bytes).unwrap().entries[&1], entry);
    }

    #[test]
    fn what_is_for_which_journal() {
        let mut records = vec![entry(1, "a"), Record::journal(7), entry(2, "b")];
        assert_eq!(keeps(&records), ["1? a for 7", "2? b for 7"]);
        records.push(Record::entry(&kept(3, "a"), Some(1)));
        assert_eq!(keeps(&records), ["2? b for 7", "3? a"]);
        let renamed = [(Some("anna"), true), (None, false)].map(|(name, is_default)| {
            let name = name.map(str::to_owned);
            let bytes = [heading().line(), Record::Author { name, is_default }.line()].concat();
            let heading = Contents::read(&bytes).unwrap().heading;
            (heading.author.map(|author| author.to_string()), heading.author_is_default)
        });
        assert_eq!(renamed, [(Some("anna".to_owned()), true), (None, false)]);
        records.extend([Record::journal(8), entry(4, "c")]);
        assert_eq!(keeps(&records), ["2? b for 7", "3? a for 8", "4? c for 8"]);
    }

    #[test]
    fn what_is_written_is_read() {
        let texts = ["今天", "two\nlines\r\n", "\u{1b}[31m \u{202e} \\ \" \u{2028}", " ", "{\"entry\":{}}"];
        let records: Vec<_> = texts.iter().zip(1..).map(|(text, counter)| entry(counter, text)).collect();
        let mut bytes = heading().line();
        records.iter().for_each(|record| bytes.extend(record.line()));
        let contents = Contents::read(&bytes).unwrap();
        assert!(contents.heading == heading());
        assert!(contents.entries.values().map(|kept| kept.text.as_str()).eq(texts));
        assert!(contents.entries.values().all(|kept| kept.time.to_string() == TIME));
        assert_eq!((contents.damaged.len(), contents.next_counter), (0, 6));
        assert_eq!(contents.whole_bytes, bytes.len() as u64);
    }

    /// Wherever the file is cut, every whole line counts, and nothing else.
    #[test]
    fn cut_at_every_byte_nothing_is_lost_and_nothing_invented() {
        let mut bytes = heading().line();
        let header = bytes.len();
        let mut states = vec![(header, Vec::new())];
        let records = [
            entry(1, "今天\n"),
            entry(2, "b"),
            Record::NotSent { from: 2 },
            Record::Acked { counter: 1 },
            Record::Sending {},
            Record::refused(2, &Refusal::new(Code::Conflict, "why")),
            Record::entry(&kept(3, "b"), Some(2)),
        ];
        let expected: [&[&str]; 7] = [
            &["1? 今天\n"],
            &["1? 今天\n", "2? b"],
            &["1? 今天\n", "2 b"],
            &["2 b"],
            &["2? b"],
            &["2? b conflict: why"],
            &["3? b"],
        ];
        for (record, expected) in records.iter().zip(expected) {
            bytes.extend(record.line());
            states.push((bytes.len(), expected.iter().map(|&line| line.to_owned()).collect()));
        }
        for end in 0..=bytes.len() {
            let read = Contents::read(&bytes[..end]);
            let Some((whole, expected)) = states.iter().rev().find(|(whole, _)| *whole <= end) else {
                assert!(read.is_err(), "{end}");
                continue;
            };
            let contents = read.unwrap();
            assert_eq!(shown(&contents), *expected, "{end}");
            assert!(contents.heading == heading() && contents.damaged.is_empty(), "{end}");
            assert_eq!(contents.whole_bytes, *whole as u64, "{end}");
        }
    }
}
