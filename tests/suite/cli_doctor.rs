//! `diary doctor` finds problems on the way to a diary, and suggests fixes.

use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::{Ran, Server, cli_command, run, soon};

/// Returns the command of a user whose home directory is `home`.
fn cli(home: &Path, words: &[&str]) -> Command {
    let mut command = cli_command();
    command.args(words).env("HOME", home).env("USER", "anna").env("TZ", "UTC");
    command.env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
    command
}

async fn doctor(home: &Path, server: &str) -> Ran {
    run(&mut cli(home, &["doctor", "--server", server]), "").await
}

/// Checks the status, step and beginning of each line.
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
        ("ok", "configuration", "not found (optional)"),
        ("ok", "credentials", "none"),
        ("ok", "outbox", "empty"),
        ("ok", "server", server.address()),
        ("ok", "journal", "newest entry 0, time zone Asia/Shanghai; you write as anna"),
        ("ok", "history", "no entries yet"),
        ("ok", "clocks", "the clocks agree"),
        ("ok", "writing", "the server accepts entries"),
    ];
    check(&doctor(home.path(), server.address()).await, 0, &[&first[..], &[]].concat());

    // With a configuration, an entry, and a kept entry in the outbox.
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
    expected[0].2 = "config.toml";
    expected[2].2 = "1 entry unsent; see diary outbox";
    expected[4].2 = "newest entry 1, ";
    expected[5].2 = "entry 1 by 小明, 20";
    check(&ran, 0, &expected);
    // Its checks leave nothing behind, neither here nor in the diary.
    let names: Vec<_> = std::fs::read_dir(&state).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(names.len() == 1 && names[0].to_string_lossy().ends_with(".jsonl"), "{names:?}");
    assert!(lines.ask("still here").await.starts_with("ok 2 "));
    server.stop().await;
}

#[tokio::test]
async fn nothing_listens() {
    let home = tempfile::tempdir().unwrap();
    // Bound but not listening, so that no other process gets the port.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    for address in [address, format!("unix:{}", home.path().join("none").display())] {
        let what = format!("no server is listening on {address}; start one with diary-server");
        let expected = [
            ("ok", "configuration", ""),
            ("ok", "credentials", ""),
            ("ok", "outbox", ""),
            ("fail", "server", what.as_str()),
        ];
        check(&doctor(home.path(), &address).await, 3, &expected);
    }
    let what = "cannot resolve no..such.host:8888: ";
    let expected = [
        ("ok", "configuration", ""),
        ("ok", "credentials", ""),
        ("ok", "outbox", ""),
        ("fail", "server", what),
    ];
    check(&doctor(home.path(), "no..such.host:8888").await, 3, &expected);
}

#[tokio::test]
async fn a_web_server_is_no_diary() {
    let home = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let web = tokio::spawn(async move {
        // The client waits for a greeting, and asks over another connection.
        let (silent, _) = listener.accept().await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let mut socket = BufReader::new(socket);
        let mut request = String::new();
        while socket.read_line(&mut request).await.unwrap() > 2 {}
        assert_eq!(request, "GET / HTTP/1.0\r\n\r\n");
        socket.write_all(b"HTTP/1.0 200 OK\r\n\r\n<html>").await.unwrap();
        silent
    });
    let what = "is not a diary server (it looks like HTTP); check the port";
    let expected = [
        ("ok", "configuration", ""),
        ("ok", "credentials", ""),
        ("ok", "outbox", ""),
        ("fail", "server", what),
    ];
    check(&doctor(home.path(), &address).await, 3, &expected);
    drop(soon("the web server answers", web).await.unwrap());
}

#[tokio::test]
async fn what_is_wrong_at_home() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    // A file is in the place of the directory.
    std::fs::write(home.path().join(".local"), "").unwrap();
    let ran = doctor(home.path(), server.address()).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    let outbox = ran.stdout.lines().nth(2).unwrap();
    assert!(outbox.starts_with("fail   outbox ") && outbox.contains("cannot write "), "{outbox}");
    assert!(ran.stdout.contains("ok     history"), "{ran:?}");

    let config = home.path().join(".config/diary");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("config.toml"), "name = \"a\"\ntoken = \"never\"\n").unwrap();
    let what = "config.toml:2: unknown field `token`, expected one of `server`, ";
    // The server is set in that file, unless given on the command line.
    let wrong =
        [("fail", "configuration", what), ("ok", "credentials", "none"), ("fail", "outbox", "cannot write ")];
    let unknown = ("fail", "server", "not checked");
    check(&run(&mut cli(home.path(), &["doctor"]), "").await, 4, &[&wrong[..], &[unknown]].concat());
    let rest = ["server", "journal", "history", "clocks", "writing"].map(|step| ("ok", step, ""));
    check(&doctor(home.path(), server.address()).await, 4, &[&wrong[..], &rest].concat());
    server.stop().await;
}
