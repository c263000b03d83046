//! `export`: entries for other programs, on stdout or in a file that appears once it is complete.

use std::io::{self, IsTerminal};

use jiff::tz::TimeZone;

use super::read::{plan, print_plan};
use crate::cli::Export;
use crate::config::Config;
use crate::error::{CliError, exit};
use crate::query::pour::Page;
use crate::render::Printer;
use crate::term::output::Output;
use crate::term::whole::Whole;

/// Runs the command.
///
/// # Errors
/// The file cannot be written, or reading failed or found damage.
pub(crate) async fn run(export: Export, config: &Config) -> Result<(), CliError> {
    let Export { mut select, format, csv_safe, output, force } = export;
    select.last = select.last.or_else(|| Some("all".to_owned()));
    let path = output.filter(|path| path.as_os_str() != "-");
    let terminal = path.is_none() && io::stdout().is_terminal();
    let whole = path.map(|path| Whole::begin(path, force)).transpose().map_err(CliError::Usage)?;
    let (plan, reader) = plan(&select, config).await?;
    let output = match &whole {
        Some(whole) => Output::new(whole.file().map_err(CliError::Usage)?),
        None => Output::watched(io::stdout()),
    };
    let mut printer = Printer::of(format, false, TimeZone::system(), 0);
    (printer.terminal, printer.csv_safe) = (terminal, csv_safe);
    printer.start_days_at(reader.welcome().day_start);
    let code = print_plan(&reader, &plan, Page::new(printer, output)).await?;
    // Damage is reported; the rest of the export is sound.
    if let Some(whole) = whole.filter(|_| matches!(code, exit::DONE | exit::DAMAGE)) {
        whole.finish().map_err(CliError::Usage)?;
    }
    CliError::told(code)
}
