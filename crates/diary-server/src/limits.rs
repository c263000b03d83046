//! Every bound of the server, unit last in the name, with its reason.

use std::time::Duration;

/// Connections at once. Each costs a task and a descriptor; beyond this a proxy belongs in front.
pub const CONNECTIONS_MAX: usize = 10_000;

/// Descriptors kept back from connections: day files, listeners, the runtime's own.
pub const DESCRIPTORS_RESERVED: u64 = 64;

/// Appends of one session that are not acked yet: enough to keep the disk busy from one client.
pub const SESSION_UNACKED_MAX_BYTES: usize = 1024 * 1024;

/// Appends of all sessions that are not committed yet: two full batches, so that one can be filled
/// while the other is synced.
pub const UNACKED_MAX_BYTES: usize = 8 * 1024 * 1024;

/// What an append costs at least, whatever its text: bounds how many can be queued.
pub const APPEND_MIN_BYTES: usize = 256;

/// One read of a socket.
pub const READ_BYTES: usize = 64 * 1024;

/// Reads of one socket before others get a turn.
pub const READS_IN_A_ROW_MAX: u32 = 8;

/// Unsent answers of a session beyond which it is not read from.
pub const UNSENT_MAX_BYTES: usize = 256 * 1024;

/// Unsent answers of a session beyond which no more are made: they wait in a form that is far smaller.
pub const UNSENT_FILL_BYTES: usize = 64 * 1024;

/// Reads of history that need no waiting before others get a turn: a quarter of a millisecond of work.
pub const PAGES_IN_A_ROW_MAX: u32 = 2;

/// Messages that have begun to arrive, of all sessions together.
pub const PARTIALS_MAX_BYTES: usize = 32 * 1024 * 1024;

/// A message's first bytes, which are not counted: at [`CONNECTIONS_MAX`] they are 10 MiB.
pub const PARTIAL_FREE_BYTES: usize = 1024;

/// A peer that takes none of the bytes waiting for it for so long is gone.
pub const STALL_MAX: Duration = Duration::from_secs(10 * 60);

/// From a frame client's first byte to its Hello.
pub const HELLO_MAX: Duration = Duration::from_secs(10);

/// Keepalive: silence before the first probe, between probes, and how many go unanswered. Together
/// they stay below the two minutes after which a dead peer must be gone.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// See [`KEEPALIVE_IDLE`].
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// See [`KEEPALIVE_IDLE`].
pub const KEEPALIVE_PROBES: u32 = 5;

/// For sessions to end after a stop was asked for; the rest of the 10 s is the writer's.
pub const DRAIN_MAX: Duration = Duration::from_secs(6);

/// For sessions that were told to end at once to be gone.
pub const KILL_MAX: Duration = Duration::from_secs(1);

/// For the writer to commit what is queued, after the sessions have ended.
pub const WRITER_STOP_MAX: Duration = Duration::from_secs(2);

/// For a peer to take the last answer before its connection is closed under it.
pub const LINGER_MAX: Duration = Duration::from_secs(1);

/// Input that is read and thrown away meanwhile.
pub const LINGER_MAX_BYTES: usize = 1024 * 1024;

/// Datagrams that are being answered at once.
pub const DATAGRAMS_MAX: usize = 256;

/// Longest reply to a datagram: what the old clients read.
pub const DATAGRAM_REPLY_MAX_BYTES: usize = 1024;

/// The bounds that an embedding program, or a test, may want otherwise.
#[derive(Debug, Clone)]
pub struct Limits {
    /// [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// [`PARTIALS_MAX_BYTES`].
    pub partials_bytes: usize,
    /// [`STALL_MAX`].
    pub stall: Duration,
    /// [`HELLO_MAX`].
    pub hello: Duration,
    /// [`DRAIN_MAX`].
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS_MAX,
            partials_bytes: PARTIALS_MAX_BYTES,
            stall: STALL_MAX,
            hello: HELLO_MAX,
            drain: DRAIN_MAX,
        }
    }
}
