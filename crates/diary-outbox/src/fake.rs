//! An in-memory server for tests, and a record of what a program prints.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use diary_client::{Author, Client, Code, Options, Refusal, Time, Which};
use diary_proto::answer::greeting;
use diary_proto::entry::{Key, NewLine, Producer};
use diary_proto::frame::FrameCodec;
use diary_proto::message::{Append, ClientMessage, Run, ServerMessage, Welcome};
use diary_proto::{DayStart, Seal, Sieve};
use futures::StreamExt;
use jiff::tz::TimeZone;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::codec::Framed;

pub const TIME: Time = Time { micros: 1_795_220_102_123_456, offset_minutes: 480 };

/// A text that contains this finds no room until there is some.
pub const REFUSED: &str = "refuse";

/// A text that contains this is stale if it comes as a retry.
pub const STALE: &str = "stale";

/// A text that contains this breaks the connection once, after it was stored.
pub const BREAK: &str = "break";

/// A text that contains this is never answered, nor is anything after it.
pub const SILENCE: &str = "silence";

#[derive(Default)]
struct Journal {
    entries: Vec<(Author, String, Key)>,
    keys: HashMap<Key, u64>,
    /// Counter of every entry that was sent, and whether it came as a retry.
    appends: Vec<(u64, bool)>,
    has_room: bool,
}

impl Journal {
    fn entry(&self, seq: u64) -> &(Author, String, Key) {
        &self.entries[usize::try_from(seq).unwrap() - 1]
    }
}

/// A server that ends when dropped.
pub struct Fake {
    address: String,
    journal: Arc<Mutex<Journal>>,
    head: watch::Sender<u64>,
    /// Number of appends that found no room or got no answer.
    refusals: watch::Sender<u64>,
    sessions: JoinSet<()>,
}

impl Fake {
    pub async fn start() -> Self {
        Self::start_on("127.0.0.1:0").await
    }

    pub async fn start_on(address: &str) -> Self {
        Self::start_as(address, 7).await
    }

    /// Starts a server for the journal with this id.
    pub async fn start_as(address: &str, id: u64) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let journal = Arc::new(Mutex::new(Journal::default()));
        let head = watch::Sender::new(0);
        let mut sessions = JoinSet::new();
        let refusals = watch::Sender::new(0);
        let (shared, moved, refused) = (Arc::clone(&journal), head.clone(), refusals.clone());
        sessions.spawn(async move {
            let mut sessions = JoinSet::new();
            loop {
                let stream = listener.accept().await.unwrap().0;
                sessions.spawn(Session::run(id, stream, Arc::clone(&shared), moved.clone(), refused.clone()));
            }
        });
        Self { address, journal, head, refusals, sessions }
    }

    /// Ends the server. Its address is free when this returns.
    pub async fn end(mut self) {
        self.sessions.shutdown().await;
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub async fn client(&self, name: &str) -> Client {
        let options = Options { author: Some(Author::new(name).unwrap()), ..Options::default() };
        Client::connect(self.address.parse().unwrap(), options).await.unwrap()
    }

    /// Waits until `count` entries are stored.
    pub async fn stores(&self, count: u64) {
        self.head.subscribe().wait_for(|head| *head >= count).await.unwrap();
    }

    /// Waits until `count` appends found no room or got no answer.
    pub async fn refuses(&self, count: u64) {
        self.refusals.subscribe().wait_for(|refusals| *refusals >= count).await.unwrap();
    }

    /// Makes room for all entries from now on.
    pub fn make_room(&self) {
        self.journal.lock().unwrap().has_room = true;
    }

    /// Returns the counters that were sent, each with a `+` if it came as a retry.
    pub fn appends(&self) -> Vec<String> {
        let show = |(counter, retry): &(u64, bool)| format!("{counter}{}", if *retry { "+" } else { "" });
        self.journal.lock().unwrap().appends.iter().map(show).collect()
    }

    /// Returns the stored texts.
    pub fn texts(&self) -> Vec<String> {
        let journal = self.journal.lock().unwrap();
        journal.entries.iter().map(|(author, text, _)| format!("{author}: {text}")).collect()
    }
}

