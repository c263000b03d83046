//! Logging where entries are damaged or missing.
//!
//! Finding the line takes a walk through a day file. One thread does that, so damage holds up no reader.

use std::collections::HashSet;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::thread;

use diary_proto::block::Gap;
use diary_store::scan::Seqs;
use diary_store::{Located, Reader};
use tokio::sync::oneshot;

use crate::limits::GAPS_TOLD;

/// Logs gaps, each once.
#[derive(Debug)]
pub(crate) struct Locator {
    reader: Reader,
    /// First seqs of the gaps that were logged.
    told: Mutex<HashSet<u64>>,
    /// To the thread, which the first gap starts; `None` if it cannot start. Unbounded, because at most [`GAPS_TOLD`]
    /// gaps pass through it.
    queue: OnceLock<Option<mpsc::Sender<Message>>>,
}

#[derive(Debug)]
enum Message {
    Gap(Gap),
    /// Answer when everything before it is logged.
    Flush(oneshot::Sender<()>),
}

impl Locator {
    pub(crate) fn new(reader: Reader) -> Self {
        Self { reader, told: Mutex::default(), queue: OnceLock::new() }
    }

    /// Logs that these entries are damaged or missing, and where.
    pub(crate) fn tell(&self, gap: Gap) {
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.len() >= GAPS_TOLD || !told.insert(gap.first) {
                return;
            }
        }
        let queue = self.queue.get_or_init(|| self.start().ok());
        if queue.as_ref().is_none_or(|queue| queue.send(Message::Gap(gap)).is_err()) {
            tracing::error!("{} damaged or missing", Seqs(gap.first, gap.last));
        }
    }

    /// Completes when everything told so far is logged. Cancel safe.
    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if let Some(Some(queue)) = self.queue.get()
            && queue.send(Message::Flush(done)).is_ok()
        {
            // An error means that the thread is gone.
            let _ = flushed.await;
        }
    }

    /// First seqs of the gaps that were logged, in order.
    #[cfg(test)]
    pub(crate) fn told(&self) -> Vec<u64> {
        let mut told: Vec<u64> = self.told.lock().unwrap().iter().copied().collect();
        told.sort_unstable();
        told
    }

    fn start(&self) -> io::Result<mpsc::Sender<Message>> {
        let (queue, messages) = mpsc::channel();
        let reader = self.reader.clone();
        thread::Builder::new().name("locator".to_owned()).spawn(move || serve(&reader, &messages))?;
        Ok(queue)
    }
}

fn serve(reader: &Reader, queue: &mpsc::Receiver<Message>) {
    while let Ok(first) = queue.recv() {
        let (mut gaps, mut flushed) = (Vec::new(), Vec::new());
        // Everything queued at once: gaps of one day file need one walk.
        for message in std::iter::once(first).chain(queue.try_iter()) {
            match message {
                Message::Gap(gap) => gaps.push(gap),
                Message::Flush(done) => flushed.push(done),
            }
        }
        gaps.sort_unstable_by_key(|gap: &Gap| gap.first);
        let firsts: Vec<u64> = gaps.iter().map(|gap| gap.first).collect();
        for (gap, place) in gaps.iter().zip(reader.locate_all(&firsts)) {
            log(*gap, place);
        }
        for done in flushed {
            // An error means that nobody waits any more.
            let _ = done.send(());
        }
    }
}

fn log(gap: Gap, place: Located) {
    let what = Seqs(gap.first, gap.last);
    match place {
        Located::Line(file, line) => tracing::error!("{file}.log line {line}: {what} damaged or missing"),
        Located::Behind(file) => {
            tracing::error!("{file}.log, behind its last line: {what} damaged or missing");
        }
        Located::Nowhere => tracing::error!("{what} missing, and so are all day files"),
        Located::Unreadable(file, error) => {
            tracing::error!("{what} missing: {file}.log cannot be read: {error}");
        }
    }
}
