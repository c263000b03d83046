//! What the journals of a process share, so that its bounds hold in sum, however many journals it has.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::auditor::Audits;
use crate::limits::{READINGS_MAX, REPEATS_MAX_BYTES, SEARCHES_MAX};
use crate::reading::Reading;
use crate::turns::Turns;

/// Threads, memory, and the one end that all journals have. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    /// Threads for readings.
    pub(crate) readings: Arc<Semaphore>,
    /// Turns to search.
    pub(crate) turns: Arc<Turns>,
    /// The thread that checks what was read.
    pub(crate) audits: Arc<Audits>,
    /// Memory of retries that wait to be compared, in bytes. Past it, the senders' own budget has to do.
    pub(crate) repeats: Arc<Semaphore>,
    /// Memory of the newest batches of journals that are followed, in bytes.
    pub(crate) recent_bytes: Arc<AtomicUsize>,
    /// Cancelled when the disk has failed under one of them, or a writer has panicked.
    pub(crate) failed: CancellationToken,
}

impl Common {
    pub(crate) fn new() -> Self {
        Self {
            readings: Arc::new(Semaphore::new(READINGS_MAX)),
            turns: Turns::new(SEARCHES_MAX),
            audits: Arc::default(),
            repeats: Arc::new(Semaphore::new(REPEATS_MAX_BYTES)),
            recent_bytes: Arc::default(),
            failed: CancellationToken::new(),
        }
    }

    /// Reads on a thread, when there is one for readings.
    pub(crate) fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Reading<T> {
        let holding = move |permit: OwnedSemaphorePermit| {
            move || {
                // Held by the worker, so that dropping the caller does not free the thread.
                let _permit = permit;
                work()
            }
        };
        match Arc::clone(&self.readings).try_acquire_owned() {
            Ok(permit) => Reading::blocking(holding(permit)),
            Err(_) => {
                let readings = Arc::clone(&self.readings);
                Reading::after(async move {
                    let permit = readings.acquire_owned().await.map_err(io::Error::other)?;
                    Reading::blocking(holding(permit)).await
                })
            }
        }
    }
}
