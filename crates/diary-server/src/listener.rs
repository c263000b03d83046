//! Listeners: addresses are resolved and bound, and connections come out.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use diary_proto::JournalName;
use socket2::{Domain, Protocol, SockAddr, Type};
use tokio::net::{TcpListener, UdpSocket, lookup_host};

use crate::config::{At, Listen, TLS_ON_UNIX};
use crate::limits::BACKLOG;
use crate::peer::Peer;
use crate::start_error::StartError;
use crate::transport::Socket;
use crate::unix_socket::UnixSocket;

/// A bound address that takes connections.
pub(crate) struct Listener {
    at: Bound,
    /// Where it listens, with the port that it got: `127.0.0.1:8888`, `unix:PATH`, `quiet:…`, `proxy:…`, `tls:…`.
    pub(crate) address: String,
    /// Only programs on this machine reach it. A proxy's peers are elsewhere.
    pub(crate) is_local: bool,
    /// For programs that never read.
    pub(crate) quiet: bool,
    /// Every connection begins with the header of a proxy.
    pub(crate) proxy: bool,
    /// The only journal that it serves.
    pub(crate) journal: Option<JournalName>,
    /// Everything behind that header travels in TLS.
    pub(crate) tls: bool,
}

enum Bound {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

impl Listener {
    /// Binds all addresses that `listen` stands for; `socket_mode` is that of a Unix socket's file.
    ///
    /// # Errors
    /// [`StartError::Listen`].
    pub(crate) async fn bind(listen: &Listen, socket_mode: u32) -> Result<Vec<Self>, StartError> {
        let wrong =
            |error: &io::Error| StartError::Listen { at: listen.to_string(), why: why(error, "--listen") };
        let host_port = match &listen.at {
            At::Unix(_) if listen.tls => {
                return Err(StartError::Listen { at: listen.to_string(), why: TLS_ON_UNIX.to_owned() });
            }
            At::Unix(path) => {
                let socket = UnixSocket::bind(path, socket_mode).await.map_err(|error| wrong(&error))?;
                return Ok(vec![Self::of_unix(socket, listen)]);
            }
            At::Tcp(host_port) => host_port,
            // No connections come from it: `bind_udp`.
            At::QuietUdp(_) => return Ok(Vec::new()),
        };
        let mut listeners = Vec::new();
        for address in resolve(host_port).await.map_err(|error| wrong(&error))? {
            let listener = match bind_tcp(address) {
                Err(error) if is_no_ipv6(&error) && (listen.is_optional() || host_port.starts_with(':')) => {
                    tracing::info!(%address, "this machine has no IPv6, going on without it");
                    continue;
                }
                bound => bound.map_err(|error| wrong(&error))?,
            };
            listeners.push(Self::of_tcp(listener, listen).map_err(|error| wrong(&error))?);
        }
        Ok(listeners)
    }

    /// A TCP socket that listens, and is all that `listen` says but its address.
    pub(crate) fn of_tcp(listener: TcpListener, listen: &Listen) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let is_loopback = address.ip().to_canonical().is_loopback();
        Ok(Self::of(Bound::Tcp(listener), &address.to_string(), is_loopback, listen))
    }

    /// A Unix socket that listens, and is all that `listen` says but its path.
    pub(crate) fn of_unix(socket: UnixSocket, listen: &Listen) -> Self {
        let address = format!("unix:{}", socket.path().display());
        Self::of(Bound::Unix(socket), &address, true, listen)
    }

    fn of(at: Bound, address: &str, is_local: bool, listen: &Listen) -> Self {
        let Listen { quiet, proxy, tls, journal, .. } = listen.clone();
        let address = format!("{}{address}{}", listen.prefix(), suffix_of(journal.as_ref()));
        Self { at, address, is_local: is_local && !proxy, quiet, proxy, journal, tls }
    }

    pub(crate) fn is_unix(&self) -> bool {
        matches!(self.at, Bound::Unix(_))
    }

    /// Where TLS clients that are not a proxy's reach it, for those who come elsewhere.
    pub(crate) fn tls_address(&self) -> Option<String> {
        let address = self.address.strip_prefix("tls:").filter(|_| self.journal.is_none())?;
        match address.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_unspecified() => Some(format!("port {}", address.port())),
            _ => Some(address.to_owned()),
        }
    }

    /// The next connection. Cancel safe.
    pub(crate) async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match &self.at {
            Bound::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Socket::Tcp(stream), Peer::of_tcp(peer, self.tls)))
            }
            Bound::Unix(socket) => {
                let stream = socket.accept().await?;
                let uid = stream.peer_cred()?.uid();
                Ok((Socket::Unix(stream), Peer::of_unix(socket.path(), uid)))
            }
        }
    }
}

/// A bound address for datagrams.
pub(crate) struct Datagrams {
    pub(crate) socket: UdpSocket,
    /// `udp:127.0.0.1:8888`, `quiet:udp:…`.
    pub(crate) address: String,
    /// Only programs on this machine reach it.
    pub(crate) is_local: bool,
    /// The journal that it serves; the server's default, if none.
    pub(crate) journal: Option<JournalName>,
}

impl Datagrams {
    /// A bound socket, for datagrams that are answered or quiet ones.
    pub(crate) fn of(socket: UdpSocket, journal: Option<JournalName>, quiet: bool) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let is_local = address.ip().to_canonical().is_loopback();
        let prefix = if quiet { "quiet:udp:" } else { "udp:" };
        let address = format!("{prefix}{address}{}", suffix_of(journal.as_ref()));
        Ok(Self { socket, address, is_local, journal })
    }
}

fn suffix_of(journal: Option<&JournalName>) -> String {
    journal.map_or_else(String::new, |journal| format!("={journal}"))
}

/// Binds all addresses that `HOST:PORT` stands for, for datagrams: to be answered (`--udp`), or else quiet ones.
///
/// # Errors
/// [`StartError::Listen`].
pub(crate) async fn bind_udp(
    host_port: &str,
    journal: Option<&JournalName>,
    quiet: bool,
) -> Result<Vec<Datagrams>, StartError> {
    let (prefix, flag) = if quiet { ("quiet:udp:", "--listen") } else { ("udp:", "--udp") };
    let wrong =
        |error: &io::Error| StartError::Listen { at: format!("{prefix}{host_port}"), why: why(error, flag) };
    let mut sockets = Vec::new();
    for address in resolve(host_port).await.map_err(|error| wrong(&error))? {
        let socket = match bind_datagrams(address) {
            Err(error) if is_no_ipv6(&error) && host_port.starts_with(':') => continue,
            bound => bound.map_err(|error| wrong(&error))?,
        };
        sockets.push(Datagrams::of(socket, journal.cloned(), quiet).map_err(|error| wrong(&error))?);
    }
    Ok(sockets)
}

/// The addresses of `HOST:PORT`. Without a host, every address.
async fn resolve(host_port: &str) -> io::Result<Vec<SocketAddr>> {
    if let Some(port) = host_port.strip_prefix(':') {
        let port = port.parse().map_err(io::Error::other)?;
        return Ok(vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()]);
    }
    let mut addresses: Vec<SocketAddr> = lookup_host(host_port).await?.collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // IPv4 has a listener of its own.
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

fn bind_datagrams(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // IPv4 has a socket of its own.
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

fn is_no_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

/// Why binding failed, and what to do about it.
fn why(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("the address is in use; stop the other program, or choose another address with {flag}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("not permitted (ports below 1024 need root); choose another address with {flag}")
        }
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => error.to_string(),
    }
}
