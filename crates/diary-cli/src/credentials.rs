//! The file `credentials`: the keys of servers, and the tokens that they know their user by.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use diary_client::{Access, Address, Credential, Fingerprint, Trust};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::render::careful;
use crate::term::whole;

/// Limit on the file: thousands of servers.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// Limit on a token, ten times as long as those of today.
const TOKEN_MAX_BYTES: usize = 600;

/// First line of the file.
const HEADING: &str =
    "# Written by diary login and diary logout. A token is a password: show this file to nobody.\n";

/// What is kept of one server.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    /// The pinned key; without one, the system has to trust the server's certificate.
    #[serde(
        default,
        deserialize_with = "fingerprint",
        serialize_with = "as_text",
        skip_serializing_if = "Option::is_none"
    )]
    fingerprint: Option<Fingerprint>,
    #[serde(
        default,
        deserialize_with = "token",
        serialize_with = "revealed",
        skip_serializing_if = "Option::is_none"
    )]
    token: Option<Credential>,
}

// None of these errors shows a value, which may be a token.

fn fingerprint<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Fingerprint>, D::Error> {
    String::deserialize(value)?.parse().map(Some).map_err(de::Error::custom)
}

fn token<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Credential>, D::Error> {
    parse_token(&String::deserialize(value)?)
        .map(Some)
        .map_err(|why| de::Error::custom(format!("a token {why}")))
}

fn as_text<S: Serializer>(fingerprint: &Option<Fingerprint>, to: S) -> Result<S::Ok, S::Error> {
    fingerprint.map(|fingerprint| fingerprint.to_string()).serialize(to)
}

fn revealed<S: Serializer>(token: &Option<Credential>, to: S) -> Result<S::Ok, S::Error> {
    token.as_ref().map(Credential::reveal).serialize(to)
}

/// What is kept of all servers, by address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials(BTreeMap<String, Saved>);

