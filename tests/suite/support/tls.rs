//! TLS clients.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, SupportedProtocolVersion,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{peer, run, soon};

/// Takes every certificate, if its owner has the key.
#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn config(versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_protocol_versions(versions).unwrap().dangerous();
    let verifier = Arc::new(Anybody(ring::default_provider()));
    Arc::new(config.with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// A client that has sent nothing yet.
pub(crate) fn tls_client() -> ClientConnection {
    ClientConnection::new(config(rustls::ALL_VERSIONS), name()).unwrap()
}

/// What a client has to send now.
pub(crate) fn records(client: &mut ClientConnection, plaintext: &[u8]) -> Vec<u8> {
    client.writer().write_all(plaintext).unwrap();
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Shakes hands with a server at `HOST:PORT`, with or without `tls:` before it.
pub(crate) async fn connect_tls(address: &str) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address.trim_start_matches("tls:")).await.unwrap();
    shake_hands(stream, rustls::ALL_VERSIONS).await
}

/// Shakes hands over a connection.
pub(crate) async fn shake_hands(
    stream: TcpStream,
    versions: &[&'static SupportedProtocolVersion],
) -> TlsStream<TcpStream> {
    let connected = TlsConnector::from(config(versions)).connect(name(), stream);
    soon("the server shakes hands", connected).await.unwrap()
}

/// A plain connection whose other end is that of a TLS one, for clients that know only those.
pub(crate) async fn tunnel(mut tls: TlsStream<TcpStream>) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    tokio::spawn(async move { tokio::io::copy_bidirectional(&mut far, &mut tls).await });
    near
}

/// The certificate that a server has shown.
pub(crate) fn certificate_of(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

/// The certificate in a file.
pub(crate) fn certificate_in(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// Makes a certificate and its key, of a kind that `openssl req -newkey` knows.
pub(crate) async fn make_certificate(kind: &[&str], cert: &Path, key: &Path) {
    let mut openssl = peer("openssl");
    openssl.args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=test", "-newkey"]).args(kind);
    let ran = run(openssl.arg("-keyout").arg(key).arg("-out").arg(cert), "").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

pub(crate) const EC: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
pub(crate) const RSA: &[&str] = &["rsa:2048"];
