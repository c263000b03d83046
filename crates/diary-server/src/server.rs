//! The server: bind, accept, drain.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use diary_engine::Options;
use diary_proto::{Author, Code, Refusal, answer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockAddr, Type};
use tokio::net::{TcpListener, UdpSocket, UnixListener, UnixStream, lookup_host};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::config::{At, Config, Listen};
use crate::context::Context;
use crate::front::{quiet, udp};
use crate::limits::{DESCRIPTORS_RESERVED, KILL_MAX, Limits, WRITER_STOP_MAX};
use crate::peer::{Peer, author_of};
use crate::session::Session;
use crate::transport::{Socket, Transport};
use crate::zone::{self, UnknownZone};

/// Connections that the kernel holds for us while we are busy.
const BACKLOG: i32 = 1024;

/// After a failed accept: no event says when descriptors are free again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// From freeing much memory to giving it back, again and again: more follows while sessions end, little by little.
const GIVE_BACK_PAUSES_SECONDS: [u64; 5] = [1, 2, 4, 8, 15];

/// Why a server cannot start. Each displays as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {at}: {why}")]
    Listen {
        /// Where.
        at: String,
        /// Why not, and the way out.
        why: String,
    },
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] diary_engine::OpenError),
    /// There is no such time zone.
    #[error(transparent)]
    Zone(UnknownZone),
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It was asked to stop, and everything that it had read is committed and answered.
    Clean,
    /// The disk failed.
    DiskFailed,
}

/// A server that listens; [`run`](Self::run) serves.
pub struct Server {
    context: Arc<Context>,
    listeners: Vec<(Listener, bool)>,
    /// With their names; those that are quiet apart.
    udp: Option<(UdpSocket, String)>,
    quiet_udp: Vec<(UdpSocket, String)>,
    addresses: Vec<String>,
    connections: usize,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Server {
    /// Opens the journal and binds every address. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let (zone, zone_name) = zone::find(config.timezone.as_deref()).map_err(StartError::Zone)?;
        let journal = diary_engine::open(Options {
            dir: config.data.join(&config.journal),
            name: config.journal,
            zone,
            zone_name,
            day_start: config.day_start,
        })?;
        let context = Context::new(journal, config.limits);
        let connections = connections_max(&context.limits);
        let mut server = Self {
            context,
            listeners: Vec::new(),
            udp: None,
            quiet_udp: Vec::new(),
            addresses: Vec::new(),
            connections,
        };
        for listen in &config.listen {
            server.bind(listen).await?;
        }
        if let Some(at) = &config.udp {
            server.bind_answering_udp(at).await?;
        }
        Ok(server)
    }

