//! `export`: entries for other programs, to stdout or to a file that is there whole or not at all.

use std::io::{self, IsTerminal};

use jiff::tz::TimeZone;

use super::read::{plan, print_plan, usage};
use crate::cli::Export;
use crate::config::Config;
use crate::error::exit;
use crate::query::pour::Page;
use crate::render::export::Exporter;
use crate::term::output::Output;
use crate::term::whole::Whole;

/// Does it, and gives the exit code.
pub(crate) async fn run(export: Export, config: &Config) -> u8 {
    print(export, config).await.unwrap_or_else(|code| code)
}

/// The same; either way it is the exit code.
async fn print(export: Export, config: &Config) -> Result<u8, u8> {
    let Export { mut select, format, csv_safe, output, force } = export;
    // Whoever takes a diary along takes all of it.
    select.last = select.last.or_else(|| Some("all".to_owned()));
    let output = output.filter(|path| path.as_os_str() != "-");
    let terminal = output.is_none() && io::stdout().is_terminal();
    let whole = output.map(|path| Whole::begin(path, force)).transpose();
    let whole = whole.map_err(|why| usage(&format!("nothing was exported: {why}")))?;
    let (plan, reader) = plan(&select, config).await?;
    let exporter = Exporter::new(format, TimeZone::system(), reader.welcome().day_start, terminal)
        .without_formulas(csv_safe);
    let Some(whole) = whole else {
        return print_plan(&reader, &plan, Page::new(exporter, Output::watched(io::stdout()))).await;
    };
    let file = whole.file().map_err(|why| usage(&why))?;
    let code = print_plan(&reader, &plan, Page::new(exporter, Output::new(file))).await?;
    // What is damaged is told in the file, or on stderr; the rest of it is sound.
    if matches!(code, exit::DONE | exit::DAMAGE) {
        whole.finish().map_err(|why| usage(&why))?;
    }
    Ok(code)
}
