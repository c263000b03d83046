//! Several journals in one server: each is apart from the others, an address may have one only, and those that nobody uses
//! cost nothing.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use diary_proto::message::{ClientMessage, Hello, Resume, ServerMessage, Welcome};
use diary_proto::{JournalName, Which};
use diary_server::Listen;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use crate::cli_add::{Home, address_to_be, assert_quiet};
use crate::support::{
    Frames, Lines, Process, Random, Server, acked, day_files, hello, is_ack, plain_server_command, say, soon,
    stored, text,
};

fn name(name: &str) -> JournalName {
    name.parse().unwrap()
}

/// Runs `diary-server` with arguments that do not serve, and the data folder.
async fn maintain(data: &Path, arguments: &[&str]) -> Output {
    let mut command = plain_server_command();
    soon("it ends", command.args(arguments).arg("--data").arg(data).output()).await.unwrap()
}

/// What it printed, if all went well.
async fn maintained(data: &Path, arguments: &[&str]) -> String {
    let output = maintain(data, arguments).await;
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A data folder with these journals, beside the one that every server makes.
async fn with_journals(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        maintained(folder.path(), &["journal", "add", name]).await;
    }
    folder
}

async fn server_with(names: &[&str], listen: Vec<Listen>) -> Server {
    Server::on(with_journals(names).await, |config| config.listen.extend(listen)).await
}

fn without_id(line: &str) -> &str {
    line.split(" id=").next().unwrap()
}

#[tokio::test]
async fn a_session_goes_from_one_journal_to_another() {
    let server = server_with(&["work", "工作"], Vec::new()).await;
    let mut client = server.lines().await;
    assert!(client.greeting.contains(" journal=diary id="), "{}", client.greeting);
    // In one write: what stands before a change is of the journal before it.
    client.send("a\n/journal work\nb\n/name anna\nc\n/journal\n/journal 工作\nd\n/journal diary\ne\n").await;
    let mut answers = Vec::new();
    while answers.len() < 14 {
        answers.push(client.line().await);
    }
    let said: Vec<&str> = answers.iter().map(|line| without_id(line)).collect();
    assert!(
        is_ack(said[0], 1) && is_ack(said[2], 1) && is_ack(said[4], 2) && is_ack(said[11], 1),
        "{said:?}"
    );
    assert!(is_ack(said[13], 2), "{said:?}");
    assert_eq!([said[1], said[3]], ["ok journal work head=0", "ok name anna"]);
    assert_eq!(said[5..9], ["ok journal work", "journal diary", "journal work", "journal 工作"]);
    assert_eq!([said[9], said[10], said[12]], ["end 3", "ok journal 工作 head=0", "ok journal diary head=1"]);
    let folder = server.stop().await;
    let texts = |name: &str| stored(&folder.path().join(name));
    assert_eq!(texts("diary"), ["local a", "anna e"]);
    assert_eq!(texts("work"), ["local b", "anna c"]);
    assert_eq!(texts("工作"), ["anna d"]);
}

#[tokio::test]
async fn readings_are_of_the_journal_that_one_is_in_and_a_follow_ends_with_a_change() {
    let server = server_with(&["work"], Vec::new()).await;
    let (mut one, mut other) = (server.lines().await, server.lines().await);
    assert!(is_ack(&one.ask("in diary").await, 1));
    assert_eq!(one.ask("/follow #1").await, "ok follow from 1");
    assert_eq!(text(&one.line().await), "in diary");
    assert!(one.ask("/journal work").await.starts_with("ok journal work head=0 id="));
    assert!(is_ack(&other.ask("not followed any more").await, 2));
    assert!(is_ack(&one.ask("in work").await, 1));
    for (command, expected) in
        [("/history all", &["in work"][..]), ("/search in", &["in work"]), ("/search followed", &[])]
    {
        one.send(format!("{command}\n")).await;
        one.line().await;
        let entries = one.entries().await;
        assert_eq!(entries.iter().map(|line| text(line)).collect::<Vec<_>>(), expected, "{command}");
    }
    assert_eq!(one.ask("/follow #1").await, "ok follow from 1");
    assert_eq!(text(&one.line().await), "in work");
    other.ask("/journal work").await;
    assert!(is_ack(&other.ask("seen").await, 2));
    assert_eq!(text(&one.line().await), "seen");
}

