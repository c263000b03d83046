//! Sockets that listen already: systemd's socket activation, and the `wait` form of inetd.

use std::env;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use diary_proto::JournalName;
use listenfd::ListenFd;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, UdpSocket, UnixListener};

use crate::config::{Listen, TLS_ON_UNIX};
use crate::listener::{Datagrams, Listener};
use crate::start_error::StartError;
use crate::unix_socket::UnixSocket;

/// A socket that somebody else has bound: a TCP or Unix socket that listens, or a UDP socket. Clones share it.
#[derive(Debug, Clone)]
pub struct HandedOver {
    socket: Arc<OwnedFd>,
    /// Which descriptor it is, for errors.
    descriptor: String,
    name: String,
}

/// What a socket is for.
pub(crate) enum Served {
    Connections(Listener),
    QuietDatagrams(Datagrams),
}

impl HandedOver {
    /// `name` says what the socket is, as `FileDescriptorName=` of systemd does.
    ///
    /// It is `plain`, or some of `quiet`, `proxy` and `tls` with `+` between them, in any order. `=JOURNAL` behind it
    /// serves this journal only. The names that systemd gives by itself are `plain`, too: none, `unknown`, and that of the
    /// socket unit, which ends with `.socket`. UDP sockets are always quiet.
    pub fn new(socket: impl Into<OwnedFd>, name: &str) -> Self {
        let socket = Arc::new(socket.into());
        Self { descriptor: format!("descriptor {}", socket.as_raw_fd()), socket, name: name.to_owned() }
    }

    /// Listens on it, without blocking. Its file, if it is a Unix socket, stays when it is closed.
    ///
    /// # Errors
    /// [`StartError::Listen`].
    pub(crate) fn listen(&self) -> Result<Served, StartError> {
        self.served().map_err(|why| StartError::Listen { at: self.to_string(), why: why.to_string() })
    }

    fn served(&self) -> io::Result<Served> {
        // The clone is closed on exec.
        let socket = Socket::from(self.socket.try_clone()?);
        let (domain, kind, address) = (socket.domain()?, socket.r#type()?, socket.local_addr()?);
        if kind == Type::STREAM && !socket.is_listener()? || socket.peer_addr().is_ok() {
            return Err(io::Error::other(
                "it is a connection, and one server serves them all; use wait instead of nowait in inetd.conf, Accept=no \
                 in a socket unit",
            ));
        }
        socket.set_nonblocking(true)?;
        match (kind, address.as_socket()) {
            (Type::STREAM, Some(address)) => {
                let listen = self.named(Listen::tcp(&address.to_string()))?;
                let listener = TcpListener::from_std(socket.into())?;
                Ok(Served::Connections(Listener::of_tcp(listener, &listen)?))
            }
            (Type::STREAM, None) if domain == Domain::UNIX => {
                let path = address.as_pathname().map_or_else(
                    || {
                        let name = address.as_abstract_namespace().unwrap_or_default();
                        PathBuf::from(format!("@{}", name.escape_ascii()))
                    },
                    PathBuf::from,
                );
                let listen = self.named(Listen::unix(&path))?;
                if listen.tls {
                    return Err(io::Error::other(TLS_ON_UNIX));
                }
                let socket =
                    UnixSocket::of_another(UnixListener::from_std(OwnedFd::from(socket).into())?, path);
                Ok(Served::Connections(Listener::of_unix(socket, &listen)))
            }
            (Type::DGRAM, Some(address)) => {
                let listen = self.named(Listen::quiet_udp(&address.to_string()))?;
                if listen.tls || listen.proxy {
                    return Err(io::Error::other("datagrams have neither TLS nor the header of a proxy"));
                }
                let socket = UdpSocket::from_std(socket.into())?;
                Ok(Served::QuietDatagrams(Datagrams::of(socket, listen.journal, true)?))
            }
            _ => Err(io::Error::other(NOT_SERVED)),
        }
    }

    /// What the name makes of a plain listener.
    fn named(&self, mut listen: Listen) -> io::Result<Listen> {
        let (kinds, journal) = JournalName::split_address(&self.name).map_err(io::Error::other)?;
        listen.journal = journal;
        if matches!(kinds, "" | "plain" | "unknown") || kinds.ends_with(".socket") {
            return Ok(listen);
        }
        for kind in kinds.split('+') {
            match kind {
                "quiet" => listen.quiet = true,
                "proxy" => listen.proxy = true,
                "tls" => listen.tls = true,
                _ => {
                    return Err(io::Error::other(
                        "the name of a socket is plain, or quiet, proxy and tls with + between them, and then =JOURNAL \
                         for one journal; set it with FileDescriptorName=",
                    ));
                }
            }
        }
        Ok(listen)
    }
}

const NOT_SERVED: &str = "it is not a TCP, UDP or Unix stream socket";

impl fmt::Display for HandedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.descriptor)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, " ({})", self.name.escape_debug()) }
    }
}

