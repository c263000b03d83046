//! Where a server listens.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What an address on a Unix socket starts with.
const UNIX_PREFIX: &str = "unix:";

/// Where a server listens, as people write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `HOST:PORT`, with brackets around an IPv6 address.
    Tcp(String),
    /// `unix:PATH`.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(address: &str) -> Result<Self, BadAddress> {
        if address.is_empty() {
            return Err(BadAddress::Empty);
        }
        if let Some(path) = address.strip_prefix(UNIX_PREFIX) {
            return if path.is_empty() { Err(BadAddress::Path) } else { Ok(Self::Unix(path.into())) };
        }
        let Some((host, port)) = address.rsplit_once(':') else {
            return Err(BadAddress::NoPort(diary_proto::escape::escape(address).into_owned()));
        };
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if inner.is_none() && host.contains(':') {
            return Err(BadAddress::Brackets);
        }
        let bad_host = |c: char| c.is_whitespace() || c.is_control() || c == '/';
        if inner.unwrap_or(host).is_empty() || host.contains(bad_host) {
            return Err(BadAddress::Host);
        }
        if !port.bytes().all(|b| b.is_ascii_digit()) || !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(BadAddress::Port);
        }
        Ok(Self::Tcp(address.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "{UNIX_PREFIX}{}", path.display()),
        }
    }
}

/// Why a word is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// Nothing.
    #[error("an address is HOST:PORT or unix:PATH")]
    Empty,
    /// A host alone.
    #[error("{0} needs a port: {0}:8888")]
    NoPort(String),
    /// An IPv6 address without brackets.
    #[error("an IPv6 address stands in brackets: [::1]:8888")]
    Brackets,
    /// No host, or one that cannot be a name.
    #[error("the host before the port is missing or no name: HOST:PORT")]
    Host,
    /// No port, or one that is no number.
    #[error("a port is a number from 1 to 65535: HOST:PORT")]
    Port,
    /// `unix:` alone.
    #[error("unix: needs the path of the socket: unix:PATH")]
    Path,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        for good in ["127.0.0.1:8888", "localhost:1", "[::1]:8888", "日记.example:65535", "unix:/run/d.sock"]
        {
            assert_eq!(good.parse::<Address>().map(|a| a.to_string()), Ok(good.to_owned()));
        }
        for (bad, why) in [
            ("localhost", "localhost needs a port: localhost:8888"),
            ("", "an address is HOST:PORT or unix:PATH"),
            ("::1:8888", "an IPv6 address stands in brackets: [::1]:8888"),
            (":8888", "the host before the port is missing or no name: HOST:PORT"),
            ("[]:8888", "the host before the port is missing or no name: HOST:PORT"),
            ("http://x:8888", "an IPv6 address stands in brackets: [::1]:8888"),
            ("a b:8888", "the host before the port is missing or no name: HOST:PORT"),
            ("localhost:", "a port is a number from 1 to 65535: HOST:PORT"),
            ("localhost:0", "a port is a number from 1 to 65535: HOST:PORT"),
            ("localhost:+1", "a port is a number from 1 to 65535: HOST:PORT"),
            ("localhost:65536", "a port is a number from 1 to 65535: HOST:PORT"),
            ("unix:", "unix: needs the path of the socket: unix:PATH"),
        ] {
            assert_eq!(bad.parse::<Address>().map_err(|e| e.to_string()), Err(why.to_owned()), "{bad:?}");
        }
    }
}
