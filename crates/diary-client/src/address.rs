//! Addresses of servers.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use diary_proto::escape::escape;
use diary_proto::journal::{BadJournalName, JournalName};

/// Prefix of an address that speaks TLS.
const TLS_PREFIX: &str = "tls:";

/// Prefix of an address on a Unix socket.
const UNIX_PREFIX: &str = "unix:";

/// Port that a diary server listens on by default.
pub const DEFAULT_PORT: u16 = 8888;

/// Address of a server, and the journal that is meant there: `ADDRESS` or `ADDRESS=JOURNAL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Where the server listens.
    pub at: At,
    /// The journal; the one that the server offers there, if none is named.
    pub journal: Option<JournalName>,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// `HOST:PORT`, with brackets around an IPv6 address. A host alone gets the [`DEFAULT_PORT`].
    Tcp(String),
    /// `tls:HOST:PORT`.
    Tls(String),
    /// `unix:PATH`.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(address: &str) -> Result<Self, BadAddress> {
        let (at, journal) = JournalName::split_address(address)?;
        Ok(Self { at: at.parse()?, journal })
    }
}

impl FromStr for At {
    type Err = BadAddress;

    fn from_str(address: &str) -> Result<Self, BadAddress> {
        if address.is_empty() {
            return Err(BadAddress::Empty);
        }
        if let Some(path) = address.strip_prefix(UNIX_PREFIX) {
            return if path.is_empty() { Err(BadAddress::Path) } else { Ok(Self::Unix(path.into())) };
        }
        if let Some(rest) = address.strip_prefix(TLS_PREFIX) {
            return match rest.parse() {
                // Without a host, this is what is left of `tls:PORT`.
                Ok(Self::Tcp(_)) if rest.bytes().all(|b| b.is_ascii_digit()) => Err(BadAddress::Tls),
                Ok(Self::Tcp(host_port)) => Ok(Self::Tls(host_port)),
                Ok(_) | Err(BadAddress::Empty | BadAddress::Prefix(_)) => Err(BadAddress::Tls),
                Err(error) => Err(error.of_tls()),
            };
        }
        if address.starts_with(['/', '.']) {
            return Err(BadAddress::Prefix(shown(address)));
        }
        if let Some((_, rest)) = address.split_once("://") {
            return Err(BadAddress::Scheme(rest.split(['/', '?', '#']).next().and_then(right_form)));
        }
        if let Some(right) = with_brackets(address) {
            return Err(BadAddress::Brackets(right));
        }
        let whole = if has_port(address) { address.to_owned() } else { format!("{address}:{DEFAULT_PORT}") };
        let (host, port) = whole.rsplit_once(':').unwrap_or((&whole, ""));
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if inner.is_none() && host.contains(':') {
            let right = host.split(':').next().unwrap_or_default();
            return Err(BadAddress::Ports(right_form(&format!("{right}:{port}"))));
        }
        let bad_host = |c: char| c.is_whitespace() || c.is_control() || c == '/';
        if inner.unwrap_or(host).is_empty() || host.contains(bad_host) {
            return Err(BadAddress::Host);
        }
        if !port.bytes().all(|b| b.is_ascii_digit()) || !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(BadAddress::Port);
        }
        Ok(Self::Tcp(whole))
    }
}

/// Returns whether the address has a port, valid or not.
fn has_port(address: &str) -> bool {
    !address.ends_with(']') && address.contains(':')
}

/// Returns the corrected address, if there is one.
fn right_form(meant: &str) -> Option<String> {
    meant.parse::<At>().ok().map(|at| shown(&at.to_string()))
}

/// Adds the missing brackets to an IPv6 address. `::1:8888` is ambiguous: a suffix that looks like a port is
/// taken as one.
fn with_brackets(address: &str) -> Option<String> {
    let is_ipv6 = |host: &str| host.split('%').next().is_some_and(|host| host.parse::<Ipv6Addr>().is_ok());
    let is_port = |port: &str| port.len() > 3 && port.parse::<u16>().is_ok();
    match address.rsplit_once(':') {
        Some((host, port)) if is_ipv6(host) && is_port(port) => Some(format!("[{host}]:{port}")),
        _ if is_ipv6(address) => Some(format!("[{address}]:{DEFAULT_PORT}")),
        _ => None,
    }
}

fn shown(word: &str) -> String {
    escape(word).into_owned()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)?;
        match &self.journal {
            Some(journal) => write!(f, "={journal}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Tls(address) => write!(f, "{TLS_PREFIX}{address}"),
            Self::Unix(path) => write!(f, "{UNIX_PREFIX}{}", path.display()),
        }
    }
}

