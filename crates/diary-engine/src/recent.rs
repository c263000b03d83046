//! The newest batches, kept in memory while somebody follows.
//!
//! Not tokio's `broadcast`, which bounds by count only: 64 batches of up to 128 KiB would be 8 MiB instead of 1, and
//! followers who read from the disk would still have to skip what their channel holds.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use diary_store::{Fresh, Range};

use crate::limits::{RECENT_ALL_MAX_BYTES, RECENT_MAX_BATCHES, RECENT_MAX_BYTES};

/// The newest batches. All followers that are up to date share the same bytes and never read the disk.
#[derive(Debug)]
pub(crate) struct Recent {
    followers: AtomicUsize,
    batches: Mutex<VecDeque<Fresh>>,
    /// Bytes of all journals' batches.
    total: Arc<AtomicUsize>,
}

impl Recent {
    pub(crate) fn new(total: Arc<AtomicUsize>) -> Self {
        Self { followers: AtomicUsize::new(0), batches: Mutex::default(), total }
    }

    /// Adds the batch that was just committed. It is copied only if somebody follows.
    pub(crate) fn push(&self, fresh: impl FnOnce() -> Option<Fresh>) {
        if self.followers.load(Ordering::Relaxed) == 0 {
            return;
        }
        let fresh = fresh();
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let before = bytes_of(&batches);
        let others = self.total.load(Ordering::Relaxed).saturating_sub(before);
        batches.extend(fresh);
        let mut bytes = bytes_of(&batches);
        while bytes > RECENT_MAX_BYTES
            || batches.len() > RECENT_MAX_BATCHES
            || (others + bytes > RECENT_ALL_MAX_BYTES && !batches.is_empty())
        {
            bytes -= batches.pop_front().map_or(0, |batch| batch.lines.len());
        }
        // It wraps where there are fewer than before.
        self.total.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
    }

    fn clear(&self) {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        self.total.fetch_sub(bytes_of(&batches), Ordering::Relaxed);
        batches.clear();
    }
}

fn bytes_of(batches: &VecDeque<Fresh>) -> usize {
    batches.iter().map(|batch| batch.lines.len()).sum()
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
            self.0.clear();
        }
    }
}
