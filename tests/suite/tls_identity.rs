//! Who a TLS server is: made once and kept, or read from files, also while it runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncBufReadExt, BufReader, Lines as LinesOf};
use tokio::process::{ChildStderr, Command};

use crate::support::{
    EC, Lines, Process, RSA, certificate_in, certificate_of, connect_tls, make_certificate, peer,
    plain_server_command, run, server_command, soon, tunnel,
};

/// A server's log, as it comes.
struct Log(LinesOf<BufReader<ChildStderr>>);

impl Log {
    /// Waits for a line that has this in it.
    async fn wait(&mut self, part: &str) -> String {
        loop {
            let line = soon(part, self.0.next_line()).await.unwrap().expect("the server runs");
            if line.contains(part) {
                return line;
            }
        }
    }
}

fn command(data: &Path) -> Command {
    let mut command = server_command(data);
    command.args(["--listen", "tls:127.0.0.1:0", "--timezone", "UTC"]);
    command
}

async fn start(mut command: Command) -> (Process, Log) {
    let mut process = Process::spawn(command_logging(&mut command), 1).await;
    let log = process.child.stderr.take().unwrap();
    (process, Log(BufReader::new(log).lines()))
}

fn command_logging(command: &mut Command) -> Command {
    command.stderr(Stdio::piped());
    std::mem::replace(command, plain_server_command())
}

/// The words behind `fingerprint=` in a line of the log.
fn fingerprint_in(line: &str) -> String {
    let (_, rest) = line.split_once("fingerprint=").unwrap();
    rest.split_whitespace().next().unwrap().trim_matches('"').to_owned()
}

async fn shown(process: &Process) -> CertificateDer<'static> {
    certificate_of(&connect_tls(process.address()).await)
}

