//! TLS: how a server proves who it is, before anything is sent to it.

use std::fmt;
use std::fmt::Write;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use diary_proto::Credential;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, InvalidMessage, OtherError, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::address::Address;
use crate::error::Error;

/// What a client shows and asks for when it connects.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// How a server on a `tls:` address proves who it is.
    pub trust: Trust,
    /// Token to log in with. It is sent through TLS, to a loopback address or over a Unix socket only.
    pub token: Option<Credential>,
}

/// How a TLS server proves who it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Trust {
    /// By a certificate for its host name that this system trusts.
    #[default]
    System,
    /// By having this key. Names and dates do not matter, so a renewed certificate for the same key is accepted.
    Pinned(Fingerprint),
}

/// SHA-256 of a server's public key (SubjectPublicKeyInfo, RFC 5280). Displays as `sha256:` and 64 hex digits, as the
/// server prints it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// Prefix of a fingerprint in text.
const FINGERPRINT_PREFIX: &str = "sha256:";

/// Not a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is sha256: and 64 hex digits")]
pub struct BadFingerprint;

impl Fingerprint {
    fn of(cert: &CertificateDer<'_>) -> Result<Self, rustls::Error> {
        Ok(Self(Sha256::digest(ParsedCertificate::try_from(cert)?.subject_public_key_info()).into()))
    }
}

impl FromStr for Fingerprint {
    type Err = BadFingerprint;

