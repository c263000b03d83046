//! A session against a model, in every order of events that a seed can choose: its input in any pieces, commits, room for
//! appends that others take and give back, a peer that reads slowly, the end of input, and a stop.
//!
//! The model is short: requests are answered in their order, each once; texts get the next seqs; a history shows all
//! texts before it; a stop answers what was read. `DIARY_TEST_SEED` replays one case.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use diary_engine::sim::{self, ManualWriter, SimDisk};
use diary_engine::{Appends, Journal};
use diary_proto::entry::StoredLine;
use diary_proto::frame::FrameCodec;
use diary_proto::message::{Append, ClientMessage, Hello, NewText, Resume, ServerMessage, Texts};
use diary_proto::{Author, Code, Seal, Which};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::codec::Decoder as _;

use super::Session;
use crate::context::{Context, Offer};
use crate::guard::Guard;
use crate::limits::Limits;
use crate::peer::Peer;
use crate::transport::{Socket, Transport, memory};

/// Cases of each mode.
const CASES: u64 = 40_000;

/// What a client asks for.
#[derive(Debug, Clone)]
enum Item {
    /// Texts; `None` is one that is refused. Line mode sends each as a line.
    Texts(Vec<Option<String>>),
    History(u64),
    /// Whether an append would be taken. There is room at all times. Frame mode only.
    Check,
    /// Goes to the journal that it is in, or to one that is not there. Line mode only.
    Journal(bool),
    Refused,
    Quit,
}

/// An answer, as far as the model tells answers apart.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Acked(u64),
    Error(Code),
    History(Vec<String>),
    Checked,
    Journal,
    Bye,
    ByeStopping,
}

/// A xorshift generator: <https://www.jstatsoft.org/article/view/v008i14>.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 16) % limit as u64).unwrap()
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Line,
    Frame,
}

impl Mode {
    fn items(self, random: &mut Random) -> Vec<Item> {
        let mut number = 0;
        let mut items: Vec<Item> = (0..1 + random.below(7))
            .map(|_| match random.below(8) {
                0 | 1 => Item::History(1 + random.below(3) as u64),
                2 => Item::Refused,
                3 if self == Mode::Frame => Item::Check,
                3 => Item::Journal(random.one_in(2)),
                _ => {
                    let count = if self == Mode::Line { 1 } else { 1 + random.below(3) };
                    let texts = (0..count).map(|_| {
                        number += 1;
                        let text = format!("{number}{}", "x".repeat(random.below(40)));
                        (self == Mode::Line || !random.one_in(4)).then_some(text)
                    });
                    Item::Texts(texts.collect())
                }
            })
            .collect();
        if random.one_in(2) {
            items.push(Item::Quit);
            items.extend(random.one_in(2).then(|| Item::Texts(vec![Some("behind the end".to_owned())])));
        }
        items
    }

