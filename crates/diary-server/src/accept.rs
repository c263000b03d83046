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
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::{Context, Offer};
use crate::front::refusals::RefusalLog;
use crate::listener::Listener;
use crate::peer::Peer;
use crate::places::{NoPlace, Place, Places};
use crate::session::Session;
use crate::transport::{Socket, Transport, with_scratch};

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
                        if self.listener.proxy {
                            introducing.push(self.introduce(transport, peer, place));
                        } else {
                            self.begin(transport, peer, Vec::new(), place, &messages);
                        }
                    }
                    Err(no_place) => {
                        let transport = Transport::new(socket, String::new());
                        self.turn_away(transport, &peer, &no_place.into(), &log);
                    }
                },
                Some(introduced) = introducing.next() => match introduced {
                    Introduced::Begin { transport, peer, input, place } => {
                        self.begin(transport, peer, input, place, &messages);
                    }
                    Introduced::Refused { transport, peer, refusal } => {
                        self.turn_away(transport, &peer, &refusal, &log);
                    }
                    Introduced::Gone => {}
                },
                () = log.tell_counted() => {}
                () = messages.tell_counted() => {}
                () = self.context.stop.cancelled() => return,
            }
        }
    }

    /// Waits for the header in which a proxy says who its peer is. The greeting comes behind it: nobody else is told
    /// anything. Until then the connection counts for the proxy. Not cancel safe: what was read is lost.
    async fn introduce(&self, transport: Transport, proxy: Peer, mut place: Place) -> Introduced {
        let header = tokio::time::timeout(self.context.limits.proxy_header, receive_header(&transport));
        let refused = |transport, peer, refusal| Introduced::Refused { transport, peer, refusal };
        match header.await {
            Ok(Ok((header, input))) => {
                let peer = proxy.proxied(header.source);
                match place.count_for(peer.ip) {
                    Ok(()) => Introduced::Begin { transport, peer, input, place },
                    Err(no_place) => refused(transport, peer, no_place.into()),
                }
            }
            Ok(Err(bad)) if bad.kind() == io::ErrorKind::InvalidData => {
                refused(transport, proxy, Refusal::new(Code::Proxy, bad.to_string()))
            }
            // A proxy may only look whether the server is there.
            Ok(Err(error)) => {
                tracing::debug!(peer = proxy.address, %error, "gone before its PROXY header");
                Introduced::Gone
            }
            Err(_) => refused(transport, proxy, Refusal::new(Code::Proxy, "no PROXY header came in time")),
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
    ) {
        tracing::info!(peer = peer.address, "connected");
        let (context, offer) = (Arc::clone(&self.context), self.offer.clone());
        let session = if self.listener.quiet {
            Session::quiet(context, offer, transport, peer, messages.clone())
        } else {
            let (about, head) = (offer.journal.about(), offer.journal.head());
            transport.out = answer::greeting(about.name.as_str(), about.id, head).into_bytes();
            Session::new(context, offer, transport, peer)
        };
        self.tasks.spawn(talk(session.with_input(input), place, self.kill.clone()));
    }

    /// Tells a connection why it has no session, and closes it.
    fn turn_away(&self, mut transport: Transport, peer: &Peer, refusal: &Refusal, log: &RefusalLog) {
        log.tell(peer.ip, &peer.address, refusal, 1);
        if !self.listener.quiet {
            answer::push_error(&mut transport.out, refusal);
        }
        // A new socket has room for one line; if not, there is nobody to tell.
        if transport.flush().is_ok()
            && let Some(leave) = self.places.leave()
        {
            self.tasks.spawn(async move {
                // It is gone if this fails.
                let _ = transport.close().await;
                drop(leave);
            });
        }
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

/// What became of a connection to a listener for proxies.
enum Introduced {
    Begin { transport: Transport, peer: Peer, input: Vec<u8>, place: Place },
    Refused { transport: Transport, peer: Peer, refusal: Refusal },
    Gone,
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
async fn receive_header(transport: &Transport) -> io::Result<(Header, Vec<u8>)> {
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
