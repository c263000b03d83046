//! A network that can be cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on to a server.
#[derive(Clone)]
pub(crate) struct Relay {
    address: String,
    /// Whether it passes anything on; false cuts what goes on.
    open: watch::Sender<bool>,
    /// Bytes from the server before all connections are cut once.
    budget: Arc<AtomicI64>,
    /// Each change is a cut.
    cuts: watch::Sender<u32>,
}

impl Relay {
    pub(crate) async fn start(server: &str) -> Self {
        Self::start_for(server, usize::MAX).await
    }

    /// The same for so many connections; then nothing listens there any more.
    pub(crate) async fn start_for(server: &str, connections: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let budget = Arc::new(AtomicI64::new(i64::MAX));
        let relay = Self { address, open: watch::Sender::new(true), budget, cuts: watch::Sender::new(0) };
        let (passing, server) = (relay.clone(), server.to_owned());
        tokio::spawn(async move {
            for _ in 0..connections {
                let client = listener.accept().await.unwrap().0;
                tokio::spawn(passing.clone().pass(client, server.clone()));
            }
        });
        relay
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Cuts everything, and passes nothing on from now on.
    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    /// Passes on again, and cuts everything once when so many bytes came from the server.
    pub(crate) fn open_and_cut_after(&self, bytes: i64) {
        self.budget.store(bytes, Ordering::Relaxed);
        self.open.send_replace(true);
    }

    /// Waits for that cut.
    pub(crate) async fn cuts(&self) {
        self.cuts.subscribe().wait_for(|cuts| *cuts > 0).await.unwrap();
    }

    /// How often it has done so.
    pub(crate) fn cut_count(&self) -> u32 {
        *self.cuts.borrow()
    }

    async fn pass(self, client: TcpStream, server: String) {
        let (mut open, mut cuts) = (self.open.subscribe(), self.cuts.subscribe());
        let server = TcpStream::connect(server).await.unwrap();
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        let down = async {
            let mut bytes = vec![0; 4096];
            while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
                let count_signed = count.cast_signed() as i64;
                let before = self.budget.fetch_sub(count_signed, Ordering::Relaxed);
                if before <= count_signed {
                    self.budget.store(i64::MAX, Ordering::Relaxed);
                    self.cuts.send_modify(|cuts| *cuts += 1);
                    return;
                }
                if to_client.write_all(&bytes[..count]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            _ = open.wait_for(|open| !open) => {}
            _ = cuts.changed() => {}
            _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
            () = down => {}
        }
    }
}