#[tokio::test]
async fn a_journal_that_is_not_there_is_an_error_with_a_suggestion() {
    let server = server_with(&["work"], Vec::new()).await;
    let mut client = server.lines().await;
    for (command, answer) in [
        ("/journal wrok", "error no-journal: there is no journal wrok; did you mean work?"),
        ("/journal x", "error no-journal: there is no journal x; /journal lists those that there are"),
        (
            "/journal access",
            "error bad-argument: no journal can be called tls, access, access-used; the server needs these names",
        ),
        (
            "/journal ../diary",
            "error bad-argument: a journal's name has 1 to 64 bytes of letters, digits, '-', '_' and '.'",
        ),
    ] {
        assert_eq!(client.ask(command).await, answer);
    }
    // It stays where it was.
    assert!(is_ack(&client.ask("here").await, 1));

    for (journal, why) in
        [("wrok", "no-journal: there is no journal wrok; did you mean work?"), ("a b", "bad-argument: ")]
    {
        let mut client = Frames::connect(server.address()).await;
        client.send(&ClientMessage::Hello(Hello { journal: journal.to_owned(), ..hello(1) })).await;
        let said = client.fatal().await;
        assert!(said.starts_with(why), "{said}");
    }
    // One that is added meanwhile is found.
    assert!(client.ask("/journal new").await.starts_with("error no-journal: "));
    maintained(server.journal().parent().unwrap(), &["journal", "add", "new"]).await;
    assert!(client.ask("/journal new").await.starts_with("ok journal new head=0 "));
    // One that cannot be opened harms nobody else.
    let data = server.journal().parent().unwrap().to_owned();
    let held = Process::start(&data, &["127.0.0.1:0=work"], &[]).await;
    let said = client.ask("/journal work").await;
    assert_eq!(said, "error unreadable: the journal work cannot be opened; the server's log says why");
    assert!(is_ack(&client.ask("still in new").await, 1));
    held.stop().await;
    assert!(client.ask("/journal work").await.starts_with("ok journal work head=0 "), "it is free again");
}

#[tokio::test]
async fn frame_clients_name_their_journal_and_keys_are_of_one_journal() {
    let server = server_with(&["work"], Vec::new()).await;
    let in_journal = |journal: &str| Hello { journal: journal.to_owned(), ..hello(1) };
    let mut ids = Vec::new();
    for journal in ["diary", "work", ""] {
        let mut client = Frames::connect(server.address()).await;
        let welcome = client.greet(&in_journal(journal)).await;
        assert_eq!(welcome.journal, if journal.is_empty() { "diary" } else { journal });
        ids.push(welcome.journal_id);
        // The same key in each journal is one entry in each.
        client.append(1, true, &["same key"]).await;
        assert_eq!(client.acks(1).await, [(1, 1)], "{journal}");
        assert_eq!(client.history(2, Which::All).await.texts(), [(1, "same key".to_owned())]);
    }
    assert!(ids[0] == ids[2] && ids[0] != ids[1], "{ids:x?}");
    // An earlier client's Hello ends before the journal.
    let mut bytes = Vec::new();
    ClientMessage::Hello(hello(1)).write(&mut bytes);
    bytes.truncate(bytes.len() - 2);
    bytes[3] -= 2;
    let mut client = Frames::connect(server.address()).await;
    client.send_bytes(bytes).await;
    let ServerMessage::Welcome(welcome) = client.message().await else { panic!("it is welcome") };
    assert_eq!(welcome.journal, "diary");
    let resume = Some(Resume { id: ids[0], seq: 0, crc: 0 });
    let mut client = Frames::connect(server.address()).await;
    client.send(&ClientMessage::Hello(Hello { resume, ..in_journal("work") })).await;
    assert!(client.fatal().await.starts_with("other-journal: "));
}

