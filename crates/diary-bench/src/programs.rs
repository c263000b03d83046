//! The diary's programs that are measured: those that are built beside this one, or others that are named.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::ensure;

/// What was named on the command line; set before anything is started.
static NAMED: OnceLock<Programs> = OnceLock::new();

/// The diary's programs, where others are meant than those beside this one.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Programs {
    /// The server that is measured [default: diary-server beside this program].
    #[arg(long, value_name = "PROGRAM", global = true)]
    server: Option<PathBuf>,
    /// The client that is measured [default: diary beside this program].
    #[arg(long, value_name = "PROGRAM", global = true)]
    cli: Option<PathBuf>,
}

impl Programs {
    /// Lets these be used from now on.
    pub(crate) fn set(self) {
        // An error means that they are set already, which nothing does twice.
        let _ = NAMED.set(self);
    }
}

/// The server.
///
/// # Errors
/// If it is not there; says how to build it.
pub(crate) fn server() -> anyhow::Result<PathBuf> {
    find(NAMED.get().and_then(|named| named.server.as_deref()), "diary-server", "diary-server", "--server")
}

/// The client.
///
/// # Errors
/// If it is not there; says how to build it.
pub(crate) fn cli() -> anyhow::Result<PathBuf> {
    find(NAMED.get().and_then(|named| named.cli.as_deref()), "diary", "diary-cli", "--cli")
}

/// The options by which another run of this program uses the same ones.
pub(crate) fn options() -> Vec<OsString> {
    let Some(Programs { server, cli }) = NAMED.get() else { return Vec::new() };
    let named = [("--server", server), ("--cli", cli)].into_iter();
    let option =
        |(flag, program): (&str, &Option<PathBuf>)| Some([flag.into(), program.clone()?.into_os_string()]);
    named.filter_map(option).flatten().collect()
}

fn find(named: Option<&Path>, name: &str, package: &str, flag: &str) -> anyhow::Result<PathBuf> {
    if let Some(program) = named {
        ensure!(program.is_file(), "{flag}: {} is not there", program.display());
        // The servers run in folders of their own.
        return Ok(std::path::absolute(program)?);
    }
    let program = std::env::current_exe()?.with_file_name(name);
    let release = if cfg!(debug_assertions) { "" } else { " --release" };
    ensure!(
        program.is_file(),
        "{} is not built; `cargo build{release} -p {package}` makes it, and {flag} names another",
        program.display()
    );
    Ok(program)
}
