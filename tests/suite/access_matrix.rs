//! Every request of both modes, by everybody, at every kind of address: what is not granted is neither done nor told.

use std::net::SocketAddr;
use std::path::Path;

use diary_access::Token;
use diary_proto::answer::HELP;
use diary_proto::message::{Append, ClientMessage, NewText, ServerMessage, Texts};
use diary_proto::{Code, Command, Credential, Filter, Relation, Which};
use diary_server::Listen;
use futures::future::join_all;
use tokio::net::{TcpSocket, TcpStream, UdpSocket, UnixStream};

use crate::support::{
    Frames, Lines, Server, connect_tls, hello, is_ack, say, shake_hands, soon, stored, tunnel,
};

use crate::access::{login, maintain, stranger, token, token_until};

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
    /// To change what somebody else wrote.
    AppendAndAdmin,
}

/// A new command does not compile until it is here; its sample belongs into [`LINES`].
fn need_of_command(command: &Command) -> Need {
    match command {
        Command::History(_) | Command::Follow(_) | Command::Search(_) | Command::Thread(_) => Need::Read,
        Command::Related(Relation::Corrects(_), _) => Need::AppendAndAdmin,
        Command::Name(_) | Command::Related(..) => Need::Append,
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
        ClientMessage::History { .. }
        | ClientMessage::Follow { .. }
        | ClientMessage::Search { .. }
        | ClientMessage::Thread { .. }
        | ClientMessage::Versions { .. } => Need::Read,
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
    ("/re 1 an answer", "ok "),
    ("/correct 1 anew", "ok "),
    ("/thread 1", "ok thread"),
    ("/name anna/phone", "ok name anna/phone"),
    ("/journal", "ok journal diary"),
    ("/journal diary", "ok journal diary head="),
    ("/quiet", "ok quiet"),
    ("/help", "help "),
    ("/quit", "bye"),
];

fn messages() -> Vec<ClientMessage> {
    let own = NewText { text: b"own", author: b"anna/phone", answers: Some(1), ..NewText::default() };
    vec![
        ClientMessage::Append(Append { first_counter: 7, retry: false, texts: Texts::new(["from a frame"]) }),
        ClientMessage::Append(Append { first_counter: 8, retry: false, texts: Texts::own([own]) }),
        ClientMessage::History { id: 7, scope: Which::All.into() },
        ClientMessage::Follow { id: 7, from: Some(1) },
        ClientMessage::FollowOff { id: 7 },
        ClientMessage::Search { id: 7, filter: Filter::of_text("kettle") },
        ClientMessage::Check { id: 7 },
        ClientMessage::Thread { id: 7, seq: 1 },
        ClientMessage::Versions { id: 7, seq: 1 },
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
            Need::AppendAndAdmin => can.contains("append") && can.contains("admin"),
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
    matches!(line, "a text" | "/re 1 an answer" | "/correct 1 anew") && who.has(door, need)
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

/// There are no requests at a quiet listener: every line is a text, or nothing.
#[tokio::test]
async fn no_line_is_a_request_at_a_quiet_listener() {
    let folder = tempfile::tempdir().unwrap();
    token(folder.path(), "anna", "read", "*");
    let server = Server::on(folder, |config| {
        config.listen = vec![Listen::tcp("127.0.0.1:0").quiet(), Listen::quiet_udp("127.0.0.1:0")];
        config.rules.allow = vec!["127.0.0.2/32".parse().unwrap()];
    })
    .await;
    let at = |place: usize| server.addresses()[place].rsplit("quiet:").next().unwrap().replace("udp:", "");
    let (tcp, udp): (SocketAddr, SocketAddr) = (at(0).parse().unwrap(), at(1).parse().unwrap());
    for from in ["127.0.0.3:0", "127.0.0.2:0"] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(from.parse().unwrap()).unwrap();
        let lines: String = LINES.iter().map(|(line, _)| format!("{line}\n")).collect();
        assert_eq!(say(socket.connect(tcp).await.unwrap(), lines.as_bytes()).await, b"", "{from}");
        let socket = UdpSocket::bind(from).await.unwrap();
        for (line, _) in LINES {
            socket.send_to(line.as_bytes(), udp).await.unwrap();
        }
    }
    let mut expected: Vec<_> = LINES.iter().map(|(line, _)| format!("local {line}")).collect();
    expected.extend(expected.clone());
    expected.sort_unstable();
    let all = async {
        while stored(&server.journal()).len() < expected.len() {
            tokio::task::yield_now().await;
        }
    };
    soon("all are on disk", all).await;
    let mut entries = stored(&server.journal());
    entries.sort_unstable();
    assert_eq!(entries, expected);
    server.stop().await;
}
