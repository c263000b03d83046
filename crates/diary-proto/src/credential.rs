//! What a client shows to be let in.

use std::fmt;

/// Longest text that can be a token; longer ones are none.
const CREDENTIAL_MAX_BYTES: usize = 128;

/// Stands for such a text, and is no token.
const TOO_LONG: &str = "-";

/// A token as a client shows it, which may not be one. `Debug` does not show it, so that it gets into no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(Box<str>);

impl Credential {
    /// Takes the text for a token. Of one that is too long to be one, nothing is kept.
    pub fn new(text: &str) -> Self {
        Self(if text.len() <= CREDENTIAL_MAX_BYTES { text.into() } else { TOO_LONG.into() })
    }

    /// Returns the secret text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}
