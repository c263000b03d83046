//! Tokens in use: who writes, what ends with a token, and what nobody gets to see. `access_matrix` has every request.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use diary_access::{AccessFile, Grant, Token};
use diary_proto::message::{Append, ClientMessage, Hello, NewText, ServerMessage, Texts};
use diary_proto::{Code, Credential};
use diary_server::Listen;
use tokio::net::{TcpSocket, UdpSocket};

use crate::support::faulty::is_root;
use crate::support::{
    Frames, Lines, Process, Ran, Server, hello, is_ack, peer, plain_server_command, run, say, soon, stored,
};

/// Makes a token that does not expire.
pub(crate) fn token(data: &Path, name: &str, can: &str, journals: &str) -> Token {
    token_until(data, name, can, journals, None)
}

pub(crate) fn token_until(
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
pub(crate) async fn maintain(data: &Path, arguments: &[&str]) -> Ran {
    run(plain_server_command().args(arguments).arg("--data").arg(data), "").await
}

pub(crate) fn login(token: &Token) -> String {
    format!("/login {}", token.reveal())
}

#[tokio::test]
async fn a_follow_ends_with_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_owned();
    let writer = token(&data, "writer", "append", "*");
    let removed = token(&data, "removed", "read", "*");
    let soon_over = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    let expires = token_until(&data, "expires", "read", "*", Some(soon_over));
    let server = Server::on(folder, |_| {}).await;
    let mut frames = Frames::connect(server.address()).await;
    frames.greet(&Hello { token: Some(Credential::new(removed.reveal())), ..hello(1) }).await;
    frames.send(&ClientMessage::Follow { id: 7, from: Some(1) }).await;
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
    let refusal = loop {
        match frames.message().await {
            ServerMessage::Error { id: 7, refusal, .. } => break refusal,
            ServerMessage::End { .. } => panic!("it ends without a reason"),
            _ => {}
        }
    };
    assert_eq!(refusal.code, Code::NotPermitted);
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
        let new = NewText { text: b"x", at: None, author: author.as_bytes(), answers: None, corrects: None };
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

/// On a Unix socket, the server knows whose process is at the other end.
#[tokio::test]
async fn other_users_have_what_unix_can_says() {
    if !is_root() {
        return;
    }
    let (folder, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let socket = folder.path().join("socket");
    let server = Server::on(data, |config| {
        config.listen.push(Listen::unix(&socket));
        config.socket_mode = 0o666;
        config.rules.unix_can = Some("append".parse().unwrap());
    })
    .await;
    let input = "a text\n/history\n/quit\n";
    let mut nc = peer("nc.openbsd");
    nc.arg("-U").arg(&socket);
    let mut others = peer("setpriv");
    others.args(["--reuid=65534", "--regid=65534", "--clear-groups", "nc.openbsd", "-U"]).arg(&socket);
    let said = run(&mut others, input).await.stdout;
    assert!(
        said.contains("\nok 1 ") && said.contains("error not-permitted: this needs the right read"),
        "{said}"
    );
    let said = run(&mut nc, input).await.stdout;
    assert!(said.contains("\nok 2 ") && !said.contains("error") && said.contains(" a text\n"), "{said}");
    server.stop().await;
}