/// Waits until the server shows this certificate.
async fn shows(process: &Process, cert: &Path) {
    let expected = certificate_in(cert);
    soon("the server shows it", async { while shown(process).await != expected {} }).await;
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The SHA-256 of a certificate's public key, as OpenSSL has it.
pub(crate) async fn fingerprint_by_openssl(cert: &Path) -> String {
    let script = r#"openssl x509 -in "$1" -pubkey -noout | openssl pkey -pubin -outform der | sha256sum"#;
    let ran = run(peer("bash").args(["-euc", script, "bash"]).arg(cert), "").await;
    format!("sha256:{}", ran.stdout.split(' ').next().unwrap())
}

#[tokio::test]
async fn an_identity_is_made_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let tls = folder.path().join("data/tls");
    let (cert, key) = (tls.join("cert.pem"), tls.join("key.pem"));
    let mut before = None;
    for round in 0..4 {
        // A wide umask leaves the key alone.
        let mut wide = peer("bash");
        wide.args(["-euc", r#"umask 0; exec "$@""#, "bash"]);
        let (process, mut log) =
            start(crate::support::faulty::under(wide, command(&folder.path().join("data")))).await;
        let told = fingerprint_in(&log.wait("serving TLS").await);
        assert_eq!(told, fingerprint_by_openssl(&cert).await);
        assert_eq!(shown(&process).await, certificate_in(&cert));
        assert_eq!((mode(&tls), mode(&cert), mode(&key)), (0o700, 0o600, 0o600));
        assert_eq!(fs::read_dir(&tls).unwrap().count(), 2);
        process.stop().await;
        let files = (told, fs::read(&cert).unwrap(), fs::read(&key).unwrap());
        match &before {
            None => {}
            Some((fingerprint, _, key)) if round == 2 => assert_eq!((fingerprint, key), (&files.0, &files.2)),
            Some(before) if round == 1 => assert_eq!(*before, files),
            Some(before) => assert_ne!(before.0, files.0),
        }
        before = Some(files);
        // A crash between the two, and someone who wants another key.
        match round {
            1 => fs::remove_file(&cert).unwrap(),
            2 => fs::remove_file(&key).unwrap(),
            _ => fs::write(tls.join("key.new"), "half of a k").unwrap(),
        }
        if round == 0 {
            fs::remove_file(tls.join("key.new")).unwrap();
        }
    }
}

#[tokio::test]
async fn the_fingerprint_is_printed_behind_the_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = command(folder.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = async || soon("a line comes", lines.next_line()).await.unwrap().unwrap();
    assert!(line().await.starts_with("listening on tls:127.0.0.1:"));
    let fingerprint = line().await;
    let expected = fingerprint_by_openssl(&folder.path().join("tls/cert.pem")).await;
    assert_eq!(fingerprint.strip_prefix("fingerprint ").unwrap(), expected);
    child.kill().await.unwrap();
}

/// The certificate says whose it is, so a client that has it needs nothing else.
#[tokio::test]
async fn a_client_that_has_the_certificate_may_check_it() {
    let folder = tempfile::tempdir().unwrap();
    let (process, _log) = start(command(folder.path())).await;
    let address = process.address().strip_prefix("tls:").unwrap();
    for name in ["-verify_ip", "-verify_hostname"] {
        let name = [name, if name == "-verify_ip" { "127.0.0.1" } else { "localhost" }];
        let mut openssl = peer("openssl");
        openssl.args(["s_client", "-quiet", "-verify_return_error", "-connect", address]).args(name);
        let ran = run(openssl.arg("-CAfile").arg(folder.path().join("tls/cert.pem")), "/quit\n").await;
        assert!(ran.code == Some(0) && ran.stdout.ends_with("\nbye\n"), "{ran:?}");
    }
    process.stop().await;
}

struct Files {
    folder: tempfile::TempDir,
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    async fn new(kind: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        make_certificate(kind, &cert, &key).await;
        Self { folder, cert, key }
    }

    fn command(&self) -> Command {
        let mut command = command(&self.folder.path().join("data"));
        command.arg("--tls-cert").arg(&self.cert).arg("--tls-key").arg(&self.key);
        command
    }

    /// Another pair, beside these.
    async fn other(&self, kind: &[&str]) -> (PathBuf, PathBuf) {
        let (cert, key) = (self.folder.path().join("cert.new"), self.folder.path().join("key.new"));
        make_certificate(kind, &cert, &key).await;
        (cert, key)
    }
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections() {
    let files = Files::new(EC).await;
    let (process, mut log) = start(files.command()).await;
    assert_eq!(shown(&process).await, certificate_in(&files.cert));
    assert!(!files.folder.path().join("data/tls").exists());
    let mut old = Lines::over(tunnel(connect_tls(process.address()).await).await).await;
    for kind in [RSA, EC] {
        let (cert, key) = files.other(kind).await;
        fs::rename(&key, &files.key).unwrap();
        fs::rename(&cert, &files.cert).unwrap();
        shows(&process, &files.cert).await;
        let told = fingerprint_in(&log.wait("read again").await);
        assert_eq!(told, fingerprint_by_openssl(&files.cert).await);
        assert!(old.ask("goes on").await.starts_with("ok "));
    }
    // Nothing has changed, so it is the signal that has them read.
    process.signal(Signal::HUP);
    log.wait("read again").await;
    assert!(old.ask("and on").await.starts_with("ok "));
    drop(old);
    process.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_changes_nothing_and_the_log_says_so() {
    let files = Files::new(EC).await;
    let first = certificate_in(&files.cert);
    let (process, mut log) = start(files.command()).await;
    let (cert, key) = files.other(EC).await;
    let (name, key_name) = (files.cert.display().to_string(), files.key.display().to_string());
    let old = fs::read(&files.cert).unwrap();
    for (bytes, why) in [
        (&b"no PEM"[..], format!("{name} has no certificate")),
        (b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", format!("{name} has no valid PEM")),
        (
            &fs::read(&cert).unwrap(),
            format!("the key in {key_name} does not belong to the certificate in {name}"),
        ),
    ] {
        fs::write(&files.cert, bytes).unwrap();
        let line = log.wait("stays as it was").await;
        assert!(line.contains(&why), "{line}");
        assert_eq!(shown(&process).await, first);
    }
    fs::remove_file(&files.cert).unwrap();
    assert!(log.wait("stays as it was").await.contains(&format!("cannot read {name}")));
    assert_eq!(shown(&process).await, first);
    // What is right in the end is taken up.
    fs::write(&files.cert, old).unwrap();
    log.wait("read again").await;
    fs::rename(&key, &files.key).unwrap();
    fs::rename(&cert, &files.cert).unwrap();
    shows(&process, &files.cert).await;
    process.stop().await;
}

/// Runs a server that cannot start, and returns its exit code and what it says.
async fn refused(command: &mut Command) -> (Option<i32>, String) {
    let ran = run(command.args(["--log", "error"]), "").await;
    assert_eq!(ran.stdout, "");
    (ran.code, ran.stderr)
}

#[tokio::test]
async fn a_server_without_an_identity_does_not_start() {
    let files = Files::new(EC).await;
    let (_, other) = files.other(RSA).await;
    let (cert, key) = (files.cert.display(), files.key.display());
    fs::rename(&other, &files.key).unwrap();
    let mismatch = format!("diary-server: the key in {key} does not belong to the certificate in {cert}\n");
    assert_eq!(refused(&mut files.command()).await, (Some(2), mismatch));
    fs::write(&files.key, "no key").unwrap();
    let (code, said) = refused(&mut files.command()).await;
    assert!(
        code == Some(2) && said.starts_with(&format!("diary-server: {key} has no private key")),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1);
    fs::remove_file(&files.key).unwrap();
    let (code, said) = refused(&mut files.command()).await;
    assert!(code == Some(2) && said.starts_with(&format!("diary-server: cannot read {key}: ")), "{said}");
    assert!(!files.folder.path().join("data").exists(), "nothing was made");

    let (code, said) = refused(command(files.folder.path()).arg("--tls-cert").arg(&files.cert)).await;
    assert!(code == Some(2) && said.contains("--tls-key"), "{said}");
    let mut plain = server_command(files.folder.path());
    plain.args(["--listen", "127.0.0.1:0", "--tls-cert", "x", "--tls-key", "y"]);
    let (code, said) = refused(&mut plain).await;
    assert!(code == Some(2) && said.contains("--listen tls:"), "{said}");

    // The data folder is somebody's file.
    let (code, said) = refused(&mut command(&files.cert)).await;
    assert!(code == Some(4) && said.ends_with("Not a directory (os error 20)\n"), "{said}");
}

/// Without files to read again, it is the end of the terminal.
#[tokio::test]
async fn a_hangup_stops_a_server_that_has_made_its_identity() {
    let folder = tempfile::tempdir().unwrap();
    let (mut process, _log) = start(command(folder.path())).await;
    process.signal(Signal::HUP);
    assert_eq!(process.wait().await, Some(0));
}
