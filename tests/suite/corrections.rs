//! Corrections: who may write them, and what every reading shows then.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use diary_proto::Code;
use diary_proto::message::{Append, ClientMessage, NewText, ServerMessage, Texts};
use diary_server::Listen;
use tokio::net::UdpSocket;

use crate::access::{login, token};
use crate::cli_add::Home;
use crate::support::{CTRL_D, Frames, Lines, Server, Terminal, day_files, soon, text};

/// Whether a line is shown as corrected, and its text.
fn shown(line: &str) -> String {
    let shown = text(line);
    match shown.strip_prefix("(corrected ") {
        Some(rest) => format!("new {}", rest.split_once(") ").unwrap().1),
        None => shown.to_owned(),
    }
}

async fn answer(client: &mut Lines, command: &str) -> Vec<String> {
    let word = command[1..].split(' ').next().unwrap();
    assert_eq!(client.ask(command).await, format!("ok {word}"));
    let mut lines = Vec::new();
    loop {
        let line = client.line().await;
        if let Some(count) = line.strip_prefix("end ") {
            assert_eq!(count, lines.len().to_string());
            return lines.iter().map(|line: &String| shown(line.trim_start())).collect();
        }
        lines.push(line);
    }
}

#[tokio::test]
async fn the_newest_text_stands_in_the_old_place() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::on(folder, |config| config.udp = Some("127.0.0.1:0".parse().unwrap())).await;
    let mut client = server.lines().await;
    let lines = "teh kettle\nrain\n/correct 1 the kettle\n/re 1 which?\n/correct #1 the  old\\kettle\n/re 3 that one\n";
    client.send(lines).await;
    for seq in 1..=6 {
        assert!(client.line().await.starts_with(&format!("ok {seq} ")));
    }
    let all = ["new the  old\\\\kettle", "rain", "(re 1) which?", "(re 1) that one"];
    for command in
        ["/history", "/history all", "/history #1..", "/history today", "/history yesterday..today"]
    {
        assert_eq!(answer(&mut client, command).await, all, "{command}");
    }
    assert_eq!(answer(&mut client, "/history 3").await, all[1..]);
    assert_eq!(answer(&mut client, "/history #3..").await, all[2..]);
    assert_eq!(answer(&mut client, "/search kettle").await, all[..1]);
    assert_eq!(answer(&mut client, "/search OLD").await, [""; 0]);
    assert_eq!(answer(&mut client, "/search teh").await, [""; 0]);
    assert_eq!(answer(&mut client, "/thread 1").await, [all[0], all[2], all[3]]);
    assert_eq!(
        answer(&mut client, "/thread 3").await,
        [all[0], all[2], all[3]],
        "a correction stands for its entry"
    );

    // Whoever follows sees what comes, as it comes.
    assert_eq!(client.ask("/follow #5").await, "ok follow from 5");
    assert_eq!(text(&client.line().await), "(corrects 1) the  old\\\\kettle");
    assert_eq!(text(&client.line().await), "(re 1) that one");
    client.send("/correct 2 sun\n").await;
    // Either may come first.
    let both = [client.line().await, client.line().await];
    assert!(both.iter().any(|line| line.starts_with("ok 7 ")), "{both:?}");
    assert!(both.iter().any(|line| line.ends_with(" (corrects 2) sun")), "{both:?}");

    // The old clients are people, too.
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    udp.connect(server.addresses().iter().find_map(|address| address.strip_prefix("udp:")).unwrap())
        .await
        .unwrap();
    udp.send(b"p").await.unwrap();
    let mut reply = [0; 2048];
    let length = soon("a reply comes", udp.recv(&mut reply)).await.unwrap();
    let reply = String::from_utf8(reply[..length].to_vec()).unwrap();
    assert_eq!(reply.lines().map(shown).collect::<Vec<_>>(), [all[0], "new sun", all[2], all[3]]);

    // Nothing was overwritten, and the answer is the same after a start without what was derived.
    let folder = server.stop().await;
    let journal = folder.path().join("diary");
    let day = fs::read_to_string(day_files(&journal).pop().unwrap()).unwrap();
    for text in ["teh kettle\t", "(corrects 1) the kettle\t", "rain\t"] {
        assert!(day.contains(text), "{text}");
    }
    fs::remove_file(journal.join("cache")).unwrap();
    let server = Server::on(folder, |_| {}).await;
    let mut client = server.lines().await;
    assert_eq!(answer(&mut client, "/history").await, [all[0], "new sun", all[2], all[3]]);

    // A damaged correction is told, and the one before it counts again.
    let folder = server.stop().await;
    let path = day_files(&folder.path().join("diary")).pop().unwrap();
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("the  old", "teh  old")).unwrap();
    let server = Server::on(folder, |_| {}).await;
    let mut client = server.lines().await;
    let lines = client.history("all").await;
    assert_eq!(
        lines.iter().map(|line| shown(line)).collect::<Vec<_>>()[..3],
        ["new the kettle", "new sun", all[2]]
    );
    assert_eq!(lines[3], "gap 5..5: these entries are damaged or missing");
    server.stop().await;
}

