//! The program: arguments, log, runtime, signals, exit codes.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, anyhow, bail};
use clap::Parser;
use diary_engine::limits::READER_THREADS;
use diary_engine::maintenance::OpenError;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{Args, Config};
use crate::handed_over::{self, HandedOver, has_no_reader};
use crate::limits::{OTHER_BLOCKING_THREADS, OUTLET_FLUSH_MAX};
use crate::maintenance::{self, Done};
use crate::outlet::Outlet;
use crate::server::{Server, Stopped};
use crate::start_error::StartError;
use crate::tls::TlsError;

const USAGE: u8 = 2;
const CANNOT_LISTEN: u8 = 3;
const DATA_FOLDER: u8 = 4;
const DISK_FAILED: u8 = 5;
const DAMAGE: u8 = 6;

const SYSLOG: &str = "/dev/log";

/// What the program prints, and nobody waits for.
struct Outlets {
    /// The log, and why the program ends, on stderr.
    log: Outlet,
    /// Where it listens, on stdout.
    addresses: Outlet,
}

impl Outlets {
    fn start() -> io::Result<Self> {
        Ok(Self { log: outlet("stderr", io::stderr())?, addresses: outlet("stdout", io::stdout())? })
    }
}

/// Under inetd these are the socket that listens: what would go there goes to syslog.
fn outlet(name: &str, to: impl AsFd) -> io::Result<Outlet> {
    if has_no_reader(&to) { Outlet::to_syslog(name, SYSLOG.as_ref()) } else { Outlet::start(name, to) }
}

/// The last lines are for whoever takes them in time.
impl Drop for Outlets {
    fn drop(&mut self) {
        let until = Instant::now() + OUTLET_FLUSH_MAX;
        self.log.flush(OUTLET_FLUSH_MAX);
        self.addresses.flush(until.saturating_duration_since(Instant::now()));
    }
}

/// Runs `diary-server` with the process's arguments. Returns 0 after a clean stop, 2 for wrong usage, 3
/// if it cannot listen, 4 if the data folder cannot be used, 5 if the disk failed, 6 if `verify` found
/// damage. A second signal to stop ends the process at once, with 128 and the signal's number: 129 for SIGHUP, 130 for
/// SIGINT, 143 for SIGTERM. SIGHUP stops nothing if `--tls-cert` is given.
pub fn main() -> ExitCode {
    let handed_over = handed_over::take();
    let outlets = match Outlets::start() {
        Ok(outlets) => outlets,
        Err(error) => {
            let _ = writeln!(io::stderr(), "diary-server: cannot start a thread for the log: {error}");
            return ExitCode::from(CANNOT_LISTEN);
        }
    };
    outlets.log.take_panics();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if error.use_stderr() => {
            outlets.log.push(error.render().to_string().as_bytes());
            return ExitCode::from(USAGE);
        }
        // Help waits for its reader, who may leaf through it.
        Err(help) => {
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    match start_log(&args.log, &outlets.log).and_then(|()| run(args, handed_over, &outlets)) {
        Ok(code) => code,
        Err(error) => {
            outlets.log.push(format!("diary-server: {error:#}\n").as_bytes());
            ExitCode::from(match error.downcast_ref() {
                Some(StartError::Listen { .. } | StartError::Journal(diary_engine::OpenError::Thread(_))) => {
                    CANNOT_LISTEN
                }
                Some(StartError::Journal(_) | StartError::NoJournal(_) | StartError::Access(_)) => {
                    DATA_FOLDER
                }
                None if error.is::<OpenError>() => DATA_FOLDER,
                None if is_access(&error) => DATA_FOLDER,
                Some(StartError::Tls(TlsError::Own { .. })) => DATA_FOLDER,
                Some(
                    StartError::Zone(_)
                    | StartError::Tls(_)
                    | StartError::NoListenerFor { .. }
                    | StartError::Exposed { .. },
                )
                | None => USAGE,
            })
        }
    }
}

/// The file with the tokens cannot be used; what a person asked for wrongly is wrong usage.
fn is_access(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(error) if !matches!(error, diary_access::Error::Change(_)))
}

fn start_log(filter: &str, outlet: &Outlet) -> anyhow::Result<()> {
    // EnvFilter takes a lone word for a module, which would turn off everything else.
    if let Some(word) =
        filter.split(',').find(|part| !part.contains('=') && part.parse::<LevelFilter>().is_err())
    {
        bail!("--log {word}: a level is error, warn, info, debug, trace or off");
    }
    let filter = EnvFilter::try_new(filter).map_err(|error| anyhow!("--log {filter}: {error}"))?;
    let colour = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(colour);
    let outlet = outlet.clone();
    // Errors of the subscriber's own would be printed by a write that waits.
    log.log_internal_errors(false).with_writer(move || outlet.clone()).init();
    Ok(())
}

fn run(
    mut args: Args,
    handed_over: Result<Vec<HandedOver>, StartError>,
    outlets: &Outlets,
) -> anyhow::Result<ExitCode> {
    if let Some(command) = args.maintenance.take() {
        return Ok(match maintenance::run(command)? {
            Done::Well => ExitCode::SUCCESS,
            Done::Damaged => ExitCode::from(DAMAGE),
        });
    }
    let config = Config::of_args(args, handed_over?)
        .context("there is no home folder; say where the diary is with --data")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(READER_THREADS + OTHER_BLOCKING_THREADS)
        .build()
        .context("cannot start the runtime")?;
    let stopped = runtime.block_on(serve(config, outlets))?;
    // A thread that hangs in a disk read must not keep the process alive.
    runtime.shutdown_background();
    Ok(match stopped {
        Stopped::Clean => ExitCode::SUCCESS,
        Stopped::DiskFailed => ExitCode::from(DISK_FAILED),
    })
}

async fn serve(config: Config, outlets: &Outlets) -> anyhow::Result<Stopped> {
    let hangups = config.tls.is_some().then(|| Arc::new(Notify::new()));
    let stop = stop_on_signal(outlets.log.clone(), hangups.clone())?;
    let server = Server::start(config).await?;
    if let Some(hangups) = hangups {
        let reload = server.reload();
        tokio::spawn(async move {
            loop {
                hangups.notified().await;
                reload.reload();
            }
        });
    }
    for address in server.addresses() {
        outlets.addresses.push(format!("listening on {address}\n").as_bytes());
    }
    if let Some(fingerprint) = server.fingerprint() {
        outlets.addresses.push(format!("fingerprint {fingerprint}\n").as_bytes());
    }
    Ok(server.run(stop).await)
}

/// A token that SIGTERM, SIGINT or the end of the terminal cancels; a second one ends the process at once. With `hangups`,
/// SIGHUP is told there and stops nothing: it comes from whoever has renewed the certificate.
fn stop_on_signal(log: Outlet, hangups: Option<Arc<Notify>>) -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        let mut next = async || {
            loop {
                tokio::select! {
                    _ = terminate.recv() => return SignalKind::terminate(),
                    _ = interrupt.recv() => return SignalKind::interrupt(),
                    _ = hangup.recv() => match &hangups {
                        Some(hangups) => hangups.notify_one(),
                        None => return SignalKind::hangup(),
                    },
                }
            }
        };
        next().await;
        token.cancel();
        let second = next().await;
        // As shells have it for a program that a signal ended.
        let code = 128 + second.as_raw_value();
        log.flush(OUTLET_FLUSH_MAX);
        std::process::exit(code);
    });
    Ok(stop)
}
