//! The formats for programs: csv and json. Texts are exact, except with `--csv-safe`.

use std::borrow::Cow;

use csv::{Terminator, WriterBuilder};
use diary_client::Stored;
use diary_proto::Relation;
use diary_proto::escape::escape;
use serde::Serialize;

use super::safe::needs_care;

/// Names of the csv fields.
pub(super) const CSV_FIELDS: [&str; 7] = ["seq", "time", "at", "author", "text", "re", "corrects"];

/// Appends a record of RFC 4180. On a terminal, control characters are escaped. `no_formulas` puts an apostrophe
/// before names and texts that a spreadsheet takes for formulas; this is not reversible, since a text may start
/// with one.
pub(super) fn csv(stored: &Stored, terminal: bool, no_formulas: bool, out: &mut Vec<u8>) {
    let entry = &stored.entry;
    let at = entry.own.map_or_else(String::new, |own| own.at.to_string());
    let text = match terminal {
        true => Cow::Owned(entry.text.split('\n').map(careful).collect::<Vec<_>>().join("\n")),
        false => Cow::Borrowed(entry.text.as_str()),
    };
    let cell = |text| if no_formulas { no_formula(text) } else { Cow::Borrowed(text) };
    let (author, text) = (cell(entry.author.as_str()), cell(&text));
    let (seq, time) = (entry.seq.to_string(), entry.time.to_string());
    let [re, corrects] = [Relation::Answers, Relation::Corrects].map(|kind| match entry.relation {
        Some(relation) if relation == kind(relation.seq()) => relation.seq().to_string(),
        _ => String::new(),
    });
    push_record([&seq, &time, &at, &author, &text, &re, &corrects], out);
}

/// Returns a cell that spreadsheets take for text; see <https://owasp.org/www-community/attacks/CSV_Injection>.
/// Some spreadsheets treat full-width signs like the narrow ones.
fn no_formula(cell: &str) -> Cow<'_, str> {
    match cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']) {
        true => Cow::Owned(format!("'{cell}")),
        false => Cow::Borrowed(cell),
    }
}

/// Escapes the control characters of a line for a terminal.
pub(crate) fn careful(line: &str) -> Cow<'_, str> {
    if line.contains(needs_care) { escape(line) } else { Cow::Borrowed(line) }
}

pub(super) fn push_record(fields: [&str; 7], out: &mut Vec<u8>) {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(out);
    // Writing fields into memory cannot fail.
    let _ = writer.write_record(fields);
    let _ = writer.flush();
}

/// An entry as a JSON object.
#[derive(Serialize)]
struct Object<'a> {
    seq: u64,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    re: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    corrects: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacts: Option<u64>,
    author: &'a str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    corrected: Option<Corrected<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// The newest correction, and the text as it was first.
#[derive(Serialize)]
struct Corrected<'a> {
    seq: u64,
    time: String,
    author: &'a str,
    original: &'a str,
}

/// Appends an entry as one line of JSON.
pub(super) fn json(stored: &Stored, out: &mut Vec<u8>) {
    let entry = &stored.entry;
    let day = match entry.own {
        Some(own) => Some(own.day).filter(|day| *day != own.at.date()),
        None => entry.day,
    };
    let (mut re, mut corrects, mut redacts) = (None, None, None);
    match entry.relation {
        Some(Relation::Answers(seq)) => re = Some(seq),
        Some(Relation::Corrects(seq)) => corrects = Some(seq),
        Some(Relation::Redacts(seq)) => redacts = Some(seq),
        None => {}
    }
    let object = Object {
        re,
        corrects,
        redacts,
        seq: entry.seq,
        time: entry.time.to_string(),
        at: entry.own.map(|own| own.at.to_string()),
        // Days may start later than midnight.
        day: day.map(|day| day.to_string()),
        author: entry.author.as_str(),
        text: &entry.text,
        corrected: stored.correction.as_deref().map(|correction| Corrected {
            seq: correction.seq,
            time: correction.time.to_string(),
            author: correction.author.as_str(),
            original: &correction.original,
        }),
        key: stored.key.map(|key| key.to_string()),
    };
    push_json(&object, out);
}

/// Returns JSON with the control characters that it allows written as `\uNNNN`, safe for a terminal.
pub(super) fn safe_json(object: &impl Serialize) -> String {
    let json = serde_json::to_string(object).expect("strings and numbers are always JSON");
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if needs_care(c) { safe.push_str(&format!("\\u{:04x}", u32::from(c))) } else { safe.push(c) }
    }
    safe
}

/// Appends a line of JSON, safe for a terminal.
pub(crate) fn push_json(object: &impl Serialize, out: &mut Vec<u8>) {
    out.extend_from_slice(safe_json(object).as_bytes());
    out.push(b'\n');
}
