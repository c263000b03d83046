//! What a token may do.

use std::fmt;
use std::str::FromStr;

use crate::quoted;

/// One thing that a token may do. No right includes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Read, search and follow entries.
    Read,
    /// Add entries.
    Append,
    /// Black out entries.
    Redact,
    /// Administer the journal or the server.
    Admin,
}

impl Right {
    /// Every right, in the order in which they are written.
    pub const ALL: [Right; 4] = [Right::Read, Right::Append, Right::Redact, Right::Admin];

    /// Returns its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Append => "append",
            Self::Redact => "redact",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of rights, written as in `read,append`. The default is these two. Only a written one has at least one right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights(u8);

/// Why a string is not a list of rights.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a right; the rights are read, append, redact and admin")]
pub struct BadRights(String);

impl Rights {
    /// No right.
    pub const NONE: Self = Self(0);
    /// To add entries, and nothing else.
    pub const APPEND: Self = Self(Right::Append.bit());
    /// Every right.
    pub const ALL: Self =
        Self(Right::Read.bit() | Right::Append.bit() | Right::Redact.bit() | Right::Admin.bit());

    /// Returns the rights of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether they include a right.
    pub fn has(self, right: Right) -> bool {
        self.0 & right.bit() != 0
    }
}

impl Default for Rights {
    fn default() -> Self {
        Self(Right::Read.bit() | Right::Append.bit())
    }
}

impl FromStr for Rights {
    type Err = BadRights;

    fn from_str(list: &str) -> Result<Self, BadRights> {
        list.split(',').try_fold(Self(0), |rights, word| {
            let right = Right::ALL.into_iter().find(|right| right.as_str() == word);
            Ok(Self(rights.0 | right.ok_or_else(|| BadRights(quoted(word)))?.bit()))
        })
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> =
            Right::ALL.into_iter().filter(|&right| self.has(right)).map(Right::as_str).collect();
        f.write_str(&words.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_rights() {
        for (list, written) in [
            ("read", "read"),
            ("append,read", "read,append"),
            ("read,read", "read"),
            ("admin,redact,append,read", "read,append,redact,admin"),
        ] {
            let rights: Rights = list.parse().unwrap();
            assert_eq!(rights.to_string(), written);
            for right in Right::ALL {
                assert_eq!(rights.has(right), list.contains(right.as_str()), "{list}: {right}");
            }
        }
        assert_eq!(Rights::default().to_string(), "read,append");
        for (bad, word) in [
            ("", ""),
            ("read,", ""),
            ("read, append", " append"),
            ("Read", "Read"),
            ("all", "all"),
            ("read,\u{1b}[1m", "\\x1b[1m"),
            ("diary_aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq", "diary_aaaqeayeau…"),
        ] {
            let message = format!("\"{word}\" is not a right; the rights are read, append, redact and admin");
            assert_eq!(bad.parse::<Rights>().unwrap_err().to_string(), message);
        }
    }
}
