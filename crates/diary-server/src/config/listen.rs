//! Addresses to listen on, as they are written.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use diary_proto::JournalName;

use super::PORT;

/// What the system takes, without the NUL at its end (sun_path of unix(7)).
const SOCKET_PATH_MAX_BYTES: usize = 107;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address.
    pub at: At,
    /// For programs that never read: no greeting, no answers, no commands.
    pub quiet: bool,
    /// Every connection begins with the header of the PROXY protocol, which says whose it is.
    pub proxy: bool,
    /// The only journal that it serves; all of them, if none is named.
    pub journal: Option<JournalName>,
    /// Everything, but the header of a proxy, travels in TLS. Only TCP has it.
    pub tls: bool,
    /// A machine without this kind of address starts without it.
    pub(super) optional: bool,
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// `HOST:PORT`.
    Tcp(String),
    /// A Unix socket.
    Unix(PathBuf),
    /// `HOST:PORT` for datagrams, which are never answered.
    QuietUdp(String),
}

impl Listen {
    /// A TCP listener at `HOST:PORT`.
    pub fn tcp(host_port: &str) -> Self {
        Self::of(At::Tcp(host_port.to_owned()))
    }

    /// A listener on a Unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::of(At::Unix(path.into()))
    }

    /// A quiet listener for datagrams at `HOST:PORT`.
    pub fn quiet_udp(host_port: &str) -> Self {
        Self::of(At::QuietUdp(host_port.to_owned())).quiet()
    }

    fn of(at: At) -> Self {
        Self { at, quiet: false, proxy: false, tls: false, journal: None, optional: false }
    }

    /// The same, quiet.
    #[must_use]
    pub fn quiet(self) -> Self {
        Self { quiet: true, ..self }
    }

    /// The same, behind a proxy. Whoever reaches it says who they are, so only the proxy should.
    #[must_use]
    pub fn proxy(self) -> Self {
        Self { proxy: true, ..self }
    }

    /// The same, for this journal only.
    #[must_use]
    pub fn only(self, journal: JournalName) -> Self {
        Self { journal: Some(journal), ..self }
    }

    /// The same, with TLS. Of the kinds of addresses, only TCP has it.
    #[must_use]
    pub fn tls(self) -> Self {
        Self { tls: true, ..self }
    }

    /// What stands before the address.
    pub(crate) fn prefix(&self) -> String {
        let prefixes = [(self.quiet, "quiet:"), (self.proxy, "proxy:"), (self.tls, "tls:")];
        prefixes.iter().filter(|(is, _)| *is).map(|(_, prefix)| *prefix).collect()
    }

    pub(crate) fn is_optional(&self) -> bool {
        self.optional
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, journal) = JournalName::split_address(text).map_err(|bad| bad.to_string())?;
        Ok(Self { journal, ..Self::of_address(address)? })
    }
}

impl Listen {
    fn of_address(text: &str) -> Result<Self, String> {
        // Without a second colon it is the name of a host.
        let strip = |prefix: &str| text.strip_prefix(prefix).filter(|rest| rest.contains(':'));
        if let Some(rest) = strip("quiet:") {
            return match rest.strip_prefix("udp:") {
                Some(host_port) => check_host_port(host_port).map(|host_port| Self::quiet_udp(&host_port)),
                None => Ok(Self::of_address(rest)?.quiet()),
            };
        }
        if strip("tls:").is_some_and(|rest| rest.starts_with("udp:")) {
            return Err("there is no TLS for datagrams; leave tls: out, or udp:".to_owned());
        }
        if strip("udp:").is_some() {
            return Err(
                "datagrams are answered with --udp HOST:PORT, or taken silently with quiet:udp:".to_owned()
            );
        }
        if let Some(rest) = strip("proxy:") {
            let listen = Self::of_address(rest)?;
            return match listen {
                Self { quiet: true, .. } => Err("quiet: comes before proxy:".to_owned()),
                Self { proxy: true, .. } => Err("proxy: is said twice".to_owned()),
                listen => Ok(listen.proxy()),
            };
        }
        if let Some(rest) = strip("tls:") {
            return match Self::from_str(rest)? {
                Self { quiet: true, .. } => Err("quiet: comes before tls:".to_owned()),
                Self { proxy: true, .. } => Err("proxy: comes before tls:".to_owned()),
                Self { tls: true, .. } => Err("tls: is said twice".to_owned()),
                Self { at: At::Unix(_), .. } => Err(TLS_ON_UNIX.to_owned()),
                listen => Ok(listen.tls()),
            };
        }
        match text.strip_prefix("unix:") {
            Some("") => Err("unix: needs a path".to_owned()),
            Some(path) if path.len() > SOCKET_PATH_MAX_BYTES => {
                Err(format!("the path of a Unix socket has at most {SOCKET_PATH_MAX_BYTES} bytes"))
            }
            Some(path) => Ok(Self::unix(path)),
            None => check_host_port(text).map(|host_port| Self::tcp(&host_port)),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.prefix();
        match &self.at {
            At::Tcp(host_port) => write!(f, "{prefix}{host_port}")?,
            At::Unix(path) => write!(f, "{prefix}unix:{}", path.display())?,
            At::QuietUdp(host_port) => write!(f, "quiet:udp:{host_port}")?,
        }
        match &self.journal {
            Some(journal) => write!(f, "={journal}"),
            None => Ok(()),
        }
    }
}

/// Where to answer datagrams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Udp {
    /// `HOST:PORT`.
    pub host_port: String,
    /// The journal that it serves; the server's default, if none is named.
    pub journal: Option<JournalName>,
}