#[tokio::test]
async fn who_corrects() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let server = Server::on(folder, |config| {
        config.listen = vec![Listen::tcp("127.0.0.1:0"), Listen::unix(socket.clone())];
    })
    .await;
    let (mut anna, mut ben) = (server.lines().await, server.lines().await);
    anna.ask("/name anna").await;
    ben.ask("/name ben").await;
    anna.ask("mine").await;
    let not_own =
        "error not-permitted: only who wrote an entry corrects it, under the same name, or an admin";
    assert_eq!(ben.ask("/correct 1 his").await, not_own);
    for (line, error) in [
        ("/correct 2 x", "error no-entry: there is no entry with that number"),
        ("/correct 1", "error empty: "),
        ("/correct 1  ", "error empty: "),
        ("/correct", "error bad-argument: "),
        ("/correct 0 x", "error bad-argument: "),
        ("/correct 1 a\0b", "error nul: "),
    ] {
        let answer = anna.ask(line).await;
        assert!(answer.starts_with(error), "{line}: {answer}");
    }
    assert!(anna.ask("/correct 1 still mine").await.starts_with("ok 2 "));
    // The correction is anna's, too, and so is what it corrects.
    assert_eq!(ben.ask("/correct 2 his").await, not_own);

    // In a frame, the author of the entry counts, not that of the connection.
    let mut frames = Frames::hello(server.address(), 7).await;
    let new =
        |author, corrects| NewText { text: b"x", author, corrects: Some(corrects), ..NewText::default() };
    let texts = Texts::own([new(b"anna", 1), new(b"", 1), new(b"ben", 1), new(b"anna", 9)]);
    frames.send(&ClientMessage::Append(Append { first_counter: 1, retry: false, texts })).await;
    let mut codes = Vec::new();
    while codes.len() < 4 {
        match frames.message().await {
            ServerMessage::Refused { refusal, count, .. } => {
                codes.extend((0..count).map(|_| Some(refusal.code)));
            }
            _ => codes.push(None),
        }
    }
    assert_eq!(codes, [None, Some(Code::NotPermitted), Some(Code::NotPermitted), Some(Code::NoEntry)]);

    // Whoever runs the server has the right admin.
    let own = String::from_utf8(
        crate::support::say(
            tokio::net::UnixStream::connect(&socket).await.unwrap(),
            b"/correct 1 put right\n/quit\n",
        )
        .await,
    )
    .unwrap();
    assert!(own.lines().nth(1).unwrap().starts_with("ok 4 "), "{own}");
    server.stop().await;
}

