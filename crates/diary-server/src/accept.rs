//! Accepts connections, and begins their sessions.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use diary_proto::{Code, Refusal, answer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::Context;
use crate::listener::Listener;
use crate::peer::Peer;
use crate::places::{NoPlace, Place, Places};
use crate::session::Session;
use crate::transport::{Socket, Transport};

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
    pub(crate) async fn run(self) {
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
    fn take(&self, socket: Socket, peer: Peer) {
        let place = match self.places.take() {
            Ok(place) => place,
            Err(no_place) => return self.turn_away(&socket, &peer, &no_place),
        };
        if let Err(error) = socket.prepare() {
            // It is gone already; its session will notice.
            tracing::debug!(peer = peer.address, %error, "preparing a socket");
        }
        self.begin(socket, peer, place);
    }

    /// Begins the session of a peer whose address is known.
    fn begin(&self, socket: Socket, peer: Peer, mut place: Place) {
        if let Some(Err(no_place)) = peer.ip.map(|ip| place.take_address(ip)) {
            return self.turn_away(&socket, &peer, &no_place);
        }
        tracing::info!(peer = peer.address, "connected");
        let context = Arc::clone(&self.context);
        let session = if self.listener.quiet {
            Session::quiet(context, Transport::new(socket, String::new()), peer)
        } else {
            let about = context.journal.about();
            let greeting = answer::greeting(&about.name, about.id, context.journal.head());
            Session::new(context, Transport::new(socket, greeting), peer)
        };
        self.tasks.spawn(talk(session, place, self.kill.clone()));
    }

    /// Tells a connection over a limit so, and closes it.
    fn turn_away(&self, socket: &Socket, peer: &Peer, no_place: &NoPlace) {
        tracing::warn!(peer = peer.address, "turned away: {no_place}");
        if !self.listener.quiet {
            let mut line = Vec::new();
            answer::push_error(&mut line, &Refusal::new(Code::Busy, no_place.to_string()));
            // A new socket has room for one line; if not, there is nobody to tell.
            let _ = socket.try_write(&line);
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
