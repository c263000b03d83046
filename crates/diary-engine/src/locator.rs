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

use crate::limits::GAPS_TOLD;

/// Logs gaps, each once.
#[derive(Debug)]
pub(crate) struct Locator {
    reader: Reader,
    /// First seqs of the gaps that were logged.
    told: Mutex<HashSet<u64>>,
    /// To the thread, which the first gap starts; `None` if it cannot start. Unbounded, because at most [`GAPS_TOLD`]
    /// gaps pass through it.
    queue: OnceLock<Option<mpsc::Sender<Gap>>>,
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
        if queue.as_ref().is_none_or(|queue| queue.send(gap).is_err()) {
            tracing::error!("{} damaged or missing", Seqs(gap.first, gap.last));
        }
    }

    /// First seqs of the gaps that were logged, in order.
    #[cfg(test)]
    pub(crate) fn told(&self) -> Vec<u64> {
        let mut told: Vec<u64> = self.told.lock().unwrap().iter().copied().collect();
        told.sort_unstable();
        told
    }

    fn start(&self) -> io::Result<mpsc::Sender<Gap>> {
        let (queue, gaps) = mpsc::channel();
        let reader = self.reader.clone();
        thread::Builder::new().name("locator".to_owned()).spawn(move || serve(&reader, &gaps))?;
        Ok(queue)
    }
}

fn serve(reader: &Reader, gaps: &mpsc::Receiver<Gap>) {
    while let Ok(first) = gaps.recv() {
        // Everything queued at once: gaps of one day file need one walk.
        let mut waiting: Vec<Gap> = std::iter::once(first).chain(gaps.try_iter()).collect();
        waiting.sort_unstable_by_key(|gap| gap.first);
        let firsts: Vec<u64> = waiting.iter().map(|gap| gap.first).collect();
        for (gap, place) in waiting.iter().zip(reader.locate_all(&firsts)) {
            log(*gap, place);
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
