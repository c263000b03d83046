//! Output above the prompt of a line editor.

use std::io::{self, Write};

use futures::executor::block_on;
use rustyline::ExternalPrinter;
use tokio::sync::watch;

/// Bytes that wait for the editor from which on nothing more should be read for the screen. The editor accepts none
/// while the user searches the history.
const WAITING_MAX_BYTES: usize = 64 * 1024;

/// Output that appears above the prompt. Writing never blocks; whoever has more than a few lines waits for
/// [`room`](Self::room).
#[derive(Clone, Default)]
pub(crate) struct Above(watch::Sender<Waiting>);

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Whether the output has ended.
    closed: bool,
    /// Whether nothing more is shown.
    ended: bool,
}

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.0.send_if_modified(|waiting| {
            let is_open = !waiting.closed && !waiting.ended;
            waiting.bytes.extend_from_slice(if is_open { bytes } else { b"" });
            is_open
        });
        if taken { Ok(bytes.len()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Above {
    /// Whether so much is waiting that nothing more should be read for the screen.
    pub(crate) fn is_behind(&self) -> bool {
        self.0.borrow().is_behind()
    }

    /// Waits until the screen is no longer behind.
    ///
    /// Cancel safe.
    pub(crate) async fn room(&self) {
        let _ = self.0.subscribe().wait_for(|waiting| !waiting.is_behind()).await;
    }

    /// Waits until everything is shown, or nothing more is.
    ///
    /// Cancel safe.
    pub(super) async fn ended(&self) {
        let _ = self.0.subscribe().wait_for(|waiting| waiting.ended).await;
    }

    /// Returns what was not shown.
    pub(super) fn rest(&self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.send_modify(|waiting| rest = std::mem::take(&mut waiting.bytes));
        rest
    }

    /// Passes waiting output to the printer, until the output ends.
    pub(super) fn show(&self, mut printer: impl ExternalPrinter) {
        let mut changes = self.0.subscribe();
        loop {
            let _ = block_on(changes.wait_for(|waiting| waiting.closed || waiting.bytes.contains(&b'\n')));
            let mut piece = Vec::new();
            self.0.send_modify(|Waiting { bytes, .. }| {
                // Whole lines only: the editor ends each piece with a line feed, and a partial line may end within
                // a character.
                let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
                piece.extend(bytes.drain(..end));
            });
            if piece.is_empty() || printer.print(String::from_utf8_lossy(&piece).into_owned()).is_err() {
                break;
            }
        }
        self.0.send_modify(|waiting| waiting.ended = true);
    }

    pub(super) fn close(&self) {
        self.0.send_modify(|waiting| waiting.closed = true);
    }
}

impl Waiting {
    fn is_behind(&self) -> bool {
        self.bytes.len() >= WAITING_MAX_BYTES && !self.ended
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// A printer that accepts a piece each time it is allowed to.
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

    /// A screen that accepts nothing blocks no writer; whoever has much to show waits, and loses nothing.
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
        // The first piece may be only part of it.
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
