//! `export`: writes entries for other programs, to stdout or to a file that appears once it is complete.

use std::io::{self, IsTerminal};

use jiff::tz::TimeZone;
use tokio::signal::unix::SignalKind;

use super::page::Page;
use super::reading::Query;
use crate::cli::Export;
use crate::config::Config;
use crate::error::{CliError, exit};
use crate::render::Printer;
use crate::term::output::Output;
use crate::term::signals::Signals;
use crate::term::whole::Whole;

/// Runs the command.
///
/// # Errors
/// The file cannot be written, or reading failed or found damage.
pub(crate) async fn run(export: Export, config: &Config) -> Result<(), CliError> {
    let Export { mut select, format, csv_safe, output, force } = export;
    select.select.last = select.select.last.or_else(|| Some("all".to_owned()));
    let path = output.filter(|path| path.as_os_str() != "-");
    let terminal = path.is_none() && io::stdout().is_terminal();
    let whole = path.map(|path| Whole::begin(path, force)).transpose()?;
    let query = Query::connect(config, None, |today| select.plan(today)).await?;
    let output = match &whole {
        Some(whole) => Output::new(whole.file()?),
        None => Output::watched(io::stdout()),
    };
    let mut printer = Printer::of(format, false, TimeZone::system(), 0);
    (printer.terminal, printer.csv_safe) = (terminal, csv_safe);
    printer.start_days_at(query.reader.welcome().day_start);
    let mut page = Page::new(printer, output);
    query.echo();
    let mut signals = Signals::of(&[SignalKind::interrupt()]);
    tokio::select! {
        biased;
        // Leave it unfinished: a JSON array must not look complete.
        () = signals.any() => return Err(CliError::Told(exit::INTERRUPTED)),
        read = query.print(&mut page) => read?,
    }
    let ended = page.finish(query.plan.nothing());
    // Damage is reported; the rest of the export is sound.
    if let Some(whole) = whole.filter(|_| matches!(ended, Ok(()) | Err(CliError::Told(exit::DAMAGE)))) {
        whole.finish()?;
    }
    ended
}
