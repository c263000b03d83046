//! Accepts connections, and begins their sessions.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use diary_proto::limits::PROXY_HEADER_MAX_BYTES;
use diary_proto::proxy::Header;
use diary_proto::{Code, Refusal, answer};
use futures::StreamExt;
use futures::stream::{FuturesUnordered, unfold};
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::context::{Context, Offer};
use crate::front::refusals::RefusalLog;
use crate::limits::LINGER_MAX;
use crate::listener::Listener;
use crate::peer::Peer;
use crate::places::{NoPlace, Place, Places};
use crate::session::Session;
use crate::transport::{Insecure, Socket, Transport, with_scratch};

/// After a failed accept: no event says when descriptors are free again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts the connections of one listener.
pub(crate) struct Accept {
    pub(crate) context: Arc<Context>,
    pub(crate) places: Arc<Places>,
    pub(crate) tasks: TaskTracker,
    /// Ends sessions that do not end by themselves.
    pub(crate) kill: CancellationToken,
    pub(crate) listener: Listener,
    pub(crate) offer: Offer,
    /// If the listener has TLS.
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

impl Accept {
    pub(crate) async fn run(self) {
        let log = RefusalLog::of_connections(self.listener.address.clone());
        let messages = RefusalLog::new(self.listener.address.clone());
        let mut accepted =
            pin!(unfold(&self.listener, async |listener| Some((accept(listener).await, listener))));
        let mut introducing = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some((socket, peer)) = accepted.next() => match self.places.take(peer.ip) {
                    Ok(place) => {
                        let transport = prepared(socket, &peer);
                        if self.listener.proxy || self.tls.is_some() {
                            introducing.push(self.introduce(transport, peer, place));
                        } else {
                            self.begin(transport, peer, Vec::new(), place, &messages, &log);
                        }
                    }
                    Err(no_place) => {
                        let transport = Transport::new(socket, String::new());
                        self.turn_away(transport, &peer, no_place.into(), self.told(Vec::new()), &log);
                    }
                },
                Some(introduced) = introducing.next() => match introduced {
                    Introduced::Begin { transport, peer, input, place } => {
                        self.begin(transport, peer, input, place, &messages, &log);
                    }
                    Introduced::Refused { transport, peer, refusal, told } => {
                        self.turn_away(transport, &peer, refusal, told, &log);
                    }
                    Introduced::Gone => {}
                },
                () = log.tell_counted() => {}
                () = messages.tell_counted() => {}
                () = self.context.stop.cancelled() => return,
            }
        }
    }

    /// Waits for what comes before a session: the header of a proxy, and the handshake of TLS. Not cancel safe: what was
    /// read is lost.
    async fn introduce(&self, transport: Transport, peer: Peer, place: Place) -> Introduced {
        let (transport, peer, input, place) = if self.listener.proxy {
            match self.receive_source(transport, peer, place).await {
                Introduced::Begin { transport, peer, input, place } => (transport, peer, input, place),
                other => return other,
            }
        } else {
            (transport, peer, Vec::new(), place)
        };
        let Some(config) = &self.tls else {
            return Introduced::Begin { transport, peer, input, place };
        };
        let (config, within) = (Arc::clone(config), self.context.limits.tls_handshake);
        // A task of its own: it costs as much time as many accepts.
        let handshake = self.tasks.spawn(async move { transport.secure(config, &input, within).await });
        match AbortOnDropHandle::new(handshake).await {
            Ok(Ok(transport)) => Introduced::Begin { transport, peer, input: Vec::new(), place },
            Ok(Err(Insecure::Refused { transport, refusal, in_words })) => {
                let told = if in_words { Told::InWords } else { Told::Nothing };
                Introduced::Refused { transport, peer, refusal, told }
            }
            Ok(Err(Insecure::Gone(error))) => {
                tracing::debug!(peer = peer.address, %error, "gone before its TLS handshake");
                Introduced::Gone
            }
            // It has panicked, which is logged.
            Err(_) => Introduced::Gone,
        }
    }

    /// Waits for the header in which a proxy says who its peer is. The greeting comes behind it: nobody else is told
    /// anything. Until then the connection counts for the proxy. Not cancel safe: what was read is lost.
    async fn receive_source(&self, mut transport: Transport, proxy: Peer, mut place: Place) -> Introduced {
        let header =
            tokio::time::timeout(self.context.limits.proxy_header, receive_header(&mut transport)).await;
        let refused = |transport, peer, message: String| Introduced::Refused {
            transport,
            peer,
            refusal: Refusal::new(Code::Proxy, message),
            told: Told::InWords,
        };
        match header {
            Ok(Ok((header, input))) => {
                let peer = proxy.proxied(header.source);
                match place.count_for(peer.ip) {
                    Ok(()) => Introduced::Begin { transport, peer, input, place },
                    Err(no_place) => {
                        let (refusal, told) = (no_place.into(), self.told(input));
                        Introduced::Refused { transport, peer, refusal, told }
                    }
                }
            }
            Ok(Err(bad)) if bad.kind() == io::ErrorKind::InvalidData => {
                refused(transport, proxy, bad.to_string())
            }
            // A proxy may only look whether the server is there.
            Ok(Err(error)) => {
                tracing::debug!(peer = proxy.address, %error, "gone before its PROXY header");
                Introduced::Gone
            }
            Err(_) => refused(transport, proxy, "no PROXY header came in time".to_owned()),
        }
    }

    /// Begins the session of a peer whose address is known. `input` is what it has said already.
    fn begin(
        &self,
        mut transport: Transport,
        peer: Peer,
        input: Vec<u8>,
        place: Place,
        messages: &RefusalLog,
        log: &RefusalLog,
    ) {
        let (context, offer) = (Arc::clone(&self.context), self.offer.clone());
        let journal = offer.journal.about().name.as_str();
        let peer = if self.listener.quiet {
            match context.guard.admit(peer.clone(), journal) {
                Ok(peer) => peer,
                Err(refusal) => return self.turn_away(transport, &peer, refusal, Told::Nothing, log),
            }
        } else {
            peer
        };
        tracing::info!(peer = peer.address, "connected");
        let session = if self.listener.quiet {
            Session::quiet(context, offer, transport, peer, messages.clone())
        } else {
            transport.out = match context.guard.may_enter(&peer, journal) {
                Ok(()) => {
                    answer::greeting(journal, offer.journal.about().id, offer.journal.head()).into_bytes()
                }
                Err(_) if peer.is_secure() => answer::GREETING_LOGIN.as_bytes().to_vec(),
                Err(_) => answer::greeting_insecure(&context.only_in_tls()).into_bytes(),
            };
            Session::new(context, offer, transport, peer)
        };
        self.tasks.spawn(talk(session.with_input(input), place, self.kill.clone()));
    }

    /// How a peer is told that has kept to the rules so far, and has sent `input` behind the header of a proxy.
    fn told(&self, input: Vec<u8>) -> Told {
        match &self.tls {
            Some(config) => Told::InTls(Arc::clone(config), input),
            None => Told::InWords,
        }
    }

    /// Tells a connection why it has no session, and closes it.
    fn turn_away(
        &self,
        mut transport: Transport,
        peer: &Peer,
        refusal: Refusal,
        told: Told,
        log: &RefusalLog,
    ) {
        log.tell(peer.ip, &peer.address, &refusal, 1);
        if matches!(told, Told::InWords) && !self.listener.quiet {
            answer::push_error(&mut transport.out, &refusal);
        }
        // A new socket has room for one line; if not, there is nobody to tell.
        if transport.flush().is_ok()
            && let Some(leave) = self.places.leave()
        {
            let quiet = self.listener.quiet;
            self.tasks.spawn(async move {
                // It is gone if this fails.
                let _ = match told {
                    Told::InTls(config, input) if !quiet => {
                        close_in_tls(transport, config, input, &refusal).await
                    }
                    _ => transport.close().await,
                };
                drop(leave);
            });
        }
    }
}

