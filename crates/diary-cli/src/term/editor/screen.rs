//! The terminal while the editor owns it. It is restored at the end.

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

/// How long to wait for pending output if the editor is ended from outside: it may accept none.
const LAST_LOOK_LIMIT: Duration = Duration::from_millis(300);

/// How long to wait for the stop signal to stop this program: another thread may receive it.
const STOP_LIMIT: Duration = Duration::from_millis(100);

/// Bracketed paste, which the editor turns on.
const PASTE_ON: &str = "\x1b[?2004h";
const PASTE_OFF: &str = "\x1b[?2004l";

/// Terminal modes, which other programs may change while this one is stopped.
#[derive(Clone, Default)]
pub(super) struct Modes {
    before: Arc<Mutex<Option<Termios>>>,
    /// Modes of the editor, while it owns the terminal.
    editor: Arc<Mutex<Option<Termios>>>,
}

impl Modes {
    /// Records the modes that the editor has just set, the first time.
    pub(super) fn are_set(&self) {
        let mut editor = lock(&self.editor);
        *editor = editor.take().or_else(|| tcgetattr(io::stdin()).ok());
    }

    /// Stops the process group, as Ctrl-Z does elsewhere, if a shell can resume it. The terminal is restored
    /// meanwhile.
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

    /// Restores the terminal for good: the editor ends.
    fn give_back(&self, end: &str) {
        *lock(&self.editor) = None;
        set(&self.before, &format!("{PASTE_OFF}{end}"));
    }
}

fn set(modes: &Mutex<Option<Termios>>, words: &str) {
    if let Some(modes) = &*lock(modes) {
        // If any of this fails, there is no way to report it.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, modes);
        write_now(words.as_bytes());
    }
}

/// Writes to the terminal directly.
pub(super) fn write_now(bytes: &[u8]) {
    let mut stdout = io::stdout();
    // If this fails, there is no way to report it.
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

/// The terminal while the editor owns it.
pub(crate) struct Screen(Prompt);

impl Screen {
    /// Starts to show output. Needs a Tokio runtime.
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

    /// Restores the terminal once all output is shown. Returns the unsent line, if there is one.
    pub(crate) async fn close(self) -> Option<String> {
        let Prompt { above, editing, modes, .. } = self.0;
        above.close();
        let is_over = editing.is_over();
        let limit = if is_over { Duration::MAX } else { LAST_LOOK_LIMIT };
        // Output that is not shown by then is printed below.
        let _ = timeout(limit, above.ended()).await;
        let rest = above.rest();
        // If the editor is still reading, the cursor is on its line.
        modes.give_back(if is_over { "" } else { "\r\n" });
        write_now(&rest);
        Some(editing.take()).filter(|line| !line.is_empty())
    }
}