    /// What the client sends, and where each item ends in it.
    fn bytes(self, items: &[Item], resume: Option<Resume>) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends, mut counter) = (Vec::new(), Vec::new(), 0);
        if self == Mode::Frame {
            let hello = Hello { secret: [7; 16].to_vec().into(), resume, ..Hello::default() };
            ClientMessage::Hello(hello).write(&mut bytes);
        }
        for item in items {
            match self {
                Mode::Line => bytes.extend_from_slice(&match item {
                    Item::Texts(texts) => {
                        format!("{}\n", texts[0].as_deref().unwrap_or_default()).into_bytes()
                    }
                    Item::History(count) => format!("/history {count}\n").into_bytes(),
                    Item::Journal(true) => b"/journal diary\n".to_vec(),
                    Item::Journal(false) => b"/journal nothing\n".to_vec(),
                    Item::Check => unreachable!("it is frame mode's"),
                    Item::Refused => b"\xc3\x28\n".to_vec(),
                    Item::Quit => b"/quit\n".to_vec(),
                }),
                Mode::Frame => match item {
                    Item::Texts(texts) => {
                        let bytes_of =
                            |text: &Option<String>| text.clone().map_or(b"\xff".to_vec(), String::into_bytes);
                        let sent: Vec<Vec<u8>> = texts.iter().map(bytes_of).collect();
                        let texts =
                            Texts::own(sent.iter().map(|text| NewText { text, ..NewText::default() }));
                        ClientMessage::Append(Append { first_counter: counter, retry: false, texts })
                            .write(&mut bytes);
                        counter += sent.len() as u64;
                    }
                    Item::History(count) => {
                        ClientMessage::History { id: 1, scope: Which::Last(*count).into() }.write(&mut bytes);
                    }
                    Item::Check => ClientMessage::Check { id: 2 }.write(&mut bytes),
                    Item::Journal(_) => unreachable!("it is line mode's"),
                    // A second Hello's type with no body.
                    Item::Refused => bytes.extend_from_slice(&[0, 0, 0, 1, 1]),
                    Item::Quit => ClientMessage::Quit.write(&mut bytes),
                },
            }
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    /// What the server said.
    fn told(self, output: &[u8]) -> Vec<Told> {
        let end = output.iter().position(|&b| b == b'\n').expect("the greeting is whole") + 1;
        let mut told = Vec::new();
        let mut history: Option<Vec<String>> = None;
        if self == Mode::Line {
            for line in std::str::from_utf8(&output[end..]).unwrap().lines() {
                let mut words = line.splitn(4, ' ');
                let (first, second) = (words.next().unwrap(), words.next().unwrap_or_default());
                match first {
                    "ok" if second == "history" => history = Some(Vec::new()),
                    "ok" if second == "journal" => told.push(Told::Journal),
                    "ok" => told.push(Told::Acked(second.parse().unwrap())),
                    "end" => told.push(Told::History(history.take().expect("it has begun"))),
                    "error" => {
                        history = None;
                        told.push(Told::Error(Code::from_word(second.trim_end_matches(':')).unwrap()));
                    }
                    "bye" => told.push(Told::Bye),
                    "bye:" => told.push(Told::ByeStopping),
                    _ => history
                        .as_mut()
                        .expect("entries are a history's")
                        .push(words.nth(1).unwrap().to_owned()),
                }
            }
            return told;
        }
        let mut seal = Seal::PLAIN;
        let mut buffer = BytesMut::from(&output[end..]);
        while let Some(frame) = FrameCodec.decode(&mut buffer).unwrap() {
            match ServerMessage::read(frame).unwrap().unwrap() {
                ServerMessage::Welcome(welcome) => seal = Seal::of_journal(welcome.journal_id),
                ServerMessage::Acks(runs) => {
                    for run in runs {
                        told.extend((run.first_seq..run.first_seq + u64::from(run.count)).map(Told::Acked));
                    }
                }
                ServerMessage::Refused { count, refusal, .. } => {
                    told.extend((0..count).map(|_| Told::Error(refusal.code)));
                }
                ServerMessage::Answer { .. } => history = Some(Vec::new()),
                ServerMessage::Block { lines, .. } => {
                    let lines = lines.split(|&b| b == b'\n').filter(|line| !line.is_empty());
                    let texts = lines.map(|line| parsed(line, seal).unescaped().into_owned());
                    history.as_mut().expect("it has begun").extend(texts);
                }
                ServerMessage::End { id: 2 } => told.push(Told::Checked),
                ServerMessage::End { .. } => told.push(Told::History(history.take().expect("it has begun"))),
                ServerMessage::Error { refusal, .. } => {
                    history = None;
                    told.push(Told::Error(refusal.code));
                }
                ServerMessage::Bye { reason } if reason == "bye" => told.push(Told::Bye),
                ServerMessage::Bye { .. } => told.push(Told::ByeStopping),
            }
        }
        assert!(buffer.is_empty(), "the last frame is whole");
        told
    }
}

/// The answers that are due to `items`, and the texts that are stored then.
fn expected(mode: Mode, items: &[Item], before: &[String]) -> (Vec<Told>, Vec<String>) {
    let (mut told, mut stored) = (Vec::new(), before.to_vec());
    for item in items {
        match item {
            Item::Texts(texts) => told.extend(texts.iter().map(|text| match text {
                Some(text) => {
                    stored.push(text.clone());
                    Told::Acked(stored.len() as u64)
                }
                None => Told::Error(Code::Utf8),
            })),
            Item::History(count) => {
                let first = stored.len().saturating_sub(usize::try_from(*count).unwrap());
                told.push(Told::History(stored[first..].to_vec()));
            }
            Item::Check => told.push(Told::Checked),
            Item::Journal(true) => told.push(Told::Journal),
            Item::Journal(false) => told.push(Told::Error(Code::NoJournal)),
            Item::Refused => {
                told.push(Told::Error(if mode == Mode::Line { Code::Utf8 } else { Code::BadFrame }));
            }
            Item::Quit => {
                told.push(Told::Bye);
                break;
            }
        }
    }
    (told, stored)
}

/// Waits until nothing can happen by itself: the paused clock moves only then.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

fn parsed(line: &[u8], seal: Seal) -> StoredLine<'_> {
    StoredLine::parse(line, seal).expect("what is stored is valid")
}

async fn stored_lines(journal: &Journal) -> Vec<Vec<u8>> {
    let mut cursor = journal.find(Which::All).await.unwrap();
    let mut found = Vec::new();
    loop {
        let (page, ()) = journal.page(cursor, || (1 << 20, ())).await.unwrap();
        let lines = page.lines.split(|&b| b == b'\n').filter(|line| !line.is_empty());
        found.extend(lines.map(<[u8]>::to_vec));
        if page.ended {
            return found;
        }
        cursor = page.cursor;
    }
}

/// Stores the journal's first entry, and says how a client that has seen it resumes.
async fn append(journal: &Journal, writer: &mut ManualWriter, text: &str) -> Resume {
    let mut appends = Appends::new(Arc::new(Author::new("local").unwrap()), None);
    appends.push(text);
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    let receipt = journal.append(appends, permit);
    writer.commit();
    receipt.await;
    let crc = parsed(&stored_lines(journal).await[0], journal.seal()).crc;
    Resume { id: journal.about().id, seq: 1, crc }
}

