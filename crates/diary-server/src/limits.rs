//! Every bound of the server, unit last in the name, with its reason.

use std::time::Duration;

use diary_engine::{Appends, Part};
use diary_proto::limits::{FRAME_MAX_BYTES, PROXY_HEADER_MAX_BYTES, STORED_LINE_MAX_BYTES};
use diary_proto::message::APPEND_MAX_ENTRIES;

/// Connections at once. Each costs a task and a descriptor; beyond this a proxy belongs in front.
pub const CONNECTIONS_MAX: usize = 10_000;

/// One address, or IPv6 network of 64 bits, may have one in so many of all connections, unless the operator says otherwise:
/// 1,000 are enough for an office behind one address, and nine others are still let in.
pub const CONNECTIONS_PER_ADDRESS_DIVISOR: usize = 10;

/// Connections that the kernel holds for us while we are busy.
pub const BACKLOG: i32 = 1024;

/// Descriptors kept back from connections: day files, listeners, the runtime's own, and connections that are turned away.
pub const DESCRIPTORS_RESERVED: u64 = 64;

/// Descriptors of an open journal: its lock and its newest day file.
pub const DESCRIPTORS_PER_JOURNAL: usize = 2;

/// Journals whose descriptors are among [`DESCRIPTORS_RESERVED`].
pub const JOURNALS_RESERVED: usize = 8;

const _: () = assert!((JOURNALS_RESERVED * DESCRIPTORS_PER_JOURNAL) as u64 <= DESCRIPTORS_RESERVED / 4);

/// The part of all descriptors that journals may take, as a divisor: the rest is for connections.
pub const JOURNAL_DESCRIPTORS_DIVISOR: usize = 4;

/// Connections that are turned away and stay until their peers have heard so, for [`LINGER_MAX`] at most. Those beyond are
/// closed at once: a peer that has spoken first may then see a reset, and not why.
pub const LEAVING_MAX: usize = 16;

// Readers and the writer have files to open all the while.
const _: () = assert!(4 * LEAVING_MAX as u64 <= DESCRIPTORS_RESERVED);

/// Appends of one session, or of one listener for datagrams, that are not acked yet: enough to keep the disk busy from one
/// client. It is 4,096 short datagrams, whose tasks have some 2 KiB each.
pub const SESSION_UNACKED_MAX_BYTES: usize = 1024 * 1024;

/// Appends of all sessions that are not committed yet: two full batches, so that one can be filled
/// while the other is synced.
pub const UNACKED_MAX_BYTES: usize = 8 * 1024 * 1024;

/// What an append costs at least, whatever its text: bounds how many can be queued.
pub const APPEND_MIN_BYTES: usize = 256;

/// One read of a socket. What becomes of it waits for room where it is not a command, so it is held and counted.
pub const READ_BYTES: usize = 64 * 1024;

/// Reads of one socket before others get a turn.
pub const READS_IN_A_ROW_MAX: u32 = 8;

/// Unsent answers of a session beyond which it is not read from.
pub const UNSENT_MAX_BYTES: usize = 256 * 1024;

/// Unsent answers of a session beyond which no more are made: they wait in a form that is far smaller.
pub const UNSENT_FILL_BYTES: usize = 64 * 1024;

/// Reads of history that need no waiting before others get a turn: a quarter of a millisecond of work.
pub const PAGES_IN_A_ROW_MAX: u32 = 2;

/// Input of all sessions that is in memory and not appended: messages that have begun to arrive, and what waits behind a
/// command or for room.
pub const INPUT_MAX_BYTES: usize = 32 * 1024 * 1024;

/// What of that a session may hold uncounted: at [`CONNECTIONS_MAX`] it is 10 MiB. It is also what a session reads at a
/// time while the budget is used up, so that commands and short lines go on. Texts of one byte that wait for the disk take
/// three times as much.
pub const INPUT_FREE_BYTES: usize = 1024;

/// Answers of all sessions that are in memory: unsent ones, and outcomes that are not told yet.
pub const ANSWERS_MAX_BYTES: usize = 64 * 1024 * 1024;

/// What of that a session may hold uncounted: at [`CONNECTIONS_MAX`] it is 80 MiB. It is also what a session gets at a time
/// while the budget is used up, and most entries fit into it.
pub const ANSWERS_FREE_BYTES: usize = 8 * 1024;

/// What a session takes uncounted at the most: its task, and the free parts of the budgets. So much is given back when many
/// sessions are gone.
pub const SESSION_UNCOUNTED_BYTES: usize = 4 * 1024 + INPUT_FREE_BYTES + ANSWERS_FREE_BYTES;

