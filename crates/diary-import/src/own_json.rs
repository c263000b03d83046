//! Output of `export --format json` and `log --json`: one object per line.

use std::borrow::Cow;

use diary_proto::{Author, Time};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Clock, Exactness, Harvest, NOT_UTF8, When, lines, shown};

#[derive(Deserialize)]
struct Row<'f> {
    #[serde(borrow)]
    time: Option<Cow<'f, str>>,
    #[serde(borrow)]
    at: Option<Cow<'f, str>>,
    #[serde(borrow)]
    author: Option<Cow<'f, str>>,
    #[serde(borrow)]
    text: Option<Cow<'f, str>>,
    gap: Option<IgnoredAny>,
    damaged: Option<IgnoredAny>,
    corrects: Option<IgnoredAny>,
}

/// Returns whether a file that begins with this line is in this format.
pub(super) fn is_own(line: &[u8]) -> bool {
    let row = serde_json::from_slice::<Row<'_>>(line);
    row.is_ok_and(|row| row.text.is_some() || row.gap.is_some() || row.damaged.is_some())
        || [&b"{\"seq\""[..], b"{\"time\""].iter().any(|start| line.starts_with(start))
}

pub(super) fn read<'f>(bytes: &'f [u8], clock: &Clock, harvest: &mut Harvest<'f>) {
    for line in lines::of(bytes).filter(|line| !line.is_blank()) {
        let row = match std::str::from_utf8(line.bytes) {
            Ok(text) => serde_json::from_str(text).map_err(|error| what_is_wrong(&error)),
            Err(_) => Err(NOT_UTF8.to_owned()),
        };
        match row.and_then(|row| entry(row, clock)) {
            Ok((when, author, text)) => harvest.entry(line.span(), when, author, text),
            Err(why) => harvest.trouble(line.number, why),
        }
    }
}

/// Omits serde's line number, which is always the first.
fn what_is_wrong(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let what = said.split(" at line ").next().unwrap_or_default();
    format!("not an entry in JSON: {what} (column {})", error.column())
}

type Parts<'f> = (When, Option<Author>, Cow<'f, str>);

fn entry<'f>(row: Row<'f>, clock: &Clock) -> Result<Parts<'f>, String> {
    if row.gap.is_some() || row.damaged.is_some() {
        return Err("entries were damaged or missing here when this was exported".to_owned());
    }
    if row.corrects.is_some() {
        return Err("a correction, which is of no use alone; export without --history".to_owned());
    }
    let said = row.at.or(row.time).ok_or("no time")?;
    let moment = |time| When { time, exactness: Exactness::Moment };
    let when = Time::parse(said.as_bytes()).map(moment).or_else(|| clock.whole(&said));
    let when = when.ok_or_else(|| format!("\"{}\" is not a time", shown(&said)))?;
    let author = row.author.map(|name| Author::new(&name)).transpose();
    let author = author.map_err(|refusal| refusal.message.into_owned())?;
    Ok((when, author, row.text.ok_or("no text")?))
}
