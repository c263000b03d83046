//! Accepts connections, and begins their sessions.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use diary_proto::limits::PROXY_HEADER_MAX_BYTES;
use diary_proto::proxy::Header;
use diary_proto::{Code, Refusal, answer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::Context;
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
}

impl Accept {
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = self.context.stop.cancelled() => return,
            };
            match accepted {
                Ok((socket, peer)) => self.take(socket, peer),
                // The peer was gone before we came to it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// A connection takes its place, or is turned away.
    fn take(self: &Arc<Self>, socket: Socket, peer: Peer) {
        let place = match self.places.take() {
            Ok(place) => place,
            Err(no_place) => return self.turn_away(Transport::new(socket, String::new()), &peer, &no_place),
        };
        if let Err(error) = socket.prepare() {
            // It is gone already; its session will notice.
            tracing::debug!(peer = peer.address, %error, "preparing a socket");
        }
        let transport = Transport::new(socket, String::new());
        if self.listener.proxy {
            self.tasks.spawn(Arc::clone(self).introduce(transport, peer, place));
        } else {
            self.begin(transport, peer, Vec::new(), place);
        }
    }

    /// Waits for the header in which a proxy says who its peer is. The greeting comes behind it: nobody else is told anything.
    async fn introduce(self: Arc<Self>, mut transport: Transport, proxy: Peer, place: Place) {
        let header = tokio::time::timeout(self.context.limits.proxy_header, receive_header(&transport));
        let received = tokio::select! {
            received = header => received,
            // Nothing of what the peer says has been taken.
            () = self.context.stop.cancelled() => return,
        };
        let message = match received {
            Ok(Ok((header, input))) => {
                return self.begin(transport, proxy.proxied(header.source), input, place);
            }
            Ok(Err(bad)) if bad.kind() == io::ErrorKind::InvalidData => bad.to_string(),
            // A proxy may only look whether the server is there.
            Ok(Err(error)) => {
                return tracing::debug!(peer = proxy.address, %error, "gone before its PROXY header");
            }
            Err(_) => "no PROXY header came in time".to_owned(),
        };
        let refusal = Refusal::new(Code::Proxy, message);
        tracing::warn!(peer = proxy.address, %refusal, "a connection was refused");
        if !self.listener.quiet {
            answer::push_error(&mut transport.out, &refusal);
        }
        // It is gone if this fails.
        if transport.flush().is_ok() {
            let _ = transport.close().await;
        }
    }

    /// Begins the session of a peer whose address is known. `input` is what it has said already.
    fn begin(&self, mut transport: Transport, peer: Peer, input: Vec<u8>, mut place: Place) {
        if let Some(Err(no_place)) = peer.ip.map(|ip| place.take_address(ip)) {
            return self.turn_away(transport, &peer, &no_place);
        }
        tracing::info!(peer = peer.address, "connected");
        let context = Arc::clone(&self.context);
        let session = if self.listener.quiet {
            Session::quiet(context, transport, peer)
        } else {
            let about = context.journal.about();
            transport.out = answer::greeting(&about.name, about.id, context.journal.head()).into_bytes();
            Session::new(context, transport, peer)
        };
        self.tasks.spawn(talk(session.with_input(input), place, self.kill.clone()));
    }

    /// Tells a connection over a limit so, and closes it.
    fn turn_away(&self, mut transport: Transport, peer: &Peer, no_place: &NoPlace) {
        tracing::warn!(peer = peer.address, "turned away: {no_place}");
        if !self.listener.quiet {
            answer::push_error(&mut transport.out, &Refusal::new(Code::Busy, no_place.to_string()));
            // A new socket has room for one line; if not, there is nobody to tell.
            let _ = transport.flush();
        }
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