/// A session that makes others wait for memory is closed if its peer has kept it waiting for so long.
pub const PATIENCE: Duration = Duration::from_secs(2);

// Whatever one message can need fits its budget several times, so that it is granted at all.
const _: () = {
    assert!(4 * FRAME_MAX_BYTES <= INPUT_MAX_BYTES);
    assert!(4 * (APPEND_MAX_ENTRIES * size_of::<Part>() + STORED_LINE_MAX_BYTES) <= ANSWERS_MAX_BYTES);
    assert!(Appends::max_bytes(APPEND_MAX_ENTRIES, FRAME_MAX_BYTES) <= UNACKED_MAX_BYTES);
    assert!(Appends::max_bytes(READ_BYTES / 2, 2 * READ_BYTES) <= UNACKED_MAX_BYTES);
    assert!(DATAGRAM_MAX_BYTES <= SESSION_UNACKED_MAX_BYTES);
    // A client's own retries after a cut are never stale.
    assert!(SESSION_UNACKED_MAX_BYTES / APPEND_MIN_BYTES <= diary_engine::limits::PRODUCER_MAX_RUNS);
};

/// A peer that takes none of the bytes waiting for it for so long is gone.
pub const STALL_MAX: Duration = Duration::from_secs(10 * 60);

/// So many times as long, if its system still answers. That tells only in large steps what a program takes of it: 130 kB
/// were seen, for which one that takes 100 bytes a second needs 22 minutes.
pub const STALL_ANSWERING_TIMES: u32 = 3;

/// Looks at whether a peer goes on, in the time after which it is gone if it does not.
pub const STALL_LOOKS: u32 = 10;

/// From a frame client's first byte to its Hello.
pub const HELLO_MAX: Duration = Duration::from_secs(10);

/// From a connection on a `proxy:` listener to its whole PROXY header. Proxies send it at once; the protocol asks for 3 s
/// at least, in which a lost packet comes again.
pub const PROXY_HEADER_MAX: Duration = Duration::from_secs(5);

/// From a connection on a `tls:` listener to the end of its handshake.
pub const TLS_HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// What a client may send for its handshake, so that those who do not end it hold little. Hellos have 2 KiB and less, also
/// with keys that are safe from quantum computers.
pub const TLS_HANDSHAKE_MAX_BYTES: usize = 8 * 1024;

/// Answers of a TLS connection that are encrypted and not sent: what a session makes at a time, so that it goes out in one
/// write. They count as unsent.
pub const TLS_UNSENT_MAX_BYTES: usize = UNSENT_FILL_BYTES;

/// Between two looks at the files of `--tls-cert` and `--tls-key`. A change is taken up once both are as they were at the
/// look before.
pub const TLS_FILES_PAUSE: Duration = Duration::from_millis(500);

/// Threads for blocking calls beside those of readings, so that a removed token is noticed whatever readings wait for.
pub const OTHER_BLOCKING_THREADS: usize = 2;

/// Between two looks at the file with the tokens: what is removed there is gone within a second.
pub const ACCESS_PAUSE: Duration = Duration::from_millis(400);

/// For a look at that file, where the disk may hang.
pub const LOOK_MAX: Duration = Duration::from_secs(2);

/// From a token's use to when it is written down, at most.
pub const LAST_USE_PAUSE: Duration = Duration::from_secs(60);

/// For the same when the server stops.
pub const LAST_USE_STOP_MAX: Duration = Duration::from_millis(400);

/// Between two looks at whether a token has expired, for a clock that is set meanwhile.
pub const EXPIRY_LOOK_MAX: Duration = Duration::from_secs(60);

/// Wrong tokens from one address, or IPv6 network of 64 bits, that cost no time in [`GUESSES_WINDOW`]: typing errors, and
/// programs whose token was removed.
pub const GUESSES_FREE: u32 = 10;

/// For how long wrong tokens are remembered.
pub const GUESSES_WINDOW: Duration = Duration::from_secs(60);

/// Longest wait of a wrong token from an address that guesses. A right one never waits.
pub const GUESS_DELAY_MAX: Duration = Duration::from_secs(5);

/// Addresses whose guesses are remembered: 1 MiB.
pub const GUESSERS_MAX: usize = 10_000;

// What is read before a session has begun is not counted.
const _: () = assert!(PROXY_HEADER_MAX_BYTES <= INPUT_FREE_BYTES);

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

