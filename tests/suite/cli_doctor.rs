//! `diary doctor` finds what is wrong on the way to a diary, and says what to do about it.

use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::{Ran, Server, cli_command, run, soon};

/// The command of someone whose home is `home`.
fn cli(home: &Path, words: &[&str]) -> Command {
    let mut command = cli_command();
    command.args(words).env("HOME", home).env("USER", "anna").env("TZ", "UTC");
    command.env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
    command
}

async fn doctor(home: &Path, server: &str) -> Ran {
    run(&mut cli(home, &["doctor", "--server", server]), "").await
}

/// Each line's word, step and beginning.
fn check(ran: &Ran, code: i32, lines: &[(&str, &str, &str)]) {
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(code), ""), "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), lines.len(), "{ran:?}");
    for (line, (word, step, what)) in ran.stdout.lines().zip(lines) {
        let mut words = line.split_whitespace();
        assert_eq!((words.next(), words.next()), (Some(*word), Some(*step)), "{ran:?}");
        assert!(line.contains(what), "{what} is not in {line}");
    }
}

#[tokio::test]
async fn all_is_well() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let state = home.path().join(".local/state/diary/outbox");
    let first = [
        ("ok", "configuration", "there is no "),
        ("ok", "outbox", "can be written; nothing waits"),
        ("ok", "name", "127.0.0.1 is 127.0.0.1"),
        ("ok", "connection", server.address()),
        ("ok", "greeting", "diary/1 ready head=0 "),
        ("ok", "welcome", "head 0; you write as anna; its zone is Asia/Shanghai"),
        ("ok", "history", "there is no entry yet"),
    ];
    check(&doctor(home.path(), server.address()).await, 0, &[&first[..], &[]].concat());

    // With a configuration, an entry, and something in the outbox.
    let config = home.path().join(".config/diary");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("config.toml"), format!("server = {:?}\n", server.address())).unwrap();
    let nobody = run(&mut cli(home.path(), &["add", "later", "--server", "127.0.0.1:1"]), "").await;
    assert_eq!(nobody.code, Some(5), "{nobody:?}");
    let mut lines = server.lines().await;
    assert!(lines.ask("/name 小明").await.starts_with("ok"));
    assert!(lines.ask("今天").await.starts_with("ok 1 "));
    let ran = run(&mut cli(home.path(), &["doctor"]), "").await;
    let mut expected = first.to_vec();
    expected[0].2 = "config.toml is read";
    expected[1].2 = "1 entry waits to be sent, see diary outbox";
    expected[4].2 = "diary/1 ready head=1 ";
    expected[5].2 = "head 1; you write as anna";
    expected[6].2 = "the newest entry is 1, by 小明, 20";
    expected.push(("ok", "clocks", "not in the future"));
    check(&ran, 0, &expected);
    // What it tried has left nothing behind, in the diary neither.
    let names: Vec<_> = std::fs::read_dir(&state).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(names.len() == 1 && names[0].to_string_lossy().ends_with(".jsonl"), "{names:?}");
    assert!(lines.ask("still here").await.starts_with("ok 2 "));
    server.stop().await;
}

#[tokio::test]
async fn nothing_listens() {
    let home = tempfile::tempdir().unwrap();
    // Bound and not listening, so that nobody else gets the port meanwhile.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let what = format!("nothing listens on {address}; start a server there with diary-server");
    let expected = [
        ("ok", "configuration", ""),
        ("ok", "outbox", ""),
        ("ok", "name", "127.0.0.1 is 127.0.0.1"),
        ("wrong", "connection", what.as_str()),
    ];
    check(&doctor(home.path(), &address).await, 3, &expected);

    let path = home.path().join("none");
    let what = format!("nothing listens on {}; start a server there with diary-server", path.display());
    let expected = [expected[0], expected[1], ("wrong", "connection", what.as_str())];
    check(&doctor(home.path(), &format!("unix:{}", path.display())).await, 3, &expected);

    let expected = [expected[0], expected[1], ("wrong", "name", "no..such.host has no address: ")];
    check(&doctor(home.path(), "no..such.host:8888").await, 3, &expected);
}

#[tokio::test]
async fn a_web_server_is_no_diary() {
    let home = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let web = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut socket = BufReader::new(socket);
        let mut request = String::new();
        while socket.read_line(&mut request).await.unwrap() > 2 {}
        assert_eq!(request, "GET / HTTP/1.0\r\n\r\n");
        socket.write_all(b"HTTP/1.0 200 OK\r\n\r\n<html>").await.unwrap();
    });
    let what = "no diary: it speaks HTTP, it says \"HTTP/1.0 200 OK\"; check the port";
    let expected = [
        ("ok", "configuration", ""),
        ("ok", "outbox", ""),
        ("ok", "name", ""),
        ("ok", "connection", ""),
        ("wrong", "greeting", what),
    ];
    check(&doctor(home.path(), &address).await, 3, &expected);
    soon("the web server answers", web).await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_at_home() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    // A file stands where the folder should be.
    std::fs::write(home.path().join(".local"), "").unwrap();
    let ran = doctor(home.path(), server.address()).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    let outbox = ran.stdout.lines().nth(1).unwrap();
    assert!(outbox.starts_with("wrong  outbox ") && outbox.contains("cannot be written: "), "{outbox}");
    assert!(ran.stdout.contains("ok     history"), "{ran:?}");

    let config = home.path().join(".config/diary");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("config.toml"), "name = \"a\"\ntoken = \"never\"\n").unwrap();
    let what = "config.toml, line 2: there is no token; there are server, name, colour and format";
    // Which server is meant is in that file, unless it is said.
    let wrong = [("wrong", "configuration", what), ("wrong", "outbox", "cannot be written")];
    check(&run(&mut cli(home.path(), &["doctor"]), "").await, 4, &wrong);
    let rest = ["name", "connection", "greeting", "welcome", "history"].map(|step| ("ok", step, ""));
    check(&doctor(home.path(), server.address()).await, 4, &[&wrong[..], &rest].concat());
    server.stop().await;
}
