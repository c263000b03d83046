//! Other people's programs, run for real.

use std::env;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::soon;

/// A command for a program that Debian has, by its name there.
pub(crate) fn peer(name: &str) -> Command {
    let mut folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    // rsyslogd and haproxy are where only administrators look.
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let program = folders.iter().map(|folder| folder.join(name)).find(|program| program.is_file());
    let program =
        program.unwrap_or_else(|| panic!("there is no {name} here: run tests/run, which installs it"));
    let mut command = Command::new(program);
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program to its end. It need not read all of its input.
pub(crate) async fn run(command: &mut Command, input: impl AsRef<[u8]>) -> Ran {
    let program = format!("{command:?}");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feed = async move { drop(stdin.write_all(input.as_ref()).await) };
    let ended = async { tokio::join!(feed, child.wait_with_output()) };
    let output = soon(&format!("{program} ends"), ended).await.1.unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Asks a program to end, and waits for it.
pub(crate) async fn end_process(mut child: Child) {
    let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    soon("the program ends", child.wait()).await.unwrap();
}
