//! Who may do what: tokens and their rights, by each kind of address, for every request of both modes.

use std::path::Path;
use std::time::Duration;

use diary_access::{AccessFile, Grant, Token};
use diary_proto::answer::HELP;
use diary_proto::message::{Append, ClientMessage, Hello, NewText, ServerMessage, Texts};
use diary_proto::{Code, Command, Credential, Filter, Which};
use diary_server::Listen;
use futures::future::join_all;
use tokio::net::{TcpSocket, TcpStream, UdpSocket, UnixStream};

use crate::support::{
    Frames, Lines, Process, Ran, Server, connect_tls, hello, is_ack, plain_server_command, run, say,
    server_command, shake_hands, soon, stored, tunnel,
};

/// Makes a token that does not expire.
pub(crate) fn token(data: &Path, name: &str, can: &str, journals: &str) -> Token {
    token_until(data, name, can, journals, None)
}

fn token_until(
    data: &Path,
    name: &str,
    can: &str,
    journals: &str,
    expires: Option<jiff::Timestamp>,
) -> Token {
    let (can, journals) = (can.parse().unwrap(), journals.parse().unwrap());
    let now = jiff::Timestamp::now();
    let (grant, token) = Grant::issue(name.parse().unwrap(), can, journals, now, expires).unwrap();
    AccessFile::at(data).change(|access| access.add(grant)).unwrap();
    token
}

/// A token of nobody.
pub(crate) fn stranger() -> Token {
    let (name, now) = ("x".parse().unwrap(), jiff::Timestamp::now());
    Grant::issue(name, Default::default(), Default::default(), now, None).unwrap().1
}

fn remove(data: &Path, name: &str) {
    AccessFile::at(data).change(|access| access.remove(&name.parse().unwrap())).unwrap();
}

/// Runs `diary-server` with arguments that do not serve, and the data folder.
async fn maintain(data: &Path, arguments: &[&str]) -> Ran {
    run(plain_server_command().args(arguments).arg("--data").arg(data), "").await
}

fn login(token: &Token) -> String {
    format!("/login {}", token.reveal())
}

// --- the matrix ------------------------------------------------------------------------------------------

/// Text of the entry that nobody may hear of without the right to read.
const MARKER: &str = "the kettle is broken";

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    /// Any right in the journal.
    Any,
    Read,
    Append,
}

/// A new command does not compile until it is here; its sample belongs into [`LINES`].
fn need_of_command(command: &Command) -> Need {
    match command {
        Command::History(_) | Command::Follow(_) | Command::Search(_) => Need::Read,
        Command::Name(_) => Need::Append,
        Command::Journal(_) => Need::Any,
        Command::FollowOff | Command::Login(_) | Command::Quiet | Command::Help | Command::Quit => {
            Need::Nothing
        }
    }
}

/// A new message does not compile until it is here; its sample belongs into [`messages`].
fn need_of_message(message: &ClientMessage) -> Need {
    match message {
        ClientMessage::Append(_) | ClientMessage::Check { .. } => Need::Append,
        ClientMessage::History { .. } | ClientMessage::Follow { .. } | ClientMessage::Search { .. } => {
            Need::Read
        }
        ClientMessage::Hello(_) => Need::Any,
        ClientMessage::FollowOff { .. } | ClientMessage::Quit => Need::Nothing,
    }
}

/// Every command, and how the answer begins.
const LINES: &[(&str, &str)] = &[
    ("a text", "ok "),
    ("/history all", "ok history"),
    ("/follow", "ok follow from "),
    ("/follow #1", "ok follow from 1"),
    ("/follow off", "ok follow off"),
    ("/search kettle", "ok search"),
    ("/name anna/phone", "ok name anna/phone"),
    ("/journal", "ok journal diary"),
    ("/journal diary", "ok journal diary head="),
    ("/quiet", "ok quiet"),
    ("/help", "help "),
    ("/quit", "bye"),
];

fn messages() -> Vec<ClientMessage> {
    let own = NewText { text: b"own", at: None, author: b"anna/phone" };
    vec![
        ClientMessage::Append(Append { first_counter: 7, retry: false, texts: Texts::new(["from a frame"]) }),
        ClientMessage::Append(Append { first_counter: 8, retry: false, texts: Texts::own([own]) }),
        ClientMessage::History { id: 7, scope: Which::All.into() },
        ClientMessage::Follow { id: 7, from: Some(1) },
        ClientMessage::FollowOff { id: 7 },
        ClientMessage::Search { id: 7, filter: Filter::of_text("kettle") },
        ClientMessage::Check { id: 7 },
        ClientMessage::Quit,
    ]
}

