//! The secret that a client shows, and the hash that the server keeps of it.

use std::fmt;
use std::io;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Makes a token recognisable to people, and to programs that scan for leaked secrets.
const PREFIX: &str = "diary_";

/// 256 bits cannot be guessed, so the hash needs neither salt nor stretching.
const SECRET_BYTES: usize = 32;

/// A secret that grants rights: `diary_` and 52 characters of lower-case base32 (RFC 4648, no padding).
pub struct Token(Box<str>);

/// The string is not a token. Does not quote it: it may be most of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token is {PREFIX} and 52 lower-case letters and digits")]
pub struct BadToken;

impl Token {
    /// Returns a new token.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn random() -> io::Result<Self> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)?;
        Ok(Self::of(&secret))
    }

    fn of(secret: &[u8; SECRET_BYTES]) -> Self {
        Self(format!("{PREFIX}{}", BASE32_NOPAD.encode(secret).to_ascii_lowercase()).into())
    }

    /// Returns the secret text, to be shown to the person that it is for.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns the SHA-256 of the text, prefix included: what `printf %s TOKEN | sha256sum` prints.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl FromStr for Token {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let encoded = text.strip_prefix(PREFIX).ok_or(BadToken)?;
        let secret = BASE32_NOPAD.decode(encoded.to_ascii_uppercase().as_bytes()).map_err(|_| BadToken)?;
        let token = Self::of(&secret.try_into().map_err(|_| BadToken)?);
        // Only lower case is valid.
        (*token.0 == *text).then_some(token).ok_or(BadToken)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// SHA-256 of a token. Compares in constant time, and displays as 64 hex digits.
#[derive(Clone, Copy, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Parses 64 lower-case hex digits.
    pub(crate) fn from_hex(hex: &str) -> Option<Self> {
        HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok().map(Self)
    }

    /// Returns the bytes. Comparing them does not take constant time.
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0[..].ct_eq(&other.0[..]).into()
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "diary_aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq";

    #[test]
    fn the_form_of_a_token() {
        let secret: Vec<u8> = (0..32).collect();
        assert_eq!(Token::of(&secret.try_into().unwrap()).reveal(), TEXT);
        assert_eq!(TEXT.parse::<Token>().unwrap().reveal(), TEXT);
        for bad in [
            "",
            "diary_",
            &TEXT["diary_".len()..],
            &TEXT[..TEXT.len() - 1],
            &format!("{TEXT}a"),
            &format!("{TEXT} "),
            &format!(" {TEXT}"),
            &TEXT.to_uppercase(),
            &TEXT.replace("qydiob", "QYDIOB"),
            &TEXT.replace('q', "1"),
            // The last character carries one bit; the other four are zero.
            &TEXT.replace("dypq", "dypr"),
            &format!("{}======", &TEXT[..52]),
            "diary_今天",
        ] {
            assert!(bad.parse::<Token>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_new_token_is_another_one() {
        let (one, other) = (Token::random().unwrap(), Token::random().unwrap());
        assert!(one.reveal() != other.reveal() && one.hash() != other.hash());
        assert_eq!(one.reveal().parse::<Token>().unwrap().hash(), one.hash());
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let token: Token = TEXT.parse().unwrap();
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn hashes() {
        // printf %s TEXT | sha256sum
        let hex = "5bcc892aa8ce6f1ff9598b6d75331bf27ee5b0f527edd06d2963e527b521b244";
        let hash = TEXT.parse::<Token>().unwrap().hash();
        assert_eq!((hash.to_string().as_str(), TokenHash::from_hex(hex)), (hex, Some(hash)));
        for at in 0..hex.len() {
            let other = if hex.as_bytes()[at] == b'0' { "1" } else { "0" };
            let other = TokenHash::from_hex(&format!("{}{other}{}", &hex[..at], &hex[at + 1..]));
            assert_ne!(other, Some(hash), "all of it is compared");
        }
        for bad in ["", &hex[1..], &format!("{hex}0"), &hex.to_uppercase(), &hex.replace('a', "g"), TEXT] {
            assert_eq!(TokenHash::from_hex(bad), None, "{bad:?}");
        }
    }
}