/// Why a string is not a valid address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// An empty string.
    #[error("an address is HOST:PORT, tls:HOST:PORT or unix:PATH")]
    Empty,
    /// A socket path without its prefix.
    #[error("write the path of a socket as unix:{0}")]
    Prefix(String),
    /// A URL; holds the corrected address, if there is one.
    #[error("leave out http://: {}", or_form(.0.as_deref()))]
    Scheme(Option<String>),
    /// An IPv6 address without brackets; holds the corrected form.
    #[error("put an IPv6 address in brackets: {0}")]
    Brackets(String),
    /// More than one port; holds the corrected form with the last one.
    #[error("an address has one port: {}", or_form(.0.as_deref()))]
    Ports(Option<String>),
    /// A missing host, or one that cannot be a name.
    #[error("host missing or invalid: HOST:PORT")]
    Host,
    /// A missing port, or one that is not a number from 1 to 65535.
    #[error("a port is a number from 1 to 65535: HOST:PORT")]
    Port,
    /// Something behind an `=` that is not the name of a journal.
    #[error(transparent)]
    Journal(#[from] BadJournalName),
    /// `tls:` without a host.
    #[error("tls: needs a host and a port: tls:HOST:PORT")]
    Tls,
    /// `unix:` alone.
    #[error("unix: needs the path of the socket: unix:PATH")]
    Path,
}

impl BadAddress {
    /// Makes the corrected form one that speaks TLS, too.
    fn of_tls(self) -> Self {
        let tls = |right| format!("{TLS_PREFIX}{right}");
        match self {
            Self::Brackets(right) => Self::Brackets(tls(right)),
            Self::Ports(right) => Self::Ports(right.map(tls)),
            Self::Scheme(right) => Self::Scheme(right.map(tls)),
            other => other,
        }
    }
}

/// Returns the corrected form, or the general one.
fn or_form(right: Option<&str>) -> &str {
    right.unwrap_or("HOST:PORT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        for good in [
            "127.0.0.1:8888",
            "localhost:1",
            "[::1]:8888",
            "日记.example:65535",
            "unix:/run/d.sock",
            "localhost:1=work",
            "unix:/run/d.sock=工作",
            "unix:/run/a=b/d.sock",
            "tls:diary.example:443",
            "tls:[::1]:8888=work",
        ] {
            assert_eq!(good.parse::<Address>().map(|a| a.to_string()), Ok(good.to_owned()));
        }
        for (host, whole) in [
            ("localhost", "localhost:8888"),
            ("10.0.0.7", "10.0.0.7:8888"),
            ("[::1]", "[::1]:8888"),
            ("localhost=work", "localhost:8888=work"),
            ("tls:localhost=work", "tls:localhost:8888=work"),
        ] {
            assert_eq!(host.parse::<Address>().map(|a| a.to_string()), Ok(whole.to_owned()));
        }
    }

    #[test]
    fn what_is_none() {
        for (bad, why) in [
            ("", "an address is HOST:PORT, tls:HOST:PORT or unix:PATH"),
            ("::1:8888", "put an IPv6 address in brackets: [::1]:8888"),
            ("::1", "put an IPv6 address in brackets: [::1]:8888"),
            ("fe80::1%eth0", "put an IPv6 address in brackets: [fe80::1%eth0]:8888"),
            ("2001:db8::7:2", "put an IPv6 address in brackets: [2001:db8::7:2]:8888"),
            ("2001:db8::7:9999", "put an IPv6 address in brackets: [2001:db8::7]:9999"),
            (":8888", "host missing or invalid: HOST:PORT"),
            ("[]:8888", "host missing or invalid: HOST:PORT"),
            ("http://x:8888", "leave out http://: x:8888"),
            ("https://x/diary?a", "leave out http://: x:8888"),
            ("tcp://[::1]:9", "leave out http://: [::1]:9"),
            ("http:///", "leave out http://: HOST:PORT"),
            ("x:8888:9999", "an address has one port: x:9999"),
            ("x:y:z", "an address has one port: HOST:PORT"),
            ("/run/d.sock", "write the path of a socket as unix:/run/d.sock"),
            ("./d\n", "write the path of a socket as unix:./d\\n"),
            ("a b:8888", "host missing or invalid: HOST:PORT"),
            ("a b", "host missing or invalid: HOST:PORT"),
            ("localhost:", "a port is a number from 1 to 65535: HOST:PORT"),
            ("localhost:0", "a port is a number from 1 to 65535: HOST:PORT"),
            ("localhost:+1", "a port is a number from 1 to 65535: HOST:PORT"),
            ("localhost:65536", "a port is a number from 1 to 65535: HOST:PORT"),
            ("tls:", "tls: needs a host and a port: tls:HOST:PORT"),
            ("tls:8888", "tls: needs a host and a port: tls:HOST:PORT"),
            ("tls:unix:/run/d.sock", "tls: needs a host and a port: tls:HOST:PORT"),
            ("tls:tls:x:1", "tls: needs a host and a port: tls:HOST:PORT"),
            ("tls:::1", "put an IPv6 address in brackets: tls:[::1]:8888"),
            ("tls:https://x/", "leave out http://: tls:x:8888"),
            ("tls:x:1:2", "an address has one port: tls:x:2"),
            ("tls:x:0", "a port is a number from 1 to 65535: HOST:PORT"),
            ("unix:", "unix: needs the path of the socket: unix:PATH"),
            ("localhost:8888=", "a journal's name has 1 to 64 bytes of letters, digits, '-', '_' and '.'"),
            ("localhost=a b", "a journal's name has 1 to 64 bytes of letters, digits, '-', '_' and '.'"),
        ] {
            assert_eq!(bad.parse::<Address>().map_err(|e| e.to_string()), Err(why.to_owned()), "{bad:?}");
        }
    }
}