#[tokio::test]
async fn a_token_corrects_what_it_wrote_under_any_of_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_owned();
    let [anna, ben, boss] = [("anna", "append"), ("ben", "append,read"), ("boss", "append,admin")]
        .map(|(name, can)| token(&data, name, can, "*"));
    let server = Server::on(folder, |_| {}).await;
    let mut clients = Vec::new();
    for token in [&anna, &ben, &boss] {
        let mut client = server.lines().await;
        assert!(client.ask(&login(token)).await.starts_with("ok login "));
        clients.push(client);
    }
    clients[0].ask("/name anna/phone").await;
    assert!(clients[0].ask("from the phone").await.starts_with("ok 1 "));
    clients[0].ask("/name anna").await;
    assert!(clients[0].ask("/correct 1 from my phone").await.starts_with("ok 2 "));
    for name in ["anna", "anna/phone"] {
        assert!(clients[1].ask(&format!("/name {name}")).await.starts_with("error not-permitted"));
    }
    assert!(clients[1].ask("/correct 1 no").await.starts_with("error not-permitted"));
    assert!(clients[2].ask("/correct 1 from anna's phone").await.starts_with("ok 3 "));
    // It is still hers.
    assert!(clients[0].ask("/correct 3 from my telephone").await.starts_with("ok 4 "));
    assert_eq!(answer(&mut clients[1], "/history").await, ["new from my telephone"]);
    server.stop().await;
}