impl Credentials {
    /// Reads the file at `path`; a missing file is an empty one.
    ///
    /// # Errors
    /// A sentence, also if other users may read the file.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let wrong = |error: io::Error| format!("cannot read {shown}: {error}");
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            file => file.map_err(wrong)?,
        };
        let metadata = file.metadata().map_err(wrong)?;
        if !metadata.is_file() {
            return Err(format!("{shown} is not a file"));
        }
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(format!(
                "{shown} is open to other users (mode {mode:03o}); run: chmod 600 '{shown}'"
            ));
        }
        let mut text = String::new();
        file.take(FILE_MAX_BYTES + 1).read_to_string(&mut text).map_err(wrong)?;
        if text.len() as u64 > FILE_MAX_BYTES {
            return Err(format!("{shown} has more than {FILE_MAX_BYTES} bytes"));
        }
        toml::from_str(&text).map(Self).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let (line, why) = (before.matches('\n').count() + 1, careful(error.message()));
            format!("{shown}:{line}: {why}; mend it, or remove it and run diary login again")
        })
    }

    /// Writes the file, for this user only.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<(), whole::FileError> {
        let unwritable = |source| whole::FileError::Unwritable { path: path.to_owned(), source };
        let text = toml::to_string(&self.0).map_err(|error| unwritable(io::Error::other(error)))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unwritable)?;
        whole::replace(path, &format!("{HEADING}\n{text}"), 0o600).map_err(unwritable)
    }

    /// Returns what is kept for the address: for its journal, or else for the server.
    pub(crate) fn access(&self, address: &Address) -> Access {
        let server = Address { journal: None, ..address.clone() };
        let of = |address: &Address| self.0.get(&address.to_string());
        let kept = [of(address), of(&server)];
        // The key is that of the server, whatever the journal.
        let known = self.0.iter().filter(|(other, _)| is_at(other, address));
        let trust = known.into_iter().find_map(|(_, saved)| saved.fingerprint).map(Trust::Pinned);
        let token = kept.iter().flatten().find_map(|saved| saved.token.clone());
        Access { trust: trust.unwrap_or_default(), token }
    }

    /// Keeps the access. The key is that of the server, whatever the journal.
    pub(crate) fn keep(&mut self, address: &Address, access: &Access) {
        let fingerprint = match access.trust {
            Trust::System => None,
            Trust::Pinned(fingerprint) => Some(fingerprint),
        };
        self.0.insert(address.to_string(), Saved { fingerprint, token: access.token.clone() });
        for (_, saved) in self.0.iter_mut().filter(|(other, _)| is_at(other, address)) {
            saved.fingerprint = fingerprint;
        }
    }

    /// Forgets an address; without a journal, those with one, too. Returns whether anything was kept.
    pub(crate) fn forget(&mut self, address: &Address) -> bool {
        let before = self.0.len();
        let name = address.to_string();
        self.0.retain(|other, _| *other != name && !(address.journal.is_none() && is_at(other, address)));
        self.0.len() < before
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Returns whether two addresses are of the same server.
fn is_at(kept: &str, address: &Address) -> bool {
    kept.parse::<Address>().is_ok_and(|kept| kept.at == address.at)
}

/// Returns the path of the file beside that of the configuration.
pub(crate) fn path_beside(configuration: &Path) -> PathBuf {
    configuration.with_file_name("credentials")
}

/// Reads a token from a file or a pipe, as its only line.
///
/// # Errors
/// What is wrong, for the end of a sentence.
pub(crate) fn read_token(input: impl Read) -> Result<Credential, String> {
    let mut text = String::new();
    let limit = TOKEN_MAX_BYTES as u64 + 3;
    input.take(limit).read_to_string(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    parse_token(&text)
}

/// # Errors
/// What is wrong, for the end of a sentence.
pub(crate) fn parse_token(text: &str) -> Result<Credential, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("is empty".to_owned());
    }
    if text.len() > TOKEN_MAX_BYTES || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("is not one word of at most {TOKEN_MAX_BYTES} bytes"));
    }
    Ok(Credential::new(text))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("diary/credentials");
        assert_eq!(Credentials::read(&path).unwrap().len(), 0);
        let pins = ["1f", "2e"].map(|byte| format!("sha256:{}", byte.repeat(32)).parse().unwrap());
        let access = |pin: usize, token: &str| Access {
            trust: Trust::Pinned(pins[pin]),
            token: Some(Credential::new(token)).filter(|token| !token.reveal().is_empty()),
        };
        let mut kept = Credentials::default();
        kept.keep(&address("tls:h:1"), &access(0, "all"));
        kept.keep(&address("unix:/run/a \"b\".sock"), &Access { trust: Trust::System, ..access(0, "local") });
        kept.keep(&address("tls:h:1=work"), &access(1, "work"));
        kept.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let mut read = Credentials::read(&path).unwrap();
        for (server, token, trust) in [
            ("tls:h:1", Some("all"), Trust::Pinned(pins[1])),
            ("tls:h:1=home", Some("all"), Trust::Pinned(pins[1])),
            ("tls:h:1=work", Some("work"), Trust::Pinned(pins[1])),
            ("tls:h:2", None, Trust::System),
            ("h:1", None, Trust::System),
            ("unix:/run/a \"b\".sock", Some("local"), Trust::System),
        ] {
            let access = read.access(&address(server));
            assert_eq!(
                (access.token.as_ref().map(Credential::reveal), access.trust),
                (token, trust),
                "{server}"
            );
        }
        assert!(!read.forget(&address("tls:h:1=home")));
        assert!(read.forget(&address("tls:h:1=work")));
        assert!(read.forget(&address("tls:h:1")) && read.len() == 1);
    }

    #[test]
    fn no_error_shows_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        for (text, part) in [
            ("[\"tls:h:1\"]\nfingerprint = \"diary_x\"\n", ":2: a fingerprint is sha256: and 64 hex digits"),
            ("[\"tls:h:1\"]\ntoken = \"diary_x y\"\n", ":2: a token is not one word"),
            ("[\"tls:h:1\"]\ntoken = \"\"\n", ":2: a token is empty"),
            ("[\"tls:h:1\"]\ntoken = diary_x\n", ":2: "),
            ("[\"tls:h:1\"]\ntokens = \"diary_x\"\n", ":2: unknown field `tokens`"),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let why = Credentials::read(&path).unwrap_err();
            assert!(why.contains(part) && !why.contains("diary_x"), "{text}: {why}");
        }
        for mode in [0o604, 0o640, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let why = Credentials::read(&path).unwrap_err();
            assert!(
                why.contains(&format!("is open to other users (mode {mode:o}); run: chmod 600 ")),
                "{why}"
            );
        }
    }

    #[test]
    fn what_a_token_is() {
        for (text, token) in
            [("diary_x", Some("diary_x")), (" diary_x\r\n", Some("diary_x")), ("\n", None), ("a b", None)]
        {
            assert_eq!(read_token(text.as_bytes()).ok().as_ref().map(Credential::reveal), token);
        }
        assert!(read_token("x".repeat(TOKEN_MAX_BYTES).as_bytes()).is_ok());
        assert!(read_token("x".repeat(TOKEN_MAX_BYTES + 1).as_bytes()).is_err());
    }
}
