//! The diary is plain text: `cut`, `grep` and `cat` read it.

use std::path::Path;
use std::process::Command;

use diary_server::Listen;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};

use crate::support::{Frames, Server, day_files, soon, texts_of};

/// What a program prints about a file.
fn print_of(program: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn entries_of_every_front_stand_in_one_file_that_cut_and_grep_read() {
    let server = Server::with(|config| {
        config.listen.push(Listen::tcp("127.0.0.1:0").quiet());
        config.udp = Some("127.0.0.1:0".parse().unwrap());
    })
    .await;
    let mut lines = server.lines().await;
    lines.ask("今天天气很好").await;
    let mut framed = Frames::hello(server.address(), 1).await;
    framed.append(0, false, &["第一行\n第二行", "a\ttab"]).await;
    framed.acks(2).await;
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    udp.connect(server.addresses()[2].strip_prefix("udp:").unwrap()).await.unwrap();
    udp.send(b"by datagram").await.unwrap();
    let mut reply = [0; 1024];
    soon("a reply", udp.recv(&mut reply)).await.unwrap();
    let mut quiet = TcpStream::connect(server.addresses()[1].strip_prefix("quiet:").unwrap()).await.unwrap();
    let mut follower = server.lines().await;
    follower.ask("/follow #5").await;
    quiet.write_all(b"from a program\n").await.unwrap();
    assert!(follower.line().await.ends_with(" local from a program"));

    let files = day_files(&server.journal());
    assert_eq!(files.len(), 1);
    let file = &files[0];
    let shown = lines.history("all").await;
    assert_eq!(file.file_stem().unwrap().to_str(), Some(&shown[0].split(' ').nth(1).unwrap()[..10]));

    let cut = print_of("cut", &["-f1"], file);
    let (header, diary) = cut.split_once('\n').unwrap();
    assert!(header.starts_with("# diary 1 20"), "{header}");
    assert_eq!(diary, shown.join("\n") + "\n", "what cut shows is what history says");
    assert_eq!(print_of("grep", &["-c", "天气"], file), "1\n");
    assert!(print_of("grep", &["第二行"], file).contains(" local 第一行\\n第二行\t"));
    assert_eq!(print_of("tail", &["-n", "1"], file).split('\t').next(), shown.last().map(String::as_str));

    let bytes = std::fs::read(file).unwrap();
    let stored = texts_of(&bytes, framed.seal());
    assert_eq!(stored[1], (2, "第一行\n第二行".to_owned()));
    assert_eq!(stored.len(), 5);
    assert_eq!(framed.history(1, diary_proto::Which::All).await.texts(), stored);
}

#[tokio::test]
async fn nothing_is_in_the_file_before_it_is_acked_but_all_of_it_after() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    assert_eq!(day_files(&server.journal()).len(), 0, "no entry, no file");
    for n in 1..=20 {
        let ack = client.ask(&format!("entry {n}")).await;
        let time = ack.split(' ').nth(2).unwrap();
        let bytes = std::fs::read_to_string(&day_files(&server.journal())[0]).unwrap();
        let last = bytes.lines().last().unwrap();
        assert!(last.starts_with(&format!("{n} {time} local entry {n}\t0 - ")), "{last}");
    }
}

#[tokio::test]
async fn a_copy_taken_live_is_a_backup() {
    let server = Server::start().await;
    let mut client = server.lines().await;
    client.send("a line\n".repeat(3000)).await;
    for _ in 0..100 {
        client.line().await;
    }
    let copy = tempfile::tempdir().unwrap();
    let journal = copy.path().join("diary");
    std::fs::create_dir(&journal).unwrap();
    for file in day_files(&server.journal()) {
        std::fs::copy(&file, journal.join(file.file_name().unwrap())).unwrap();
    }
    let copied = Server::on(copy, |_| {}).await;
    let texts = copied.lines().await.all_texts().await;
    assert!(texts.len() >= 100 && texts.iter().all(|text| text == "a line"), "{}", texts.len());
}
