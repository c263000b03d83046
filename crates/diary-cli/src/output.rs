//! What is printed: answers on stdout, all else on stderr.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::sync::{Mutex, PoisonError};

use crate::editor::Above;

/// Where sentences go while a line editor has the terminal.
static ABOVE: Mutex<Option<Above>> = Mutex::new(None);

/// From now on, sentences appear above the editor's prompt; or on stderr again.
pub(crate) fn show_above(above: Option<Above>) {
    *ABOVE.lock().unwrap_or_else(PoisonError::into_inner) = above;
}

/// Says one sentence on stderr, or above the prompt of a line editor.
pub(crate) fn say(sentence: fmt::Arguments<'_>) {
    #[cfg(test)]
    tests::SAID.with_borrow_mut(|said| said.push(sentence.to_string()));
    let above = ABOVE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(mut above) = above {
        // Without a screen there is nobody to tell.
        let _ = above.write_all(format!("{sentence}\n").as_bytes());
        return;
    }
    // Without a stderr there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "{sentence}");
}

/// Stdout, buffered. When whoever reads it is gone, that is no error: entries are still to be stored,
/// only their acks have no reader.
///
/// It blocks while its reader is slow, and the connection with it: nothing is held for a slow reader.
pub(crate) struct Output {
    writer: BufWriter<Box<dyn Write>>,
    gone: bool,
    failed: bool,
}

impl Output {
    pub(crate) fn new(writer: impl Write + 'static) -> Self {
        Self { writer: BufWriter::new(Box::new(writer)), gone: false, failed: false }
    }

    /// Nobody reads any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Something could not be written, for another reason than that nobody reads any more.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Prints bytes, soon.
    pub(crate) fn print(&mut self, bytes: &[u8]) {
        if !self.gone {
            let written = self.writer.write_all(bytes);
            self.check(written);
        }
    }

    /// Prints what waits, now.
    pub(crate) fn flush(&mut self) {
        if !self.gone {
            let flushed = self.writer.flush();
            self.check(flushed);
        }
    }

    /// Never ready; flushes when it is asked. As the last branch of a biased `select!` it is asked when
    /// nothing else is ready, so that output is written in large pieces but never waits.
    ///
    /// Cancellation safe.
    pub(crate) async fn flush_when_idle(&mut self) {
        self.flush();
        std::future::pending::<()>().await;
    }

    fn check(&mut self, result: io::Result<()>) {
        let Err(error) = result else { return };
        self.gone = true;
        if error.kind() != io::ErrorKind::BrokenPipe {
            self.failed = true;
            say(format_args!("the output cannot be written: {error}"));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;

    thread_local! {
        pub(super) static SAID: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    /// What this thread has said since it was last asked.
    pub(crate) fn said() -> Vec<String> {
        SAID.take()
    }
}