/// How a client comes to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Loopback,
    Tls,
    /// Through a proxy, which is how a client is another machine's.
    Network,
    NetworkTls,
    Own,
}

impl Door {
    const ALL: [Door; 5] = [Door::Loopback, Door::Tls, Door::Network, Door::NetworkTls, Door::Own];
}

const PROXY: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 8888\r\n";

struct Doors {
    server: Server,
}

impl Doors {
    async fn open(folder: tempfile::TempDir) -> Self {
        let socket = folder.path().join("socket");
        let server = Server::on(folder, |config| {
            let tcp = || Listen::tcp("127.0.0.1:0");
            config.listen =
                vec![tcp(), tcp().tls(), tcp().proxy(), tcp().proxy().tls(), Listen::unix(socket)];
        });
        Self { server: server.await }
    }

    fn address(&self, door: Door) -> &str {
        let address = &self.server.addresses()[door as usize];
        address.trim_start_matches("proxy:").trim_start_matches("tls:").trim_start_matches("unix:")
    }

    /// What the server says to `input`, up to its end.
    async fn say(&self, door: Door, input: &[u8]) -> Vec<u8> {
        let address = self.address(door);
        let proxied = async || {
            use tokio::io::AsyncWriteExt;
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(PROXY).await.unwrap();
            stream
        };
        match door {
            Door::Loopback => say(TcpStream::connect(address).await.unwrap(), input).await,
            Door::Tls => say(connect_tls(address).await, input).await,
            Door::Network => say(proxied().await, input).await,
            Door::NetworkTls => say(shake_hands(proxied().await, rustls::ALL_VERSIONS).await, input).await,
            Door::Own => say(UnixStream::connect(address).await.unwrap(), input).await,
        }
    }

    async fn head(&self) -> u64 {
        let said = self.say(Door::Own, b"/quit\n").await;
        let said = String::from_utf8(said).unwrap();
        said.split("head=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
    }
}

/// Has a token of nobody.
const STRANGER: &str = "a stranger";

/// Whom a request comes from.
struct Who {
    label: &'static str,
    token: Option<Token>,
    /// Rights in the journal `diary`.
    can: &'static str,
    /// The token is one that the server knows and that has not expired.
    known: bool,
}

fn everybody(data: &Path) -> Vec<Who> {
    let nobodys = stranger();
    let mut everybody = vec![
        Who { label: "nobody", token: None, can: "", known: false },
        Who { label: STRANGER, token: Some(nobodys), can: "", known: false },
    ];
    for can in ["read", "append", "redact", "admin", "read,append", "read,append,redact,admin"] {
        let name = if can == "append" { "anna".to_owned() } else { format!("anna{}", can.len()) };
        let token = Some(token(data, &name, can, "diary"));
        everybody.push(Who { label: can, token, can, known: true });
    }
    let elsewhere = Some(token(data, "elsewhere", "read,append,redact,admin", "other"));
    everybody.push(Who { label: "elsewhere", token: elsewhere, can: "", known: true });
    let past = Some(jiff::Timestamp::UNIX_EPOCH);
    let expired = Some(token_until(data, "expired", "read,append,redact,admin", "*", past));
    everybody.push(Who { label: "expired", token: expired, can: "", known: false });
    everybody
}

impl Who {
    fn has(&self, door: Door, need: Need) -> bool {
        let can = match door {
            Door::Own => "read,append,redact,admin",
            Door::Network => "",
            _ => self.can,
        };
        match need {
            Need::Nothing => true,
            Need::Any => !can.is_empty(),
            Need::Read => can.contains("read"),
            Need::Append => can.contains("append"),
        }
    }

    /// Whether it may write as `anna/phone`.
    fn may_be_anna(&self, door: Door) -> bool {
        self.label == "append" || self.can.contains("admin") || door == Door::Own
    }
}

fn check_untold(who: &Who, door: Door, said: &str, case: &str) {
    if door == Door::Own {
        return;
    }
    assert!(!said.contains("other"), "{case}: tells of another journal: {said}");
    if !who.has(door, Need::Read) {
        assert!(!said.contains("kettle"), "{case}: tells an entry: {said}");
    }
    if !who.has(door, Need::Any) {
        assert!(
            !said.contains("head=") && !said.contains("journal=") && !said.contains("id="),
            "{case}: {said}"
        );
    }
    if let Some(token) = &who.token {
        assert!(!said.contains(&token.reveal()[6..20]), "{case}: shows the token: {said}");
    }
}

#[tokio::test]
async fn every_request_of_everybody_at_every_door() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(maintain(folder.path(), &["journal", "add", "other"]).await.code, Some(0));
    let everybody = everybody(folder.path());
    let doors = Doors::open(folder).await;
    assert!(doors.say(Door::Own, format!("{MARKER}\n").as_bytes()).await.ends_with(b"\n"));
    for word in HELP
        .split_whitespace()
        .filter(|word| word.len() > 1 && word.starts_with('/') && !word.starts_with("//"))
    {
        let sampled = LINES.iter().any(|(line, _)| line.split(' ').next() == Some(word));
        assert!(sampled || word == "/login", "{word} is not in the matrix");
    }

