//! Programs that people have already are full clients.

use std::path::Path;

use diary_server::Listen;

use crate::support::{Ran, Server, acked, peer, run, stored};

/// Text without a last line feed, as `printf` makes it, and in two scripts.
const INPUT: &str = "one\n今天天气很好";

/// Lets `arguments` (where `{host}`, `{port}` and `{socket}` are the server's) write [`INPUT`]: the answer
/// to each line appears, the program ends by itself, and both lines are in the diary.
async fn check(name: &str, arguments: &[&str], author: &str) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let server = Server::with(|config| config.listen.push(Listen::unix(&socket))).await;
    let (host, port) = server.address().split_once(':').unwrap();
    let fill = |word: &&str| {
        word.replace("{host}", host).replace("{port}", port).replace("{socket}", socket.to_str().unwrap())
    };
    let ran = run(peer(name).args(arguments.iter().map(fill)), INPUT).await;
    assert_answered(&ran, 2);
    assert_eq!(stored(&server.journal()), [format!("{author} one"), format!("{author} 今天天气很好")]);
    server.stop().await;
}

/// The greeting, and acks from 1 to `acks`; nothing else.
fn assert_answered(ran: &Ran, acks: u64) {
    let mut lines = ran.stdout.lines();
    assert!(lines.next().is_some_and(|line| line.starts_with("diary/1 ready head=0 ")), "{ran:?}");
    assert!(lines.map(acked).eq((1..=acks).map(Some)), "{ran:?}");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
}

#[tokio::test]
async fn netcat() {
    check("nc.openbsd", &["-N", "{host}", "{port}"], "local").await;
}

#[tokio::test]
async fn netcat_on_a_unix_socket() {
    check("nc.openbsd", &["-N", "-U", "{socket}"], &my_uid()).await;
}

#[tokio::test]
async fn ncat() {
    check("ncat", &["{host}", "{port}"], "local").await;
}

#[tokio::test]
async fn socat() {
    check("socat", &["-t", "60", "-", "TCP:{host}:{port}"], "local").await;
}

#[tokio::test]
async fn socat_on_a_unix_socket() {
    check("socat", &["-t", "60", "-", "UNIX-CONNECT:{socket}"], &my_uid()).await;
}

/// The shell cannot close only its own half: it ends when it has its answers.
#[tokio::test]
async fn bash_alone() {
    let script = r#"
        exec 3<>"/dev/tcp/$1/$2"
        read -r line <&3; echo "$line"
        while read -r text || [[ $text ]]; do
          echo "$text" >&3
          read -r line <&3; echo "$line"
        done
    "#;
    check("bash", &["-euc", script, "bash", "{host}", "{port}"], "local").await;
}

/// Each of Python's calls as the programs use it that the diary grew out of. The ack of the first line
/// shows that the server has read the half of a character behind it.
#[tokio::test]
async fn python_over_tcp() {
    let script = r#"
import socket, sys
diary = socket.create_connection((sys.argv[1], int(sys.argv[2])))
answers = diary.makefile("rb")
print(answers.readline().decode(), end="")
first, second = sys.stdin.buffer.read().split(b"\n")
diary.sendall(first + b"\n" + second[:4])
print(answers.readline().decode(), end="")
diary.sendall(second[4:])
diary.shutdown(socket.SHUT_WR)
while answer := answers.readline():
    print(answer.decode(), end="")
"#;
    check("python3", &["-Xutf8", "-c", script, "{host}", "{port}"], "local").await;
}

#[tokio::test]
async fn python_over_udp() {
    let script = r#"
import socket, sys
diary = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
diary.settimeout(60)
for request in sys.argv[3:]:
    diary.sendto(request.encode(), (sys.argv[1], int(sys.argv[2])))
    print(diary.recvfrom(1024)[0].decode(), end="")
"#;
    let server = Server::with(|config| config.udp = Some("127.0.0.1:0".parse().unwrap())).await;
    let udp = server.addresses()[1].strip_prefix("udp:").unwrap();
    let (host, port) = udp.split_once(':').unwrap();
    let requests = ["p", "今天", "two\nlines\n", "-c", "e", "P"];
    let ran = run(peer("python3").args(["-Xutf8", "-c", script, host, port]).args(requests), "").await;
    let answers: Vec<&str> = ran.stdout.lines().collect();
    let [empty, today, lines, wiped, bye, past @ ..] = &answers[..] else { panic!("{ran:?}") };
    assert_eq!(*empty, "diary/1 the diary is empty");
    assert!(today.starts_with("1 ") && today.ends_with(" local 今天"), "{today}");
    assert!(lines.starts_with("2 ") && lines.ends_with(r" local two\nlines"), "{lines}");
    assert!(wiped.starts_with("diary/1 error denied: "), "{wiped}");
    assert!(bye.starts_with("diary/1 bye"), "{bye}");
    assert_eq!(past, [*today, *lines]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(stored(&server.journal()), ["local 今天", r"local two\nlines"]);
    server.stop().await;
}

/// What an unnamed writer on a Unix socket is called.
fn my_uid() -> String {
    use std::os::unix::fs::MetadataExt;
    format!("uid:{}", Path::new("/proc/self").metadata().unwrap().uid())
}
