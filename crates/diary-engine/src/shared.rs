//! What the writer and the handles to a journal share.

use std::sync::Arc;

use diary_proto::{Code, Refusal};
use diary_store::Derived;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::appends::Appends;
use crate::outcome::{Outcome, refused};
use crate::recent::Recent;
use crate::rest::Rest;

/// The journal's progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The newest committed seq.
    pub head: u64,
    /// The writer has the derived state. Until then, appends with keys wait.
    pub derived: bool,
}

/// What the writer and the handles share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    /// Unbounded, because every message holds a permit of a bounded budget.
    pub(crate) queue: mpsc::UnboundedSender<Command>,
    pub(crate) progress: watch::Receiver<Progress>,
    /// Readers see the derived state. The writer may get its part later, as it may wait for the disk.
    pub(crate) seen: watch::Sender<bool>,
    pub(crate) recent: Arc<Recent>,
    /// Where the writer is while it has nothing to do.
    pub(crate) rest: Arc<Rest>,
}

impl Shared {
    /// Hands a message to the writer. False if the writer has stopped; the message is refused then.
    pub(crate) fn send(&self, command: Command) -> bool {
        match self.queue.send(command) {
            Ok(()) => {
                self.rest.wake();
                true
            }
            Err(refused) => {
                refused.0.refuse_stopped();
                false
            }
        }
    }
}

/// A message to the writer.
#[derive(Debug)]
pub(crate) enum Command {
    Append(Appends, OwnedSemaphorePermit, oneshot::Sender<Outcome>),
    /// Whether an append would be taken. Each session has one at the most.
    Check(oneshot::Sender<Result<(), Refusal>>),
    /// The derived state, once it is loaded.
    Derived(Derived),
    /// Commit what came before, write the head file, end.
    Stop(oneshot::Sender<()>),
}

impl Command {
    /// Answers that the writer has stopped.
    pub(crate) fn refuse_stopped(self) {
        self.refuse(Refusal::new(Code::Stopping, "the server has stopped; this is not stored"));
    }

    pub(crate) fn refuse(self, refusal: Refusal) {
        // An error means that nobody waits for the answer.
        match self {
            Command::Append(appends, _, reply) => {
                if let Some(in_order) = &appends.in_order {
                    in_order.refuse_rest(&refusal);
                }
                let _ = reply.send(refused(appends.count_u32(), refusal));
            }
            Command::Check(reply) => _ = reply.send(Err(refusal)),
            Command::Derived(_) | Command::Stop(_) => {}
        }
    }
}
