//! UDP: the datagram clients that this diary grew out of. One datagram is one request, and every datagram of a client
//! gets an answer; `sources` says who is one.
//!
//! A source address can be forged, so an address beyond private networks never gets more bytes than it
//! sent: no amplification.

mod sources;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use diary_engine::{Appends, Journal, Part, ReadError};
use diary_proto::answer::{MARK, push_ack, push_error, push_gap};
use diary_proto::block::Walker;
use diary_proto::command::{is_login, stray_login};
use diary_proto::entry::check_text;
use diary_proto::limits::STORED_LINE_MAX_BYTES;
use diary_proto::line::without_byte_order_mark;
use diary_proto::{Code, Refusal, Scope, Which};
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::Walk;
use super::line::push_lines;
use super::refusals::{RefusalLog, quoting};
use crate::context::{Context, permits};
use crate::limits::{DATAGRAM_MAX_BYTES, DATAGRAM_READINGS_MAX, DATAGRAM_REPLY_MAX_BYTES};
use crate::listener::Datagrams;
use crate::peer::Peer;
use sources::{Sources, is_entry};

/// No entry's line is shorter than its time, so no more entries can fit into a reply.
const HISTORY_ENTRIES: u64 = (DATAGRAM_REPLY_MAX_BYTES / diary_proto::time::TIME_BYTES) as u64;

/// They are looked for among so many, corrections included.
const HISTORY_NEAR: u64 = 8 * HISTORY_ENTRIES;

const HELP_LINE: &str = "a datagram with a text writes it; p shows past entries, h helps, e says goodbye\n";

const HELP: &str = "\
a datagram is an entry: its text is stored, and the answer is what was stored
p, past, -r   (in any case) the newest entries that fit into one datagram
h             this help
e             goodbye; nothing ends
-c            refused: nothing wipes a diary from the network
TCP on the diary's port has everything else: all of history, search, following
";

/// What a datagram asks for. Those words for history count in any case that the old clients sent.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Nothing,
    History,
    Help,
    Goodbye,
    Wipe,
    Entry(String),
    Refused(Refusal),
}

impl Request {
    fn read(datagram: &[u8]) -> Self {
        let body = without_byte_order_mark(datagram);
        // Programs that end messages with NUL do so here, too.
        let body = body.strip_suffix(b"\0").unwrap_or(body);
        let body = body.strip_suffix(b"\n").unwrap_or(body);
        let body = body.strip_suffix(b"\r").unwrap_or(body);
        let Ok(text) = std::str::from_utf8(body) else {
            return Self::Refused(Refusal::new(Code::Utf8, "this is not valid UTF-8 and is not stored"));
        };
        match text {
            "" => Self::Nothing,
            _ if ["p", "past", "-r"].iter().any(|word| text.eq_ignore_ascii_case(word)) => Self::History,
            "h" => Self::Help,
            "e" => Self::Goodbye,
            "-c" => Self::Wipe,
            _ => check_text(text).map_or_else(Self::Refused, |()| Self::Entry(text.to_owned())),
        }
    }
}

/// A socket on which datagrams are answered.
pub(crate) struct Listener {
    socket: UdpSocket,
    journal: Arc<Journal>,
    context: Arc<Context>,
    sources: Sources,
    log: RefusalLog,
    /// Room for entries that are not answered, in bytes.
    appends: Arc<Semaphore>,
    readings: Arc<Semaphore>,
    answering: JoinSet<Answered>,
}

/// Who sent a datagram, and what they may be told.
#[derive(Debug)]
struct Client {
    from: SocketAddr,
    peer: Peer,
    /// Most bytes of a reply.
    limit: usize,
    /// The reply may be an empty datagram, which still tells whoever waits that they were heard. An empty one is never
    /// answered so, or two diaries would go on for ever.
    may_be_empty: bool,
}

/// What is said of a datagram.
struct Said {
    /// The longest first.
    forms: Vec<Vec<u8>>,
    /// Why it is not stored, if it was to be.
    refused: Option<Refusal>,
}

/// What became of a datagram.
struct Answered {
    client: Client,
    said: Said,
    /// Held until the client is told.
    _place: OwnedSemaphorePermit,
}

impl Listener {
    /// `ports` are those of all sockets for datagrams that this server has.
    pub(crate) fn new(
        datagrams: Datagrams,
        journal: Arc<Journal>,
        ports: Arc<[u16]>,
        context: Arc<Context>,
    ) -> Self {
        let limits = &context.limits;
        Self {
            socket: datagrams.socket,
            journal,
            sources: Sources::new(ports, limits),
            log: RefusalLog::new(datagrams.address),
            appends: Arc::new(Semaphore::new(limits.session_unacked_bytes)),
            readings: Arc::new(Semaphore::new(DATAGRAM_READINGS_MAX)),
            answering: JoinSet::new(),
            context,
        }
    }