#[tokio::test]
async fn from_the_command_line() {
    let (home, server) = (Home::new(), Server::start().await);
    let address = server.address();
    for words in [
        &["add", "teh kettle"][..],
        &["add", "rain #garden"],
        &["edit", "1", "the", "kettle"],
        &["add", "--re", "1", "which?"],
        // By the number that the correction was acked with.
        &["edit", "3", "the old kettle #kitchen"],
    ] {
        let ran = home.run(address, words).await;
        assert_eq!(ran.code, Some(0), "{words:?}: {ran:?}");
    }
    let lines = async |words: &[&str]| {
        let ran = home.run(address, words).await;
        assert_eq!(ran.code, Some(0), "{words:?}: {ran:?}");
        ran.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for words in [&["log"][..], &["log", "--on", "today"], &["log", "--last", "3"], &["log", "--last", "all"]]
    {
        let log = lines(words).await;
        let log: Vec<_> = log.iter().map(|line| shown(line)).collect();
        assert_eq!(log, ["new the old kettle #kitchen", "rain #garden", "(re 1) which?"], "{words:?}");
    }
    for (words, expected) in [
        (&["log", "1"][..], &["new the old kettle #kitchen"][..]),
        (&["log", "3"], &["new the old kettle #kitchen"]),
        (&["search", "kettle"], &["new the old kettle #kitchen"]),
        (&["search", "kettle", "--reverse"], &["new the old kettle #kitchen"]),
        (&["log", "--tag", "kitchen"], &["new the old kettle #kitchen"]),
        (&["log", "-n", "1"], &["(re 1) which?"]),
        (&["log", "-n", "2", "--reverse"], &["(re 1) which?", "rain #garden"]),
        (
            &["log", "1", "--history"],
            &["teh kettle", "(corrects 1) the kettle", "(corrects 1) the old kettle #kitchen"],
        ),
        (
            &["log", "5", "--history"],
            &["teh kettle", "(corrects 1) the kettle", "(corrects 1) the old kettle #kitchen"],
        ),
        (&["log", "--history", "-n", "2"], &["(re 1) which?", "(corrects 1) the old kettle #kitchen"]),
    ] {
        let log = lines(words).await;
        assert_eq!(log.iter().map(|line| shown(line)).collect::<Vec<_>>(), expected, "{words:?}");
    }
    let tags = lines(&["tags"]).await;
    assert_eq!(tags.len(), 2, "{tags:?}");
    let json: serde_json::Value = serde_json::from_str(&lines(&["log", "1", "--json"]).await[0]).unwrap();
    assert_eq!(json["text"], "the old kettle #kitchen");
    assert_eq!(
        (&json["corrected"]["seq"], &json["corrected"]["original"]),
        (&5.into(), &"teh kettle".into())
    );
    let pretty = lines(&["log", "1", "--format", "pretty"]).await;
    assert!(
        pretty[1].contains(" #1 anna (corrected 20") && pretty[1].ends_with("the old kettle #kitchen"),
        "{pretty:?}"
    );

    // Without a server, it waits.
    let away = home.run("127.0.0.1:1", &["edit", "2", "sun"]).await;
    assert_eq!(away.code, Some(5), "{away:?}");
    let ran = home.run("127.0.0.1:1", &["outbox"]).await;
    assert!(ran.stdout.contains("(corrects 2) sun"), "{ran:?}");
    let id = ran.stdout.split(' ').next().unwrap().to_owned();
    assert_eq!(home.run("127.0.0.1:1", &["outbox", "drop", &id]).await.code, Some(0));

    // What cannot be done.
    for (words, code, why) in [
        (&["edit", "9", "x"][..], 1, "there is no entry with that number"),
        (&["edit", "1", " "], 2, "nothing was changed: the text is blank"),
        (&["edit", "1"], 2, "an editor needs a terminal"),
        (&["--name", "ben", "edit", "1", "mine"], 4, "only who wrote an entry corrects it"),
    ] {
        let ran =
            crate::support::run(home.cli(address, words).env_remove("DIARY_NAME").env("USER", "anna"), "")
                .await;
        assert_eq!(ran.code, Some(code), "{words:?}: {ran:?}");
        assert!(ran.stderr.contains(why), "{words:?}: {ran:?}");
    }
    let ran = home.run(address, &["edit", "1", "the old kettle #kitchen"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
    assert!(ran.stderr.contains("nothing was changed"), "{ran:?}");

    // An export is of what is shown, and importing it again adds nothing. Nor does one from before a correction.
    let file = home.0.path().join("export.json");
    let file = file.to_str().unwrap();
    lines(&["export", "--format", "json", "--output", file]).await;
    assert!(!fs::read_to_string(file).unwrap().contains("\"corrects\""));
    let all = home.0.path().join("all.json");
    let all = all.to_str().unwrap();
    lines(&["export", "--history", "--format", "json", "--output", all]).await;
    let ran = home.run(address, &["import", all]).await;
    assert!(ran.stdout.contains("imported 0, 3 duplicates, 2 unreadable"), "{ran:?}");
    for _ in 0..2 {
        let ran = home.run(address, &["import", file]).await;
        assert!(ran.stdout.contains("imported 0, 3 duplicates"), "{ran:?}");
        lines(&["edit", "2", "sun #garden"]).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn in_an_editor() {
    let (home, server) = (Home::new(), Server::start().await);
    assert_eq!(home.run(server.address(), &["add", "teh kettle\nis old"]).await.code, Some(0));
    let editor = home.0.path().join("an editor");
    fs::write(&editor, "#!/bin/sh\nsed -i \"s/$1/$2/\" \"$3\"\n").unwrap();
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
    let edit = async |with: &str| {
        let mut command = home.cli(server.address(), &["edit", "1"]);
        command.env_remove("VISUAL").env("EDITOR", format!("'{}' {with}", editor.display()));
        let terminal = Terminal::start(command);
        terminal.ends().await
    };
    let (code, said) = edit("teh the").await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("ok 2 on "), "{said}");
    let (code, said) = edit("nothing there").await;
    assert!(code == Some(0) && said.contains("nothing was changed"), "{said}");
    let (code, said) = edit(". x 2>/dev/null; false").await;
    assert!(code == Some(2) && said.contains("nothing was changed: the editor"), "{said}");
    let (code, said) = edit("'.*' ''").await;
    assert!(code == Some(2) && said.contains("the text is blank; the text is in "), "{said}");
    let mut client = server.lines().await;
    assert_eq!(answer(&mut client, "/history").await, ["new the kettle\\nis old"]);

    // In a conversation, an answer and a correction may have several lines.
    let mut terminal = Terminal::start(home.cli(server.address(), &["-n", "1"]));
    terminal.sees("(corrected ").await;
    terminal.ends_in(&[">"]).await;
    terminal.types(&format!("/correct 1 kettle{}two\r", crate::support::ALT_ENTER)).await;
    terminal.sees("ok 3 on ").await;
    terminal.types("/thread 1\r").await;
    terminal.sees("1 entry\r\n").await;
    terminal.ends_in(&[">"]).await;
    terminal.types(CTRL_D).await;
    assert_eq!(terminal.ends().await.0, Some(0));
    assert_eq!(answer(&mut client, "/history").await, ["new kettle\\ntwo"]);
    server.stop().await;
}
