//! The identity that a server makes for itself: a key and a certificate that it signs with it, in `tls/` of its data folder.
//!
//! The key is the identity. Whoever has only that makes the certificate again.

use std::error::Error;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType, date_time_ymd};
use rustix::fs::{FlockOperation, flock};

use super::TlsError;
use crate::config::TlsFiles;

/// The common name. Clients compare the fingerprint.
const NAME: &str = "diary-server";

/// The files in `folder`, which are made if they are not there.
pub(super) fn make_missing(folder: &Path) -> Result<TlsFiles, TlsError> {
    let files = TlsFiles { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
    match try_make_missing(folder, &files) {
        Ok(()) => Ok(files),
        Err(error) => Err(TlsError::Own { folder: folder.to_owned(), why: error.to_string() }),
    }
}

fn try_make_missing(folder: &Path, files: &TlsFiles) -> Result<(), Box<dyn Error>> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    if !fs::symlink_metadata(folder)?.is_dir() {
        return Err("it is not a folder".into());
    }
    // A power cut must not take the key away again: clients know it.
    for above in folder.ancestors().skip(1).take(2).filter(|above| !above.as_os_str().is_empty()) {
        File::open(above)?.sync_all()?;
    }
    // Servers of several journals may share the folder. Where it cannot be locked, they are not started at once.
    let lock = File::open(folder)?;
    let _ = flock(&lock, FlockOperation::LockExclusive);
    if is_there(&files.key)? {
        let mode = fs::symlink_metadata(&files.key)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            let key = files.key.display();
            return Err(
                format!("{key} is open to other users (mode {mode:03o}); run: chmod 600 '{key}'").into()
            );
        }
    } else {
        write_whole(folder, &files.key, &KeyPair::generate()?.serialize_pem())?;
        if is_there(&files.cert)? {
            // One for another key.
            tracing::warn!(key = %files.key.display(), "the key is gone, and clients that have pinned it stop; a new one is made");
            remove(&files.cert)?;
        }
    }
    if !is_there(&files.cert)? {
        let key = KeyPair::from_pem(&fs::read_to_string(&files.key)?)?;
        write_whole(folder, &files.cert, &params()?.self_signed(&key)?.pem())?;
    }
    Ok(())
}

/// Whether there is a file.
///
/// # Errors
/// There is something else, such as a link.
fn is_there(path: &Path) -> Result<bool, Box<dyn Error>> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => Ok(true),
        Ok(_) => Err(format!("{} is not a regular file", path.display()).into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn params() -> Result<CertificateParams, Box<dyn Error>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, NAME);
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let is_name = |name: &String| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
    };
    for name in [hostname, "localhost".to_owned()].into_iter().filter(is_name) {
        params.subject_alt_names.push(SanType::DnsName(name.try_into()?));
    }
    for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        params.subject_alt_names.push(SanType::IpAddress(address));
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Clocks may be wrong, and nobody renews it: this end stands for none (RFC 5280, 4.1.2.5).
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    Ok(params)
}

/// Makes a file that is whole or not there, whatever happens meanwhile.
fn write_whole(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    remove(&new)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

/// What a run that was ended has left, if anything.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