    /// Answers datagrams until the server stops.
    pub(crate) async fn serve(mut self) {
        let context = Arc::clone(&self.context);
        let mut buffer = vec![0; DATAGRAM_MAX_BYTES];
        loop {
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => match received {
                    Ok((length, from)) => self.take(from, &buffer[..length]).await,
                    // An earlier reply could not be delivered; nothing is wrong with the socket.
                    Err(error) => tracing::debug!(%error, "receiving a datagram"),
                },
                Some(answered) = self.answering.join_next() => self.finish(answered).await,
                () = self.log.tell_counted() => {}
                () = context.stop.cancelled() => break,
            }
        }
        while let Some(answered) = self.answering.join_next().await {
            self.finish(answered).await;
        }
    }

    async fn finish(&self, answered: Result<Answered, JoinError>) {
        if let Ok(Answered { client, said, _place }) = answered {
            self.send(client, said).await;
        }
    }

    /// Answers a datagram, or begins to. What finds no room is refused, and does not keep others waiting in the socket:
    /// readings need no disk that takes entries.
    async fn take(&mut self, from: SocketAddr, datagram: &[u8]) {
        tracing::debug!(peer = %from, length = datagram.len(), "datagram");
        if let Err(refusal) = self.sources.admit(from, datagram, Instant::now()) {
            return self.log.tell(Some(from.ip()), &from, &quoting(&refusal, datagram), 1);
        }
        if is_login(&String::from_utf8_lossy(datagram)) {
            // Neither kept nor quoted.
            return self.log.tell(Some(from.ip()), &from, &stray_login(), 1);
        }
        let guard = &self.context.guard;
        let peer = match guard.admit(Peer::of_datagram(from.ip()), self.journal.about().name.as_str()) {
            Ok(peer) => peer,
            // Not even a word, which would go wherever somebody says that it came from.
            Err(refusal) => return self.log.tell(Some(from.ip()), &from, &quoting(&refusal, datagram), 1),
        };
        let may_read = guard.may_read_datagrams(&peer);
        let client = Client::new(from, peer, datagram);
        let (context, journal) = (Arc::clone(&self.context), Arc::clone(&self.journal));
        let said = match (Request::read(datagram), may_read) {
            (Request::Entry(text), may_read) => match self.room(&text) {
                Some(place) => {
                    self.answering.spawn(async move {
                        let said = append(&context, &journal, &client.peer, &text, may_read.is_ok()).await;
                        Answered { client, said, _place: place }
                    });
                    return;
                }
                None => Said::not_stored(&busy(), datagram),
            },
            (Request::Refused(refusal), _) => Said::not_stored(&refusal, datagram),
            (Request::Wipe, _) => {
                Said::error(&Refusal::new(Code::Denied, "nothing wipes a diary from the network"))
            }
            (_, Err(refusal)) => Said::error(&refusal),
            (Request::History, Ok(())) => match Arc::clone(&self.readings).try_acquire_owned() {
                Ok(place) => {
                    self.answering.spawn(async move {
                        let said = history(&journal).await;
                        Answered { client, said, _place: place }
                    });
                    return;
                }
                Err(_) => Said::error(&busy()),
            },
            (Request::Nothing, Ok(())) => Said::words(HELP_LINE),
            (Request::Help, Ok(())) => Said::words(HELP),
            (Request::Goodbye, Ok(())) => Said::words("bye; the diary goes on\n"),
        };
        self.send(client, said).await;
    }

    /// Room for an entry.
    fn room(&self, text: &str) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.appends).try_acquire_many_owned(permits(text.len())).ok()
    }

    /// Tells the log, and then the client: whoever was answered finds it there.
    async fn send(&self, client: Client, said: Said) {
        if let Some(refusal) = &said.refused {
            self.log.tell(Some(client.from.ip()), &client.from, refusal, 1);
        }
        if let Some(reply) = client.reply(said)
            && let Err(error) = self.socket.send_to(&reply, client.from).await
        {
            tracing::debug!(peer = %client.from, %error, "answering a datagram");
        }
    }
}

fn busy() -> Refusal {
    Refusal::new(Code::Busy, "too many datagrams wait for the disk; send this one again later")
}

impl Client {
    fn new(from: SocketAddr, peer: Peer, datagram: &[u8]) -> Self {
        let limit = if peer.is_private() {
            DATAGRAM_REPLY_MAX_BYTES
        } else {
            datagram.len().min(DATAGRAM_REPLY_MAX_BYTES)
        };
        Self { from, peer, limit, may_be_empty: !datagram.is_empty() }
    }

    /// The longest that fits.
    fn reply(&self, said: Said) -> Option<Vec<u8>> {
        let reply = said.forms.into_iter().map(marked).find(|form| form.len() <= self.limit);
        reply.or_else(|| self.may_be_empty.then(Vec::new))
    }
}

impl Said {
    fn words(words: impl Into<Vec<u8>>) -> Self {
        Self { forms: vec![words.into()], refused: None }
    }

