//! What all sessions share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::journal::Journal;
use crate::limits::Limits;
use crate::partial::Partials;

/// See the module.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) journal: Journal,
    pub(crate) limits: Limits,
    pub(crate) partials: Arc<Partials>,
    /// The server stops: take nothing more, answer what was taken.
    pub(crate) stop: CancellationToken,
}
