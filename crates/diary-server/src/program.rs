//! The program: arguments, log, runtime, signals, exit codes.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use clap::Parser;
use clap::error::ErrorKind;
use diary_engine::limits::READER_THREADS;
use diary_engine::maintenance::OpenError;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{Args, Config};
use crate::maintenance::{self, Done};
use crate::server::{Server, StartError, Stopped};

const USAGE: u8 = 2;
const CANNOT_LISTEN: u8 = 3;
const DATA_FOLDER: u8 = 4;
const DISK_FAILED: u8 = 5;
const DAMAGE: u8 = 6;

/// Runs `diary-server` with the process's arguments. Returns 0 after a clean stop, 2 for wrong usage, 3
/// if it cannot listen, 4 if the data folder cannot be used, 5 if the disk failed, 6 if `verify` found
/// damage.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // Nobody is left to tell if this fails.
            let _ = error.print();
            return ExitCode::from(if asked { 0 } else { USAGE });
        }
    };
    match start_log(&args.log).and_then(|()| run(args)) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "diary-server: {error:#}");
            ExitCode::from(match error.downcast_ref() {
                Some(StartError::Listen { .. } | StartError::Journal(diary_engine::OpenError::Thread(_))) => {
                    CANNOT_LISTEN
                }
                Some(StartError::Journal(diary_engine::OpenError::Data(_))) => DATA_FOLDER,
                None if error.is::<OpenError>() => DATA_FOLDER,
                Some(StartError::Zone(_)) | None => USAGE,
            })
        }
    }
}

fn start_log(filter: &str) -> anyhow::Result<()> {
    // EnvFilter takes a lone word for a module, which would turn off everything else.
    if let Some(word) =
        filter.split(',').find(|part| !part.contains('=') && part.parse::<LevelFilter>().is_err())
    {
        bail!("--log {word}: a level is error, warn, info, debug, trace or off");
    }
    let filter = EnvFilter::try_new(filter).map_err(|error| anyhow!("--log {filter}: {error}"))?;
    let colour = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(colour);
    // The reader of the log may be gone. Reporting that error would panic in the task that logs.
    log.log_internal_errors(false).with_writer(std::io::stderr).init();
    Ok(())
}

fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    if let Some(command) = args.maintenance.take() {
        return Ok(match maintenance::run(command)? {
            Done::Well => ExitCode::SUCCESS,
            Done::Damaged => ExitCode::from(DAMAGE),
        });
    }
    let config =
        Config::of_args(args).context("there is no home folder; say where the diary is with --data")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(READER_THREADS)
        .build()
        .context("cannot start the runtime")?;
    let stopped = runtime.block_on(serve(config))?;
    // A thread that hangs in a disk read must not keep the process alive.
    runtime.shutdown_background();
    Ok(match stopped {
        Stopped::Clean => ExitCode::SUCCESS,
        Stopped::DiskFailed => ExitCode::from(DISK_FAILED),
    })
}

async fn serve(config: Config) -> anyhow::Result<Stopped> {
    let stop = stop_on_signal()?;
    let server = Server::start(config).await?;
    for address in server.addresses() {
        // Our parent may not read it.
        let _ = writeln!(std::io::stdout(), "listening on {address}");
    }
    Ok(server.run(stop).await)
}

/// A token that SIGTERM, SIGINT or the end of the terminal cancels; a second one ends the process at once.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
            }
            if token.is_cancelled() {
                std::process::exit(1);
            }
            token.cancel();
        }
    });
    Ok(stop)
}
