//! UDP: the datagram clients that this diary grew out of. One datagram is one request, and every datagram of a client
//! gets an answer; `sources` says who is one.
//!
//! A source address can be forged, so an address beyond private networks never gets more bytes than it
//! sent: no amplification.

mod sources;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use diary_engine::{Appends, Part, ReadError};
use diary_proto::answer::{MARK, push_ack, push_error, push_gap};
use diary_proto::block::{Step, Walker};
use diary_proto::entry::SealedLine;
use diary_proto::entry::check_text;
use diary_proto::limits::STORED_LINE_MAX_BYTES;
use diary_proto::line::without_byte_order_mark;
use diary_proto::{Code, Refusal, Which};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::refusals::{RefusalLog, quoting};
use crate::context::Context;
use crate::limits::{APPEND_MIN_BYTES, DATAGRAM_MAX_BYTES, DATAGRAM_REPLY_MAX_BYTES, DATAGRAMS_MAX};
use crate::peer::{Peer, Right};
use sources::{Sources, is_entry};

/// No entry's line is shorter than its time, so no more entries can fit into a reply.
const HISTORY_ENTRIES: u64 = (DATAGRAM_REPLY_MAX_BYTES / diary_proto::time::TIME_BYTES) as u64;

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
enum Request<'a> {
    Nothing,
    History,
    Help,
    Goodbye,
    Wipe,
    Entry(&'a str),
    Refused(Refusal),
}

impl<'a> Request<'a> {
    fn read(datagram: &'a [u8]) -> Self {
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
            _ => check_text(text).map_or_else(Self::Refused, |()| Self::Entry(text)),
        }
    }
}

/// Answers datagrams until the server stops.
pub(crate) async fn serve(socket: UdpSocket, name: String, context: Arc<Context>) {
    let mut sources = Sources::new(socket.local_addr().map_or(0, |address| address.port()), &context.limits);
    let mut log = RefusalLog::new(name);
    let mut buffer = vec![0; DATAGRAM_MAX_BYTES];
    let mut answers = JoinSet::new();
    loop {
        let received = tokio::select! {
            // While that many are being answered, datagrams wait in the socket.
            received = socket.recv_from(&mut buffer), if answers.len() < DATAGRAMS_MAX => received,
            Some(answered) = answers.join_next() => {
                if let Ok(answered) = answered {
                    send(&socket, &mut log, answered).await;
                }
                continue;
            }
            () = log.due() => {
                log.tell_untold();
                continue;
            }
            () = context.stop.cancelled() => break,
        };
        let (length, from) = match received {
            Ok(received) => received,
            Err(error) => {
                // An earlier reply could not be delivered; nothing is wrong with the socket.
                tracing::debug!(%error, "receiving a datagram");
                continue;
            }
        };
        tracing::debug!(peer = %from, length, "datagram");
        let datagram = &buffer[..length];
        if let Err(refusal) = sources.admit(from, datagram, Instant::now()) {
            log.tell(Some(&from), &quoting(&refusal, datagram), 1);
            continue;
        }
        let (datagram, context) = (datagram.to_vec(), Arc::clone(&context));
        answers.spawn(async move {
            let (reply, refused) = answer(&context, &Peer::of_datagram(from.ip()), &datagram).await;
            Answered { from, reply, refused: refused.map(|refusal| quoting(&refusal, &datagram)) }
        });
    }
    while let Some(answered) = answers.join_next().await {
        if let Ok(answered) = answered {
            send(&socket, &mut log, answered).await;
        }
    }
}

/// What became of a datagram.
struct Answered {
    from: SocketAddr,
    reply: Option<Vec<u8>>,
    /// Why it is not stored, if it was to be.
    refused: Option<Refusal>,
}

/// Tells the log, and then the client: whoever was answered finds it there.
async fn send(socket: &UdpSocket, log: &mut RefusalLog, Answered { from, reply, refused }: Answered) {
    if let Some(refusal) = refused {
        log.tell(Some(&from), &refusal, 1);
    }
    if let Some(reply) = reply
        && let Err(error) = socket.send_to(&reply, from).await
    {
        tracing::debug!(peer = %from, %error, "answering a datagram");
    }
}

/// The reply to a datagram, and why it is not stored if it was to be.
async fn answer(context: &Context, peer: &Peer, datagram: &[u8]) -> (Option<Vec<u8>>, Option<Refusal>) {
    let may_read = peer.may(Right::Read);
    let limit = if may_read.is_ok() {
        DATAGRAM_REPLY_MAX_BYTES
    } else {
        datagram.len().min(DATAGRAM_REPLY_MAX_BYTES)
    };
    let error = |refusal: &Refusal| {
        let mut reply = Vec::new();
        push_error(&mut reply, refusal);
        vec![reply, format!("error {}\n", refusal.code).into_bytes()]
    };
    let mut refused = None;
    let forms = match (Request::read(datagram), may_read) {
        (Request::Refused(refusal), _) => error(refused.insert(refusal)),
        (Request::Wipe, _) => error(&Refusal::new(Code::Denied, "nothing wipes a diary from the network")),
        (Request::Entry(text), may_read) => match append(context, peer, text).await {
            Ok(stored) => stored.forms(may_read.is_ok()),
            Err(refusal) => error(refused.insert(refusal)),
        },
        (_, Err(refusal)) => error(&refusal),
        (Request::Nothing, _) => vec![HELP_LINE.into()],
        (Request::Help, _) => vec![HELP.into()],
        (Request::Goodbye, _) => vec![b"bye; the diary goes on\n".to_vec()],
        (Request::History, _) => vec![history(context).await.unwrap_or_else(|failure| {
            tracing::error!(error = %failure, "entries cannot be read");
            b"error unreadable: the disk could not be read\n".to_vec()
        })],
    };
    let reply = forms.into_iter().map(marked).find(|form| form.len() <= limit);
    // An empty datagram still tells a waiting client that it was heard. An empty one is never answered so, or two diaries
    // would go on for ever.
    let reply = reply.or_else(|| (!datagram.is_empty()).then(Vec::new));
    (reply, refused)
}

