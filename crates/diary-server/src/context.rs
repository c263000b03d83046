//! What all sessions share.

use std::sync::Arc;

use diary_engine::Journal;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::limits::Limits;
use crate::partial::Partials;

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) journal: Journal,
    /// Room for appends that are not committed, in bytes.
    pub(crate) unacked: Arc<Semaphore>,
    pub(crate) limits: Limits,
    pub(crate) partials: Arc<Partials>,
    /// The server stops: take nothing more, answer what was taken.
    pub(crate) stop: CancellationToken,
}
