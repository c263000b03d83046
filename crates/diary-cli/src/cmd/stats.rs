//! `tags` and `stats`: count entries.

use std::io::{self, IsTerminal};

use diary_client::{Event, Stored};
use serde_json::json;

use crate::cli::StatsOptions;
use crate::config::Config;
use crate::error::{CliError, exit};
use crate::query::select::Select;
use crate::render::{self, push_json};
use crate::term::output::say;
use crate::term::pager::Pager;
use crate::term::ui::Ui;
use crate::term::whole::Whole;
use crate::term::width;
use diary_stats::{Canvas, Count, Counts, Heat, TagCounts, draw, json, sentences, svg, table};

use super::reading::Query;

/// Lists tags with the number of entries that have them.
///
/// # Errors
/// Reading failed, or found damage or nothing.
pub(crate) async fn tags(select: Select, as_json: bool, config: &Config) -> Result<(), CliError> {
    let query = begin(select, config).await?;
    let mut tags = TagCounts::default();
    let missing = each(&query, |stored| tags.take(&stored.entry.text, Count::one(0))).await?;
    let rows = tags.rows();
    if rows.is_empty() {
        return Err(none(query.plan.nothing().replacen("no entries", "no tags in entries", 1), missing));
    }
    let mut out = Vec::new();
    let most = rows.first().map_or(0, |(_, count)| count.entries.to_string().len());
    for (tag, count) in rows {
        match as_json {
            true => push_json(&json!({ "tag": tag, "entries": count.entries }), &mut out),
            false => out.extend_from_slice(format!("{:>most$} {tag}\n", count.entries).as_bytes()),
        }
    }
    print(&out, missing)
}

/// Counts entries and words.
///
/// # Errors
/// Reading failed, or found damage or nothing, or the SVG file cannot be written.
pub(crate) async fn stats(select: Select, options: StatsOptions, config: &Config) -> Result<(), CliError> {
    let prints_picture = options.svg.as_ref().is_some_and(|path| path.as_os_str() == "-");
    let picture = options.svg.filter(|_| !prints_picture).map(|path| Whole::begin(path, options.force));
    let picture = picture.transpose()?;
    let query = begin(select, config).await?;
    let mut counts = Counts::default();
    let count = |stored: &Stored| {
        let entry = &stored.entry;
        counts.take(query.calendar.day_of(entry), entry.author.as_str(), &entry.text);
    };
    let missing = each(&query, count).await?;
    if counts.total == Count::default() {
        return Err(none(query.plan.nothing(), missing));
    }
    let today = query.calendar.today();
    // For days in the past, the year ends with the last of them.
    let last = query.plan.days.map_or(today, |days| days.to.min(today));
    let heat = match options.year {
        Some(year) => Heat::year(year, today, &counts),
        None => Heat::up_to(last, today, &counts),
    };
    if let Some(picture) = picture {
        picture.write(svg(&heat).as_bytes())?;
        picture.finish()?;
    }
    let mut out = Vec::new();
    match options.by {
        _ if prints_picture => out.extend_from_slice(svg(&heat).as_bytes()),
        _ if options.json => push_json(&json(&counts, today), &mut out),
        Some(by) => out.extend_from_slice(table(by, &counts.rows(by)).as_bytes()),
        None => {
            let canvas = Canvas { colour: config.colour.is_on(), width: width() };
            let sentences = sentences(&counts, today, canvas);
            out.extend_from_slice(format!("{sentences}\n{}", draw(&heat, canvas)).as_bytes());
        }
    }
    print(&out, missing)
}

/// Connects for counting: all matching entries, unless the user gives a number.
async fn begin(mut select: Select, config: &Config) -> Result<Query, CliError> {
    select.last.get_or_insert_with(|| "all".to_owned());
    let query = Query::connect(config, None, |today| select.plan(today)).await?;
    query.echo();
    Ok(query)
}

/// Passes every entry to `take`, in any order. Reports and returns how many are missing.
async fn each(query: &Query, mut take: impl FnMut(&Stored)) -> Result<u64, CliError> {
    let mut missing: u64 = 0;
    let mut count = |event: Event| match event {
        Event::Entry(stored) => take(&stored),
        Event::Gap(gap) => missing = missing.saturating_add((gap.last - gap.first).saturating_add(1)),
        Event::Damaged { lines } => missing = missing.saturating_add(lines),
        Event::Restored { .. } => {}
    };
    // If only the newest are wanted, read those first.
    let (mut reading, mut keeper) = query.ask(&query.plan.clone().in_order(query.plan.newest.is_some()));
    while !keeper.is_full()
        && let Some(event) = reading.next().await?
    {
        keeper.take(event, &mut count);
    }
    keeper.end(&mut count);
    if missing > 0 {
        let are = render::count(missing, "entry is", "entries are");
        say(format_args!("{are} damaged or missing, and not counted"));
    }
    Ok(missing)
}

/// Returns the error for nothing to count; `nothing` is the sentence.
fn none(nothing: String, missing: u64) -> CliError {
    if missing == 0 {
        return CliError::NothingFound(nothing);
    }
    say(format_args!("{nothing}"));
    CliError::Told(exit::DAMAGE)
}

/// Prints the result, in a pager if it is long.
fn print(bytes: &[u8], missing: u64) -> Result<(), CliError> {
    let (mut output, pager) = Pager::start(io::stdout().is_terminal(), &Ui::default());
    output.print(bytes);
    let printed = output.finish();
    pager.finish(output);
    printed?;
    CliError::told(if missing > 0 { exit::DAMAGE } else { exit::DONE })
}