    /// Where it listens, with the ports that it got: `127.0.0.1:8888`, `unix:PATH`, `quiet:…`, `udp:…`.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Serves until `stop` is cancelled or the disk fails; then commits and answers what was read, and
    /// ends within 10 s. Not cancel safe: dropping it drops all sessions.
    pub async fn run(self, stop: CancellationToken) -> Stopped {
        let (tasks, kill) = (TaskTracker::new(), CancellationToken::new());
        let places = Arc::new(Semaphore::new(self.connections));
        let mut paths = Vec::new();
        for (listener, quiet) in self.listeners {
            if let Listener::Unix(_, path) = &listener {
                paths.push(path.clone());
            }
            let accept = Accept {
                context: Arc::clone(&self.context),
                places: Arc::clone(&places),
                tasks: tasks.clone(),
                kill: kill.clone(),
                quiet,
            };
            tasks.spawn(accept.run(listener));
        }
        if let Some((socket, name)) = self.udp {
            tasks.spawn(udp::serve(socket, name, Arc::clone(&self.context)));
        }
        for (socket, name) in self.quiet_udp {
            tasks.spawn(quiet::udp::serve(socket, name, Arc::clone(&self.context)));
        }

        let heap = AbortOnDropHandle::new(tokio::spawn(give_back_memory(Arc::clone(&self.context.freed))));
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.context.journal.failed() => {}
        }
        tracing::info!("stopping");
        self.context.stop.cancel();
        tasks.close();
        for path in paths {
            // Somebody may have removed it already.
            let _ = std::fs::remove_file(path);
        }
        if tokio::time::timeout(self.context.limits.drain, tasks.wait()).await.is_err() {
            tracing::warn!(sessions = tasks.len(), "closing connections whose peers take no answers");
            kill.cancel();
            // Sessions that still run wait for the disk. The writer owns their appends.
            let _ = tokio::time::timeout(KILL_MAX, tasks.wait()).await;
        }
        // The writer owns what was handed to it, so this comes after everything that was read.
        let ended = tokio::time::timeout(WRITER_STOP_MAX, self.context.journal.stop()).await.is_ok();
        if !ended {
            tracing::error!("the disk is too slow to wait for the last batch; it was not acknowledged");
        }
        drop(heap);
        if ended && !self.context.journal.has_failed() { Stopped::Clean } else { Stopped::DiskFailed }
    }

    async fn bind(&mut self, listen: &Listen) -> Result<(), StartError> {
        let quiet = if listen.quiet { "quiet:" } else { "" };
        let wrong =
            |error: &io::Error| StartError::Listen { at: listen.to_string(), why: why(error, "--listen") };
        match &listen.at {
            At::Unix(path) => {
                let listener = bind_unix(path).await.map_err(|error| wrong(&error))?;
                self.addresses.push(format!("{quiet}unix:{}", path.display()));
                self.listeners.push((Listener::Unix(listener, path.clone()), listen.quiet));
            }
            At::QuietUdp(host_port) => {
                for address in resolve(host_port).await.map_err(|error| wrong(&error))? {
                    let socket = match bind_udp(address) {
                        Err(error) if is_no_ipv6(&error) && host_port.starts_with(':') => continue,
                        bound => bound.map_err(|error| wrong(&error))?,
                    };
                    let address = socket.local_addr().map_err(|error| wrong(&error))?;
                    warn_of_writers(address);
                    let name = format!("quiet:udp:{address}");
                    self.addresses.push(name.clone());
                    self.quiet_udp.push((socket, name));
                }
            }
            At::Tcp(host_port) => {
                for address in resolve(host_port).await.map_err(|error| wrong(&error))? {
                    let listener = match bind_tcp(address) {
                        Err(error)
                            if is_no_ipv6(&error) && (listen.is_optional() || host_port.starts_with(':')) =>
                        {
                            tracing::info!(%address, "this machine has no IPv6, going on without it");
                            continue;
                        }
                        bound => bound.map_err(|error| wrong(&error))?,
                    };
                    let address = listener.local_addr().map_err(|error| wrong(&error))?;
                    if !address.ip().to_canonical().is_loopback() {
                        tracing::warn!(%address, "whoever reaches this address reads and writes the whole diary");
                    }
                    self.addresses.push(format!("{quiet}{address}"));
                    self.listeners.push((Listener::Tcp(listener), listen.quiet));
                }
            }
        }
        Ok(())
    }

    async fn bind_answering_udp(&mut self, at: &str) -> Result<(), StartError> {
        let wrong =
            |error: &io::Error| StartError::Listen { at: format!("udp:{at}"), why: why(error, "--udp") };
        let address = resolve(at).await.map_err(|error| wrong(&error))?;
        let socket = UdpSocket::bind(&address[..]).await.map_err(|error| wrong(&error))?;
        let address = socket.local_addr().map_err(|error| wrong(&error))?;
        warn_of_writers(address);
        let name = format!("udp:{address}");
        self.addresses.push(name.clone());
        self.udp = Some((socket, name));
        Ok(())
    }
}

fn warn_of_writers(address: SocketAddr) {
    if !address.ip().to_canonical().is_loopback() {
        tracing::warn!(%address, "whoever reaches this address writes into the diary");
    }
}