    for who in &everybody {
        for door in Door::ALL {
            let before = doors.head().await;
            // Few enough wrong tokens that the next one need not wait.
            let few = if who.label == STRANGER { 2 } else { usize::MAX };
            let lines =
                LINES.iter().take(few).map(|(line, begins)| check_line(&doors, who, door, line, begins));
            let messages = messages().into_iter().take(few).enumerate();
            let messages = messages.map(|(at, message)| check_message(&doors, who, door, message, at));
            let (by_lines, by_messages) = tokio::join!(join_all(lines), join_all(messages));
            let stored = by_lines.iter().chain(&by_messages).filter(|stored| **stored).count();
            assert_eq!(doors.head().await, before + stored as u64, "{} at {door:?}", who.label);
        }
    }
    doors.server.stop().await;
}

/// Checks what is said to a line, and returns whether it is stored.
async fn check_line(doors: &Doors, who: &Who, door: Door, line: &str, begins: &str) -> bool {
    let need = match line.strip_prefix('/') {
        Some(_) => need_of_command(&Command::parse(line).unwrap()),
        None => Need::Append,
    };
    // The name is that of one of the tokens.
    let taken = line.starts_with("/name") && !who.may_be_anna(door);
    let case = format!("{} at {door:?}: {line}", who.label);
    let login = who.token.as_ref().map(login);
    let lines: Vec<&str> = login.iter().map(String::as_str).chain([line, "/quit"]).collect();
    let said = String::from_utf8(doors.say(door, (lines.join("\n") + "\n").as_bytes()).await).unwrap();
    let mut answers = said.lines();
    let greeting = answers.next().unwrap();
    let welcome = if door == Door::Own { "diary/1 ready head=" } else { "diary/1 ready login needed;" };
    assert!(greeting.starts_with(welcome), "{case}: {greeting}");
    if who.token.is_some() {
        let answer = answers.next().unwrap();
        let expected = match (door, who.known) {
            (Door::Network, _) => "error not-permitted: a token travels only in TLS",
            (_, true) => "ok login ",
            (_, false) => "error bad-token: ",
        };
        assert!(answer.starts_with(expected), "{case}: {answer}");
    }
    let answer = answers.next().unwrap();
    let is_elsewhere = who.label == "elsewhere" && !matches!(door, Door::Network | Door::Own);
    if is_elsewhere && need == Need::Any {
        let expected = if line == "/journal" { "ok journal -" } else { "error no-journal: " };
        assert!(answer.starts_with(expected), "{case}: {answer}");
        return false;
    }
    check_untold(who, door, &said, &case);
    if who.has(door, need) && !taken {
        assert!(answer.starts_with(begins), "{case}: {answer}");
    } else {
        assert!(answer.starts_with("error not-permitted: "), "{case}: {answer}");
        match need {
            Need::Read => assert!(answer.contains("the right read"), "{case}: {answer}"),
            Need::Append if !taken => assert!(answer.contains("the right append"), "{case}: {answer}"),
            _ => {}
        }
    }
    line == "a text" && who.has(door, Need::Append)
}

