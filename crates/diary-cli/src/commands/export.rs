//! `export`: entries for other programs, to stdout or to a file that is there whole or not at all.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use diary_proto::escape::escape;
use jiff::tz::TimeZone;
use tempfile::NamedTempFile;

use super::pour::Page;
use super::read;
use crate::args::Export;
use crate::config::Config;
use crate::exit;
use crate::export::Exporter;
use crate::output::{Output, say};

/// Does it, and gives the exit code.
pub(crate) async fn run(export: Export, config: &Config) -> u8 {
    print(export, config).await.unwrap_or_else(|code| code)
}

/// The same; either way it is the exit code.
async fn print(export: Export, config: &Config) -> Result<u8, u8> {
    let Export { mut select, format, output, force } = export;
    // Whoever takes a diary along takes all of it.
    select.last = select.last.or_else(|| Some("all".to_owned()));
    let terminal = output.is_none() && io::stdout().is_terminal();
    let whole = output.map(|path| Whole::begin(path, force)).transpose();
    let whole = whole.map_err(|why| {
        say(format_args!("nothing was exported: {why}"));
        exit::USAGE
    })?;
    let (plan, reader) = read::plan(&select, config).await?;
    let exporter = Exporter::new(format, TimeZone::system(), reader.welcome().day_start, terminal);
    let Some(whole) = whole else {
        return read::print_plan(&reader, &plan, Page::new(exporter, Output::watched(io::stdout()))).await;
    };
    let file = whole.file.reopen().map_err(|error| whole.failed(&error))?;
    let code = read::print_plan(&reader, &plan, Page::new(exporter, Output::new(file))).await?;
    // What is damaged is told in the file, or on stderr; the rest of it is sound.
    if matches!(code, exit::DONE | exit::DAMAGE) {
        whole.finish()?;
    }
    Ok(code)
}

/// A file that appears under its name once it is whole. Until then it has another one beside it, and none if it is
/// given up.
struct Whole {
    file: NamedTempFile,
    path: PathBuf,
    force: bool,
}

impl Whole {
    fn begin(path: PathBuf, force: bool) -> Result<Self, String> {
        let shown = || escape(&path.display().to_string()).into_owned();
        if !force && path.symlink_metadata().is_ok() {
            return Err(format!("{} is there already; --force writes over it", shown()));
        }
        let file = tempfile::Builder::new().prefix(".diary-export-").tempfile_in(folder_of(&path));
        let file = file.map_err(|error| {
            // Its own sentence ends with the name of the file that was to stand beside it.
            let why = error.to_string();
            format!("{} cannot be written: {}", shown(), why.split(" at path ").next().unwrap_or_default())
        })?;
        Ok(Self { file, path, force })
    }

    /// It is on disk under its name before this returns. An error is the exit code.
    fn finish(self) -> Result<(), u8> {
        let Self { file, path, force } = self;
        let persist = || {
            file.as_file().sync_all()?;
            let persisted = if force { file.persist(&path) } else { file.persist_noclobber(&path) };
            persisted.map_err(|error| error.error)?;
            File::open(folder_of(&path))?.sync_all()
        };
        let persisted: io::Result<()> = persist();
        persisted.map_err(|error| {
            say(format_args!("{} cannot be written: {error}", escape(&path.display().to_string())));
            exit::USAGE
        })
    }

    fn failed(&self, error: &io::Error) -> u8 {
        say(format_args!("{} cannot be written: {error}", escape(&self.path.display().to_string())));
        exit::USAGE
    }
}

/// The folder that a file is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
