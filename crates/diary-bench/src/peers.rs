//! The servers that are compared, each started on a port of its own in a folder of its own.

use std::fmt;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::programs;
use crate::stream::TLS;

/// A server that takes longer to listen has a problem.
const START_MAX: Duration = Duration::from_secs(120);

/// The same for one that takes longer to stop.
const STOP_MAX: Duration = Duration::from_secs(60);

/// Between two looks whether it listens, or has stopped.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// Added to every fdatasync where an ordinary disk is wanted.
const SLOW_SYNC_MICROS: u32 = 2000;

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Diary,
    DiaryTls,
    Bare,
    Redis,
    RedisTls,
    Nginx,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Diary | Kind::DiaryTls => "diary",
            Kind::Bare => "bare loop",
            Kind::Redis | Kind::RedisTls => "redis",
            Kind::Nginx => "nginx",
        })
    }
}

/// A server that runs; it ends when this is dropped.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    /// With `tls:` before it, where there is TLS.
    pub(crate) address: String,
    /// When it was started.
    pub(crate) began: Instant,
    child: Child,
    pid: Pid,
}

impl Peer {
    /// Starts a server that keeps its data in `folder`. `slow_disk` makes every fdatasync take 2 ms more.
    pub(crate) fn start(kind: Kind, folder: &Path, slow_disk: bool) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let at = format!("127.0.0.1:{port}");
        let address = match kind {
            Kind::DiaryTls | Kind::RedisTls => format!("{TLS}{at}"),
            _ => at.clone(),
        };
        let mut command = command(kind, folder, port)?;
        if slow_disk {
            slow_down(&mut command, folder)?;
        }
        let began = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("stderr"))?);
        let child = child.spawn().with_context(|| format!("cannot start {kind}"))?;
        let pid = Pid::from_child(&child);
        let mut peer = Self { kind, address, began, child, pid };
        while TcpStream::connect(&at).is_err() {
            ensure!(began.elapsed() < START_MAX, "{kind} does not listen after {START_MAX:?}");
            if let Some(status) = peer.child.try_wait()? {
                let said = fs::read_to_string(folder.join("stderr")).unwrap_or_default();
                bail!("{kind} ended with {status}: {said}");
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(peer)
    }

    /// Memory in bytes: `VmRSS` for now, `VmHWM` for the most that it ever was.
    pub(crate) fn memory(&self, field: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid.as_raw_nonzero()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no such field")?;
        Ok(kib.trim().parse::<u64>()? * 1024)
    }

    /// How many files it has open.
    pub(crate) fn files(&self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid.as_raw_nonzero()))?.count())
    }

    /// Kills it.
    pub(crate) fn kill(mut self) {
        let _ = kill_process(self.pid, Signal::KILL);
        let _ = self.child.wait();
    }

    /// Ends it in its own way, and waits for that.
    pub(crate) fn stop(mut self) -> anyhow::Result<ExitStatus> {
        kill_process(self.pid, Signal::TERM)?;
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(began.elapsed() < STOP_MAX, "{} does not stop after {STOP_MAX:?}", self.kind);
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = kill_process(self.pid, Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(kind: Kind, folder: &Path, port: u16) -> anyhow::Result<Command> {
    let mut command = match kind {
        Kind::Diary | Kind::DiaryTls => {
            let mut command = Command::new(programs::server()?);
            let prefix = if kind == Kind::DiaryTls { TLS } else { "" };
            command.arg("--data").arg(folder).args(["--listen", &format!("{prefix}127.0.0.1:{port}")]);
            command
        }
        Kind::Bare => {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["bare", &format!("127.0.0.1:{port}")]).arg(folder.join("lines"));
            command
        }
        Kind::Redis | Kind::RedisTls => {
            let mut command = Command::new(program("redis-server").context("redis-server is not here")?);
            command.args([
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--save",
                "",
                "--bind",
                "127.0.0.1",
                // It would rewrite its file in another process, at any time.
                "--auto-aof-rewrite-percentage",
                "0",
            ]);
            command.arg("--dir").arg(folder);
            if kind == Kind::Redis {
                command.args(["--port", &port.to_string()]);
            } else {
                let (cert, key) = certificate(folder)?;
                command.args(["--port", "0", "--tls-port", &port.to_string(), "--tls-auth-clients", "no"]);
                command.arg("--tls-cert-file").arg(cert).arg("--tls-key-file").arg(key);
            }
            command
        }
        Kind::Nginx => {
            let config = folder.join("nginx.conf");
            fs::write(&config, nginx_config(folder, port))?;
            let mut command = Command::new(program("nginx").context("nginx is not here")?);
            command.arg("-p").arg(folder).arg("-c").arg(config).args(["-e", "stderr"]);
            command
        }
    };
    command.current_dir(folder);
    Ok(command)
}

/// Makes a certificate of the kind that the diary makes for itself, and its key.
fn certificate(folder: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    fs::write(&cert, made.cert.pem())?;
    fs::write(&key, made.signing_key.serialize_pem())?;
    Ok((cert, key))
}

fn nginx_config(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
         events {{}}
         http {{
           access_log off; sendfile on; tcp_nopush on;
           client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
           uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
           server {{ listen 127.0.0.1:{port}; root {folder}; }}
         }}"
    )
}

/// Lets every fdatasync of a server take longer, whatever server it is: a small library that is loaded before
/// the system's (its path may hold no space). A tracer would hold up servers with several threads more than others.
fn slow_down(server: &mut Command, folder: &Path) -> anyhow::Result<()> {
    let (source, library) = (folder.join("slow.c"), folder.join("slow.so"));
    fs::write(
        &source,
        format!(
            "#define _GNU_SOURCE\n#include <unistd.h>\n#include <sys/syscall.h>\n\
             int fdatasync(int fd) {{ usleep({SLOW_SYNC_MICROS}); return (int) syscall(SYS_fdatasync, fd); }}\n"
        ),
    )?;
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(&source).output();
    let compiled = compiled.context("a slow disk needs cc (Debian: gcc, libc6-dev)")?;
    ensure!(compiled.status.success(), "cc says {}", String::from_utf8_lossy(&compiled.stderr));
    server.env("LD_PRELOAD", library);
    Ok(())
}

/// Allows this program, and the servers that inherit it, as many open files as it may have; how many that are.
pub(crate) fn raise_file_limit() -> anyhow::Result<u64> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// Where a program is, if it is installed.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Where Debian puts servers, also for those who have no such folder in their path.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}
