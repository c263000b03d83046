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
    /// A journal cannot be opened.
    #[error("{source}{}", way_out(source))]
    Journal {
        /// Why not.
        #[from]
        source: diary_engine::OpenError,
    },
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

fn way_out(error: &diary_engine::OpenError) -> String {
    match error {
        diary_engine::OpenError::None(name) => format!("; `diary-server journal add {name}` makes it"),
        _ => String::new(),
    }
}
