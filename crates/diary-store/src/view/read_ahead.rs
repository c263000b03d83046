//! Corrections that were read a moment ago, and those near them: whoever reads corrected entries soon wants these, too.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Bytes of corrections that are kept.
const KEPT_MAX_BYTES: usize = 2 * 1024 * 1024;

/// Lines of corrections, with their line feeds. Those that were added first are given up first.
#[derive(Default)]
pub(super) struct ReadAhead(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    lines: HashMap<u64, Bytes>,
    in_order: VecDeque<u64>,
    bytes: usize,
}

impl ReadAhead {
    pub(super) fn find(&self, seq: u64) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lines.get(&seq).cloned()
    }

    pub(super) fn add(&self, lines: Vec<(u64, Bytes)>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (seq, line) in lines {
            kept.bytes += line.len();
            match kept.lines.insert(seq, line) {
                Some(other) => kept.bytes -= other.len(),
                None => kept.in_order.push_back(seq),
            }
        }
        while kept.bytes > KEPT_MAX_BYTES
            && let Some(first) = kept.in_order.pop_front()
        {
            let given_up = kept.lines.remove(&first).map_or(0, |line| line.len());
            kept.bytes -= given_up;
        }
    }
}