/// Checks what is said to a message behind a Hello, and returns whether it is stored.
async fn check_message(doors: &Doors, who: &Who, door: Door, message: ClientMessage, at: usize) -> bool {
    let case = format!("{} at {door:?}: {message:?}", who.label);
    let mut bytes = Vec::new();
    let mut greeting = hello(1);
    // A producer for each case.
    greeting.secret = format!("{:>16}{door:?}{at}", who.label).into();
    greeting.token = who.token.as_ref().map(|token| Credential::new(token.reveal()));
    assert_eq!(need_of_message(&ClientMessage::Hello(greeting.clone())), Need::Any);
    ClientMessage::Hello(greeting).write(&mut bytes);
    message.write(&mut bytes);
    ClientMessage::Quit.write(&mut bytes);
    let said = doors.say(door, &bytes).await;
    check_untold(who, door, &String::from_utf8_lossy(&said), &case);
    let answers = Frames::read_all(&said);
    let code = |answer: &ServerMessage| match answer {
        ServerMessage::Error { refusal, .. } | ServerMessage::Refused { refusal, .. } => Some(refusal.code),
        _ => None,
    };
    let bad_token = who.token.is_some() && !who.known && door != Door::Network;
    if bad_token || !who.has(door, Need::Any) {
        let expected = if bad_token { Code::BadToken } else { Code::NotPermitted };
        assert_eq!(code(&answers[0]), Some(expected), "{case}: {answers:?}");
        assert!(matches!(answers[0], ServerMessage::Error { fatal: true, .. }), "{case}: {answers:?}");
        assert_eq!(answers.len(), 1, "{case}: {answers:?}");
        return false;
    }
    assert!(matches!(answers[0], ServerMessage::Welcome(_)), "{case}: {answers:?}");
    let appends = matches!(message, ClientMessage::Append(_));
    let as_anna = matches!(&message, ClientMessage::Append(append) if append.texts.are_own());
    let permitted = who.has(door, need_of_message(&message)) && (!as_anna || who.may_be_anna(door));
    match (permitted, appends) {
        (false, _) => {
            let refused = match &answers[1] {
                ServerMessage::Refused { count, .. } => appends && *count == 1,
                ServerMessage::Error { id, fatal, .. } => !appends && *id == 7 && !fatal,
                _ => false,
            };
            assert!(refused && code(&answers[1]) == Some(Code::NotPermitted), "{case}: {answers:?}");
        }
        (true, true) => assert!(matches!(answers[1], ServerMessage::Acks(_)), "{case}: {answers:?}"),
        (true, false) => assert_eq!(answers.iter().find_map(code), None, "{case}: {answers:?}"),
    }
    appends && permitted
}

// --- sessions --------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_follow_ends_with_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_owned();
    let writer = token(&data, "writer", "append", "*");
    let removed = token(&data, "removed", "read", "*");
    let soon_over = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    let expires = token_until(&data, "expires", "read", "*", Some(soon_over));
    let server = Server::on(folder, |_| {}).await;
    let mut followers = Vec::new();
    for (token, ends) in [(&removed, "has been removed"), (&expires, "has expired")] {
        let mut client = server.lines().await;
        assert!(client.ask(&login(token)).await.starts_with("ok login "));
        assert_eq!(client.ask("/follow #1").await, "ok follow from 1");
        followers.push((client, ends));
    }
    let mut client = server.lines().await;
    assert!(client.ask(&login(&writer)).await.starts_with("ok login writer journal=diary head=0 id="));
    assert!(is_ack(&client.ask("heard").await, 1));
    for (follower, _) in &mut followers {
        assert!(follower.line().await.ends_with(" writer heard"));
    }
    remove(&data, "removed");
    for (follower, ends) in &mut followers {
        // Nothing is written meanwhile: it ends by itself.
        let answer = follower.line().await;
        assert!(answer.starts_with("error not-permitted: this needs the right read"), "{answer}");
        assert!(answer.contains(*ends), "{answer}");
    }
    assert!(is_ack(&client.ask("unheard").await, 2));
    for (follower, ends) in &mut followers {
        let answer = follower.ask("/history").await;
        assert!(answer.starts_with("error not-permitted: ") && answer.contains(*ends), "{answer}");
        assert!(follower.ask("/quit").await.starts_with("bye"));
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_open_closes_with_the_first_token() {
    let server = Server::start().await;
    let data = server.journal().parent().unwrap().to_owned();
    let (mut client, mut follower) = (server.lines().await, server.lines().await);
    assert_eq!(follower.ask("/follow #1").await, "ok follow from 1");
    let anna = token(&data, "anna", "append", "*");
    // Until the server has seen it.
    let mut head = 0;
    let answer = loop {
        match client.ask("open").await {
            ack if ack.starts_with("ok ") => head = seq_of(&ack),
            refusal => break refusal,
        }
    };
    assert!(answer.starts_with("error not-permitted: this needs the right append"), "{answer}");
    let mut other = server.lines().await;
    assert!(other.greeting.starts_with("diary/1 ready login needed;"), "{}", other.greeting);
    let answer = other.ask(&login(&anna)).await;
    assert!(answer.starts_with("ok login anna "), "{answer}");
    assert!(is_ack(&other.ask("after").await, head + 1));
    let answer = loop {
        let line = follower.line().await;
        assert!(!line.contains("after"), "{line}");
        if !line.ends_with(" local open") {
            break line;
        }
    };
    assert!(answer.starts_with("error not-permitted: this needs the right read"), "{answer}");
    // The file is not asked for by its absence.
    std::fs::remove_file(data.join("access")).unwrap();
    assert!(is_ack(&other.ask("still").await, head + 2));
    let mut nobody = server.lines().await;
    assert!(nobody.ask("x").await.starts_with("error not-permitted: "));
    drop((client, follower, other, nobody));
    server.stop().await;
}

fn seq_of(ack: &str) -> u64 {
    crate::support::acked(ack).unwrap_or_else(|| panic!("no ack: {ack}"))
}

#[tokio::test]
async fn the_token_says_who_writes() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_owned();
    let (anna, chief) = (token(&data, "anna", "append", "*"), token(&data, "chief", "append,admin", "*"));
    let server =
        Server::on(folder, |config| config.rules.loopback_can = Some("append".parse().unwrap())).await;
    let mut client = server.lines().await;
    for (line, answer) in [
        ("/name anna", "error not-permitted: this is the name of a token,"),
        ("/name anna/phone", "error not-permitted: this is the name of a token,"),
        ("/name annabel", "ok name annabel"),
        ("as annabel", "ok 1 "),
        (&*login(&anna), "ok login anna "),
        ("as anna", "ok 2 "),
        ("/name anna/phone", "ok name anna/phone"),
        ("from the phone", "ok 3 "),
        ("/name bob", "error not-permitted: a token writes under its own name,"),
        ("/name annabel", "error not-permitted: a token writes under its own name,"),
        ("still from the phone", "ok 4 "),
        (&*login(&chief), "ok login chief "),
        ("/name bob", "ok name bob"),
        ("as bob", "ok 5 "),
    ] {
        let said = client.ask(line).await;
        assert!(said.starts_with(answer), "{line}: {said}");
    }
    let mut frames = Frames::connect(server.address()).await;
    let mut with_name = hello(1);
    with_name.author = "bob".to_owned();
    with_name.token = Some(Credential::new(anna.reveal()));
    frames.send(&ClientMessage::Hello(with_name)).await;
    assert!(frames.fatal().await.starts_with("not-permitted: a token writes under its own name,"));
    drop(client);
    let stored = stored(&server.journal());
    let authors: Vec<&str> = stored.iter().map(|entry| entry.split(' ').next().unwrap()).collect();
    assert_eq!(authors, ["annabel", "anna", "anna/phone", "anna/phone", "bob"]);
    server.stop().await;
}