async fn case(mode: Mode, seed: u64) {
    let random = &mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let items = mode.items(random);
    let (journals, journal, mut writer) = sim::journals(&SimDisk::new());
    // Some resume, so that a read of the disk stands before all else.
    let before = if random.one_in(2) { vec!["before".to_owned()] } else { Vec::new() };
    let resume = match &before[..] {
        [text] => Some(append(&journal, &mut writer, text).await),
        _ => None,
    };
    let (bytes, ends) = mode.bytes(&items, resume);
    let limits = Limits {
        unacked_bytes: 600,
        read_bytes: 1 + random.below(200),
        session_unacked_bytes: 1 + random.below(1000),
        input_bytes: if random.one_in(4) { 1 } else { 10_000 },
        answers_bytes: if random.one_in(4) { 1 } else { 10_000 },
        ..Limits::default()
    };
    let context = Context::new(journals, Guard::without_tokens(), limits);
    let window = if random.one_in(3) { 1 + random.below(30) } else { 10_000 };
    let (socket, client) = memory::pair(window);
    let peer = Peer::of_stream("memory".to_owned(), Author::new("local").unwrap());
    let session = Session::new(
        Arc::clone(&context),
        Offer::of(&journal),
        Transport::new(Socket::Memory(socket), "diary/1 ready\n".to_owned()),
        peer,
    );
    let running: JoinHandle<std::io::Result<()>> = tokio::spawn(session.run());

    let (mut sent, mut output, mut others) = (0, Vec::new(), None);
    let stops = random.one_in(3);
    let (mut stopped, mut ended) = (false, false);
    // The last text may have no line feed.
    let cut = usize::from(!stops && mode == Mode::Line && random.one_in(3) && !items.is_empty());
    let is_text = matches!(items.last(), Some(Item::Texts(_)));
    let bytes = if is_text { &bytes[..bytes.len() - cut] } else { &bytes[..] };
    while !ended && !stopped {
        match random.below(6) {
            0 if random.one_in(2) => {
                let available = u32::try_from(context.unacked.available_permits()).unwrap();
                others = match others {
                    None => Arc::clone(&context.unacked).try_acquire_many_owned(available).ok(),
                    Some(_) => None,
                };
            }
            1 => _ = writer.commit(),
            2 => output.extend(client.receive()),
            3 if stops && random.one_in(6) => {
                context.stop.cancel();
                stopped = true;
            }
            _ if sent == bytes.len() && !stops => {
                client.end();
                ended = true;
            }
            _ if sent == bytes.len() => {}
            _ => {
                let length = (1 + random.below(60)).min(bytes.len() - sent);
                client.send(&bytes[sent..sent + length]);
                sent += length;
            }
        }
        if !random.one_in(4) {
            settle().await;
        }
    }
    others = None;
    while !running.is_finished() {
        writer.commit();
        settle().await;
        output.extend(client.receive());
        // Only what has waited for the disk, the peer or room may be open; all of that has come now.
        settle().await;
    }
    drop(others);
    running.await.unwrap().unwrap();
    output.extend(client.receive());

    let read = client.taken();
    let whole = if stopped { ends.iter().filter(|&&end| end <= read).count() } else { items.len() };
    let (mut due, stored) = expected(mode, &items[..whole], &before);
    if stopped && due.last() != Some(&Told::Bye) {
        due.push(Told::ByeStopping);
    }
    // Nobody knows how a client talks that has said nothing.
    let told = if read == 0 { Mode::Line } else { mode }.told(&output);
    let matches = |(told, due): (&Told, &Told)| {
        told == due || (stopped && matches!(due, Told::History(_)) && *told == Told::Error(Code::Stopping))
    };
    assert!(told.len() == due.len() && told.iter().zip(&due).all(matches), "told {told:?}\ndue {due:?}");
    let texts: Vec<String> = stored_lines(&journal)
        .await
        .iter()
        .map(|line| parsed(line, journal.seal()).unescaped().into_owned())
        .collect();
    assert_eq!(texts, stored, "what is stored");
}

fn check(mode: Mode) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let one: Option<u64> = std::env::var("DIARY_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let seeds = one.map_or(0..CASES, |seed| seed..seed + 1);
    for seed in seeds {
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), case(mode, seed)).await })
        }));
        match failed {
            Ok(Ok(())) => {}
            Ok(Err(_)) => panic!("{mode:?}, DIARY_TEST_SEED={seed}: the session hangs"),
            Err(_) => panic!("{mode:?}, DIARY_TEST_SEED={seed}"),
        }
    }
}

#[test]
fn line_mode_in_every_order_of_events() {
    check(Mode::Line);
}

#[test]
fn frame_mode_in_every_order_of_events() {
    check(Mode::Frame);
}
