//! TLS: who the server is, and what it speaks.
//!
//! Its identity is a certificate and a key: those of `--tls-cert` and `--tls-key`, or a pair that it makes for itself once.
//! When they change, new connections meet the new ones, and those that are there go on.

mod own;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::config::TlsFiles;
use crate::limits::TLS_FILES_PAUSE;

/// Why there is no identity. Each displays as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} has {why}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The key is another one's.
    #[error("the key in {} does not belong to the certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// Where the certificate is.
        cert: PathBuf,
        /// Where the key is.
        key: PathBuf,
    },
    /// The server's own identity cannot be made or kept.
    #[error("cannot keep a TLS identity in {}: {why}", folder.display())]
    Own {
        /// Where.
        folder: PathBuf,
        /// Why not.
        why: String,
    },
}

/// Who the server is, for its TLS clients.
#[derive(Debug)]
pub(crate) struct Identity {
    current: RwLock<Arc<CertifiedKey>>,
    files: TlsFiles,
    /// When they were read first.
    stamps: [Stamp; 2],
}

impl Identity {
    /// That of `files`, or else the one in the data folder, which is made if it is not there.
    pub(crate) fn load(files: Option<&TlsFiles>, data: &Path) -> Result<Arc<Self>, TlsError> {
        let files = files.map_or_else(|| own::make_missing(&data.join("tls")), |files| Ok(files.clone()))?;
        let stamps = stamps(&files);
        let identity = Self { current: RwLock::new(load(&files)?.into()), files, stamps };
        tracing::info!(fingerprint = identity.fingerprint(), cert = %identity.files.cert.display(), "serving TLS");
        Ok(Arc::new(identity))
    }

    /// `sha256:` and the SHA-256 of the public key (SubjectPublicKeyInfo, RFC 5280), in hex. A new certificate for the same
    /// key has the same.
    pub(crate) fn fingerprint(&self) -> String {
        let key = self.current();
        let public = key.key.public_key().expect("keys of ring know their public half");
        Sha256::digest(&public).iter().fold("sha256:".to_owned(), |hex, byte| format!("{hex}{byte:02x}"))
    }

    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again. If that fails, the log says why, and everything stays as it is.
    pub(crate) fn reload(&self) {
        match load(&self.files) {
            Ok(key) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = key.into();
                let (fingerprint, cert) = (self.fingerprint(), self.files.cert.display());
                tracing::info!(fingerprint, %cert, "new TLS connections get the certificate that was read again");
            }
            Err(error) => tracing::error!(%error, "the TLS certificate stays as it was"),
        }
    }

    /// Reads the files again whenever they have changed and do not change any more, and when it is asked to. Cancel safe.
    pub(crate) async fn watch(self: Arc<Self>, asked: Arc<Notify>) {
        let [mut seen, mut read] = [self.stamps; 2];
        loop {
            let asked = timeout(TLS_FILES_PAUSE, asked.notified()).await.is_ok();
            let identity = Arc::clone(&self);
            // Not on a thread of the runtime: the disk may hang.
            let looked = tokio::task::spawn_blocking(move || {
                let now = stamps(&identity.files);
                if asked || (now == seen && now != read) {
                    read = now;
                    identity.reload();
                }
                seen = now;
                (read, seen)
            });
            match looked.await {
                Ok(looked) => (read, seen) = looked,
                // It is logged.
                Err(error) if error.is_panic() => {}
                // The runtime ends.
                Err(_) => return,
            }
        }
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

/// What a server with this identity speaks: TLS 1.3 and 1.2. Connections live long, so none is resumed: that would save
/// little, and a client could go on with a certificate that is not there any more.
pub(crate) fn server_config(identity: Arc<Identity>) -> Arc<ServerConfig> {
    let versions = &[&rustls::version::TLS13, &rustls::version::TLS12];
    let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions);
    let mut config =
        config.expect("ring has suites for both versions").with_no_client_auth().with_cert_resolver(identity);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

/// The cryptography, said explicitly: a default is one of the whole process, which an embedding program may have set.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificate and the key in these files, which belong to each other.
fn load(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let TlsFiles { cert, key } = files;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(cert)?).collect();
    let chain = chain.map_err(|error| bad_pem(cert, &error, "certificate"))?;
    if chain.is_empty() {
        return Err(bad_pem(cert, &pem::Error::NoItemsFound, "certificate"));
    }
    let private = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|error| bad_pem(key, &error, "private key (or it has a password, which must be removed)"))?;
    CertifiedKey::from_der(chain, private, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::Mismatch { cert: cert.clone(), key: key.clone() }
        }
        rustls::Error::InvalidCertificate(error) => {
            TlsError::Pem { path: cert.clone(), why: format!("a certificate that is not valid: {error}") }
        }
        error => TlsError::Pem { path: key.clone(), why: format!("a key that cannot be used: {error}") },
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Read { path: path.to_owned(), error })
}

fn bad_pem(path: &Path, error: &pem::Error, what: &str) -> TlsError {
    let why = match error {
        pem::Error::NoItemsFound => format!("no {what}"),
        error => format!("no valid PEM: {error}"),
    };
    TlsError::Pem { path: path.to_owned(), why }
}

/// What tells whether a file has changed; none if it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(Option<[i64; 4]>);

fn stamps(files: &TlsFiles) -> [Stamp; 2] {
    [&files.cert, &files.key].map(|path| Stamp::of(path))
}

impl Stamp {
    fn of(path: &Path) -> Self {
        let of = |file: fs::Metadata| {
            [file.ino().cast_signed(), file.mtime(), file.mtime_nsec(), file.size().cast_signed()]
        };
        Self(fs::metadata(path).ok().map(of))
    }
}
