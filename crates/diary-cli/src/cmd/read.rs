//! `log`, `search` and `on-this-day`: print existing entries, in a pager if there are many.

use jiff::civil::Date;

use super::page::Page;
use super::reading::Query;
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
    let printer = printer(&query, show, config);
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

/// Returns a printer that counts days as the server does.
pub(super) fn printer(query: &Query, show: &Show, config: &Config) -> Printer {
    let mut printer = Printer::stdout(show.format().or(config.format), config.colour.is_on(), width());
    printer.csv_safe = show.csv_safe;
    printer.start_days_at(query.reader.welcome().day_start);
    printer
}