#[tokio::test]
async fn an_address_may_have_one_journal_only() {
    let only = || name("work");
    let udp = || format!("127.0.0.1:0={}", only()).parse().unwrap();
    let listen = vec![
        Listen::tcp("127.0.0.1:0").only(only()),
        Listen::tcp("127.0.0.1:0").quiet().only(only()),
        Listen::quiet_udp("127.0.0.1:0").only(only()),
    ];
    let folder = with_journals(&["work"]).await;
    let server = Server::on(folder, |config| {
        config.listen.extend(listen);
        config.udp = Some(udp());
    })
    .await;
    let addresses: Vec<&str> = server.addresses()[1..]
        .iter()
        .map(|address| {
            address.strip_suffix("=work").unwrap().trim_start_matches(|c: char| !c.is_ascii_digit())
        })
        .collect();
    let &[tcp, quiet, quiet_udp, udp] = &addresses[..] else { panic!("{addresses:?}") };

    let mut client = Lines::connect(tcp).await;
    assert!(client.greeting.contains(" journal=work id="), "{}", client.greeting);
    for command in ["/journal diary", "/journal nothing"] {
        let said = client.ask(command).await;
        assert_eq!(said, "error no-journal: this address has the journal work only");
    }
    assert_eq!(client.ask("/journal").await, "ok journal work");
    assert_eq!([client.line().await, client.line().await], ["journal work", "end 1"]);
    assert!(is_ack(&client.ask("line").await, 1));
    let mut frames = Frames::connect(tcp).await;
    frames.send(&ClientMessage::Hello(Hello { journal: "diary".to_owned(), ..hello(1) })).await;
    assert_eq!(frames.fatal().await, "no-journal: this address has the journal work only");
    let mut frames = Frames::connect(tcp).await;
    assert_eq!(frames.greet(&hello(2)).await.journal, "work");

    // A quiet one takes no commands, so this is a text.
    say(tokio::net::TcpStream::connect(quiet).await.unwrap(), b"/journal diary\n").await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(b"datagram", udp).await.unwrap();
    let mut reply = [0; 1000];
    let length = soon("it is answered", socket.recv(&mut reply)).await.unwrap();
    assert!(reply.starts_with(b"3 "), "{:?}", String::from_utf8_lossy(&reply[..length]));
    socket.send_to(b"<13>quiet datagram", quiet_udp).await.unwrap();
    client.ask("/follow #4").await;
    assert!(client.line().await.ends_with("quiet datagram"));
    let folder = server.stop().await;
    assert_eq!(stored(&folder.path().join("work")).len(), 4);
    assert!(stored(&folder.path().join("diary")).is_empty());
}

#[tokio::test]
async fn a_server_does_not_start_for_a_journal_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let output = maintain(folder.path(), &["--listen", "127.0.0.1:0=work"]).await;
    let said = "diary-server: there is no journal work; `diary-server journal add work` makes it\n";
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(4), said));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "and makes none");
    for bad in ["127.0.0.1:0=", "127.0.0.1:0=a/b", "127.0.0.1:0=tls"] {
        assert_eq!(maintain(folder.path(), &["--listen", bad]).await.status.code(), Some(2), "{bad}");
    }
    let process = Process::start(folder.path(), &["127.0.0.1:0"], &["--journal", "mine"]).await;
    let mut client = Lines::connect(process.address()).await;
    assert!(client.greeting.contains(" journal=mine id="), "{}", client.greeting);
    assert!(is_ack(&client.ask("a").await, 1));
}