struct Session {
    /// Id of the journal.
    id: u64,
    framed: Framed<TcpStream, FrameCodec>,
    journal: Arc<Mutex<Journal>>,
    head: watch::Sender<u64>,
    refusals: watch::Sender<u64>,
    author: Author,
    producer: Producer,
    /// Whether something was refused for now; then so is everything after it.
    is_full: bool,
}

impl Session {
    async fn run(
        id: u64,
        mut stream: TcpStream,
        journal: Arc<Mutex<Journal>>,
        head: watch::Sender<u64>,
        refusals: watch::Sender<u64>,
    ) {
        stream.write_all(greeting("diary", id, 0).as_bytes()).await.unwrap();
        let mut framed = Framed::new(stream, FrameCodec);
        let Some(ClientMessage::Hello(hello)) = read(&mut framed).await else { return };
        let author = Author::new(&hello.author).unwrap_or_else(|_| Author::new("local").unwrap());
        let producer = Producer::of_secret(&hello.secret);
        let mut session = Self { id, framed, journal, head, refusals, author, producer, is_full: false };
        let welcome = Welcome {
            version: 1,
            journal_id: id,
            head: session.journal().entries.len() as u64,
            author: hello.author,
            journal: "diary".into(),
            zone: "UTC".into(),
            day_start: DayStart::default(),
            clock_micros: Time::now(&TimeZone::UTC).micros,
        };
        session.say(&ServerMessage::Welcome(welcome)).await;
        let _ = session.serve().await;
    }

    /// Answers messages; `None` ends the connection.
    async fn serve(&mut self) -> Option<()> {
        loop {
            match read(&mut self.framed).await? {
                ClientMessage::Append(append) => self.append(append).await?,
                ClientMessage::History { id, scope } => {
                    let (first, last) = self.range(scope.which);
                    let last = scope.up_to.map_or(last, |up_to| last.min(up_to));
                    self.say(&ServerMessage::Answer { id, first, last, dense: true, shown: false }).await;
                    self.lines(id, first, last).await;
                    self.say(&ServerMessage::End { id }).await;
                }
                // This search runs until there are two entries.
                ClientMessage::Search { id, filter }
                    if filter.contains.iter().any(|text| text == SILENCE) =>
                {
                    self.head.subscribe().wait_for(|head| *head >= 2).await.ok()?;
                    self.say(&ServerMessage::Answer { id, first: 1, last: 2, dense: false, shown: false })
                        .await;
                    self.say(&ServerMessage::End { id }).await;
                }
                ClientMessage::Search { id, filter } => {
                    let last = self.journal().entries.len() as u64;
                    self.say(&ServerMessage::Answer { id, first: 1, last, dense: false, shown: false }).await;
                    let sieve = Sieve::new(&filter);
                    let holds = |seq: &u64| {
                        let journal = self.journal();
                        let (author, text, _) = journal.entry(*seq);
                        sieve.takes(author.as_str(), text)
                    };
                    let hits: Vec<u64> = (1..=last).filter(holds).collect();
                    for seq in hits {
                        self.lines(id, seq, seq).await;
                    }
                    self.say(&ServerMessage::End { id }).await;
                }
                ClientMessage::Follow { id, from } => self.follow(id, from).await,
                ClientMessage::Check { id } => self.say(&ServerMessage::End { id }).await,
                ClientMessage::Quit => {
                    self.say(&ServerMessage::Bye { reason: "bye".into() }).await;
                    return None;
                }
                _ => return None,
            }
        }
    }