#[tokio::test]
async fn a_token_has_its_journals_and_knows_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_owned();
    for name in ["work", "work-2", "secret"] {
        assert_eq!(maintain(&data, &["journal", "add", name]).await.code, Some(0));
    }
    let worker = token(&data, "worker", "read,append", "work*");
    let server = Server::on(folder, |_| {}).await;
    let mut client = server.lines().await;
    assert_eq!(
        client.ask(&login(&worker)).await,
        "ok login worker; it has no rights in this journal, and /journal lists those where it has"
    );
    client.send("/journal\n").await;
    for line in ["ok journal -", "journal work", "journal work-2", "end 2"] {
        assert_eq!(client.line().await, line);
    }
    let unknown = client.ask("/journal nowhere").await;
    assert_eq!(unknown, "error no-journal: there is no journal nowhere; /journal lists those that there are");
    assert_eq!(client.ask("/journal secret").await, unknown.replace("nowhere", "secret"));
    assert_eq!(client.ask("/journal diary").await, unknown.replace("nowhere", "diary"));
    assert_eq!(
        client.ask("/journal secre").await,
        unknown.replace("nowhere", "secre"),
        "nothing is suggested that it does not know"
    );
    assert!(client.ask("/journal wrk").await.ends_with("did you mean work?"));
    assert!(client.ask("/journal work").await.starts_with("ok journal work head=0 "));
    assert!(is_ack(&client.ask("x").await, 1));
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn whoever_guesses_waits_and_the_right_token_works() {
    let folder = tempfile::tempdir().unwrap();
    let anna = token(folder.path(), "anna", "read", "*");
    let server = Server::on(folder, |_| {}).await;
    let mut client = server.lines().await;
    let wrong = login(&stranger());
    for _ in 0..10 {
        assert!(client.ask(&wrong).await.starts_with("error bad-token: "));
    }
    // The next wrong one waits, and a right one does not wait behind it.
    let mut guesser = server.lines().await;
    guesser.send(format!("{}\n", login(&stranger()))).await;
    for _ in 0..3 {
        assert!(client.ask(&login(&anna)).await.starts_with("ok login anna "));
    }
    let asked = tokio::time::timeout(Duration::from_millis(300), guesser.line()).await;
    assert!(asked.is_err(), "it waits: {asked:?}");
    assert!(guesser.line().await.starts_with("error bad-token: "));
    drop(guesser);
    drop(client);
    server.stop().await;
}