    fn from_str(text: &str) -> Result<Self, BadFingerprint> {
        let digits = text.strip_prefix(FINGERPRINT_PREFIX).ok_or(BadFingerprint)?.as_bytes();
        let (pairs, rest) = digits.as_chunks::<2>();
        let mut bytes = [0; 32];
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return Err(BadFingerprint);
        }
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = value(*high).zip(value(*low)).map(|(high, low)| high << 4 | low).ok_or(BadFingerprint)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = FINGERPRINT_PREFIX.to_owned();
        self.0.iter().try_for_each(|byte| write!(text, "{byte:02x}"))?;
        f.pad(&text)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Shakes hands with the server at `host_port`. On success, it is the one that `trust` asks for; on an error, nothing
/// but the handshake was sent.
pub(crate) async fn shake_hands(
    address: &Address,
    host_port: &str,
    trust: Trust,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Error> {
    let failed = |why: String| Error::Tls { address: address.clone(), why };
    let name = server_name(host_port).ok_or_else(|| failed("its host cannot be named in TLS".to_owned()))?;
    let config = config(trust).await.map_err(|error| failed(error.to_string()))?;
    let connected = TlsConnector::from(config).connect(name, stream).await;
    connected.map_err(|error| why_not(address, error))
}

/// Returns the fingerprint of a server that was verified.
pub(crate) fn fingerprint_of(stream: &TlsStream<TcpStream>) -> Option<Fingerprint> {
    Fingerprint::of(stream.get_ref().1.peer_certificates()?.first()?).ok()
}

fn server_name(host_port: &str) -> Option<ServerName<'static>> {
    let (host, _) = host_port.rsplit_once(':')?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    // The zone of a link-local address is only known on this machine.
    let host = inner.map_or(host, |inner| inner.split('%').next().unwrap_or(inner));
    ServerName::try_from(host.to_owned()).ok()
}

async fn config(trust: Trust) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let check = match trust {
        Trust::Pinned(expected) => Check::Key(expected),
        Trust::System => Check::Chain(chain_verifier(&provider).await),
    };
    let verifier = Verifier { check, algorithms: provider.signature_verification_algorithms };
    let versions = &[&rustls::version::TLS13, &rustls::version::TLS12];
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // A resumed connection shows no certificate.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Returns the verifier for chains that end in the system's certificates, if there are any.
async fn chain_verifier(provider: &Arc<CryptoProvider>) -> Option<Arc<WebPkiServerVerifier>> {
    static ROOTS: OnceCell<Arc<RootCertStore>> = OnceCell::const_new();
    let load = || async {
        // Not on a thread of the runtime: it reads files.
        let loaded = tokio::task::spawn_blocking(|| {
            let found = rustls_native_certs::load_native_certs();
            found.errors.iter().for_each(|error| tracing::debug!(%error, "certificates were left out"));
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(found.certs);
            roots
        });
        Arc::new(loaded.await.unwrap_or_else(|_| RootCertStore::empty()))
    };
    let roots = Arc::clone(ROOTS.get_or_init(load).await);
    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build().ok()
}

/// Decides whether a certificate is that of the right server, and whether the server has its key.
#[derive(Debug)]
struct Verifier {
    check: Check,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Check {
    Key(Fingerprint),
    /// `None` if the system trusts nobody.
    Chain(Option<Arc<WebPkiServerVerifier>>),
}

/// Why a certificate is not accepted.
#[derive(Debug, thiserror::Error)]
enum Distrust {
    #[error("expected the key {expected}, found {found}")]
    Changed { expected: Fingerprint, found: Fingerprint },
    #[error("{why}")]
    Unknown { found: Fingerprint, why: String },
}

impl From<Distrust> for rustls::Error {
    fn from(distrust: Distrust) -> Self {
        CertificateError::Other(OtherError(Arc::new(distrust))).into()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = Fingerprint::of(cert)?;
        match &self.check {
            Check::Key(expected) if *expected == found => Ok(ServerCertVerified::assertion()),
            Check::Key(expected) => Err(Distrust::Changed { expected: *expected, found }.into()),
            Check::Chain(None) => {
                Err(Distrust::Unknown { found, why: "it has no trusted certificates".to_owned() }.into())
            }
            Check::Chain(Some(verifier)) => {
                let verified = verifier.verify_server_cert(cert, chain, name, ocsp, now);
                verified.map_err(|error| Distrust::Unknown { found, why: in_words(&error) }.into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Says what is wrong with a certificate that the system does not trust.
fn in_words(error: &rustls::Error) -> String {
    use CertificateError as Bad;
    let rustls::Error::InvalidCertificate(bad) = error else { return error.to_string() };
    match bad {
        Bad::UnknownIssuer => "its issuer is unknown".to_owned(),
        Bad::Expired | Bad::ExpiredContext { .. } => "it has expired".to_owned(),
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => "it is not valid yet".to_owned(),
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => "it is for another host".to_owned(),
        _ => error.to_string(),
    }
}

/// Returns the error for a handshake that failed.
fn why_not(address: &Address, error: io::Error) -> Error {
    let address = address.clone();
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why)))) => {
            match why.downcast_ref::<Distrust>() {
                Some(Distrust::Changed { expected, found }) => {
                    Error::ChangedKey { address, expected: *expected, found: *found }
                }
                Some(Distrust::Unknown { found, why }) => {
                    Error::Untrusted { address, found: *found, why: why.clone() }
                }
                None => Error::Tls { address, why: why.to_string() },
            }
        }
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            Error::Tls { address, why: "this port does not speak TLS".to_owned() }
        }
        Some(error) => Error::Tls { address, why: error.to_string() },
        None => Error::broken(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_written_as_servers_print_them() {
        let text = format!("sha256:{}", "0f".repeat(32));
        assert_eq!(text.parse::<Fingerprint>().unwrap().to_string(), text);
        assert_eq!(text.to_uppercase().replace("SHA256", "sha256").parse(), text.parse::<Fingerprint>());
        for bad in [
            String::new(),
            "0f".repeat(32),
            format!("sha256:{}", "0f".repeat(31)),
            format!("sha256:{}0", "0f".repeat(32)),
            format!("sha256:{}", "+f".repeat(32)),
            format!("sha256:{}", "é".repeat(32)),
        ] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(BadFingerprint), "{bad}");
        }
    }

    #[test]
    fn names_for_the_handshake() {
        for (address, name) in [
            ("diary.example:1", Some("diary.example")),
            ("127.0.0.1:1", Some("127.0.0.1")),
            ("[::1]:1", Some("::1")),
            ("[fe80::1%eth0]:1", Some("fe80::1")),
            ("a_host:1", Some("a_host")),
            ("日记.example:1", None),
        ] {
            assert_eq!(server_name(address).map(|name| name.to_str().into_owned()).as_deref(), name);
        }
    }
}
