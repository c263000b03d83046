//! Quiet datagrams: each is a message of syslog (RFC 5426). Nothing is ever answered, so no datagram can start a loop or
//! reach anybody else, and sources have no rate: a burst is what a log is for. What the server cannot take in time waits
//! in the socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use diary_engine::{Appends, Outcome, Part};
use diary_proto::syslog;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::UdpSocket;

use crate::context::Context;
use crate::front::refusals::{RefusalLog, quoting};
use crate::limits::{APPEND_MIN_BYTES, DATAGRAM_MAX_BYTES, DATAGRAMS_MAX, READ_BYTES};
use crate::peer::{Peer, Right};

/// Stores datagrams until the server stops.
pub(crate) async fn serve(socket: UdpSocket, name: String, context: Arc<Context>) {
    let mut log = RefusalLog::new(name);
    let mut buffer = vec![0; DATAGRAM_MAX_BYTES];
    let mut appended = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some((from, outcome)) = appended.next() => tell(&mut log, from, &outcome),
            readable = socket.readable(), if appended.len() < DATAGRAMS_MAX => {
                if let Err(error) = readable {
                    tracing::error!(%error, "datagrams cannot be received");
                    return;
                }
                for (from, appends) in gather(&socket, &mut buffer, &mut log) {
                    let bytes = appends.bytes().max(APPEND_MIN_BYTES);
                    let bytes = u32::try_from(bytes).expect("what is gathered is far below 4 GiB");
                    let room = Arc::clone(&context.unacked).acquire_many_owned(bytes).await;
                    let receipt = context.journal.append(appends, room.expect("the semaphore is never closed"));
                    appended.push(async move { (from, receipt.await) });
                }
            }
            () = log.due() => log.tell_untold(),
            () = context.stop.cancelled() => break,
        }
    }
    while let Some((from, outcome)) = appended.next().await {
        tell(&mut log, from, &outcome);
    }
}

/// The texts that lie in the socket, in their order: those that one source sent in a row together.
fn gather(socket: &UdpSocket, buffer: &mut [u8], log: &mut RefusalLog) -> Vec<(SocketAddr, Appends)> {
    let mut groups: Vec<(SocketAddr, Appends)> = Vec::new();
    let mut bytes = 0;
    for _ in 0..DATAGRAMS_MAX {
        let (length, from) = match socket.try_recv_from(buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => {
                tracing::debug!(%error, "receiving a datagram");
                break;
            }
        };
        bytes += length;
        let peer = Peer::of_datagram(from.ip());
        let text = match syslog::datagram(&buffer[..length]) {
            None => continue,
            Some(text) => peer.may(Right::Append).and(text),
        };
        match text {
            Err(refusal) => log.tell(Some(&from), &quoting(&refusal, &buffer[..length]), 1),
            Ok(text) => {
                if groups.last().is_none_or(|(source, _)| source.ip() != from.ip()) {
                    groups.push((from, Appends::new(Arc::clone(&peer.author), None)));
                }
                if let Some((_, appends)) = groups.last_mut() {
                    appends.push(text);
                }
            }
        }
        if bytes >= READ_BYTES {
            break;
        }
    }
    groups
}

fn tell(log: &mut RefusalLog, from: SocketAddr, outcome: &Outcome) {
    for part in outcome {
        if let Part::Refused { count, refusal } = part {
            log.tell(Some(&from), refusal, u64::from(*count));
        }
    }
}
