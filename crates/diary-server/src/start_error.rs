//! Why a server cannot start.

use crate::zone::UnknownZone;

/// Why a server cannot start. Each displays as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {at}: {why}")]
    Listen {
        /// Where.
        at: String,
        /// Why not, and the way out.
        why: String,
    },
    /// An address is to serve a journal that there is not.
    #[error("there is no journal {0}; `diary-server journal add {0}` makes it")]
    NoJournal(diary_proto::JournalName),
    /// A journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] diary_engine::OpenError),
    /// There is no such time zone.
    #[error(transparent)]
    Zone(UnknownZone),
}
