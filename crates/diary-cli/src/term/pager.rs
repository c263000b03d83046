//! A pager for long output: `$DIARY_PAGER`, else `$PAGER`, else less.

use std::env;
use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use diary_proto::escape::escape;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::exit;
use crate::render::Printer;
use crate::term::output::{Output, say};

/// The default pager.
const DEFAULT: &str = "less";

/// Options of less unless `$LESS` is set: quit if one screen is enough, keep colours, leave the text on the screen.
const LESS: &str = "FRX";

/// Characters that need a shell.
const FOR_THE_SHELL: &[char] =
    &['|', '&', ';', '<', '>', '(', ')', '$', '`', '\\', '"', '\'', ' ', '\t', '\n', '*', '?', '~', '='];

/// Exit codes of a shell that cannot execute or find the command.
const NOT_STARTED: [i32; 2] = [126, 127];

/// The running pager, if there is one.
pub(crate) struct Pager(Option<Arc<Mutex<Child>>>);

impl Pager {
    /// Starts a pager if `printer` prints for a person at a terminal. Otherwise, or if that fails, the output is stdout.
    /// Needs a Tokio runtime.
    pub(crate) fn start(printer: &Printer) -> (Output, Self) {
        let pager = wanted(|name| env::var(name).ok()).filter(|_| printer.may_be_paged());
        Self::on(pager.and_then(|pager| match spawn(&pager, Stdio::inherit()) {
            Ok(child) => Some(child),
            Err(error) => {
                // The default need not be installed.
                if pager != DEFAULT {
                    say(format_args!(
                        "cannot start the pager {}: {error}; set DIARY_PAGER to another one or to cat",
                        escape(&pager)
                    ));
                }
                None
            }
        }))
    }

    fn on(child: Option<Child>) -> (Output, Self) {
        let Some((child, input)) = child.and_then(|mut child| child.stdin.take().map(|input| (child, input)))
        else {
            return (Output::watched(io::stdout()), Self(None));
        };
        let child = Arc::new(Mutex::new(child));
        leave_interrupts_to(Arc::clone(&child));
        (Output::watched(input), Self(Some(child)))
    }

    /// Ends the output and waits for the pager.
    pub(crate) fn finish(self, mut output: Output) {
        output.flush();
        drop(output);
        let Some(child) = self.0 else { return };
        match child.lock().unwrap_or_else(PoisonError::into_inner).wait() {
            Ok(status) if status.code().is_some_and(|code| NOT_STARTED.contains(&code)) => {
                say(format_args!(
                    "cannot start the pager, so nothing was shown; set DIARY_PAGER to another one or to cat"
                ));
            }
            Ok(_) => {}
            Err(error) => say(format_args!("cannot wait for the pager: {error}")),
        }
    }
}

/// The pager that the environment asks for, if any.
fn wanted(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let pager = variable("DIARY_PAGER").or_else(|| variable("PAGER")).unwrap_or_else(|| DEFAULT.to_owned());
    let pager = pager.trim();
    (!pager.is_empty() && pager != "cat").then(|| pager.to_owned())
}

fn spawn(pager: &str, stdout: Stdio) -> io::Result<Child> {
    let mut command = if pager.contains(FOR_THE_SHELL) {
        if !has_command(pager) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", pager]);
        shell
    } else {
        Command::new(pager)
    };
    // The output is UTF-8 in any locale.
    for (name, value) in [("LESS", LESS), ("LESSCHARSET", "utf-8")] {
        if env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::piped()).stdout(stdout).spawn()
}

/// Whether the shell finds the first word of `pager`. Otherwise the failure would show only after the output was lost.
fn has_command(pager: &str) -> bool {
    let name = pager.split_whitespace().next().unwrap_or_default();
    if name.contains(FOR_THE_SHELL) {
        return true;
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", "command -v -- \"$1\"", "sh", name]).stdin(Stdio::null()).stdout(Stdio::null());
    shell.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Ctrl-C is for the pager. After the pager has ended, it ends this program.
fn leave_interrupts_to(pager: Arc<Mutex<Child>>) {
    let Ok(mut interrupts) = signal(SignalKind::interrupt()) else { return };
    tokio::spawn(async move {
        while interrupts.recv().await.is_some() {
            let ended = pager.lock().unwrap_or_else(PoisonError::into_inner).try_wait();
            if !matches!(ended, Ok(None)) {
                std::process::exit(exit::INTERRUPTED.into());
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn who_wants_which() {
        let none: &[(&str, &str)] = &[];
        for (variables, pager) in [
            (none, Some("less")),
            (&[("PAGER", "more")], Some("more")),
            (&[("PAGER", "more"), ("DIARY_PAGER", "less -S")], Some("less -S")),
            (&[("PAGER", "more"), ("DIARY_PAGER", "")], None),
            (&[("PAGER", "cat")], None),
            (&[("PAGER", " cat ")], None),
        ] {
            let lookup =
                |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            assert_eq!(wanted(lookup).as_deref(), pager, "{variables:?}");
        }
    }

    #[tokio::test]
    async fn what_is_printed_goes_through_it() {
        for pager in ["tr a-z A-Z", "sh -c 'tr a-z A-Z'"] {
            let mut child = spawn(pager, Stdio::piped()).unwrap();
            let mut shown = child.stdout.take().unwrap();
            let (mut output, pager) = Pager::on(Some(child));
            output.print("today 今天\n".as_bytes());
            pager.finish(output);
            let mut text = String::new();
            shown.read_to_string(&mut text).unwrap();
            assert_eq!(text, "TODAY 今天\n");
        }
    }

    #[tokio::test]
    async fn one_that_is_left_early_is_quiet() {
        let (mut output, pager) = Pager::on(Some(spawn("true", Stdio::null()).unwrap()));
        let line = [b'x'; 4096];
        while !output.is_gone() {
            output.print(&line);
        }
        pager.finish(output);
    }

    #[test]
    fn one_that_is_not_there() {
        for pager in ["/nonexistent/pager", "/nonexistent/pager -S", "no-such-pager -R | cat"] {
            assert_eq!(spawn(pager, Stdio::null()).unwrap_err().kind(), io::ErrorKind::NotFound, "{pager}");
        }
        assert!(has_command("cd / && less") && has_command("LESS=X less") && has_command("sh -c 'x'"));
    }
}
