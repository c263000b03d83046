//! Counts as sentences, as a JSON object, or by one criterion as a table.

use std::fmt::Write;

use jiff::civil::Date;
use serde_json::{Map, Value, json};
use textwrap::core::display_width;

use super::counts::{By, Count, Counts, Streak};
use super::map::Canvas;
use crate::count;

/// Returns the sentences before a calendar, wrapped.
pub fn sentences(counts: &Counts, today: Date, canvas: Canvas) -> String {
    let total = counts.total;
    let mut out = format!(
        "{}, {}, on {}\n",
        count(total.entries, "entry", "entries"),
        count(total.words, "word", "words"),
        count(counts.days.len(), "day", "days")
    );
    if let (Some((first, _)), Some((last, _))) = (counts.days.first_key_value(), counts.days.last_key_value())
    {
        out.push_str(&format!("the first on {first}, the last on {last}\n"));
    }
    let streak = |streak: Streak| count(streak.days().unsigned_abs(), "day", "days");
    let current = match counts.current_streak(today) {
        Some(current) => format!("{}, since {}", streak(current), current.first),
        None => "none".to_owned(),
    };
    out.push_str(&format!("streak: {current}"));
    if let Some(longest) = counts.longest_streak() {
        out.push_str(&format!("; the longest: {}, {} .. {}", streak(longest), longest.first, longest.last));
    }
    canvas.wrap(&out)
}

/// Returns all counts, for programs.
pub fn json(counts: &Counts, today: Date) -> Value {
    let streak = |streak: Option<Streak>| {
        streak.map(|streak| json!({ "days": streak.days(), "first": streak.first.to_string(), "last": streak.last.to_string() }))
    };
    let rows = |by: By| {
        let name = by.name();
        let row = |(what, count): (String, Count)| json!({ name: what, "entries": count.entries, "words": count.words });
        counts.rows(by).into_iter().map(row).collect::<Value>()
    };
    let by: Map<String, Value> = By::ALL.into_iter().map(|by| (by.name().to_owned(), rows(by))).collect();
    json!({
        "entries": counts.total.entries,
        "words": counts.total.words,
        "days": counts.days.len(),
        "first": counts.days.first_key_value().map(|(day, _)| day.to_string()),
        "last": counts.days.last_key_value().map(|(day, _)| day.to_string()),
        "streak": { "current": streak(counts.current_streak(today)), "longest": streak(counts.longest_streak()) },
        "by": by,
    })
}

/// Returns a header and a row for each name; names are left-aligned, numbers right-aligned.
pub fn table(by: By, rows: &[(String, Count)]) -> String {
    let heading = by.name();
    let numbers = |count: &Count| (count.entries.to_string(), count.words.to_string());
    let heading = (heading, ("entries".to_owned(), "words".to_owned()));
    let rows = rows.iter().map(|(name, count)| (name.as_str(), numbers(count)));
    let lines: Vec<_> = std::iter::once(heading).chain(rows).collect();
    let (mut columns, mut wide, mut wider) = (0, 0, 0);
    for (name, (entries, words)) in &lines {
        columns = columns.max(display_width(name));
        (wide, wider) = (wide.max(entries.len()), wider.max(words.len()));
    }
    let mut out = String::new();
    for (name, (entries, words)) in lines {
        let padding = columns - display_width(name);
        // Writing into memory cannot fail.
        let _ = writeln!(out, "{name}{:padding$}  {entries:>wide$}  {words:>wider$}", "");
    }
    out
}
