//! The server: start, serve, drain.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use diary_access::Stamp;
use diary_engine::{Journals, OpenError, Options};
use diary_proto::JournalName;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ServerConfig;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::accept::Accept;
use crate::config::{At, Config, TlsFiles};
use crate::context::{Context, Offer};
use crate::front::{quiet, udp};
use crate::guard::{Guard, Rules};
use crate::handed_over::Served;
use crate::limits::{
    DESCRIPTORS_PER_JOURNAL, DESCRIPTORS_RESERVED, JOURNAL_DESCRIPTORS_DIVISOR, JOURNALS_RESERVED, KILL_MAX,
    LAST_USE_STOP_MAX, Limits, WRITER_STOP_MAX,
};
use crate::listener::{Datagrams, Listener, bind_udp};
use crate::places::Places;
use crate::start_error::StartError;
use crate::tls::{Identity, TlsError, server_config};
use crate::zone;

/// From freeing much memory to giving it back, again and again: more follows while sessions end, little by little.
const GIVE_BACK_PAUSES_SECONDS: [u64; 5] = [1, 2, 4, 8, 15];

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
    listeners: Vec<(Listener, Offer)>,
    /// If there are TLS listeners.
    tls: Option<Tls>,
    /// What the file with the tokens was like when it was read.
    access: Stamp,
    reload: Reload,
    udp: Vec<(Datagrams, Offer)>,
    quiet_udp: Vec<(Datagrams, Offer)>,
    addresses: Vec<String>,
    places: Arc<Places>,
}

struct Tls {
    identity: Arc<Identity>,
    config: Arc<ServerConfig>,
    /// Its files are the user's, and may change.
    watched: bool,
}

impl Tls {
    /// Reads the files, or those of the server's own, which are made if they are not there.
    async fn load(files: Option<TlsFiles>, data: PathBuf) -> Result<Self, TlsError> {
        let watched = files.is_some();
        let load = spawn_blocking(move || Identity::load(files.as_ref(), &data));
        let identity = load.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        Ok(Self { config: server_config(Arc::clone(&identity)), identity, watched })
    }
}

/// Has the files of `--tls-cert` and `--tls-key` read again. Clones are handles of the same server.
#[derive(Debug, Clone)]
pub struct Reload(Arc<Notify>);

impl Reload {
    /// Has them read again soon. New connections then meet what they hold; if that cannot be used, the log says why, and
    /// everything stays as it is. Without such files it does nothing.
    pub fn reload(&self) {
        self.0.notify_one();
    }
}

