//! The names that writers give their appends, so that a retry is not a second entry.

use std::fmt;
use std::str::FromStr;

use crate::entry::{BadLine, parse_number, push_number};
use crate::seal;

/// The public name of a writer that retries: the first eight bytes of the SHA-256 of the secret that it
/// sends in Hello, so that nobody who reads a key can use it. Written as 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Producer(pub u64);

impl Producer {
    /// The producer that knows `secret`.
    pub fn of_secret(secret: &[u8]) -> Self {
        use sha2::Digest;
        let hash = sha2::Sha256::digest(secret);
        let first: [u8; 8] = hash[..8].try_into().expect("a SHA-256 has 32 bytes");
        Self(u64::from_be_bytes(first))
    }
}

impl fmt::Display for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A writer's own name for one append, so that a retry is not a second entry: `producer.counter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Whose.
    pub producer: Producer,
    /// Which of theirs; a producer counts up.
    pub counter: u64,
}

impl Key {
    /// Appends it as it is stored.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let [high, low] = [self.producer.0 >> 32, self.producer.0 & 0xffff_ffff];
        for half in [high, low] {
            out.extend_from_slice(&seal::hex(u32::try_from(half).expect("half of a u64")));
        }
        out.push(b'.');
        push_number(out, self.counter);
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.producer, self.counter)
    }
}

impl FromStr for Key {
    type Err = BadLine;

    fn from_str(key: &str) -> Result<Self, BadLine> {
        let (producer, counter) = key.split_once('.').ok_or(BadLine::Field("key"))?;
        let number = u64::from_str_radix(producer, 16).map_err(|_| BadLine::Field("key"))?;
        let counter = parse_number(counter.as_bytes()).ok_or(BadLine::Field("key"))?;
        let read = Key { producer: Producer(number), counter };
        if producer.len() == 16 && !producer.bytes().any(|b| b.is_ascii_uppercase() || b == b'+') {
            Ok(read)
        } else {
            Err(BadLine::Field("key"))
        }
    }
}