impl FromStr for Udp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host_port, journal) = JournalName::split_address(text).map_err(|bad| bad.to_string())?;
        Ok(Self { host_port: check_host_port(host_port)?, journal })
    }
}

/// Why `tls:unix:` is refused.
pub(crate) const TLS_ON_UNIX: &str =
    "a Unix socket needs no TLS: nothing on it leaves this machine; leave tls: out";

fn check_host_port(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err(format!("an address is needed, as 127.0.0.1:{PORT}"));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(match text.parse::<u16>() {
            Ok(_) => format!("{text} needs a host: 127.0.0.1:{text}, or :{text} for all addresses"),
            Err(_) => format!("{text} needs a port: {text}:{PORT}"),
        });
    };
    if port.parse::<u16>().is_err() {
        return Err(format!("{port} is not a port (0 to 65535)"));
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err(format!("an address is HOST:PORT, with brackets for IPv6, as [::1]:{PORT}"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let work: JournalName = "work".parse().unwrap();
        for (text, listen) in [
            ("127.0.0.1:0", Listen::tcp("127.0.0.1:0")),
            (":8888", Listen::tcp(":8888")),
            ("[::1]:8888", Listen::tcp("[::1]:8888")),
            ("quiet:localhost:514", Listen::tcp("localhost:514").quiet()),
            ("quiet:80", Listen::tcp("quiet:80")),
            ("unix:/run/diary", Listen::unix("/run/diary")),
            ("quiet:unix:x", Listen::unix("x").quiet()),
            ("quiet:udp::514", Listen::quiet_udp(":514")),
            ("quiet:udp:[::1]:514", Listen::quiet_udp("[::1]:514")),
            ("proxy:10.0.0.1:8888", Listen::tcp("10.0.0.1:8888").proxy()),
            ("proxy:80", Listen::tcp("proxy:80")),
            ("proxy:unix:x", Listen::unix("x").proxy()),
            ("quiet:proxy:[::1]:514", Listen::tcp("[::1]:514").proxy().quiet()),
            (":8888=work", Listen::tcp(":8888").only(work.clone())),
            ("unix:/run/d=work", Listen::unix("/run/d").only(work.clone())),
            ("quiet:udp::514=work", Listen::quiet_udp(":514").only(work.clone())),
            ("tls::8889", Listen::tcp(":8889").tls()),
            ("tls:8889", Listen::tcp("tls:8889")),
            ("quiet:tls:localhost:6514", Listen::tcp("localhost:6514").tls().quiet()),
            ("proxy:tls:[::1]:1", Listen::tcp("[::1]:1").tls().proxy()),
            ("quiet:proxy:tls:x:1", Listen::tcp("x:1").tls().proxy().quiet()),
        ] {
            assert_eq!(text.parse(), Ok(listen.clone()), "{text}");
            assert_eq!(listen.to_string(), text);
        }
        for bad in [
            "localhost",
            "8888",
            "localhost:",
            "localhost:99999",
            "::1:8888",
            "unix:",
            "",
            "udp:localhost:514",
            "quiet:udp:514",
            "quiet:udp:localhost",
            "proxy:quiet:[::1]:514",
            "proxy:proxy:[::1]:1",
            ":8888=",
            ":8888=.work",
            ":8888=tls",
            "=work",
            "tls:tls:[::1]:1",
            "tls:quiet:[::1]:1",
            "tls:proxy:[::1]:1",
            "tls:unix:x",
            "quiet:proxy:tls:unix:x",
            "tls:udp:x:1",
            "quiet:tls:udp:x:1",
        ] {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
        let path = "x".repeat(SOCKET_PATH_MAX_BYTES);
        assert!(format!("unix:{path}").parse::<Listen>().is_ok());
        assert!(format!("unix:{path}x").parse::<Listen>().is_err());
    }
}