/// Lines of the log that wait for who reads it: what 5,000 connections log at once. As much again may be on its way.
pub const OUTLET_MAX_BYTES: usize = 512 * 1024;

/// For the last lines of the log to be taken when the program ends.
pub const OUTLET_FLUSH_MAX: Duration = Duration::from_millis(500);

// A stop takes 10 s at most.
const _: () = {
    let stop = DRAIN_MAX.as_millis() + KILL_MAX.as_millis() + WRITER_STOP_MAX.as_millis();
    assert!(stop + LAST_USE_STOP_MAX.as_millis() + OUTLET_FLUSH_MAX.as_millis() <= 10_000);
};

/// For other servers to bind their Unix sockets in a folder first.
pub const SOCKET_LOCK_MAX: Duration = Duration::from_secs(2);

/// Datagrams that are read in a row before they are appended together.
pub const DATAGRAMS_IN_A_ROW_MAX: usize = 256;

/// Readings of one listener for datagrams at once.
pub const DATAGRAM_READINGS_MAX: usize = 256;

/// Journals that `/journal` names.
pub const JOURNALS_LISTED_MAX: usize = 1000;

/// Longest datagram of IPv4 and IPv6 without jumbograms.
pub const DATAGRAM_MAX_BYTES: usize = 64 * 1024;

/// Longest reply to a datagram: what the old clients read.
pub const DATAGRAM_REPLY_MAX_BYTES: usize = 1024;

/// Datagrams of one source at once, on the listener that answers: a script's burst. Past that, one each
/// [`SOURCE_REFILL`] is taken.
pub const SOURCE_BURST: u32 = 256;

/// 64 datagrams a second: far more than people and their scripts send, and little for whoever is in a loop with the
/// diary, or floods it.
pub const SOURCE_REFILL: Duration = Duration::from_micros(1_000_000 / 64);

/// Rates of sources, 512 KiB. Sources can be forged without end, so each has one of these by chance, and some share one: it
/// takes four million forged datagrams a second to use all of them up.
pub const SOURCE_RATES: usize = 64 * 1024;

/// What the log shows of a text that was not stored: the time, host and program of a syslog message.
pub const REFUSAL_SHOWN_MAX_BYTES: usize = 80;

/// From one line of the log about what an address sent and a listener refused to the next.
pub const REFUSALS_PAUSE: Duration = Duration::from_secs(10);

/// Addresses that one listener names in that time. Senders of datagrams can be forged without end.
pub const REFUSALS_TOLD_MAX: usize = 16;

/// The bounds that an embedding program, or a test, may want otherwise.
#[derive(Debug, Clone)]
pub struct Limits {
    /// [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// Connections of one address; one in [`CONNECTIONS_PER_ADDRESS_DIVISOR`], if not given.
    pub connections_per_address: Option<usize>,
    /// [`UNACKED_MAX_BYTES`].
    pub unacked_bytes: usize,
    /// [`INPUT_MAX_BYTES`].
    pub input_bytes: usize,
    /// [`ANSWERS_MAX_BYTES`].
    pub answers_bytes: usize,
    /// [`PATIENCE`].
    pub patience: Duration,
    /// [`STALL_MAX`].
    pub stall: Duration,
    /// [`HELLO_MAX`].
    pub hello: Duration,
    /// [`PROXY_HEADER_MAX`].
    pub proxy_header: Duration,
    /// [`TLS_HANDSHAKE_MAX`].
    pub tls_handshake: Duration,
    /// [`DRAIN_MAX`].
    pub drain: Duration,
    /// [`SOURCE_BURST`].
    pub source_burst: u32,
    /// [`SOURCE_REFILL`].
    pub source_refill: Duration,
    /// [`READ_BYTES`], for tests with small budgets.
    pub(crate) read_bytes: usize,
    /// [`SESSION_UNACKED_MAX_BYTES`], for tests with small budgets.
    pub(crate) session_unacked_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS_MAX,
            connections_per_address: None,
            unacked_bytes: UNACKED_MAX_BYTES,
            input_bytes: INPUT_MAX_BYTES,
            answers_bytes: ANSWERS_MAX_BYTES,
            patience: PATIENCE,
            stall: STALL_MAX,
            hello: HELLO_MAX,
            proxy_header: PROXY_HEADER_MAX,
            tls_handshake: TLS_HANDSHAKE_MAX,
            drain: DRAIN_MAX,
            source_burst: SOURCE_BURST,
            source_refill: SOURCE_REFILL,
            read_bytes: READ_BYTES,
            session_unacked_bytes: SESSION_UNACKED_MAX_BYTES,
        }
    }
}