/// Takes what systemd hands over, or else inetd. Called once, before the program opens any descriptor: nothing but these
/// variables tells which ones are meant.
///
/// # Errors
/// [`StartError::Listen`] for a descriptor that is not a socket of these kinds.
pub(crate) fn take() -> Result<Vec<HandedOver>, StartError> {
    let mut sockets = ListenFd::from_env();
    let names = env::var_os("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.to_string_lossy();
    let mut names = names.split(':');
    let mut handed_over = Vec::new();
    for index in 0..sockets.len() {
        let name = names.next().unwrap_or_default();
        let socket: OwnedFd = if let Ok(Some(socket)) = sockets.take_tcp_listener(index) {
            socket.into()
        } else if let Ok(Some(socket)) = sockets.take_unix_listener(index) {
            socket.into()
        } else if let Ok(Some(socket)) = sockets.take_udp_socket(index) {
            socket.into()
        } else {
            let at = format!("socket {} of systemd's ({})", index + 1, name.escape_debug());
            return Err(StartError::Listen { at, why: NOT_SERVED.to_owned() });
        };
        handed_over.push(HandedOver::new(socket, name));
    }
    if handed_over.is_empty() {
        handed_over.extend(standard_input());
    }
    Ok(handed_over)
}

/// The socket that inetd has made standard input. An unnamed one is ordinary input: some programs start others with a pair
/// of them instead of pipes.
fn standard_input() -> Option<HandedOver> {
    let stdin = io::stdin();
    if SockRef::from(&stdin).local_addr().is_ok_and(|address| !address.is_unnamed()) {
        let socket = Arc::new(stdin.as_fd().try_clone_to_owned().ok()?);
        return Some(HandedOver { socket, descriptor: "standard input".to_owned(), name: String::new() });
    }
    None
}

/// Whether this is a socket without a peer, as inetd's `wait` form has it on stdout and stderr, so that nothing can be
/// written to it.
pub(crate) fn has_no_reader(descriptor: impl AsFd) -> bool {
    let descriptor = descriptor.as_fd();
    let socket = SockRef::from(&descriptor);
    socket.local_addr().is_ok() && socket.peer_addr().is_err()
}

#[cfg(test)]
mod tests {
    use std::net;
    use std::os::unix::net as unix;

    use super::*;

    fn served(socket: impl Into<OwnedFd>, name: &str) -> Result<String, String> {
        match HandedOver::new(socket, name).listen() {
            Ok(Served::Connections(listener)) => Ok(listener.address),
            Ok(Served::QuietDatagrams(datagrams)) => Ok(datagrams.address),
            Err(error) => Err(error.to_string()),
        }
    }

    fn tcp() -> net::TcpListener {
        net::TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[tokio::test]
    async fn a_name_says_what_a_socket_is() {
        for (name, prefix, suffix) in [
            ("", "", ""),
            ("plain", "", ""),
            ("unknown", "", ""),
            ("diary.socket", "", ""),
            ("plain=work", "", "=work"),
            ("=work", "", "=work"),
            ("tls", "tls:", ""),
            ("quiet=syslog", "quiet:", "=syslog"),
            ("tls+proxy+quiet", "quiet:proxy:tls:", ""),
        ] {
            let socket = tcp();
            let address = socket.local_addr().unwrap();
            assert_eq!(served(socket, name), Ok(format!("{prefix}{address}{suffix}")), "{name}");
        }
        for name in ["", "diary.socket", "quiet"] {
            let socket = net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = socket.local_addr().unwrap();
            assert_eq!(served(socket, name), Ok(format!("quiet:udp:{address}")), "{name}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = unix::UnixListener::bind(&path).unwrap();
        assert_eq!(served(socket, "quiet"), Ok(format!("quiet:unix:{}", path.display())));
        assert!(path.exists(), "whoever made it keeps it");
    }

    #[tokio::test]
    async fn what_cannot_be_served_is_named() {
        let refused = |socket: OwnedFd, name: &str, why: &str| {
            let said = served(socket, name).unwrap_err();
            assert!(said.starts_with("cannot listen on descriptor ") && said.contains(why), "{name}: {said}");
        };
        for bad in ["tsl", "tls:quiet", "tls+", "plain+tls", "udp", "x=/y"] {
            refused(tcp().into(), bad, &format!(" ({bad}): the name of a socket is plain, or "));
        }
        for bad in ["plain=", "quiet=tls"] {
            refused(tcp().into(), bad, &format!(" ({bad}): "));
        }
        let udp = || net::UdpSocket::bind("127.0.0.1:0").unwrap();
        refused(udp().into(), "tls", "datagrams have neither");
        refused(udp().into(), "proxy", "datagrams have neither");
        let connected = udp();
        connected.connect(udp().local_addr().unwrap()).unwrap();
        refused(connected.into(), "", "it is a connection");
        let listener = tcp();
        let connection = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        refused(connection.into(), "", "it is a connection");
        refused(unix::UnixStream::pair().unwrap().0.into(), "", "it is a connection");
        let folder = tempfile::tempdir().unwrap();
        let bound = unix::UnixListener::bind(folder.path().join("one")).unwrap();
        refused(bound.into(), "tls", "a Unix socket needs no TLS");
        refused(unix::UnixDatagram::bind(folder.path().join("two")).unwrap().into(), "", NOT_SERVED);
        refused(std::fs::File::open("/dev/null").unwrap().into(), "", "");
    }
}