    async fn append(&mut self, append: Append) -> Option<()> {
        for (counter, text) in (append.first_counter..).zip(append.texts.iter().map(|new| new.text)) {
            let text = String::from_utf8(text.to_vec()).unwrap();
            let key = Key { producer: self.producer, counter };
            self.journal().appends.push((counter, append.retry));
            if text.contains(STALE) && append.retry {
                let refusal = Refusal::new(Code::StaleKey, "nobody knows");
                self.say(&ServerMessage::Refused { first_counter: counter, count: 1, refusal }).await;
                continue;
            }
            if text.contains(SILENCE) {
                self.refusals.send_modify(|refusals| *refusals += 1);
                return std::future::pending().await;
            }
            if self.is_full || (text.contains(REFUSED) && !self.journal().has_room) {
                self.is_full = true;
                let refusal = Refusal::new(Code::DiskFull, "no room");
                self.say(&ServerMessage::Refused { first_counter: counter, count: 1, refusal }).await;
                self.refusals.send_modify(|refusals| *refusals += 1);
                continue;
            }
            let breaks = text.contains(BREAK);
            let (fresh, seq) = self.store(key, text);
            if breaks && fresh {
                return None;
            }
            self.head.send_replace(seq);
            let run = Run { first_counter: counter, count: 1, first_seq: seq, time: TIME };
            self.say(&ServerMessage::Acks(vec![run])).await;
        }
        Some(())
    }

    /// Stores a text, and returns its seq and whether it is new.
    fn store(&self, key: Key, text: String) -> (bool, u64) {
        let mut journal = self.journal();
        if let Some(seq) = journal.keys.get(&key) {
            return (false, *seq);
        }
        journal.entries.push((self.author.clone(), text, key));
        let seq = journal.entries.len() as u64;
        journal.keys.insert(key, seq);
        (true, seq)
    }

    async fn follow(&mut self, id: u32, from: Option<u64>) {
        let mut head = self.head.subscribe();
        let mut next = from.unwrap_or(*head.borrow() + 1);
        self.say(&ServerMessage::Answer { id, first: next, last: u64::MAX, dense: true, shown: false }).await;
        loop {
            let last = *head.borrow_and_update();
            self.lines(id, next, last).await;
            next = next.max(last + 1);
            tokio::select! {
                changed = head.changed() => changed.unwrap(),
                _ = self.framed.next() => return,
            }
        }
    }

    fn range(&self, which: Which) -> (u64, u64) {
        let head = self.journal().entries.len() as u64;
        match which {
            Which::Last(count) => (head.saturating_sub(count) + 1, head),
            Which::From(seq) => (seq, head),
            _ => (1, head),
        }
    }

    async fn lines(&mut self, id: u32, first: u64, last: u64) {
        for seq in first..=last {
            let mut lines = Vec::new();
            let (author, text, key) = self.journal().entry(seq).clone();
            let time = &TIME.to_bytes();
            NewLine { key: Some(key), ..NewLine::new(seq, time, &author, &text) }
                .write(&mut lines, Seal::of_journal(self.id));
            self.say(&ServerMessage::Block { id, lines: lines.into() }).await;
        }
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap()
    }

    async fn say(&mut self, message: &ServerMessage) {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        // A client that has left does not fail the test.
        let _ = self.framed.get_mut().write_all(&bytes).await;
    }
}

async fn read(framed: &mut Framed<TcpStream, FrameCodec>) -> Option<ClientMessage> {
    ClientMessage::read(framed.next().await?.ok()?).unwrap()
}

/// Printed text, with a way to wait for more.
#[derive(Clone, Default)]
pub struct Paper(watch::Sender<String>);

impl Paper {
    pub fn text(&self) -> String {
        self.0.borrow().clone()
    }

    /// Waits until `part` is printed.
    pub async fn shows(&self, part: &str) {
        let mut seen = self.0.subscribe();
        let shown = seen.wait_for(|text| text.contains(part));
        let in_time = tokio::time::timeout(std::time::Duration::from_secs(20), shown).await;
        assert!(in_time.is_ok(), "{part:?} is not in {:?}", self.text());
    }
}

impl io::Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_modify(|text| text.push_str(std::str::from_utf8(bytes).unwrap()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
