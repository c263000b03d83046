//! What one token grants: one line of the file.

use std::io;

use jiff::Timestamp;

use crate::journals::Journals;
use crate::name::Name;
use crate::rights::{Right, Rights};
use crate::token::{Token, TokenHash};

/// Expiry of a token that does not expire.
const NEVER: &str = "never";

/// What one token grants, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The author of what is written with it.
    pub name: Name,
    /// What it allows.
    pub rights: Rights,
    /// In which journals.
    pub journals: Journals,
    /// When the token was made.
    pub created: Timestamp,
    /// When it stops granting anything; `None` for never.
    pub expires: Option<Timestamp>,
    /// The token's hash.
    pub hash: TokenHash,
}

impl Grant {
    /// Creates a token. The grant keeps only its hash, so the token has to be shown now or never.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn issue(
        name: Name,
        rights: Rights,
        journals: Journals,
        now: Timestamp,
        expires: Option<Timestamp>,
    ) -> io::Result<(Self, Token)> {
        let token = Token::random()?;
        let created = whole_seconds(now);
        Ok((Self { name, rights, journals, created, expires, hash: token.hash() }, token))
    }

    /// Whether it grants a right in a journal. An expired token grants nothing.
    pub fn may(&self, right: Right, journal: &str, now: Timestamp) -> bool {
        self.rights_in(journal, now).has(right)
    }

    /// Returns the rights that it grants in a journal: none where it does not cover it, or has expired.
    pub fn rights_in(&self, journal: &str, now: Timestamp) -> Rights {
        let granted = !self.is_expired(now) && self.journals.cover(journal);
        if granted { self.rights } else { Rights::NONE }
    }

    /// Whether it has expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }

    /// Returns its line, without a line feed.
    pub(crate) fn to_line(&self) -> String {
        let Self { name, rights, journals, created, expires, hash } = self;
        let expires = expires.map_or(NEVER.to_owned(), |expires| expires.to_string());
        format!("{name} {rights} {journals} {created} {expires} {hash}")
    }

    /// Parses a line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [name, rights, journals, created, expires, hash] = columns[..] else {
            let count = columns.len();
            return Err(format!("a token has 6 columns; this line has {count}"));
        };
        Ok(Self {
            name: name.parse().map_err(said)?,
            rights: rights.parse().map_err(said)?,
            journals: journals.parse().map_err(said)?,
            created: created
                .parse()
                .map_err(|_| "column 4 is not a time; write one as in 2026-11-27T10:00:00Z".to_owned())?,
            expires: (expires != NEVER).then(|| expires.parse()).transpose().map_err(|_| {
                format!("column 5 is not a time; write one as in 2026-11-27T10:00:00Z, or {NEVER}")
            })?,
            hash: TokenHash::from_hex(hash)
                .ok_or("column 6 is not a hash; it has 64 lower-case hex digits")?,
        })
    }
}

/// Cuts a time to whole seconds, which are easier to read.
pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).expect("a time's second is a time")
}

fn said(error: impl ToString) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;

    fn grant(expires: Option<Timestamp>) -> Grant {
        let (rights, journals) = ("read,append".parse().unwrap(), "work*".parse().unwrap());
        Grant::issue("anna".parse().unwrap(), rights, journals, Timestamp::UNIX_EPOCH, expires).unwrap().0
    }

    #[test]
    fn rights_hold_in_their_journals() {
        let now = Timestamp::UNIX_EPOCH;
        for (right, journal, may) in [
            (Right::Read, "work", true),
            (Right::Append, "work-2", true),
            (Right::Redact, "work", false),
            (Right::Admin, "work", false),
            (Right::Read, "wor", false),
            (Right::Append, "diary", false),
        ] {
            assert_eq!(grant(None).may(right, journal, now), may, "{right} {journal}");
        }
    }

    #[test]
    fn nothing_is_granted_from_the_instant_of_expiry_on() {
        let expires: Timestamp = "2027-02-01T00:00:00Z".parse().unwrap();
        let grant = grant(Some(expires));
        for (now, may) in [(expires - 1.nanosecond(), true), (expires, false), (expires + 1.hour(), false)] {
            assert_eq!((grant.may(Right::Read, "work", now), grant.is_expired(now)), (may, !may), "{now}");
        }
    }
}