/// An answer that a diary knows for one: what begins with no entry gets the mark.
fn marked(answer: Vec<u8>) -> Vec<u8> {
    if is_entry(&answer) { answer } else { [MARK.as_bytes(), &answer].concat() }
}

/// An entry that was stored.
struct Stored {
    /// Its left part, if it could be read back.
    left: Option<Vec<u8>>,
    seq: u64,
    time: diary_proto::Time,
}

impl Stored {
    /// What may be said of it, the longest first.
    fn forms(self, may_read: bool) -> Vec<Vec<u8>> {
        let mut ack = Vec::new();
        push_ack(&mut ack, self.seq, &self.time.to_bytes(), false);
        let short = format!("ok {}\n", self.seq).into_bytes();
        let left = self.left.filter(|_| may_read);
        left.into_iter().chain([ack, short]).collect()
    }
}

async fn append(context: &Context, peer: &Peer, text: &str) -> Result<Stored, Refusal> {
    peer.may(Right::Append)?;
    let journal = &context.journal;
    let gone = || Refusal::new(Code::Stopping, "the server has stopped; this is not stored");
    let bytes = u32::try_from(text.len().max(APPEND_MIN_BYTES)).expect("a datagram is below 64 KiB");
    let room = Arc::clone(&context.unacked).acquire_many_owned(bytes).await.map_err(|_| gone())?;
    let mut appends = Appends::new(Arc::clone(&peer.author), None);
    appends.push(text);
    match journal.append(appends, room).await.into_iter().next().ok_or_else(gone)? {
        Part::Refused { refusal, .. } => Err(refusal),
        Part::Conflict { seq } => Err(Part::conflict(seq)),
        Part::Acked { first_seq: seq, time, .. } => {
            let left = journal.left(seq).await.ok().flatten();
            Ok(Stored { left, seq, time })
        }
    }
}

/// The newest entries that fit, whole, and how many are left out.
async fn history(context: &Context) -> Result<Vec<u8>, ReadError> {
    let journal = &context.journal;
    let mut cursor = journal.find(Which::Last(HISTORY_ENTRIES)).await?;
    if cursor.last() < cursor.first() {
        return Ok(b"the diary is empty\n".to_vec());
    }
    let before = cursor.first() - 1;
    let last = cursor.last();
    let mut walker = Walker::new(cursor.first(), journal.seal());
    let mut newest = Newest { lines: VecDeque::new(), bytes: 0, left_out: before };
    loop {
        let (page, ()) = journal.page(cursor, || (STORED_LINE_MAX_BYTES, ())).await?;
        walker.pass(&page.lines, super::line::is_showable, |step| newest.push(step));
        cursor = page.cursor;
        if page.ended {
            break;
        }
    }
    if let Some(gap) = walker.finish(last) {
        newest.push(Step::Gap(gap));
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

    fn push(&mut self, step: Step<SealedLine<'_>>) {
        let line = match step {
            Step::Entry(line) => [line.left, b"\n"].concat(),
            Step::Gap(gap) => {
                let mut line = Vec::new();
                push_gap(&mut line, gap);
                line
            }
        };
        self.bytes += line.len();
        self.lines.push_back(line);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words() {
        for (datagram, request) in [
            (&b"p"[..], Request::History),
            (b"PAST\n", Request::History),
            (b"-R\r\n", Request::History),
            (b"h", Request::Help),
            (b"E", Request::Entry("E")),
            (b"e\n", Request::Goodbye),
            (b"-c", Request::Wipe),
            (b"", Request::Nothing),
            (b"\n", Request::Nothing),
            (b"\0", Request::Nothing),
            (b"a\0", Request::Entry("a")),
            (b"p\n\n", Request::Entry("p\n")),
            (b" p", Request::Entry(" p")),
            (b"/history", Request::Entry("/history")),
            ("今天\n".as_bytes(), Request::Entry("今天")),
            ("\u{feff}今天".as_bytes(), Request::Entry("今天")),
            ("\u{feff}p\r\n".as_bytes(), Request::History),
            ("\u{feff}".as_bytes(), Request::Nothing),
        ] {
            assert_eq!(Request::read(datagram), request, "{datagram:?}");
        }
        assert!(matches!(Request::read(b"\xff"), Request::Refused(_)));
        assert!(matches!(Request::read(b"a\0b"), Request::Refused(_)));
    }
}
