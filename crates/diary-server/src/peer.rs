//! Who is at the other end of a connection, and what they may do.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use diary_proto::{Author, Code, Refusal};

/// The other end of a connection, or the sender of a datagram.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Where it is, for the log.
    pub(crate) address: String,
    /// Its address alone; none on a Unix socket.
    pub(crate) ip: Option<IpAddr>,
    /// Whose entries it writes, unless an entry says otherwise.
    pub(crate) author: Arc<Author>,
    /// Whether entries may be read to it.
    reads: bool,
}

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    Append,
    Read,
}

impl Peer {
    /// The other end of a TCP connection.
    pub(crate) fn of_tcp(address: SocketAddr) -> Self {
        let ip = address.ip();
        Self { ip: Some(ip), ..Self::of_stream(address.to_string(), author_of(ip)) }
    }

    /// A user of this machine, on the Unix socket at `path`.
    pub(crate) fn of_unix(path: &Path, uid: u32) -> Self {
        let uid = format!("uid:{uid}");
        let author = Author::new(&uid).expect("a number is a name");
        Self::of_stream(format!("unix:{} {uid}", path.display()), author)
    }

    /// The peer that this one, a proxy, passes on, if it can say who that is.
    pub(crate) fn proxied(self, source: Option<SocketAddr>) -> Self {
        match source {
            Some(source) => {
                let address = format!("{source} through {}", self.address);
                Self { address, ..Self::of_tcp(source) }
            }
            None => self,
        }
    }

    /// Whoever reaches a listener of streams reads and writes.
    pub(crate) fn of_stream(address: String, author: Author) -> Self {
        Self { address, ip: None, author: Arc::new(author), reads: true }
    }

    /// The source of a datagram can be forged, so only private networks are read to.
    pub(crate) fn of_datagram(ip: IpAddr) -> Self {
        let author = Arc::new(author_of(ip));
        Self { address: ip.to_string(), ip: Some(ip), author, reads: is_private(ip.to_canonical()) }
    }

    /// Whether the peer may do something: the one place that decides this.
    ///
    /// # Errors
    /// What it is told if not.
    pub(crate) fn may(&self, right: Right) -> Result<(), Refusal> {
        match right {
            Right::Read if !self.reads => {
                Err(Refusal::new(Code::Denied, "only private networks may read over UDP"))
            }
            Right::Append | Right::Read => Ok(()),
        }
    }
}

/// Whom an address is counted as: an IPv4 address is itself, however it is written, and whoever has one address of IPv6 has
/// its /64.
pub(crate) fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
        ip => ip,
    }
}

/// What an unnamed writer is called.
fn author_of(ip: IpAddr) -> Author {
    let ip = ip.to_canonical();
    let name = if ip.is_loopback() { "local".to_owned() } else { ip.to_string() };
    Author::new(&name).expect("an address is a name")
}

/// Loopback and private addresses: RFC 1918 and fc00::/7.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses() {
        for ip in
            ["127.0.0.1", "127.9.9.9", "::1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "fd00::1", "fc00::1"]
        {
            assert!(is_private(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["8.8.8.8", "172.32.0.1", "169.254.1.1", "2001:db8::1", "fe80::1", "100.64.0.1"] {
            assert!(!is_private(ip.parse().unwrap()), "{ip}");
        }
    }
}
