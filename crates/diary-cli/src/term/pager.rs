//! The pager for long output: `$DIARY_PAGER`, else `$PAGER`, else less.

use std::env;
use std::io::{self, PipeWriter};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use diary_proto::escape::escape;
use tokio::signal::unix::SignalKind;

use crate::term::lock;
use crate::term::output::Output;
use crate::term::signals::Signals;
use crate::term::ui::Ui;

/// The default pager.
const DEFAULT: &str = "less";

/// Defaults for unset variables of the pager: less quits if one screen is enough, keeps colours, leaves the text on
/// the screen, and assumes UTF-8 in any locale.
const ENVIRONMENT: [(&str, &str); 2] = [("LESS", "FRX"), ("LESSCHARSET", "utf-8")];

/// The running pager, if any.
pub(crate) struct Pager(Option<Arc<Mutex<Child>>>);

impl Pager {
    /// Starts a pager if the output may be paged. Otherwise, or if that fails, the output is stdout. Needs a Tokio
    /// runtime.
    pub(crate) fn start(may_be_paged: bool, ui: &Ui) -> (Output, Self) {
        let pager = wanted(|name| env::var(name).ok()).filter(|_| may_be_paged);
        match pager.as_ref().map(|pager| (spawn(pager, Stdio::inherit()), pager)) {
            Some((Ok((input, child)), _)) => return Self::on(input, child),
            // The default pager may not be installed.
            Some((Err(error), pager)) if pager != DEFAULT => ui.say(format_args!(
                "cannot start the pager {}: {error}; set DIARY_PAGER to another one or to cat",
                escape(pager)
            )),
            _ => {}
        }
        (Output::watched(io::stdout()), Self(None))
    }

    fn on(input: PipeWriter, child: Child) -> (Output, Self) {
        let child = Arc::new(Mutex::new(child));
        let (pager, mut interrupts) = (Arc::clone(&child), Signals::of(&[SignalKind::interrupt()]));
        tokio::spawn(async move {
            loop {
                interrupts.any().await;
                // Ctrl-C is for the pager. Once the pager has exited, it ends this program.
                if !matches!(lock(&pager).try_wait(), Ok(None)) {
                    std::process::exit(128 + SignalKind::interrupt().as_raw_value());
                }
            }
        });
        (Output::watched(input), Self(Some(child)))
    }

    /// Ends the output and waits for the pager.
    pub(crate) fn finish(self, output: Output) {
        drop(output);
        // Waiting fails if the pager is gone.
        let _ = self.0.map(|child| lock(&child).wait());
    }
}

/// Returns the pager that the environment selects, if any.
fn wanted(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let pager = variable("DIARY_PAGER").or_else(|| variable("PAGER")).unwrap_or_else(|| DEFAULT.to_owned());
    let pager = pager.trim();
    (!pager.is_empty() && pager != "cat").then(|| pager.to_owned())
}

fn spawn(pager: &str, stdout: Stdio) -> io::Result<(PipeWriter, Child)> {
    if !is_there(pager) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let (output, input) = io::pipe()?;
    let mut shell = Command::new("sh");
    shell.args(["-c", pager]).stdin(output).stdout(stdout);
    shell.envs(ENVIRONMENT.iter().copied().filter(|(name, _)| env::var_os(name).is_none()));
    Ok((input, shell.spawn()?))
}

/// Whether the shell finds the first word of `pager`. Otherwise the failure would show only after the output is
/// lost. A word that is not a plain name is left to the shell.
fn is_there(pager: &str) -> bool {
    let name = pager.split_whitespace().next().unwrap_or_default();
    let is_plain = name.chars().all(|c| c.is_alphanumeric() || "/._+-".contains(c));
    let mut shell = Command::new("sh");
    shell.args(["-c", "command -v -- \"$0\" >/dev/null 2>&1", name]).stdin(Stdio::null());
    !is_plain || shell.status().is_ok_and(|status| status.success())
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
            let (input, mut child) = spawn(pager, Stdio::piped()).unwrap();
            let mut shown = child.stdout.take().unwrap();
            let (mut output, pager) = Pager::on(input, child);
            output.print("today 今天\n".as_bytes());
            pager.finish(output);
            let mut text = String::new();
            shown.read_to_string(&mut text).unwrap();
            assert_eq!(text, "TODAY 今天\n");
        }
    }

    #[tokio::test]
    async fn one_that_is_left_early_is_quiet() {
        let (input, child) = spawn("true", Stdio::null()).unwrap();
        let (mut output, pager) = Pager::on(input, child);
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
        assert!(is_there("cd / && less") && is_there("LESS=X less") && is_there("sh -c 'x'"));
    }
}
