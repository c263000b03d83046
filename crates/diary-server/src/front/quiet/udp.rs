//! Quiet datagrams: each is a message of syslog (RFC 5426). Nothing is ever answered, so no datagram can start a loop or
//! reach anybody else, and sources have no rate: a burst is what a log is for. What the server cannot take in time waits
//! in the socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use diary_engine::{Appends, Journal, Outcome, Part};
use diary_proto::command::{is_login, stray_login};
use diary_proto::syslog;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::UdpSocket;

use crate::context::Context;
use crate::front::refusals::{RefusalLog, quoting};
use crate::guard::Guard;
use crate::limits::{DATAGRAM_MAX_BYTES, DATAGRAMS_IN_A_ROW_MAX, READ_BYTES};
use crate::listener::Datagrams;
use crate::peer::Peer;

/// Stores datagrams until the server stops. As a session, it reads on while it has less than so much that is not acked.
pub(crate) async fn serve(datagrams: Datagrams, journal: Arc<Journal>, context: Arc<Context>) {
    let Datagrams { socket, address, .. } = datagrams;
    let log = RefusalLog::new(address);
    let mut buffer = vec![0; DATAGRAM_MAX_BYTES];
    // At most one waits for room, so that all keep their order.
    let (mut admitting, mut appended) = (FuturesUnordered::new(), FuturesUnordered::new());
    let mut unacked_bytes = 0;
    loop {
        let reads = admitting.is_empty() && unacked_bytes < context.limits.session_unacked_bytes;
        tokio::select! {
            Some((from, bytes, outcome)) = appended.next() => {
                unacked_bytes -= bytes;
                tell(&log, from, &outcome);
            }
            Some(receipts) = admitting.next() => appended.extend(receipts),
            readable = socket.readable(), if reads => {
                if let Err(error) = readable {
                    tracing::error!(%error, "datagrams cannot be received");
                    return;
                }
                let groups = gather(&socket, &mut buffer, &log, &context.guard, journal.about().name.as_str());
                unacked_bytes += groups.iter().map(|(_, appends)| appends.bytes()).sum::<usize>();
                admitting.push(admit(&context, &journal, groups));
            }
            () = log.tell_counted() => {}
            () = context.stop.cancelled() => break,
        }
    }
    while let Some(receipts) = admitting.next().await {
        appended.extend(receipts);
    }
    while let Some((from, _, outcome)) = appended.next().await {
        tell(&log, from, &outcome);
    }
}

/// Waits for room for each of them, and hands them to the writer. Returns what waits for the outcomes, with the bytes. Not
/// cancel safe: those that wait are lost.
async fn admit(
    context: &Context,
    journal: &Journal,
    groups: Vec<(SocketAddr, Appends)>,
) -> Vec<impl Future<Output = (SocketAddr, usize, Outcome)>> {
    let mut receipts = Vec::new();
    for (from, appends) in groups {
        let bytes = appends.bytes();
        let room = context.room_for_appends(bytes).await;
        let receipt = journal.append(appends, room);
        receipts.push(async move { (from, bytes, receipt.await) });
    }
    receipts
}