/// Gives freed memory back to the system. Cancel safe.
async fn give_back_memory(freed: Arc<Notify>) {
    loop {
        freed.notified().await;
        for seconds in GIVE_BACK_PAUSES_SECONDS {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            // It fails only with the runtime.
            let _ = tokio::task::spawn_blocking(diary_heap::give_back).await;
        }
    }
}

/// Accepts the connections of one listener.
struct Accept {
    context: Arc<Context>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Ends sessions that do not end by themselves.
    kill: CancellationToken,
    quiet: bool,
}

impl Accept {
    async fn run(self, listener: Listener) {
        loop {
            let accepted = tokio::select! {
                accepted = accept(&listener) => accepted,
                () = self.context.stop.cancelled() => return,
            };
            match accepted {
                Ok((socket, peer)) => self.begin(socket, peer),
                // The peer was gone before we came to it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn begin(&self, socket: Socket, peer: Peer) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return self.turn_away(&socket, &peer.address);
        };
        tracing::info!(peer = peer.address, "connected");
        if let Err(error) = socket.prepare() {
            // It is gone already; its session will notice.
            tracing::debug!(peer = peer.address, %error, "preparing a socket");
        }
        let context = Arc::clone(&self.context);
        let session = if self.quiet {
            Session::quiet(context, Transport::new(socket, String::new()), peer)
        } else {
            let about = context.journal.about();
            let greeting = answer::greeting(&about.name, about.id, context.journal.head());
            Session::new(context, Transport::new(socket, greeting), peer)
        };
        self.tasks.spawn(talk(session, place, self.kill.clone()));
    }

    /// Tells a connection over the limit so, and closes it.
    fn turn_away(&self, socket: &Socket, peer: &str) {
        tracing::warn!(peer, "too many connections, turned away");
        if !self.quiet {
            let mut line = Vec::new();
            let message = "there are too many connections to this diary; try again later";
            answer::push_error(&mut line, &Refusal::new(Code::Busy, message));
            // A new socket has room for one line; if not, there is nobody to tell.
            let _ = socket.try_write(&line);
        }
    }
}

async fn talk(session: Box<Session>, place: OwnedSemaphorePermit, kill: CancellationToken) {
    let peer = session.peer().address.clone();
    match kill.run_until_cancelled(session.run()).await {
        Some(Err(error)) => tracing::debug!(peer, %error, "the connection broke"),
        Some(Ok(())) | None => tracing::debug!(peer, "disconnected"),
    }
    drop(place);
}

async fn accept(listener: &Listener) -> io::Result<(Socket, Peer)> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, peer) = listener.accept().await?;
            let author = author_of(peer.ip());
            Ok((Socket::Tcp(stream), Peer::of_stream(peer.to_string(), author)))
        }
        Listener::Unix(listener, path) => {
            let (stream, _) = listener.accept().await?;
            let uid = format!("uid:{}", stream.peer_cred()?.uid());
            let author = Author::new(&uid).expect("a number is a name");
            let address = format!("unix:{} {uid}", path.display());
            Ok((Socket::Unix(stream), Peer::of_stream(address, author)))
        }
    }
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

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // IPv4 has a listener of its own.
        socket.set_only_v6(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}

/// Binds a Unix socket. Replaces one that a killed server left behind, but none that is in use.
async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
                return Err(io::Error::other("there is something else than a socket; choose another path"));
            }
            let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
            if !UnixStream::connect(path).await.is_err_and(|error| refused(&error)) {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}

fn is_no_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

/// Why binding failed, and what to do about it.
fn why(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("something listens there already; stop it, or choose another address with {flag}")
        }
        io::ErrorKind::PermissionDenied => format!(
            "not permitted (ports below 1024 are the administrator's); choose another address with {flag}"
        ),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => error.to_string(),
    }
}

/// Raises the limit on open files to its hard one, and keeps connections below it.
fn connections_max(limits: &Limits) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        tracing::debug!("the limit on open files could not be raised");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let by_files = usize::try_from(files.saturating_sub(DESCRIPTORS_RESERVED)).unwrap_or(usize::MAX);
    limits.connections.min(by_files.max(1))
}
