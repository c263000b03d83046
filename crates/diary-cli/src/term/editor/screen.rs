//! The terminal while the editor has it, which is given back at the end.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getpgrp, getsid, kill_current_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::ExternalPrinter;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::line::room;
use super::{Editing, Prompt};
use crate::term::lock;

/// How long an editor that is ended from outside has for what still waits: it may take nothing.
const LAST_LOOK_LIMIT: Duration = Duration::from_millis(300);

/// How long this program may go on running once it has stopped itself: another thread may take the signal.
const STOP_LIMIT: Duration = Duration::from_millis(100);

/// Bracketed paste, which the editor turns on.
const PASTE_ON: &str = "\x1b[?2004h";
const PASTE_OFF: &str = "\x1b[?2004l";

/// The modes of the terminal, which others may change while this program is stopped.
#[derive(Clone, Default)]
pub(super) struct Modes {
    before: Arc<Mutex<Option<Termios>>>,
    /// Those of the editor, while it has the terminal.
    editor: Arc<Mutex<Option<Termios>>>,
}

impl Modes {
    /// The editor has just set its modes, if these are the first.
    pub(super) fn are_set(&self) {
        let mut editor = lock(&self.editor);
        *editor = editor.take().or_else(|| tcgetattr(io::stdin()).ok());
    }

    /// Stops this program and those beside it, as Ctrl-Z does elsewhere, if a shell can bring them back. The terminal
    /// is given back meanwhile.
    pub(super) fn stop(&self, editing: &Editing) {
        if getsid(None) == Ok(getpgrp()) {
            return;
        }
        let (cursor, end) = editing.rows();
        set(&self.before, &format!("{PASTE_OFF}{}", "\r\n".repeat(end - cursor + 1)));
        if kill_current_process_group(Signal::TSTP).is_ok() {
            thread::sleep(STOP_LIMIT);
        }
        set(&self.editor, &format!("{PASTE_ON}{}", room(cursor, end)));
    }

    /// For good: the editor ends.
    fn give_back(&self, end: &str) {
        *lock(&self.editor) = None;
        set(&self.before, &format!("{PASTE_OFF}{end}"));
    }
}

fn set(modes: &Mutex<Option<Termios>>, words: &str) {
    if let Some(modes) = &*lock(modes) {
        // Nobody is left to tell if any of this fails.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, modes);
        write_now(words.as_bytes());
    }
}

/// Writes to the terminal itself.
pub(super) fn write_now(bytes: &[u8]) {
    let mut stdout = io::stdout();
    // Nobody is left to tell if this fails.
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

/// The terminal while the editor has it.
pub(crate) struct Screen(Prompt);

impl Screen {
    /// Starts to show what is printed. Needs a Tokio runtime.
    pub(super) fn start(prompt: Prompt, printer: impl ExternalPrinter + Send + 'static) -> io::Result<Self> {
        *lock(&prompt.modes.before) = tcgetattr(io::stdin()).ok();
        let above = prompt.above.clone();
        thread::Builder::new().name("screen".to_owned()).spawn(move || above.show(printer))?;
        let mut continued = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
        let modes = Arc::clone(&prompt.modes.editor);
        tokio::spawn(async move {
            while continued.recv().await.is_some() {
                set(&modes, PASTE_ON);
            }
        });
        Ok(Self(prompt))
    }

    /// Gives the terminal back as it was, once all is shown. Gives what stands on the line, which was not sent.
    pub(crate) async fn close(self) -> Option<String> {
        let Prompt { above, editing, modes, .. } = self.0;
        above.close();
        let is_over = editing.is_over();
        let limit = if is_over { Duration::MAX } else { LAST_LOOK_LIMIT };
        // What is not shown by then follows below.
        let _ = timeout(limit, above.ended()).await;
        let rest = above.rest();
        // If the editor still reads, the cursor is in its line.
        modes.give_back(if is_over { "" } else { "\r\n" });
        write_now(&rest);
        Some(editing.take()).filter(|line| !line.is_empty())
    }
}