/// As a script does.
#[tokio::test]
async fn a_token_that_was_made_just_now_works() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_owned();
    token(&data, "first", "read", "*");
    let server = Server::on(folder, |_| {}).await;
    let mut client = server.lines().await;
    let next = token(&data, "next", "read", "*");
    assert!(client.ask(&login(&next)).await.starts_with("ok login next "));
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_guess() {
    let folder = tempfile::tempdir().unwrap();
    token(folder.path(), "anna", "read", "*");
    let server = Server::on(folder, |_| {}).await;
    let mut client = server.lines().await;
    let wrong = login(&stranger());
    for _ in 0..10 {
        assert!(client.ask(&wrong).await.starts_with("error bad-token: "));
    }
    client.send(wrong + "\n").await;
    server.begin_stop();
    let rest = client.rest().await;
    // It is refused, or was not read in time.
    assert!(rest.ends_with("bye: shutting down\n") && !rest.contains("bad-token"), "{rest}");
    server.stop().await;
}

/// The log, the day files and all else in the data folder.
#[tokio::test]
async fn a_token_is_written_down_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let anna = token(&data, "anna", "read,append", "*");
    let stranger = stranger();
    let server = Process::start_logging(&data, &["--log", "trace"], &log).await;
    let mut client = Lines::connect(&server.addresses[0]).await;
    for line in [
        login(&stranger),
        format!("/login  {} and more", anna.reveal()),
        format!("/login{}", anna.reveal()),
        format!("/logon {}", anna.reveal()),
        format!(" /login {}", anna.reveal()),
        format!("//login {}", anna.reveal()),
        anna.reveal().to_owned(),
        format!("/name {}", anna.reveal()),
        login(&anna),
        "a text".to_owned(),
        "/quit".to_owned(),
    ] {
        let answer = client.ask(&line).await;
        assert!(!answer.contains("diary_"), "{answer}");
    }
    server.stop().await;
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("a wrong token") && said.contains("logged in"), "{said}");
    let mut files = vec![log];
    let mut folders = vec![data.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    for file in files {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        for token in [&anna, &stranger] {
            assert!(!text.contains(&token.reveal()[6..20]), "{}", file.display());
        }
    }
    let list = maintain(&data, &["token", "list"]).await;
    assert!(list.stdout.contains("anna") && !list.stdout.contains("never  never"), "{list:?}");
}

/// More texts than would fit, if each were refused with words of its own.
#[tokio::test]
async fn refusals_of_very_many_texts_leave_room_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_owned();
    let (reader, writer) = (token(&data, "reader", "read", "*"), token(&data, "writer", "append", "*"));
    let server = Server::on(folder, |_| {}).await;
    let mut other = server.lines().await;
    assert!(other.ask(&login(&writer)).await.starts_with("ok login "));
    for (secret, token, author) in [(1, &reader, ""), (2, &writer, "reader")] {
        let mut frames = Frames::connect(server.address()).await;
        frames.greet(&Hello { token: Some(Credential::new(token.reveal())), ..hello(secret) }).await;
        let new = NewText { text: b"x", at: None, author: author.as_bytes() };
        let texts = Texts::own(std::iter::repeat_n(new, 65_536));
        frames.send(&ClientMessage::Append(Append { first_counter: 0, retry: false, texts })).await;
        let mut refused = 0;
        while refused < 65_536 {
            match frames.message().await {
                ServerMessage::Refused { count, refusal, .. } => {
                    assert_eq!(refusal.code, Code::NotPermitted);
                    refused += count;
                }
                message => panic!("{message:?}"),
            }
        }
        assert!(other.ask("goes on").await.starts_with("ok "));
    }
    drop(other);
    server.stop().await;
}

#[tokio::test]
async fn an_address_with_one_journal_has_no_other_for_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_owned();
    assert_eq!(maintain(&data, &["journal", "add", "work"]).await.code, Some(0));
    let anna = token(&data, "anna", "read,append", "diary");
    let server = Server::on(folder, |config| {
        config.listen = vec![Listen::tcp("127.0.0.1:0").only("work".parse().unwrap())];
    })
    .await;
    let mut client = Lines::connect(server.address().trim_end_matches("=work")).await;
    assert!(client.ask(&login(&anna)).await.starts_with("ok login anna;"));
    for name in ["diary", "work", "nowhere"] {
        let answer = client.ask(&format!("/journal {name}")).await;
        assert_eq!(answer, "error no-journal: this address has one journal only, and not this one");
    }
    assert!(client.ask("x").await.starts_with("error not-permitted: "));
    drop(client);
    server.stop().await;
}

