//! The newest batches, kept in memory while somebody follows.
//!
//! Not tokio's `broadcast`, which bounds by count only: 64 batches of up to 128 KiB would be 8 MiB instead of 1, and
//! followers who read from the disk would still have to skip what their channel holds.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use diary_store::{Fresh, Range};

use crate::limits::{RECENT_MAX_BATCHES, RECENT_MAX_BYTES};

/// The newest batches. All followers that are up to date share the same bytes and never read the disk.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    followers: AtomicUsize,
    batches: Mutex<VecDeque<Fresh>>,
}

impl Recent {
    /// Adds the batch that was just committed. It is copied only if somebody follows.
    pub(crate) fn push(&self, fresh: impl FnOnce() -> Option<Fresh>) {
        if self.followers.load(Ordering::Relaxed) == 0 {
            return;
        }
        let fresh = fresh();
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        batches.extend(fresh);
        let mut bytes: usize = batches.iter().map(|batch| batch.lines.len()).sum();
        while bytes > RECENT_MAX_BYTES || batches.len() > RECENT_MAX_BATCHES {
            bytes -= batches.pop_front().map_or(0, |batch| batch.lines.len());
        }
    }
}

/// A follower's access to the newest batches.
#[derive(Debug)]
pub(crate) struct Recently(Arc<Recent>);

impl Recently {
    pub(crate) fn new(recent: &Arc<Recent>) -> Self {
        recent.followers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(recent))
    }

    /// The batch that begins where `range` continues, if there is one and it has at most `max_bytes`, and moves the range
    /// past it.
    pub(crate) fn next(&self, range: &mut Range, max_bytes: usize) -> Option<Bytes> {
        let batches = self.0.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fits = batches.iter().rev().filter(|fresh| fresh.lines.len() <= max_bytes);
        fits.find(|fresh| range.take(fresh)).map(|fresh| fresh.lines.clone())
    }
}

impl Drop for Recently {
    fn drop(&mut self) {
        if self.0.followers.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.batches.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}