impl Server {
    /// Binds every address, takes what is handed over, and opens the journals that they offer. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let (zone, zone_name) = zone::find(config.timezone.as_deref()).map_err(StartError::Zone)?;
        // Bound first: where that fails, no journal is made. Who connects meanwhile waits in the backlog.
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        let (mut quiet_udp, mut udp) = (Vec::new(), Vec::new());
        for listen in &config.listen {
            if let At::QuietUdp(host_port) = &listen.at {
                let bound = bind_udp(host_port, listen.journal.as_ref(), true).await?;
                addresses.extend(bound.iter().map(|datagrams| datagrams.address.clone()));
                quiet_udp.extend(bound);
            } else {
                let bound = Listener::bind(listen, config.socket_mode).await?;
                addresses.extend(bound.iter().map(|listener| listener.address.clone()));
                listeners.extend(bound);
            }
        }
        for socket in &config.handed_over {
            match socket.listen()? {
                Served::Connections(listener) => {
                    addresses.push(listener.address.clone());
                    listeners.push(listener);
                }
                Served::QuietDatagrams(datagrams) => {
                    addresses.push(datagrams.address.clone());
                    quiet_udp.push(datagrams);
                }
            }
        }
        if let Some(at) = &config.udp {
            udp = bind_udp(&at.host_port, at.journal.as_ref(), false).await?;
            addresses.extend(udp.iter().map(|datagrams| datagrams.address.clone()));
        }
        let (data, day_start) = (config.data, config.day_start);
        let (guard, access) = Guard::start(config.rules, &data).await?;
        check_exposed(&guard, &listeners, udp.iter().chain(&quiet_udp))?;
        let has_tls = listeners.iter().any(|listener| listener.tls);
        let has_unix = listeners.iter().any(Listener::is_unix);
        let has_silent = listeners.iter().any(|listener| listener.quiet) || udp.len() + quiet_udp.len() > 0;
        // Who gives an option that does nothing believes that it does something.
        for (is_idle, option, of, way_out) in [
            (
                config.tls.is_some() && !has_tls,
                "--tls-cert",
                "TLS listeners",
                "add --listen tls:127.0.0.1:8889",
            ),
            (
                guard.rules().unix_can.is_some() && !has_unix,
                "--unix-can",
                "Unix sockets",
                "add --listen unix:PATH",
            ),
            (
                !guard.rules().allow.is_empty() && !has_silent,
                "--allow",
                "quiet listeners and UDP",
                "who comes in elsewhere needs a token, or --open",
            ),
        ] {
            if is_idle {
                return Err(StartError::NoListenerFor { option, of, way_out });
            }
        }
        let journals = Journals::new(Options { data: data.clone(), zone, zone_name, day_start });
        // If they cannot be counted, opening one says why.
        let (connections, open) =
            shares(&config.limits, journals.names().await.map_or(0, |names| names.len()));
        journals.open_at_most(open);
        let only = listeners.iter().map(|listener| &listener.journal);
        let of_datagrams = quiet_udp.iter().chain(&udp).map(|datagrams| &datagrams.journal);
        for name in only.chain(of_datagrams).flatten() {
            // Before the default one is made.
            match journals.get(name).await {
                Err(OpenError::None(name)) => return Err(StartError::NoJournal(name)),
                opened => drop(opened?),
            }
        }
        let tls = if has_tls { Some(Tls::load(config.tls, data).await?) } else { None };
        let offered = Offered { journals: &journals, default: config.journal };
        let places = Places::new(connections, &config.limits);
        let context = Context::new(Arc::clone(&journals), guard, config.limits);
        let mut tls_at: Vec<String> = listeners.iter().filter_map(Listener::tls_address).collect();
        tls_at.sort_unstable();
        tls_at.dedup();
        if !tls_at.is_empty() {
            context.tls_at.get_or_init(|| tls_at.join(" and "));
        }
        Ok(Self {
            tls,
            access,
            reload: Reload(Arc::default()),
            listeners: offered.at(listeners, |listener| listener.journal.as_ref()).await?,
            udp: offered.at(udp, |datagrams| datagrams.journal.as_ref()).await?,
            quiet_udp: offered.at(quiet_udp, |datagrams| datagrams.journal.as_ref()).await?,
            context,
            addresses,
            places,
        })
    }

    /// Where it listens, with the ports that it got: `127.0.0.1:8888`, `unix:PATH`, `quiet:…`, `proxy:…`, `tls:…`,
    /// `udp:…`.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The fingerprint of the public key (SubjectPublicKeyInfo) that its TLS clients meet, as `sha256:` and 64 hex digits.
    /// None without TLS listeners.
    pub fn fingerprint(&self) -> Option<String> {
        Some(self.tls.as_ref()?.identity.fingerprint())
    }

    /// Has the TLS certificate read again, also while the server runs.
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// Serves until `stop` is cancelled or the disk fails; then commits and answers what was read, and
    /// ends within 10 s. Not cancel safe: dropping it drops all sessions.
    pub async fn run(self, stop: CancellationToken) -> Stopped {
        let (tasks, kill) = (TaskTracker::new(), CancellationToken::new());
        let tls = self.tls.as_ref().map(|tls| Arc::clone(&tls.config));
        for (listener, offer) in self.listeners {
            let accept = Accept {
                tls: tls.clone().filter(|_| listener.tls),
                context: Arc::clone(&self.context),
                places: Arc::clone(&self.places),
                tasks: tasks.clone(),
                kill: kill.clone(),
                listener,
                offer,
            };
            tasks.spawn(accept.run());
        }
        let sockets = self.udp.iter().chain(&self.quiet_udp);
        let ports: Arc<[u16]> = sockets
            .filter_map(|(datagrams, _)| datagrams.socket.local_addr().ok())
            .map(|address| address.port())
            .collect();
        for (datagrams, offer) in self.udp {
            let (ports, context) = (Arc::clone(&ports), Arc::clone(&self.context));
            tasks.spawn(udp::Listener::new(datagrams, offer.journal, ports, context).serve());
        }
        for (datagrams, offer) in self.quiet_udp {
            tasks.spawn(quiet::udp::serve(datagrams, offer.journal, Arc::clone(&self.context)));
        }

        let files = self
            .tls
            .filter(|tls| tls.watched)
            .map(|tls| AbortOnDropHandle::new(tokio::spawn(tls.identity.watch(self.reload.0))));
        let guard = Arc::clone(&self.context.guard);
        let access = AbortOnDropHandle::new(tokio::spawn(guard.watch(self.access)));
        let heap = AbortOnDropHandle::new(tokio::spawn(give_back_memory(Arc::clone(&self.context.freed))));
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.context.journals.failed() => {}
        }
        tracing::info!("stopping");
        self.context.stop.cancel();
        tasks.close();
        if tokio::time::timeout(self.context.limits.drain, tasks.wait()).await.is_err() {
            tracing::warn!(sessions = tasks.len(), "closing connections whose peers take no answers");
            kill.cancel();
            // Sessions that still run wait for the disk. The writer owns their appends.
            let _ = tokio::time::timeout(KILL_MAX, tasks.wait()).await;
        }
        // The writer owns what was handed to it, so this comes after everything that was read.
        let ended = tokio::time::timeout(WRITER_STOP_MAX, self.context.journals.stop()).await.is_ok();
        if !ended {
            tracing::error!("the disk is too slow to wait for the last batch; it was not acknowledged");
        }
        let _ = tokio::time::timeout(LAST_USE_STOP_MAX, self.context.guard.write_last_use()).await;
        drop((heap, files, access));
        if ended && !self.context.journals.has_failed() { Stopped::Clean } else { Stopped::DiskFailed }
    }
}