/// Where everybody may write, whoever has lost a token must not go on under its name.
#[tokio::test]
async fn a_removed_token_leaves_nothing_to_whoever_uses_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_owned();
    let anna = token(&data, "anna", "append", "*");
    let server = Server::on(folder, |config| config.rules.open = true).await;
    let mut client = server.lines().await;
    assert!(client.ask("as local").await.starts_with("ok 1 "));
    assert!(client.ask(&login(&anna)).await.starts_with("ok login anna "));
    assert!(client.ask("as anna").await.starts_with("ok 2 "));
    remove(&data, "anna");
    let answer = loop {
        match client.ask("as nobody").await {
            ack if ack.starts_with("ok ") => {}
            refusal => break refusal,
        }
    };
    assert_eq!(answer, "error not-permitted: this needs the right append, and the token has been removed");
    assert_eq!(client.ask("/journal diary").await, "error not-permitted: the token has been removed");
    assert_eq!(client.ask("/name eve").await.split(':').next(), Some("error not-permitted"));
    drop(client);
    server.stop().await;
}

// --- programs that never log in --------------------------------------------------------------------------

#[tokio::test]
async fn quiet_listeners_take_what_their_networks_send() {
    let folder = tempfile::tempdir().unwrap();
    token(folder.path(), "anna", "read", "*");
    let server = Server::on(folder, |config| {
        config.listen = vec![Listen::tcp("127.0.0.1:0").quiet(), Listen::quiet_udp("127.0.0.1:0")];
        config.udp = Some("127.0.0.1:0".parse().unwrap());
        config.rules.allow = vec!["127.0.0.2/32".parse().unwrap()];
    })
    .await;
    let addresses = server.addresses().to_vec();
    let of = |prefix: &str| addresses.iter().find_map(|address| address.strip_prefix(prefix)).unwrap();
    let (udp, answering) = (of("quiet:udp:").to_owned(), of("udp:").to_owned());
    let tcp = addresses.iter().find(|address| !address.contains("udp")).unwrap().replace("quiet:", "");
    for (from, text) in [("127.0.0.3:0", "not this"), ("127.0.0.2:0", "by TCP")] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(from.parse().unwrap()).unwrap();
        let stream = socket.connect(tcp.parse().unwrap()).await.unwrap();
        assert_eq!(say(stream, format!("{text}\n").as_bytes()).await, b"");
    }
    for (from, text) in [("127.0.0.3:0", "not this"), ("127.0.0.2:0", "by a datagram")] {
        let socket = UdpSocket::bind(from).await.unwrap();
        socket.send_to(text.as_bytes(), &udp).await.unwrap();
    }
    let socket = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let mut buffer = [0; 2048];
    let mut ask = async |text: &str| {
        socket.send_to(text.as_bytes(), &answering).await.unwrap();
        let length = soon("an answer", socket.recv(&mut buffer)).await.unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let answer = ask("with an answer").await;
    assert!(answer.starts_with("diary/1 ok "), "{answer}");
    let answer = ask("p").await;
    assert!(answer.starts_with("diary/1 error not-permitted: this needs the right read"), "{answer}");
    let journal = server.journal();
    let _folder = server.stop().await;
    let mut entries = stored(&journal);
    entries.sort_unstable();
    assert_eq!(entries, ["local by TCP", "local by a datagram", "local with an answer"]);
}

// --- starting --------------------------------------------------------------------------------------------

/// Starts a server that must not start.
async fn refused(data: &Path, arguments: &[&str], code: i32, words: &[&str]) {
    let ran = run(server_command(data).args(arguments), "").await;
    assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:?}");
    let last = ran.stderr.lines().last().unwrap();
    assert!(last.starts_with("diary-server: ") && ran.stdout.is_empty(), "{ran:?}");
    for word in words {
        assert!(last.contains(word), "{arguments:?}: {last}");
    }
}

#[tokio::test]
async fn other_machines_need_a_token_or_open_doors() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let ways_out = ["token add", "tls:", "--open"];
    refused(data, &["--listen", "0.0.0.0:0"], 2, &ways_out).await;
    refused(data, &["--listen", "proxy:127.0.0.1:0"], 2, &ways_out).await;
    refused(data, &["--listen", "quiet:0.0.0.0:0"], 2, &["--allow", "--open"]).await;
    refused(data, &["--listen", "quiet:tls:0.0.0.0:0"], 2, &["--allow", "--open"]).await;
    refused(data, &["--listen", "quiet:udp:0.0.0.0:0"], 2, &["--allow", "--open"]).await;
    refused(data, &["--listen", "127.0.0.1:0", "--udp", "0.0.0.0:0"], 2, &["--allow", "--open"]).await;
    for allowed in [
        &["--listen", "0.0.0.0:0", "--open"][..],
        &["--listen", "tls:0.0.0.0:0"],
        &["--listen", "quiet:0.0.0.0:0", "--allow", "10.0.0.0/8"],
    ] {
        let mut command = server_command(data);
        command.args(allowed);
        Process::spawn(command, 1).await.stop().await;
    }
    token(data, "anna", "read", "*");
    let mut command = server_command(data);
    command.args(["--listen", "0.0.0.0:0"]);
    Process::spawn(command, 1).await.stop().await;
    refused(data, &["--listen", "quiet:0.0.0.0:0"], 2, &["--allow", "--open"]).await;
}

