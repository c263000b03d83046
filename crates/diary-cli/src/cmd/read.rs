//! `log`, `search` and `on-this-day`: print existing entries, in a pager if there are many.

use diary_client::{Reader, Scope, Which};
use jiff::civil::Date;

use super::page::Page;
use super::reading::{Query, Reading, connect, nothing_found, versions};
use crate::cli::Show;
use crate::config::Config;
use crate::error::CliError;
use crate::query;
use crate::query::select::Plan;
use crate::render::Printer;
use crate::term::pager::Pager;
use crate::term::ui::Ui;
use crate::term::width;

/// Prints what `plan` selects on the reader's current day.
///
/// # Errors
/// Reading failed, or found damage or nothing.
pub(super) async fn log(
    plan: impl Fn(Date) -> Result<Plan, query::QueryError>,
    show: &Show,
    config: &Config,
) -> Result<(), CliError> {
    let query = Query::connect(config, None, plan).await?;
    query.echo();
    let sorted = query.by_time().await?;
    let printer = printer(&query.reader, show, config);
    let (output, pager) = Pager::start(printer.may_be_paged(), &Ui::default());
    let mut page = Page::new(printer, output);
    let read = match sorted {
        Some(events) => {
            events.iter().for_each(|event| page.print(event));
            Ok(())
        }
        None => query.print(&mut page).await,
    };
    let ended = page.finish(query.plan.nothing());
    pager.finish(page.output);
    read.and(ended)
}

/// What to print of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum One {
    /// Only its newest text.
    Alone,
    /// It with all that answers it.
    Thread,
    /// All its versions.
    Versions,
}

/// Prints one entry, or an entry with all that belongs to it.
///
/// # Errors
/// Reading failed, or found damage or nothing.
pub(super) async fn one(seq: u64, how: One, show: &Show, config: &Config) -> Result<(), CliError> {
    let reader = connect(config, None).await?;
    let history = match how {
        One::Thread => reader.thread(seq),
        One::Versions => reader.versions(seq),
        One::Alone => {
            // A correction is shown in the place of its entry.
            let seq = versions(&reader, seq).await?.first().map_or(seq, |stored| stored.entry.seq);
            reader.history(Scope { up_to: Some(seq), ..Which::From(seq).into() }.shown())
        }
    };
    let mut printer = printer(&reader, show, config);
    printer.show_thread(how == One::Thread);
    let (output, pager) = Pager::start(printer.may_be_paged(), &Ui::default());
    let mut page = Page::new(printer, output);
    let read = Reading::of(&reader, history, true).print(&mut page).await.map_err(nothing_found);
    let ended = page.finish(format!("there is no entry {seq}"));
    pager.finish(page.output);
    read.and(ended)
}

/// Returns a printer that counts days as the server does.
pub(super) fn printer(reader: &Reader, show: &Show, config: &Config) -> Printer {
    let mut printer = Printer::stdout(show.format().or(config.format), config.colour.is_on(), width());
    printer.csv_safe = show.csv_safe;
    printer.start_days_at(reader.welcome().day_start);
    printer
}
