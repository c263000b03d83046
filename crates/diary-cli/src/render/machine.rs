//! The formats for programs: csv and json. Their texts are exact, unless formulas are kept out of a csv.

use std::borrow::Cow;

use csv::{Terminator, WriterBuilder};
use diary_client::{Entry, Gap, Stored};
use diary_proto::escape::escape;
use serde::Serialize;
use serde_json::json;

use super::Missing;
use super::safe::needs_care;

/// The heading line of a csv.
pub(super) fn csv_heading(out: &mut Vec<u8>) {
    push_record(["seq", "time", "at", "author", "text"], out);
}

/// A record as RFC 4180 has it. On a terminal it is for a person to look at, so there it is made safe. With `no_formulas`,
/// a spreadsheet takes no name and no text for a formula; what begins with an apostrophe may be another text then.
pub(super) fn csv(stored: &Stored, terminal: bool, no_formulas: bool, out: &mut Vec<u8>) {
    let entry = &stored.entry;
    let at = entry.own.map_or_else(String::new, |own| own.at.to_string());
    let text = match terminal {
        true => Cow::Owned(entry.text.split('\n').map(careful).collect::<Vec<_>>().join("\n")),
        false => Cow::Borrowed(entry.text.as_str()),
    };
    let cell = |text| if no_formulas { no_formula(text) } else { Cow::Borrowed(text) };
    let (author, text) = (cell(entry.author.as_str()), cell(&text));
    push_record([&entry.seq.to_string(), &entry.time.to_string(), &at, &author, &text], out);
}

/// A cell that spreadsheets take for a text: an apostrophe stands before what makes it a formula, as in
/// <https://owasp.org/www-community/attacks/CSV_Injection>. Some take full-width signs for the narrow ones.
fn no_formula(cell: &str) -> Cow<'_, str> {
    match cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']) {
        true => Cow::Owned(format!("'{cell}")),
        false => Cow::Borrowed(cell),
    }
}

/// A line of a text for a terminal, where what it could obey is escaped.
pub(crate) fn careful(line: &str) -> Cow<'_, str> {
    if line.contains(needs_care) { escape(line) } else { Cow::Borrowed(line) }
}

fn push_record(fields: [&str; 5], out: &mut Vec<u8>) {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(out);
    // Five fields into memory: neither a wrong number of them nor the writing can fail.
    let _ = writer.write_record(fields);
    let _ = writer.flush();
}

/// An entry as an object.
#[derive(Serialize)]
struct Object<'a> {
    seq: u64,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<String>,
    author: &'a str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// An entry as one line of JSON.
pub(super) fn json(stored: &Stored, out: &mut Vec<u8>) {
    let entry = &stored.entry;
    let object = Object {
        seq: entry.seq,
        time: entry.time.to_string(),
        at: entry.own.map(|own| own.at.to_string()),
        day: other_day(entry),
        author: entry.author.as_str(),
        text: &entry.text,
        key: stored.key.map(|key| key.to_string()),
    };
    push_json(&object, out);
}

/// The day that an entry is of, where it is another than the date of its time, its own one if it has that: days may
/// start later than midnight.
fn other_day(entry: &Entry) -> Option<String> {
    let day = match entry.own {
        Some(own) => (own.day != own.at.date()).then_some(own.day),
        None => entry.day,
    };
    day.map(|day| day.to_string())
}

impl Missing {
    /// It as one line of JSON.
    pub(super) fn json(&self, out: &mut Vec<u8>) {
        let object = match self {
            Self::Gap(Gap { first, last }) => json!({ "gap": { "first": first, "last": last } }),
            Self::Damaged { lines } => json!({ "damaged": { "lines": lines } }),
        };
        push_json(&object, out);
    }
}

/// What JSON lets stand and a terminal might obey is written as `\uNNNN`, which says the same.
pub(crate) fn push_json(object: &impl Serialize, out: &mut Vec<u8>) {
    let line = serde_json::to_string(object).expect("strings and numbers are always JSON");
    for c in line.chars() {
        if needs_care(c) {
            out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    out.push(b'\n');
}
