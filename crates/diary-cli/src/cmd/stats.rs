//! `tags` and `stats`: entries are counted.

use std::io::Write;

use diary_client::{Reader, Stored};
use serde_json::json;

use crate::cli::{Show, StatsOptions};
use crate::config::Config;
use crate::error::exit;
use crate::query::select::{Plan, Select};
use crate::render::stats::{By, Canvas, Count, Counts, Heat, TagCounts, draw, json, sentences, svg, table};
use crate::render::{Printer, push_json, width};
use crate::term::output::say;
use crate::term::pager::Pager;
use crate::term::whole::Whole;
use crate::time::calendar::Calendar;

use super::read::{echo, plan, usage};
use crate::query::pour::each;

/// Lists tags with the number of entries that have them.
pub(crate) async fn tags(select: Select, as_json: bool, config: &Config) -> u8 {
    list_tags(select, as_json, config).await.unwrap_or_else(|code| code)
}

/// The same; either way it is the exit code.
async fn list_tags(select: Select, as_json: bool, config: &Config) -> Result<u8, u8> {
    let (plan, reader) = begin(select, config).await?;
    let mut tags = TagCounts::default();
    let missing = each(&reader, &plan, |stored| tags.take(&stored.entry.text, Count::one(0))).await?;
    let rows = tags.rows();
    if rows.is_empty() {
        say(format_args!("{}", plan.nothing().replacen("no entries", "no tags in entries", 1)));
        return Ok(if missing > 0 { exit::DAMAGE } else { exit::NOTHING_FOUND });
    }
    let mut out = Vec::new();
    let most = rows.first().map_or(0, |(_, count)| count.entries.to_string().len());
    for (tag, count) in rows {
        match as_json {
            true => push_json(&json!({ "tag": tag, "entries": count.entries }), &mut out),
            false => out.extend_from_slice(format!("{:>most$} {tag}\n", count.entries).as_bytes()),
        }
    }
    Ok(print(&out, missing, config))
}

/// Counts entries and words.
pub(crate) async fn stats(select: Select, options: StatsOptions, config: &Config) -> u8 {
    print_stats(select, options, config).await.unwrap_or_else(|code| code)
}

/// The same; either way it is the exit code.
async fn print_stats(select: Select, options: StatsOptions, config: &Config) -> Result<u8, u8> {
    let prints_picture = options.svg.as_ref().is_some_and(|path| path.as_os_str() == "-");
    let picture = options.svg.filter(|_| !prints_picture).map(|path| Whole::begin(path, options.force));
    let picture = picture.transpose().map_err(|why| usage(&why))?;
    let (plan, reader) = begin(select, config).await?;
    let calendar = Calendar::here(reader.welcome().day_start);
    let mut counts = Counts::default();
    let count = |stored: &Stored| {
        let entry = &stored.entry;
        counts.take(calendar.day_of(entry), entry.author.as_str(), &entry.text);
    };
    let missing = each(&reader, &plan, count).await?;
    if counts.total == Count::default() {
        say(format_args!("{}", plan.nothing()));
        return Ok(if missing > 0 { exit::DAMAGE } else { exit::NOTHING_FOUND });
    }
    let today = calendar.today();
    // Of days that are over, the year that ends with them.
    let last = plan.days.map_or(today, |days| days.to.min(today));
    let heat = match options.year {
        Some(year) => Heat::year(year, today, &counts),
        None => Heat::up_to(last, today, &counts),
    };
    if let Some(picture) = picture {
        let drawn = picture.file().and_then(|mut file| {
            let written = file.write_all(svg(&heat).as_bytes());
            written.map_err(|error| format!("the picture cannot be written: {error}"))?;
            picture.finish()
        });
        drawn.map_err(|why| usage(&why))?;
    }
    let mut out = Vec::new();
    match options.by {
        _ if prints_picture => out.extend_from_slice(svg(&heat).as_bytes()),
        _ if options.json => push_json(&json(&counts, today), &mut out),
        Some(by) => out.extend_from_slice(by_table(by, &counts).as_bytes()),
        None => {
            let canvas = Canvas { colour: config.colour.is_on(), width: width() };
            let sentences = sentences(&counts, today, canvas);
            out.extend_from_slice(format!("{sentences}\n{}", draw(&heat, canvas)).as_bytes());
        }
    }
    Ok(print(&out, missing, config))
}

fn by_table(by: By, counts: &Counts) -> String {
    table(by, &counts.rows(by))
}

/// What is to be counted: all that fits, unless it is said how many. An error is the exit code.
async fn begin(mut select: Select, config: &Config) -> Result<(Plan, Reader), u8> {
    if select.reverse {
        return Err(usage("what is counted has no order: leave out --reverse"));
    }
    select.last.get_or_insert_with(|| "all".to_owned());
    let (plan, reader) = plan(&select, config).await?;
    echo(&plan);
    Ok((plan, reader))
}

/// Prints it, in a pager if it is long, and gives the exit code.
fn print(bytes: &[u8], missing: u64, config: &Config) -> u8 {
    let (mut output, pager) = Pager::start(&Printer::new(&Show::default(), config));
    output.print(bytes);
    output.flush();
    let failed = output.has_failed();
    pager.finish(output);
    match missing {
        _ if failed => exit::USAGE,
        0 => exit::DONE,
        _ => exit::DAMAGE,
    }
}