#[tokio::test]
async fn a_damaged_file_stops_a_start_and_changes_nothing_later() {
    let folder = tempfile::tempdir().unwrap();
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    std::fs::create_dir(&data).unwrap();
    let anna = token(&data, "anna", "append", "*");
    let file = data.join("access");
    let sound = std::fs::read_to_string(&file).unwrap();
    let damage = || std::fs::write(&file, format!("{sound}bob read\n")).unwrap();
    damage();
    refused(&data, &["--listen", "127.0.0.1:0"], 4, &["line 4", "a token has 6 columns"]).await;
    std::fs::write(&file, &sound).unwrap();
    let server = Process::start_logging(&data, &[], &log).await;
    damage();
    let seen = async {
        while !std::fs::read_to_string(&log).unwrap().contains("the tokens stay as they were") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the log says so", seen).await;
    let mut client = Lines::connect(&server.addresses[0]).await;
    assert!(client.ask(&login(&anna)).await.starts_with("ok login anna "));
    assert!(is_ack(&client.ask("x").await, 1));
    server.stop().await;
}

#[tokio::test]
async fn the_commands_for_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let said = maintain(data, &["token", "list"]).await;
    assert_eq!((said.code, &*said.stdout), (Some(0), "name  rights  journals  last use  expires\n"));
    let said = maintain(data, &["token", "remove", "anna"]).await;
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(!data.join("access").exists(), "nobody is locked out by that");
    let said = maintain(
        data,
        &["token", "add", "anna", "--can", "append", "--journal", "work*", "--expires", "30d"],
    )
    .await;
    let token: Token = said.stdout.trim_end().parse().unwrap();
    assert!(said.code == Some(0) && said.stderr.contains("tokens are in use from now on"), "{said:?}");
    for (arguments, why) in [
        (&["token", "add", "anna"][..], "a token named anna already exists"),
        (&["token", "add", "a b"], "a name cannot contain spaces"),
        (&["token", "add", "bob", "--can", "write"], "\"write\" is not a right"),
        (&["token", "add", "bob", "--journal", "w*k"], "does not name a journal"),
        (&["token", "add", "bob", "--expires", "yesterday"], "not a time"),
        (&["token", "add", "bob", "--expires", "2020-01-01"], "the time is not in the future"),
    ] {
        let said = maintain(data, arguments).await;
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.stderr.contains(why) && said.stdout.is_empty(), "{said:?}");
    }
    let said = maintain(data, &["token", "list"]).await;
    let row = said.stdout.lines().nth(1).unwrap();
    assert!(row.starts_with("anna  append  work*     never     20"), "{said:?}");
    assert!(!said.stdout.contains(token.reveal()));
    assert_eq!(maintain(data, &["token", "remove", "anna"]).await.code, Some(0));
    assert_eq!(maintain(data, &["token", "list"]).await.stdout.lines().count(), 1);
}

#[tokio::test]
async fn a_tls_client_logs_in_from_another_machine() {
    let folder = tempfile::tempdir().unwrap();
    let anna = token(folder.path(), "anna", "read,append", "*");
    let doors = Doors::open(folder).await;
    let stream = TcpStream::connect(doors.address(Door::NetworkTls)).await.unwrap();
    let mut stream = stream;
    tokio::io::AsyncWriteExt::write_all(&mut stream, PROXY).await.unwrap();
    let mut client = Lines::over(tunnel(shake_hands(stream, rustls::ALL_VERSIONS).await).await).await;
    assert!(client.ask(&login(&anna)).await.starts_with("ok login anna "));
    assert!(is_ack(&client.ask("from afar").await, 1));
    // Without TLS, the answer says where it is.
    let said = doors.say(Door::Network, (login(&anna) + "\n").as_bytes()).await;
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains(&format!("which is at {}", doors.address(Door::Tls))), "{said}");
    drop(client);
    doors.server.stop().await;
}