#[tokio::test]
async fn journals_are_added_listed_and_looked_after_together() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    assert_eq!(maintained(data, &["journal", "list"]).await, "");
    let made = format!("made the journal work in {}\n", data.join("work").display());
    assert_eq!(maintained(data, &["journal", "add", "work"]).await, made);
    let again = maintain(data, &["journal", "add", "work"]).await;
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8(again.stderr).unwrap().contains("there is a journal work already, in "));
    for bad in ["", ".", "a/b", "a b", "access"] {
        assert_eq!(maintain(data, &["journal", "add", bad]).await.status.code(), Some(2), "{bad:?}");
    }

    let process = Process::start(data, &["127.0.0.1:0"], &[]).await;
    let mut client = Lines::connect(process.address()).await;
    for journal in ["diary", "work"] {
        client.ask(&format!("/journal {journal}")).await;
        assert!(is_ack(&client.ask("one").await, 1) && is_ack(&client.ask("two").await, 2));
    }
    process.stop().await;
    assert_eq!(maintained(data, &["journal", "list"]).await, "diary\nwork\n");

    let sound = "no damage: 2 entries, up to 2, in 1 day file\n";
    let both = format!("journal diary:\n{sound}journal work:\n{sound}");
    assert_eq!(maintained(data, &["verify"]).await, both);
    assert_eq!(maintained(data, &["verify", "--journal", "work"]).await, sound);
    let json = maintained(data, &["verify", "--json"]).await;
    let names: Vec<_> = json.lines().map(|line| line.split('"').nth(3).unwrap()).collect();
    assert_eq!(names, ["diary", "work"]);

    let day = day_files(&data.join("work")).remove(0);
    fs::write(&day, fs::read_to_string(&day).unwrap().replace(" one", " ome")).unwrap();
    let found = maintain(data, &["verify"]).await;
    assert_eq!(found.status.code(), Some(6), "{found:?}");
    let to = data.join("elsewhere");
    let unclear = maintain(data, &["repair", "--to", to.to_str().unwrap()]).await;
    assert_eq!(unclear.status.code(), Some(2));
    assert!(String::from_utf8(unclear.stderr).unwrap().contains("with --to, say which one with --journal"));
    let repaired = maintained(data, &["repair"]).await;
    assert!(
        repaired.starts_with("journal diary:\nno damage, no copy\njournal work:\ncopied 1 entry to "),
        "{repaired}"
    );
    assert!(!data.join("diary.repaired").exists());
    let archived = maintained(data, &["archive", "--journal", "diary"]).await;
    assert!(archived.contains("the entries up to 2 are in "), "{archived}");
    let is_archived = |name: &str| data.join(name).join("archive").exists();
    assert!(is_archived("diary") && !is_archived("work"));
    let archived = maintained(data, &["archive"]).await;
    assert!(
        archived.starts_with("journal diary:\nthere are no entries to archive\njournal work:\n"),
        "{archived}"
    );
    assert!(is_archived("work") && !is_archived("work.repaired"));

    // One that cannot be looked at does not keep the others from it.
    fs::create_dir(data.join("broken")).unwrap();
    fs::create_dir(data.join("broken/2026-11-21.log")).unwrap();
    let all = maintain(data, &["verify"]).await;
    let said = String::from_utf8(all.stdout).unwrap();
    assert!(said.starts_with("journal broken:\n") && said.contains("journal work:\nno damage: "), "{said}");
    // Nor does a reader who has seen enough.
    let day = data.join("work/2020-01-01.log");
    fs::write(day, "not a day file\n").unwrap();
    fs::remove_dir_all(data.join("broken")).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut verify = plain_server_command();
    verify.args(["verify", "--data"]).arg(data).stdout(writer);
    assert_eq!(soon("it ends", verify.status()).await.unwrap().code(), Some(6));
}

