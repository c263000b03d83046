//! What is printed above the prompt of a line editor.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rustyline::ExternalPrinter;
use tokio::sync::Notify;

use super::lock;

/// Bytes that wait for the editor before nothing more is to be read for the screen. It takes none while the person
/// searches what was typed before.
const WAITING_MAX_BYTES: usize = 64 * 1024;

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
    /// Cancel safe.
    pub(crate) async fn room(&self) {
        self.until(|above| !above.is_behind()).await;
    }

    /// Waits until all is shown, or nothing more is.
    ///
    /// Cancel safe.
    pub(super) async fn ended(&self) {
        self.until(|above| lock(&above.0.waiting).ended).await;
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

    /// What was not shown.
    pub(super) fn rest(&self) -> Vec<u8> {
        std::mem::take(&mut lock(&self.0.waiting).bytes)
    }

    /// Gives what waits to the printer, until nothing more comes.
    pub(super) fn show(&self, mut printer: impl ExternalPrinter) {
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

    pub(super) fn close(&self) {
        lock(&self.0.waiting).closed = true;
        self.0.more.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

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