/// Shakes hands only to say why there is no session.
async fn close_in_tls(
    transport: Transport,
    config: Arc<ServerConfig>,
    input: Vec<u8>,
    refusal: &Refusal,
) -> io::Result<()> {
    match transport.secure(config, &input, LINGER_MAX).await {
        Ok(mut transport) => {
            answer::push_error(&mut transport.out, refusal);
            transport.flush()?;
            transport.close().await
        }
        Err(Insecure::Refused { mut transport, in_words, .. }) => {
            if in_words {
                answer::push_error(&mut transport.out, refusal);
                transport.flush()?;
            }
            transport.close().await
        }
        Err(Insecure::Gone(_)) => Ok(()),
    }
}

/// The next connection. Not cancel safe: a pause after a failure is lost.
async fn accept(listener: &Listener) -> (Socket, Peer) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The peer was gone before we came to it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn prepared(socket: Socket, peer: &Peer) -> Transport {
    if let Err(error) = socket.prepare() {
        // It is gone already; its session will notice.
        tracing::debug!(peer = peer.address, %error, "preparing a socket");
    }
    Transport::new(socket, String::new())
}

/// What became of a connection before its session.
enum Introduced {
    Begin { transport: Transport, peer: Peer, input: Vec<u8>, place: Place },
    Refused { transport: Transport, peer: Peer, refusal: Refusal, told: Told },
    Gone,
}

/// How a peer is told that it is turned away.
enum Told {
    InWords,
    /// Once it has shaken hands, for which it has sent so much.
    InTls(Arc<ServerConfig>, Vec<u8>),
    /// It speaks TLS, and no handshake can be made.
    Nothing,
}

impl From<NoPlace> for Refusal {
    fn from(no_place: NoPlace) -> Self {
        Self::new(Code::Busy, no_place.to_string())
    }
}

/// The header at the start of a connection, and what came behind it. Not cancel safe: what was read is lost.
///
/// # Errors
/// Those of the socket; `UnexpectedEof`, and `InvalidData` for what is no header.
async fn receive_header(transport: &mut Transport) -> io::Result<(Header, Vec<u8>)> {
    let mut input = Vec::new();
    loop {
        let header = Header::read(&input).map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))?;
        if let Some(header) = header {
            let behind = input.split_off(header.bytes);
            return Ok((header, behind));
        }
        transport.ready(true).await?;
        let read: io::Result<usize> = with_scratch(|scratch| {
            // Never empty: a header is settled by then.
            let scratch = &mut scratch[..PROXY_HEADER_MAX_BYTES - input.len()];
            let read = transport.try_read(scratch)?;
            input.extend_from_slice(&scratch[..read]);
            Ok(read)
        });
        match read {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
}

async fn talk(session: Box<Session>, place: Place, kill: CancellationToken) {
    let peer = session.peer().address.clone();
    match kill.run_until_cancelled(session.run()).await {
        Some(Err(error)) => tracing::debug!(peer, %error, "the connection broke"),
        Some(Ok(())) | None => tracing::debug!(peer, "disconnected"),
    }
    drop(place);
}