/// A thousand journals, ten of which are written, and the same ten alone. Their writers have a thread each.
#[tokio::test]
async fn journals_that_nobody_uses_cost_nothing() {
    const WRITTEN: usize = 10;
    let mut costs = Vec::new();
    for journals in [WRITTEN, 1000] {
        let names: Vec<String> = (0..WRITTEN).map(|number| format!("journal-{number}")).collect();
        let folder = with_journals(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        for number in WRITTEN..journals {
            let dir = folder.path().join(format!("journal-{number}"));
            fs::create_dir(&dir).unwrap();
            fs::copy(folder.path().join("journal-0/head"), dir.join("head")).unwrap();
        }
        let process = Process::start(folder.path(), &["127.0.0.1:0=journal-0"], &[]).await;
        let plain = Process::start(folder.path(), &["127.0.0.1:0"], &["--journal", "other"]).await;
        process.stop().await;
        let mut clients = Vec::new();
        for name in &names {
            let mut client = Lines::connect(plain.address()).await;
            client.ask(&format!("/journal {name}")).await;
            assert!(is_ack(&client.ask("a").await, 1));
            clients.push(client);
        }
        clients[0].send("/journal\n").await;
        assert_eq!(clients[0].line().await, "ok journal journal-0");
        let mut listed = 0;
        let end = loop {
            let line = clients[0].line().await;
            if line.starts_with("end ") {
                break line;
            }
            listed += usize::from(line.starts_with("journal "));
        };
        // With the default one, they are one more than are listed at once.
        let expected =
            if journals == 1000 { "end 1000 of 1001".to_owned() } else { format!("end {}", journals + 1) };
        assert_eq!((end, listed), (expected, (journals + 1).min(1000)));

        let pid = plain.child.id().unwrap();
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(|descriptor| {
            let path = fs::read_link(descriptor.unwrap().path()).ok()?;
            path.starts_with(folder.path()).then_some(path)
        });
        // Readings of caches come and go; the locks stay.
        let locks = open.filter(|path| path.ends_with("lock")).count();
        let count_writers = || {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
            let named = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
            named.filter(|name| name == "writer\n").count()
        };
        // A thread that a writer starts has the writer's name until it takes its own. A writer lasts far longer than this.
        let settled = async {
            while count_writers() > WRITTEN {
                tokio::task::yield_now().await;
            }
            count_writers()
        };
        let writers = tokio::time::timeout(Duration::from_secs(5), settled).await;
        let writers = writers.unwrap_or_else(|_| count_writers());
        costs.push((locks, writers, plain.memory("VmRSS")));
    }
    let [(ten, ten_writers, ten_bytes), (thousand, thousand_writers, thousand_bytes)] = costs[..] else {
        panic!()
    };
    assert_eq!((ten, ten_writers), (WRITTEN + 1, WRITTEN));
    assert_eq!((thousand, thousand_writers), (WRITTEN + 1, WRITTEN));
    // A listing of a thousand names is in there, too.
    assert!(thousand_bytes < ten_bytes + 4 * 1024 * 1024, "{ten_bytes} and {thousand_bytes} bytes");
}

/// Clients that write to several journals over one connection, and a server that is killed again and again.
#[tokio::test]
async fn kills_lose_nothing_of_any_journal() {
    const ROUNDS: usize = 15;
    let names = ["diary", "b", "c"];
    let folder = with_journals(&names[1..]).await;
    let mut random = Random::new(16);
    let mut acknowledged: Vec<(usize, u64, String)> = Vec::new();
    for round in 0..ROUNDS {
        let mut process = Process::start(folder.path(), &["127.0.0.1:0"], &[]).await;
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(Lines::connect(process.address()).await);
        }
        let (writes, kill_after) = (40, 1 + random.below(60));
        let mut sent = Vec::new();
        for (number, client) in clients.iter_mut().enumerate() {
            let mut input = String::new();
            let mut lines = Vec::new();
            for count in 0..writes {
                let journal = random.below(names.len());
                let text = format!("{round}.{number}.{count}");
                input += &format!("/journal {}\n{text}\n", names[journal]);
                lines.push((journal, text));
            }
            client.send(input).await;
            sent.push(lines);
        }
        let mut acks = 0;
        'talk: for (client, lines) in clients.iter_mut().zip(&sent) {
            for (journal, text) in lines {
                assert!(client.line().await.starts_with(&format!("ok journal {} ", names[*journal])));
                let seq = acked(&client.line().await).unwrap();
                acknowledged.push((*journal, seq, text.clone()));
                acks += 1;
                if acks == kill_after {
                    break 'talk;
                }
            }
        }
        process.signal(if round % 5 == 4 { Signal::TERM } else { Signal::KILL });
        process.wait().await;
    }
    assert_eq!(maintain(folder.path(), &["verify"]).await.status.code(), Some(0));
    for (number, name) in names.iter().enumerate() {
        let stored = stored(&folder.path().join(name));
        let mine: Vec<_> = acknowledged.iter().filter(|(journal, ..)| *journal == number).collect();
        assert!(mine.len() > ROUNDS, "{name}: {} acks", mine.len());
        for (_, seq, text) in mine {
            assert_eq!(stored[usize::try_from(*seq).unwrap() - 1], format!("local {text}"), "{name}");
        }
    }
}

