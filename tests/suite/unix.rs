//! Unix sockets: the same conversation, the author is the user's number, and the file is the server's own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use diary_server::Listen;
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::support::faulty::{Started, under};
use crate::support::{Process, Server, peer, server_command, soon};

/// Sends all of `input`, and returns what comes back until the server closes.
async fn say(path: &str, input: &[u8]) -> Vec<u8> {
    crate::support::say(UnixStream::connect(path).await.unwrap(), input).await
}

#[tokio::test]
async fn both_modes_and_quiet_ones_work_and_the_author_is_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let (path, quiet) = (folder.path().join("socket"), folder.path().join("quiet"));
    let server = Server::with(|config| {
        config.listen.push(Listen::unix(&path));
        config.listen.push(Listen::unix(&quiet).quiet());
    })
    .await;
    assert_eq!(
        server.addresses()[1..],
        [format!("unix:{}", path.display()), format!("quiet:unix:{}", quiet.display())]
    );

    let answer =
        String::from_utf8(say(path.to_str().unwrap(), "今天\n/name anna\nnamed\nlast".as_bytes()).await)
            .unwrap();
    let words: Vec<String> =
        answer.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(words, ["diary/1 ready", "ok 1", "ok name", "ok 2", "ok 3"]);
    assert_eq!(say(quiet.to_str().unwrap(), b"quiet\n").await, b"");

    let mut frames = Vec::new();
    diary_proto::message::ClientMessage::Hello(crate::support::hello(1)).write(&mut frames);
    let texts = diary_proto::message::Texts::new(["framed"]);
    let append = diary_proto::message::Append { first_counter: 0, retry: false, texts };
    diary_proto::message::ClientMessage::Append(append).write(&mut frames);
    say(path.to_str().unwrap(), &frames).await;

    let uid = std::fs::metadata("/proc/self").unwrap().uid();
    let entries = server.lines().await.history("all").await;
    let shown: Vec<&str> = entries.iter().map(|line| line.splitn(3, ' ').nth(2).unwrap()).collect();
    let me = format!("uid:{uid}");
    assert_eq!(
        shown,
        [
            format!("{me} 今天"),
            "anna named".to_owned(),
            "anna last".to_owned(),
            format!("{me} quiet"),
            format!("{me} framed")
        ]
    );
}

fn listen_at(path: &Path) -> String {
    format!("unix:{}", path.display())
}

async fn serve(data: &Path, socket: &Path) -> Process {
    Process::start(data, &[&listen_at(socket)], &["--log", "error"]).await
}

#[tokio::test]
async fn a_stop_removes_its_own_socket_and_no_other_servers() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let first = serve(&folder.path().join("one"), &socket).await;
    // Somebody clears up, and another server takes the place.
    fs::remove_file(&socket).unwrap();
    let second = serve(&folder.path().join("two"), &socket).await;
    first.stop().await;
    let answer = String::from_utf8(say(socket.to_str().unwrap(), b"still here\n").await).unwrap();
    assert!(answer.contains("\nok 1 "), "{answer}");
    second.stop().await;
    assert!(!socket.exists(), "its own is removed");

    // What is no socket at all stays, too.
    let first = serve(&folder.path().join("one"), &socket).await;
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "a file").unwrap();
    first.stop().await;
    assert_eq!(fs::read(&socket).unwrap(), b"a file");
}

#[tokio::test]
async fn of_servers_that_start_at_once_one_has_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    for round in 0..10 {
        // What a killed server leaves, which each of them finds.
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let starting = (0..4).map(|number| {
            let mut command = server_command(&folder.path().join(format!("data{number}")));
            command.args(["--log", "error", "--listen", &listen_at(&socket)]);
            Started::spawn(command)
        });
        let started = futures::future::join_all(starting).await;
        let (mut served, others): (Vec<_>, Vec<_>) =
            started.into_iter().partition(|server| server.address.is_some());
        assert_eq!(served.len(), 1, "round {round}");
        for other in others {
            let (code, said) = other.end().await;
            assert!(code == Some(3) && said.contains("the address is in use"), "{code:?}: {said}");
        }
        let answer = String::from_utf8(say(socket.to_str().unwrap(), b"one\n").await).unwrap();
        assert!(answer.contains("\nok "), "{answer}");
        let mut server = served.remove(0);
        server.signal(rustix::process::Signal::TERM);
        assert_eq!(server.end().await.0, Some(0));
        assert!(!socket.exists());
    }
}

#[tokio::test]
async fn a_server_that_does_not_start_leaves_no_socket() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, data) = (folder.path().join("socket"), folder.path().join("data"));
    fs::write(&data, "no folder").unwrap();
    let mut command = server_command(&data);
    command.args(["--listen", &listen_at(&socket)]).stdout(Stdio::null()).stderr(Stdio::null());
    assert_eq!(soon("it gives up", command.status()).await.unwrap().code(), Some(4));
    assert!(!socket.exists());
}

/// A command that is run with a umask.
fn with_umask(umask: &str, command: Command) -> Command {
    let mut shell = peer("sh");
    shell.args(["-c", "umask $0; exec \"$@\"", umask]);
    under(shell, command)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn its_mode_is_what_was_asked_for_whatever_the_umask() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    for (arguments, umask, expected) in [
        (&[][..], "000", 0o600),
        (&[], "022", 0o600),
        (&["--socket-mode", "660"], "077", 0o660),
        (&["--socket-mode", "0666"], "000", 0o666),
    ] {
        let mut command = server_command(&folder.path().join("data"));
        command.args(["--log", "error", "--listen", &listen_at(&socket)]).args(arguments);
        let process = Process::spawn(with_umask(umask, command), 1).await;
        assert_eq!(mode(&socket), expected, "{arguments:?}, umask {umask}");
        process.stop().await;
    }
    let mut command = server_command(&folder.path().join("data"));
    command.env("DIARY_SOCKET_MODE", "640").args(["--log", "error", "--listen", &listen_at(&socket)]);
    let process = Process::spawn(command, 1).await;
    assert_eq!(mode(&socket), 0o640);
    process.stop().await;
}

/// What there is when the socket begins to take connections is what a server leaves that is killed just before.
#[tokio::test]
async fn nobody_can_connect_before_its_mode_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let mut command = server_command(&folder.path().join("data"));
    command.args(["--log", "error", "--listen", &listen_at(&socket)]);
    let mut strace = peer("strace");
    strace.args(["-f", "-qq", "-e", "trace=listen", "-e", "inject=listen:signal=KILL"]);
    let started = Started::spawn(under(strace, with_umask("000", command))).await;
    assert_eq!(started.address, None, "it does not listen");
    started.end().await;
    assert_eq!(mode(&socket), 0o600);
}
