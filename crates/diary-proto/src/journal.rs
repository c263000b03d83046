//! Names of journals, and addresses that name one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::limits::JOURNAL_NAME_MAX_BYTES;

/// The journal of a server that nobody has told otherwise.
pub const DEFAULT_JOURNAL: &str = "diary";

/// What lies beside the journals: a server's certificate, its tokens, and when they were used.
const RESERVED: [&str; 3] = ["tls", "access", "access-used"];

/// The name of a journal, which is also the name of its folder. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalName(Arc<str>);

/// Why a string is not the name of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadJournalName {
    /// It is too long, empty, or has other characters.
    #[error("a journal's name has 1 to {JOURNAL_NAME_MAX_BYTES} bytes of letters, digits, '-', '_' and '.'")]
    Form,
    /// The server keeps something else under this name.
    #[error("no journal can be called {}; the server needs these names", RESERVED.join(", "))]
    Reserved,
}

impl JournalName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Splits `ADDRESS=NAME`. A path may have an `=`, too; what follows its last one is a name if it can be.
    ///
    /// # Errors
    /// [`BadJournalName`].
    pub fn split_address(address: &str) -> Result<(&str, Option<Self>), BadJournalName> {
        let Some((at, name)) = address.rsplit_once('=') else { return Ok((address, None)) };
        match name.parse() {
            Ok(name) => Ok((at, Some(name))),
            Err(_) if name.contains('/') => Ok((address, None)),
            Err(bad) => Err(bad),
        }
    }
}

impl Default for JournalName {
    fn default() -> Self {
        Self(DEFAULT_JOURNAL.into())
    }
}

impl FromStr for JournalName {
    type Err = BadJournalName;

    fn from_str(name: &str) -> Result<Self, BadJournalName> {
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
        let has_length = (1..=JOURNAL_NAME_MAX_BYTES).contains(&name.len());
        if !has_length || name.starts_with('.') || !name.chars().all(fits) {
            return Err(BadJournalName::Form);
        }
        if RESERVED.contains(&name) {
            return Err(BadJournalName::Reserved);
        }
        Ok(Self(name.into()))
    }
}

impl fmt::Display for JournalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["diary", "work", "工作", "a.b-c_9", "-", &"x".repeat(64)] {
            assert_eq!(good.parse::<JournalName>().map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for bad in
            ["", ".", "..", ".work", "a/b", "a b", "a=b", "a:b", "a\n", "a\u{301}\u{200b}", &"x".repeat(65)]
        {
            assert_eq!(bad.parse::<JournalName>(), Err(BadJournalName::Form), "{bad:?}");
        }
        for reserved in RESERVED {
            assert_eq!(reserved.parse::<JournalName>(), Err(BadJournalName::Reserved));
        }
        assert_eq!(DEFAULT_JOURNAL.parse(), Ok(JournalName::default()));
    }

    #[test]
    fn addresses_that_name_one() {
        for (address, at, name) in [
            ("127.0.0.1:8888", "127.0.0.1:8888", None),
            ("[::1]:8888=work", "[::1]:8888", Some("work")),
            ("unix:/run/d=work", "unix:/run/d", Some("work")),
            ("unix:/run/d=/x", "unix:/run/d=/x", None),
            ("unix:/run/a=b=work", "unix:/run/a=b", Some("work")),
        ] {
            let name = name.map(|name| name.parse().unwrap());
            assert_eq!(JournalName::split_address(address), Ok((at, name)), "{address}");
        }
        for (bad, why) in [
            ("h:1=", BadJournalName::Form),
            ("h:1=a b", BadJournalName::Form),
            ("h:1=tls", BadJournalName::Reserved),
        ] {
            assert_eq!(JournalName::split_address(bad), Err(why), "{bad}");
        }
    }
}