#[tokio::test]
async fn the_client_keeps_journals_apart() {
    let home = Home::new();
    let data = with_journals(&["work"]).await;
    let address = address_to_be().await;
    // Written while nobody serves: each is for its own journal.
    let in_work = format!("{address}=work");
    for (words, server) in [
        (&["add", "private"][..], &address),
        (&["add", "report", "--journal", "work"], &address),
        (&["add", "notes"], &in_work),
    ] {
        assert_eq!(home.run(server, words).await.code, Some(5), "{words:?}");
    }
    let listed = home.run(&address, &["outbox"]).await.stdout;
    let servers: Vec<_> = listed.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(servers, [&address, &in_work, &in_work]);

    let server = Process::start(data.path(), &[&address], &[]).await;
    let now = home.run(&address, &["add", "now", "--journal", "work"]).await;
    assert_eq!((now.code, now.stdout.as_str()), (Some(0), "3\n"), "{now:?}");
    assert_eq!(
        now.stderr,
        format!("1 entry waits in the outbox for {address}; send with diary outbox send\n")
    );
    let sent = home.run(&address, &["outbox", "send"]).await;
    assert_quiet(&sent, 0, &format!("1 entry is on disk at {address}\n"));
    let texts = |name: &str| stored(&data.path().join(name));
    assert_eq!(texts("diary"), ["anna private"]);
    assert_eq!(texts("work"), ["anna report", "anna notes", "anna now"]);

    let log = home.run(&address, &["log", "--journal=work", "--last", "1"]).await;
    assert!(log.stdout.ends_with("now\n"), "{log:?}");
    let mut command = home.cli(&address, &["log", "--last", "1"]);
    let log = crate::support::run(command.env("DIARY_JOURNAL", "work"), "").await;
    assert!(log.stdout.ends_with("now\n"), "{log:?}");
    fs::create_dir_all(home.0.path().join("config/diary")).unwrap();
    fs::write(home.0.path().join("config/diary/config.toml"), "journal = \"work\"\n").unwrap();
    let log = home.run(&address, &["log", "--last", "1"]).await;
    assert!(log.stdout.ends_with("now\n"), "{log:?}");
    // A flag goes before what stands behind an address, and both before a variable and the file.
    let log = home.run(&in_work, &["log", "--last", "1", "--journal", "diary"]).await;
    assert!(log.stdout.ends_with("private\n"), "{log:?}");
    let mut command = home.cli(&format!("{address}=diary"), &["log", "--last", "1"]);
    let log = crate::support::run(command.env("DIARY_JOURNAL", "work"), "").await;
    assert!(log.stdout.ends_with("private\n"), "{log:?}");

    let wrong = home.run(&address, &["log", "--journal", "wrok"]).await;
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(4), ""));
    assert!(wrong.stderr.contains("there is no journal wrok; did you mean work?"), "{wrong:?}");
    let kept = home.run(&address, &["add", "lost?", "--journal", "wrok"]).await;
    assert_eq!((kept.code, home.files().len()), (Some(5), 1), "{kept:?}");
    assert!(kept.stderr.contains("there is no journal wrok; did you mean work?"), "{kept:?}");
    assert_eq!(home.run(&address, &["log", "--journal", "a b"]).await.code, Some(2));
    server.stop().await;
}

/// A server of an earlier version welcomes whoever names a journal to the one that it has.
#[tokio::test]
async fn the_client_sends_nothing_to_a_server_that_has_another_journal() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("{}=work", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let mut frames = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"diary/1 ready head=0 journal=diary id=0000000000000007\n").await.unwrap();
            let mut heard = [0; 1000];
            let length = stream.read(&mut heard).await.unwrap();
            frames.push(heard[4..length].to_vec());
            let mut welcome = Vec::new();
            let journal = "diary".to_owned();
            ServerMessage::Welcome(Welcome { version: 1, journal_id: 7, journal, ..Welcome::default() })
                .write(&mut welcome);
            stream.write_all(&welcome).await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            frames.push(rest);
            if frames.len() == 4 {
                return frames;
            }
        }
    });
    let why = "no-journal: this server has the journal diary only, and not work";
    let read = home.run(&address, &["log"]).await;
    assert!(read.code == Some(4) && read.stderr.contains(why), "{read:?}");
    let added = home.run(&address, &["add", "for work"]).await;
    assert!(added.code == Some(5) && added.stderr.contains(why), "{added:?}");
    assert_eq!(home.files().len(), 1, "it is kept");
    let frames = soon("both were there", served).await.unwrap();
    assert!(frames[1].is_empty() && frames[3].is_empty(), "nothing follows a Hello: {frames:?}");
}
