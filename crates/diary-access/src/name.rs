//! Names of tokens.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use diary_proto::Author;

/// The name of a token, which is the author of everything that is written with it: a valid [`Author`] without `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(Author);

/// Why a string is not the name of a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// It cannot be an author; says why.
    #[error("{0}")]
    Author(Cow<'static, str>),
    /// `anna` and `anna/phone` would both be able to write as `anna/phone`.
    #[error("a token's name cannot contain '/'; its writer can add one with /name, as in anna/phone")]
    Slash,
    /// Writers without a name are called so: `local`, an address, or `uid:` and a number.
    #[error("a token cannot be named {0}, which is what the server calls writers without a name")]
    Given(String),
    /// Its line would be a comment.
    #[error("a token's name cannot start with '#'")]
    Comment,
}

impl Name {
    /// Returns the author that it writes as.
    pub fn author(&self) -> &Author {
        &self.0
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(name: &str) -> Result<Self, BadName> {
        let author = Author::new(name).map_err(|refusal| BadName::Author(refusal.message))?;
        if name.contains('/') {
            return Err(BadName::Slash);
        }
        if name == "local" || name.starts_with("uid:") || name.parse::<IpAddr>().is_ok() {
            return Err(BadName::Given(name.to_owned()));
        }
        if name.starts_with('#') {
            return Err(BadName::Comment);
        }
        Ok(Self(author))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["anna", "小明", "a#b", "-", "diary_x"] {
            assert_eq!(good.parse::<Name>().unwrap().author().as_str(), good);
        }
        for (bad, why) in [
            ("", "a name cannot be empty"),
            ("a b", "a name cannot contain spaces, control characters or backslashes"),
            ("\u{200b}", "a name needs at least one visible character"),
            (&"x".repeat(65), "a name can have at most 64 bytes; this one has 65"),
            (
                "anna/phone",
                "a token's name cannot contain '/'; its writer can add one with /name, as in anna/phone",
            ),
            ("local", "a token cannot be named local, which is what the server calls writers without a name"),
            ("::1", "a token cannot be named ::1, which is what the server calls writers without a name"),
            ("uid:0", "a token cannot be named uid:0, which is what the server calls writers without a name"),
            ("#anna", "a token's name cannot start with '#'"),
        ] {
            assert_eq!(bad.parse::<Name>().unwrap_err().to_string(), why, "{bad:?}");
        }
    }
}
