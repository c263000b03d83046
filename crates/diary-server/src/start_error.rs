//! Why a server cannot start.

use crate::tls::TlsError;
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
    /// There is no identity for TLS listeners.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A certificate is given, and no listener has TLS.
    #[error("--tls-cert is for TLS listeners, and there is none; add one, as --listen tls:127.0.0.1:8889")]
    NoTlsListener,
    /// There is no such time zone.
    #[error(transparent)]
    Zone(UnknownZone),
}
