//! Holding up a server of this process while it reads its day files.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{LazyLock, Mutex, Once};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// What keeps a server from knowing what is derived from a journal: there is no cache, and what is in the archive cannot
/// be read. The thread that loads it logs that, and the log takes until the test says so.
pub(crate) struct Loading {
    _release: Sender<()>,
}

/// Whose log waits: parts of messages, and what lets them go on.
static HELD: LazyLock<Mutex<HashMap<String, Receiver<()>>>> = LazyLock::new(Mutex::default);

impl Loading {
    /// For the next start on a journal that has a cache.
    pub(crate) async fn hold(journal: &Path) -> Self {
        static LOG: Once = Once::new();
        LOG.call_once(|| tracing_subscriber::registry().with(Hold).init());
        fs::remove_file(journal.join("cache")).unwrap();
        let unreadable = journal.join("archive/old/2001-01-01.log");
        fs::create_dir_all(&unreadable).unwrap();
        let (release, released) = channel();
        HELD.lock().unwrap().insert(unreadable.display().to_string(), released);
        Self { _release: release }
    }

    /// Lets it go on.
    pub(crate) async fn release(self) {}
}

/// A log that keeps those who write to it waiting.
struct Hold;

impl<S: Subscriber> Layer<S> for Hold {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut message = Message::default();
        event.record(&mut message);
        let mut held = HELD.lock().unwrap();
        let key = held.keys().find(|part| message.0.contains(part.as_str())).cloned();
        let released = key.and_then(|key| held.remove(&key));
        drop(held);
        // Until the sender is dropped, by a test that fails too.
        let _ = released.map(|released| released.recv());
    }
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, "{value:?} ");
    }
}