/// Refuses addresses that other machines reach, and where nobody would have to log in.
fn check_exposed<'a>(
    guard: &Guard,
    listeners: &[Listener],
    datagrams: impl Iterator<Item = &'a Datagrams>,
) -> Result<(), StartError> {
    let Rules { open, allow, .. } = guard.rules();
    if guard.has_only_closed_doors() {
        tracing::warn!(
            "all tokens have been removed, so nobody can log in; to stop using tokens, remove the file access"
        );
    }
    let silent = listeners.iter().filter(|listener| listener.quiet && !listener.is_local);
    let silent = silent.map(|listener| &listener.address);
    let datagrams = datagrams.filter(|datagrams| !datagrams.is_local).map(|datagrams| &datagrams.address);
    for at in silent.chain(datagrams) {
        if *open {
            tracing::warn!(address = at, "whoever reaches this address writes into the diary");
        } else if allow.is_empty() {
            let way_out = "say which networks may write with --allow CIDR, or let everyone with --open";
            return Err(StartError::Exposed { at: at.clone(), way_out });
        }
    }
    for listener in listeners.iter().filter(|listener| !listener.quiet && !listener.is_local) {
        let at = &listener.address;
        if *open {
            tracing::warn!(address = at, "whoever reaches this address reads and writes the whole diary");
        } else if guard.has_tokens() && !listener.tls {
            tracing::warn!(address = at, "nobody can log in at this address, because it has no TLS");
        } else if !guard.has_tokens() {
            if listener.tls {
                tracing::warn!(
                    address = at,
                    "nobody has a token yet; `diary-server token add NAME` makes one"
                );
                continue;
            }
            let way_out = "make tokens with `diary-server token add NAME` and listen on tls:ADDR, or let everyone read \
                           and write with --open";
            return Err(StartError::Exposed { at: at.clone(), way_out });
        }
    }
    Ok(())
}

/// What addresses have to offer.
struct Offered<'a> {
    journals: &'a Arc<Journals>,
    default: JournalName,
}

impl Offered<'_> {
    /// Opens the journals of `bound` addresses. The default one is made if there is none.
    async fn at<T>(
        &self,
        bound: Vec<T>,
        only: impl Fn(&T) -> Option<&JournalName>,
    ) -> Result<Vec<(T, Offer)>, StartError> {
        let mut offered = Vec::new();
        for bound in bound {
            let offer = match only(&bound) {
                None => Offer { journal: self.journals.get_or_make(&self.default).await?, only: false },
                Some(name) => Offer { journal: self.journals.get(name).await?, only: true },
            };
            offered.push((bound, offer));
        }
        Ok(offered)
    }
}

/// Gives freed memory back to the system. Cancel safe.
async fn give_back_memory(freed: Arc<Notify>) {
    loop {
        freed.notified().await;
        for seconds in GIVE_BACK_PAUSES_SECONDS {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            // It fails only with the runtime.
            let _ = tokio::task::spawn_blocking(diary_sys::give_back_memory).await;
        }
    }
}

/// Raises the limit on open files to its hard one, and shares them out: how many connections there may be, and how many
/// journals may be open, of which there are so many now.
fn shares(limits: &Limits, journals: usize) -> (usize, usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        tracing::debug!("the limit on open files could not be raised");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let files = usize::try_from(files.saturating_sub(DESCRIPTORS_RESERVED)).unwrap_or(usize::MAX);
    let most = files / JOURNAL_DESCRIPTORS_DIVISOR;
    let for_journals = (journals.saturating_sub(JOURNALS_RESERVED) * DESCRIPTORS_PER_JOURNAL).min(most);
    let open = JOURNALS_RESERVED + most / DESCRIPTORS_PER_JOURNAL;
    (limits.connections.min(files.saturating_sub(for_journals)).max(1), open)
}
