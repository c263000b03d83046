//! Appends that must not overtake each other.

use std::sync::{Arc, OnceLock};

use diary_proto::Refusal;

/// Keeps the appends of one connection in order: once one of them is refused for now
/// ([`Code::is_for_now`](diary_proto::Code::is_for_now)), so is every later one that is not stored already. Clones share
/// that state, and only the writer changes it, so it holds for what is queued, too.
#[derive(Debug, Clone, Default)]
pub struct InOrder(Arc<OnceLock<Refusal>>);

impl InOrder {
    /// What all further appends are refused with, if one was refused for now.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.0.get()
    }

    /// An append was refused.
    pub(crate) fn note(&self, refusal: &Refusal) {
        if refusal.code.is_for_now() {
            self.refuse_rest(refusal);
        }
    }

    /// Everything behind it is refused with this.
    pub(crate) fn refuse_rest(&self, refusal: &Refusal) {
        // An error means that an earlier one was refused.
        let _ = self.0.set(refusal.clone());
    }
}
