//! What is printed: answers on stdout, all else on stderr.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Says one sentence on stderr.
pub(crate) fn say(sentence: fmt::Arguments<'_>) {
    #[cfg(test)]
    tests::SAID.with_borrow_mut(|said| said.push(sentence.to_string()));
    // Without a stderr there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "{sentence}");
}

/// What is said when a follow goes on in a diary that was restored.
pub(crate) fn restored(head: u64) -> String {
    format!(
        "the diary was restored from an older copy and now ends with entry {head}; only newer entries follow"
    )
}

/// Something could not be printed, for another reason than that nobody reads it.
#[derive(Debug, thiserror::Error)]
#[error("the output cannot be written: {0}")]
pub(crate) struct Unwritable(#[from] io::Error);

/// Prints an answer of one piece on stdout.
///
/// # Errors
/// It could not be written.
pub(crate) fn print(answer: impl AsRef<[u8]>) -> Result<(), Unwritable> {
    let mut output = Output::new(io::stdout());
    output.print(answer.as_ref());
    output.finish()
}

type Writer = BufWriter<Box<dyn Write>>;

/// Stdout, buffered. When whoever reads it is gone, that is no error: entries are still to be stored,
/// only their acks have no reader.
///
/// It blocks while its reader is slow, and the connection with it: nothing is held for a slow reader.
pub(crate) struct Output {
    writer: Writer,
    /// Where its reader's end shows before anything is written. A file has none.
    reader: Option<AsyncFd<OwnedFd>>,
    /// Why no more is printed: a broken pipe is no error.
    gone: Option<io::Error>,
}

impl Output {
    pub(crate) fn new(writer: impl Write + 'static) -> Self {
        Self { writer: BufWriter::new(Box::new(writer)), reader: None, gone: None }
    }

    /// One that notices at once when nobody has the other end of its pipe any more, in
    /// [`flush_when_idle`](Self::flush_when_idle). It needs a Tokio runtime around it.
    #[allow(deprecated, reason = "what replaces it is unsafe, for descriptors that are not owned")]
    pub(crate) fn watched(writer: impl Write + AsFd + 'static) -> Self {
        // What cannot be watched is a file, which is always there.
        let reader = writer.as_fd().try_clone_to_owned();
        let reader = reader.and_then(|fd| AsyncFd::with_interest(fd, Interest::ERROR)).ok();
        Self { reader, ..Self::new(writer) }
    }

    /// Nobody reads any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.is_some()
    }

    /// Prints what waits.
    ///
    /// # Errors
    /// Something could not be written, now or before. It is told once.
    pub(crate) fn finish(&mut self) -> Result<(), Unwritable> {
        self.flush();
        let error = self.gone.take_if(|error| error.kind() != io::ErrorKind::BrokenPipe);
        Ok(error.map_or(Ok(()), Err)?)
    }

    /// Prints bytes, soon.
    pub(crate) fn print(&mut self, bytes: &[u8]) {
        self.write(|writer| writer.write_all(bytes));
    }

    /// Prints what waits, now.
    pub(crate) fn flush(&mut self) {
        self.write(Write::flush);
    }

    /// Flushes when it is asked, and is ready, once, when that shows that nobody reads any more; a pipe that is
    /// watched shows it without a flush. As the last branch of a biased `select!` it is asked when nothing else is
    /// ready, so that output is written in large pieces but never waits.
    ///
    /// Cancellation safe.
    pub(crate) async fn flush_when_idle(&mut self) {
        if self.is_gone() {
            return std::future::pending().await;
        }
        self.flush();
        match &self.reader {
            _ if self.is_gone() => {}
            // An error of waiting says that nothing can be known of the reader.
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

    /// What this thread has said since it was last asked.
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
