//! Output: answers on stdout, everything else on stderr.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Prints a sentence to stderr.
pub(crate) fn say(sentence: fmt::Arguments<'_>) {
    #[cfg(test)]
    tests::SAID.with_borrow_mut(|said| said.push(sentence.to_string()));
    // Without stderr, there is nowhere to report an error.
    let _ = writeln!(io::stderr().lock(), "{sentence}");
}

/// Returns the sentence for a follow that continues in a restored diary.
pub(crate) fn restored(head: u64) -> String {
    format!(
        "the diary was restored from an older copy and now ends with entry {head}; only newer entries follow"
    )
}

/// The output failed, for another reason than a reader that is gone.
#[derive(Debug, thiserror::Error)]
#[error("the output cannot be written: {0}")]
pub(crate) struct Unwritable(#[from] io::Error);

/// Prints a complete answer to stdout.
///
/// # Errors
/// The output failed.
pub(crate) fn print(answer: impl AsRef<[u8]>) -> Result<(), Unwritable> {
    let mut output = Output::new(io::stdout());
    output.print(answer.as_ref());
    output.finish()
}

type Writer = BufWriter<Box<dyn Write>>;

/// Buffered stdout. A reader that is gone is not an error: entries are still stored, and only their acks have no
/// reader.
///
/// Writing blocks while the reader is slow, and so does the connection: nothing is buffered for a slow reader.
pub(crate) struct Output {
    writer: Writer,
    /// Shows that the reader is gone, even before a write. `None` for a file.
    reader: Option<AsyncFd<OwnedFd>>,
    /// Why nothing more is printed. A broken pipe is not an error.
    gone: Option<io::Error>,
}

impl Output {
    pub(crate) fn new(writer: impl Write + 'static) -> Self {
        Self { writer: BufWriter::new(Box::new(writer)), reader: None, gone: None }
    }

    /// Returns an output that notices at once when the other end of its pipe is closed, in
    /// [`flush_when_idle`](Self::flush_when_idle). Needs a Tokio runtime.
    #[allow(deprecated, reason = "what replaces it is unsafe, for descriptors that are not owned")]
    pub(crate) fn watched(writer: impl Write + AsFd + 'static) -> Self {
        // What cannot be polled is a file, which has no reader.
        let reader = writer.as_fd().try_clone_to_owned();
        let reader = reader.and_then(|fd| AsyncFd::with_interest(fd, Interest::ERROR)).ok();
        Self { reader, ..Self::new(writer) }
    }

    /// Whether the reader is gone, or a write failed.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.is_some()
    }

    /// Flushes the buffer.
    ///
    /// # Errors
    /// A write failed, now or before. Reported once.
    pub(crate) fn finish(&mut self) -> Result<(), Unwritable> {
        self.flush();
        let error = self.gone.take_if(|error| error.kind() != io::ErrorKind::BrokenPipe);
        Ok(error.map_or(Ok(()), Err)?)
    }

    /// Prints bytes into the buffer.
    pub(crate) fn print(&mut self, bytes: &[u8]) {
        self.write(|writer| writer.write_all(bytes));
    }

    /// Flushes the buffer now.
    pub(crate) fn flush(&mut self) {
        self.write(Write::flush);
    }

    /// Flushes when polled, and completes once when that finds the reader gone; a watched pipe shows it without a
    /// flush. As the last branch of a biased `select!`, it is polled when nothing else is ready, so output is
    /// written in large pieces but is never held back.
    ///
    /// Cancel safe.
    pub(crate) async fn flush_when_idle(&mut self) {
        if self.is_gone() {
            return std::future::pending().await;
        }
        self.flush();
        match &self.reader {
            _ if self.is_gone() => {}
            // If polling fails, nothing is known about the reader.
            Some(reader) if reader.ready(Interest::ERROR).await.is_ok() => {
                self.gone = Some(io::ErrorKind::BrokenPipe.into());
            }
            _ => std::future::pending().await,
        }
    }

    fn write(&mut self, write: impl FnOnce(&mut Writer) -> io::Result<()>) {
        if self.gone.is_none() {
            self.gone = write(&mut self.writer).err();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;
    use std::pin::pin;

    use futures::poll;

    use super::*;

    thread_local! {
        pub(super) static SAID: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    /// Returns what this thread has said since the last call.
    pub(crate) fn said() -> Vec<String> {
        SAID.take()
    }

    #[tokio::test]
    async fn a_reader_that_left_is_noticed_once() {
        for watched in [true, false] {
            let (reader, writer) = io::pipe().unwrap();
            let mut output = if watched { Output::watched(writer) } else { Output::new(writer) };
            output.print(b"a");
            assert!(poll!(pin!(output.flush_when_idle())).is_pending());
            drop(reader);
            if !watched {
                output.print(b"b");
            }
            output.flush_when_idle().await;
            assert!(output.is_gone() && output.finish().is_ok());
            assert!(poll!(pin!(output.flush_when_idle())).is_pending());
        }
    }

    #[test]
    fn an_output_that_is_full_is_told_at_the_end() {
        let mut output = Output::new(std::fs::File::options().write(true).open("/dev/full").unwrap());
        output.print(b"a");
        output.flush();
        assert!(output.is_gone());
        let why = output.finish().unwrap_err().to_string();
        assert_eq!(why, "the output cannot be written: No space left on device (os error 28)");
    }

    #[tokio::test]
    async fn a_file_has_no_reader_to_leave() {
        let mut output = Output::watched(tempfile::tempfile().unwrap());
        assert!(poll!(pin!(output.flush_when_idle())).is_pending());
    }
}
