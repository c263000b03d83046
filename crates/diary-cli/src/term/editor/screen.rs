//! What is printed above the prompt, and the terminal that is given back at the end.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getpgrp, getsid, kill_current_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::ExternalPrinter;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::line::room;
use super::{Editing, Prompt};
use crate::term::lock;

/// Bytes that wait for the editor before nothing more is to be read for the screen. It takes none while the person
/// searches what was typed before.
const WAITING_MAX_BYTES: usize = 64 * 1024;

/// How long an editor that is ended from outside has for what still waits: it may take nothing.
const LAST_LOOK_LIMIT: Duration = Duration::from_millis(300);

/// How long this program may go on running once it has stopped itself: another thread may take the signal.
const STOP_LIMIT: Duration = Duration::from_millis(100);

/// Bracketed paste, which the editor turns on.
const PASTE_ON: &str = "\x1b[?2004h";
const PASTE_OFF: &str = "\x1b[?2004l";

/// Where output goes that is to appear above the prompt. To write never blocks; whoever has more than a few lines
/// waits for [`room`](Self::room).
#[derive(Clone, Default)]
pub(crate) struct Above(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Something waits, or nothing more comes.
    more: Condvar,
    /// Something was taken, or all was.
    taken: Notify,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Nothing more comes.
    closed: bool,
    /// Nothing more is shown.
    ended: bool,
}

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut waiting = lock(&self.0.waiting);
        if waiting.closed || waiting.ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        waiting.bytes.extend_from_slice(bytes);
        self.0.more.notify_one();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Above {
    /// So much waits that no more is to be read for the screen.
    pub(crate) fn is_behind(&self) -> bool {
        let waiting = lock(&self.0.waiting);
        waiting.bytes.len() >= WAITING_MAX_BYTES && !waiting.ended
    }

    /// Waits until the screen is no longer behind.
    ///
    /// Cancellation safe.
    pub(crate) async fn room(&self) {
        self.until(|above| !above.is_behind()).await;
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        loop {
            let taken = self.0.taken.notified();
            if holds(self) {
                return;
            }
            taken.await;
        }
    }

    /// Gives what waits to the printer, until nothing more comes.
    fn show(&self, mut printer: impl ExternalPrinter) {
        loop {
            let more = |waiting: &mut Waiting| !waiting.bytes.contains(&b'\n') && !waiting.closed;
            let waiting = self.0.more.wait_while(lock(&self.0.waiting), more);
            let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
            // Whole lines: the editor ends each piece with one, and a character may be cut.
            let end = waiting.bytes.iter().rposition(|&byte| byte == b'\n').map(|at| at + 1);
            let rest = end.map_or_else(Vec::new, |end| waiting.bytes.split_off(end));
            let bytes = std::mem::replace(&mut waiting.bytes, rest);
            drop(waiting);
            self.0.taken.notify_waiters();
            if bytes.is_empty() || printer.print(String::from_utf8_lossy(&bytes).into_owned()).is_err() {
                break;
            }
        }
        lock(&self.0.waiting).ended = true;
        self.0.taken.notify_waiters();
    }

    fn close(&self) {
        lock(&self.0.waiting).closed = true;
        self.0.more.notify_one();
    }
}

/// The modes of the terminal, which others may change while this program is stopped.
#[derive(Clone, Default)]
pub(super) struct Modes(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    before: Option<Termios>,
    /// Those of the editor, while it has the terminal.
    editor: Option<Termios>,
}

impl Modes {
    /// The editor has just set its modes, if these are the first.
    pub(super) fn are_set(&self) {
        let mut known = lock(&self.0);
        if known.before.is_some() && known.editor.is_none() {
            known.editor = tcgetattr(io::stdin()).ok();
        }
    }

    /// Stops this program and those beside it, as Ctrl-Z does elsewhere, if a shell can bring them back. The terminal
    /// is given back meanwhile.
    pub(super) fn stop(&self, editing: &Editing) {
        if getsid(None) == Ok(getpgrp()) {
            return;
        }
        let (cursor, end) = editing.rows();
        self.set(|known| known.before.as_ref(), &format!("{PASTE_OFF}{}", "\r\n".repeat(end - cursor + 1)));
        if kill_current_process_group(Signal::TSTP).is_ok() {
            thread::sleep(STOP_LIMIT);
        }
        self.set(|known| known.editor.as_ref(), &format!("{PASTE_ON}{}", room(cursor, end)));
    }

    /// For good: the editor ends.
    fn give_back(&self, end: &str) {
        lock(&self.0).editor = None;
        self.set(|known| known.before.as_ref(), &format!("{PASTE_OFF}{end}"));
    }

    fn set(&self, which: impl Fn(&Known) -> Option<&Termios>, words: &str) {
        if let Some(modes) = which(&lock(&self.0)) {
            // Nobody is left to tell if any of this fails.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, modes);
            write_now(words.as_bytes());
        }
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
        lock(&prompt.modes.0).before = tcgetattr(io::stdin()).ok();
        let above = prompt.above.clone();
        thread::Builder::new().name("screen".to_owned()).spawn(move || above.show(printer))?;
        let mut continued = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
        let modes = prompt.modes.clone();
        tokio::spawn(async move {
            while continued.recv().await.is_some() {
                modes.set(|known| known.editor.as_ref(), PASTE_ON);
            }
        });
        Ok(Self(prompt))
    }

    /// Gives the terminal back as it was, once all is shown. Gives what stands on the line, which was not sent.
    pub(crate) async fn close(self) -> Option<String> {
        let Prompt { above, editing, modes, .. } = self.0;
        above.close();
        let is_over = editing.is_over();
        let shown = above.until(|above| lock(&above.0.waiting).ended);
        if is_over {
            shown.await;
        } else {
            // What is not shown by then follows below.
            let _ = timeout(LAST_LOOK_LIMIT, shown).await;
        }
        let rest = std::mem::take(&mut lock(&above.0.waiting).bytes);
        // If the editor still reads, the cursor is in its line.
        modes.give_back(if is_over { "" } else { "\r\n" });
        write_now(&rest);
        Some(editing.take()).filter(|line| !line.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A printer that takes a piece each time that it is allowed to.
    struct Slow {
        allowed: mpsc::Receiver<()>,
        shown: mpsc::Sender<String>,
    }

    impl ExternalPrinter for Slow {
        fn print(&mut self, piece: String) -> rustyline::Result<()> {
            let _ = self.allowed.recv();
            let _ = self.shown.send(piece);
            Ok(())
        }
    }

    /// A screen that takes nothing holds up nobody; who has much to show waits, and loses nothing.
    #[tokio::test]
    async fn a_screen_that_is_behind() {
        let (allow, allowed) = mpsc::channel();
        let (shown, pieces) = mpsc::channel();
        let mut above = Above::default();
        let shower = above.clone();
        let thread = thread::spawn(move || shower.show(Slow { allowed, shown }));
        let mut written = 0;
        while !above.is_behind() {
            above.write_all(b"a line\n").unwrap();
            written += 7;
        }
        assert!(written < 3 * WAITING_MAX_BYTES);
        assert!(futures::FutureExt::now_or_never(above.room()).is_none());
        // The first piece may be only the beginning.
        let seen = thread::spawn(move || {
            let mut seen = 0;
            while seen < written {
                let _ = allow.send(());
                seen += pieces.recv().unwrap().len();
            }
            seen
        });
        above.room().await;
        assert_eq!(seen.join().unwrap(), written);
        above.close();
        thread.join().unwrap();
        assert!(above.write_all(b"too late").is_err());
    }
}