    fn error(refusal: &Refusal) -> Self {
        let mut long = Vec::new();
        push_error(&mut long, refusal);
        Self { forms: vec![long, format!("error {}\n", refusal.code).into_bytes()], refused: None }
    }

    /// `datagram` was to be stored.
    fn not_stored(refusal: &Refusal, datagram: &[u8]) -> Self {
        Self { refused: Some(quoting(refusal, datagram)), ..Self::error(refusal) }
    }
}

/// An answer that a diary knows for one: what begins with no entry gets the mark.
fn marked(answer: Vec<u8>) -> Vec<u8> {
    if is_entry(&answer) { answer } else { [MARK.as_bytes(), &answer].concat() }
}

async fn append(context: &Context, journal: &Journal, peer: &Peer, text: &str, may_read: bool) -> Said {
    match store(context, journal, peer, text).await {
        Ok(stored) => stored.said(may_read),
        Err(refusal) => Said::not_stored(&refusal, text.as_bytes()),
    }
}

/// An entry that was stored.
struct Stored {
    /// Its left part, if it could be read back.
    left: Option<Vec<u8>>,
    seq: u64,
    time: diary_proto::Time,
}

impl Stored {
    fn said(self, may_read: bool) -> Said {
        let mut ack = Vec::new();
        push_ack(&mut ack, self.seq, &self.time.to_bytes(), false);
        let short = format!("ok {}\n", self.seq).into_bytes();
        let left = self.left.filter(|_| may_read);
        Said { forms: left.into_iter().chain([ack, short]).collect(), refused: None }
    }
}

async fn store(context: &Context, journal: &Journal, peer: &Peer, text: &str) -> Result<Stored, Refusal> {
    let room = context.room_for_appends(text.len()).await;
    let mut appends = Appends::new(Arc::clone(&peer.author), None);
    appends.push(text);
    let gone = || Refusal::new(Code::Stopping, "the server has stopped; this is not stored");
    match journal.append(appends, room).await.into_iter().next().ok_or_else(gone)? {
        Part::Refused { refusal, .. } => Err(refusal),
        Part::Conflict { seq } => Err(Part::conflict(seq)),
        Part::Acked { first_seq: seq, time, .. } => {
            let left = journal.left(seq).await.ok().flatten();
            Ok(Stored { left, seq, time })
        }
    }
}

async fn history(journal: &Journal) -> Said {
    Said::words(newest(journal).await.unwrap_or_else(|failure| {
        tracing::error!(error = %failure, "entries cannot be read");
        b"error unreadable: the disk could not be read\n".to_vec()
    }))
}

/// The newest entries that fit, whole, and how many are left out.
async fn newest(journal: &Journal) -> Result<Vec<u8>, ReadError> {
    let mut cursor = journal.find(Scope::from(Which::Last(HISTORY_ENTRIES)).shown()).await?;
    // Nobody makes the server read much with a datagram, however much was corrected lately.
    let near = (journal.head() + 1).saturating_sub(HISTORY_NEAR);
    if cursor.first() < near {
        cursor = journal.find(Scope::from(Which::From(near)).shown()).await?;
    }
    if cursor.last() < cursor.first() {
        return Ok(b"the diary is empty\n".to_vec());
    }
    let (before, last) = (journal.seen_before(cursor.first()), cursor.last());
    let mut walk = Walk::of(journal.seal());
    (walk.walker, walk.shown) = (Some(Walker::new(cursor.first(), journal.seal())), cursor.is_shown());
    let mut newest = Newest { lines: VecDeque::new(), bytes: 0, left_out: before };
    loop {
        // An entry and its correction.
        let (page, ()) = journal.page(cursor, || (2 * STORED_LINE_MAX_BYTES, ())).await?;
        let mut lines = Vec::new();
        push_lines(&mut lines, &page.lines, &mut walk);
        lines.split_inclusive(|&b| b == b'\n').for_each(|line| newest.push(line));
        cursor = page.cursor;
        if page.ended {
            break;
        }
    }
    if let Some(gap) = walk.walker.and_then(|mut walker| walker.finish(last)) {
        let mut line = Vec::new();
        push_gap(&mut line, gap);
        newest.push(&line);
    }
    Ok(newest.reply())
}

/// The newest lines that fit into a reply.
struct Newest {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    left_out: u64,
}

impl Newest {
    /// Bytes for the line that says how many entries are left out, and the mark.
    const NOTE_BYTES: usize = 64;

    fn push(&mut self, line: &[u8]) {
        self.bytes += line.len();
        self.lines.push_back(line.to_vec());
        while self.bytes > DATAGRAM_REPLY_MAX_BYTES - Self::NOTE_BYTES
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= oldest.len();
            self.left_out += 1;
        }
    }

    fn reply(self) -> Vec<u8> {
        let mut reply = Vec::new();
        if self.left_out > 0 {
            reply = format!("left out: {} earlier entries\n", self.left_out).into_bytes();
        }
        reply.extend(self.lines.into_iter().flatten());
        reply
    }
}
