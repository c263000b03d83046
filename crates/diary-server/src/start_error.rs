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
    /// The file with the tokens cannot be used.
    #[error(transparent)]
    Access(#[from] diary_access::Error),
    /// Other machines would reach an address at which nobody has to log in.
    #[error("other machines can reach {at}, and nobody logs in there: {way_out}")]
    Exposed {
        /// Where.
        at: String,
        /// What to do.
        way_out: &'static str,
    },
    /// An option is given for a kind of address that there is not.
    #[error("{option} is for {of}, and there is none; {way_out}")]
    NoListenerFor {
        /// The option.
        option: &'static str,
        /// The kind of address.
        of: &'static str,
        /// What to do.
        way_out: &'static str,
    },
    /// There is no such time zone.
    #[error(transparent)]
    Zone(UnknownZone),
}