/// The texts that lie in the socket, in their order: those that one source sent in a row together.
fn gather(
    socket: &UdpSocket,
    buffer: &mut [u8],
    log: &RefusalLog,
    guard: &Guard,
    journal: &str,
) -> Vec<(SocketAddr, Appends)> {
    let mut groups: Vec<(SocketAddr, Appends)> = Vec::new();
    let mut bytes = 0;
    for _ in 0..DATAGRAMS_IN_A_ROW_MAX {
        let (length, from) = match socket.try_recv_from(buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => {
                tracing::debug!(%error, "receiving a datagram");
                break;
            }
        };
        bytes += length;
        if is_login(&String::from_utf8_lossy(&buffer[..length])) {
            log.tell(Some(from.ip()), &from, &stray_login(), 1);
            continue;
        }
        let Some(text) = syslog::datagram(&buffer[..length]) else { continue };
        let admitted = guard.admit(Peer::of_datagram(from.ip()), journal);
        match admitted.and_then(|peer| Ok((peer, text?))) {
            Err(refusal) => log.tell(Some(from.ip()), &from, &quoting(&refusal, &buffer[..length]), 1),
            Ok((peer, text)) => {
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

fn tell(log: &RefusalLog, from: SocketAddr, outcome: &Outcome) {
    for part in outcome {
        if let Part::Refused { count, refusal } = part {
            log.tell(Some(from.ip()), &from, refusal, u64::from(*count));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use diary_engine::sim::{self, SimDisk};
    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::*;
    use crate::limits::Limits;

    const UNACKED_BYTES: usize = 1_000_000;
    const LISTENER_UNACKED_BYTES: usize = 100_000;

    fn datagrams(socket: UdpSocket) -> Datagrams {
        Datagrams { socket, address: "quiet:udp".to_owned(), is_local: true, journal: None }
    }

    /// A flood while the disk hangs.
    #[tokio::test]
    async fn a_flood_leaves_room_for_the_appends_of_others() {
        let (journals, journal, mut writer) = sim::journals(&SimDisk::new());
        let limits = Limits {
            unacked_bytes: UNACKED_BYTES,
            session_unacked_bytes: LISTENER_UNACKED_BYTES,
            ..Limits::default()
        };
        let context = Context::new(journals, Guard::without_tokens(), limits);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let source = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        source.connect(socket.local_addr().unwrap()).await.unwrap();
        let serving = tokio::spawn(serve(datagrams(socket), Arc::clone(&journal), Arc::clone(&context)));
        let taken = || UNACKED_BYTES - context.unacked.available_permits();
        let datagram = vec![b'x'; 30_000];
        for _ in 0..UNACKED_BYTES / datagram.len() {
            let before = taken();
            source.send(&datagram).await.unwrap();
            // Until it is read, or for long enough that it would have been.
            for _ in 0..1000 {
                if taken() == before {
                    yield_now().await;
                }
            }
        }
        let most = LISTENER_UNACKED_BYTES + READ_BYTES + DATAGRAM_MAX_BYTES;
        assert!((LISTENER_UNACKED_BYTES..=most).contains(&taken()), "{} bytes are taken", taken());

        // The disk goes on, and so do they.
        let stored = async {
            while journal.head() < 6 || taken() > 0 {
                writer.commit();
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), stored).await.expect("those that wait are stored");
        context.stop.cancel();
        timeout(Duration::from_secs(60), serving).await.expect("it ends").unwrap();
    }

    #[tokio::test]
    async fn a_stop_stores_what_was_read_and_waits_for_room() {
        let (journals, journal, mut writer) = sim::journals(&SimDisk::new());
        let context = Context::new(
            journals,
            Guard::without_tokens(),
            Limits { unacked_bytes: 1_000, ..Limits::default() },
        );
        let others = Arc::clone(&context.unacked).acquire_many_owned(1_000).await.unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (one, two) = tokio::join!(UdpSocket::bind("127.0.0.1:0"), UdpSocket::bind("127.0.0.2:0"));
        let (one, two) = (one.unwrap(), two.unwrap());
        for source in [&one, &two] {
            source.connect(socket.local_addr().unwrap()).await.unwrap();
        }
        one.send(b"one").await.unwrap();
        two.send(b"two").await.unwrap();
        let serving = tokio::spawn(serve(datagrams(socket), Arc::clone(&journal), Arc::clone(&context)));
        // It has read them when it waits for room.
        for _ in 0..1000 {
            yield_now().await;
        }
        context.stop.cancel();
        drop(others);
        let stopped = async {
            while !serving.is_finished() {
                writer.commit();
                yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), stopped).await.expect("it ends");
        assert_eq!(journal.head(), 2);
    }
}
