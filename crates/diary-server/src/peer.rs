//! Who is at the other end of a connection, and what they may do.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use diary_proto::Author;
use rustix::process::geteuid;

use crate::guard::Login;

/// The other end of a connection, or the sender of a datagram.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Where it is, for the log.
    pub(crate) address: String,
    /// Its address alone; none on a Unix socket.
    pub(crate) ip: Option<IpAddr>,
    /// Whose entries it writes, unless an entry says otherwise.
    pub(crate) author: Arc<Author>,
    /// How it came here.
    pub(crate) door: Door,
    /// Which user of this machine it is; only on a Unix socket.
    pub(crate) uid: Option<u32>,
    /// What it says travels in TLS.
    pub(crate) tls: bool,
    /// Since it has logged in.
    pub(crate) login: Option<Login>,
}

/// How a peer comes here, by which it has rights without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// The user that the server runs as, on a Unix socket.
    Own,
    /// Another user of this machine, on a Unix socket.
    User,
    Loopback,
    /// Another machine, or a proxy.
    Network,
    /// A network that may write where nobody logs in.
    Allowed,
}

impl Peer {
    /// The other end of a TCP connection.
    pub(crate) fn of_tcp(address: SocketAddr, tls: bool) -> Self {
        Self { tls, ..Self::of_ip(address.ip(), address.to_string()) }
    }

    /// A user of this machine, on the Unix socket at `path`.
    pub(crate) fn of_unix(path: &Path, uid: u32) -> Self {
        let door = if uid == geteuid().as_raw() { Door::Own } else { Door::User };
        let name = uid_name(uid);
        let author = Author::new(&name).expect("a number is a name");
        Self { door, uid: Some(uid), ..Self::of_stream(format!("unix:{} {name}", path.display()), author) }
    }

    /// The peer that this one, a proxy, passes on, if it can say who that is. Whatever it says, nothing on the way to it is
    /// known, so the peer is another machine's.
    pub(crate) fn proxied(self, source: Option<SocketAddr>) -> Self {
        let peer = match source {
            Some(source) => {
                let address = format!("{source} through {}", self.address);
                Self { address, ..Self::of_tcp(source, self.tls) }
            }
            None => self,
        };
        Self { door: Door::Network, ..peer }
    }

    /// The other end of a stream of this process's own user.
    pub(crate) fn of_stream(address: String, author: Author) -> Self {
        Self {
            address,
            ip: None,
            author: Arc::new(author),
            door: Door::Own,
            uid: None,
            tls: false,
            login: None,
        }
    }

    /// The sender of a datagram, as it says.
    pub(crate) fn of_datagram(ip: IpAddr) -> Self {
        Self::of_ip(ip, ip.to_string())
    }

    fn of_ip(ip: IpAddr, address: String) -> Self {
        let door = if ip.to_canonical().is_loopback() { Door::Loopback } else { Door::Network };
        Self { ip: Some(ip), door, ..Self::of_stream(address, author_of(ip)) }
    }

    /// Whether nobody on the way reads what it says.
    pub(crate) fn is_secure(&self) -> bool {
        self.tls || matches!(self.door, Door::Own | Door::User | Door::Loopback)
    }

    /// Whether it is on this machine, or has an address of a private network.
    pub(crate) fn is_private(&self) -> bool {
        self.ip.is_none_or(|ip| is_private(ip.to_canonical()))
    }
}

/// What an unnamed user of this machine is called.
pub(crate) fn uid_name(uid: u32) -> String {
    format!("uid:{uid}")
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
