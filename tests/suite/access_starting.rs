//! What a server asks of its addresses and its tokens when it starts, and the commands for tokens.

use std::path::Path;
use std::time::Duration;

use diary_access::Token;

use crate::support::{Lines, Process, is_ack, run, server_command, soon};

use crate::access::{login, maintain, token};

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
    for (option, value) in [("--allow", "10.0.0.0/8"), ("--unix-can", "read")] {
        refused(data, &["--listen", "127.0.0.1:0", option, value], 2, &[option, "there is none"]).await;
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
    assert!(said.stderr.contains("no journal is called work* so far"), "{said:?}");
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
