//! What the diary is for: one command starts it, and people write and read the same diary with what
//! they have.

use crate::support::{CTRL_D, Process, Terminal, cli_command, day_files, is_ack, peer, run, stored};

#[tokio::test]
async fn three_kinds_of_clients_share_a_diary() {
    let data = tempfile::tempdir().unwrap();
    let server = Process::start(data.path(), &["127.0.0.1:0"], &[]).await;
    let (host, port) = server.address().split_once(':').unwrap();

    let mut command = cli_command();
    command.args([server.address(), "--name", "anna"]);
    let mut cli = Terminal::start(command);
    cli.sees("/help lists the commands\r\n").await;
    cli.types("/follow #1\r").await;
    let mut command = peer("telnet");
    command.args(["localhost", port]);
    let mut telnet = Terminal::start(command);
    telnet.sees("/help lists commands\r\n").await;
    telnet.types("/name 大明\r/follow #1\r").await;
    telnet.sees("ok follow from 1\r\n").await;

    // Each writes, and all see it.
    cli.types("今天天气很好\r").await;
    cli.sees("ok 1 on ").await;
    telnet.sees(" anna 今天天气很好\r\n").await;
    telnet.types("早上好\r").await;
    telnet.sees_all(&["\nok 2 ", " 大明 早上好\r\n"]).await;
    cli.sees(" 大明 早上好\r\n").await;
    let ran = run(peer("nc.openbsd").args(["-N", host, port]), "a\n晚安").await;
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines.len() == 3 && is_ack(lines[1], 3) && is_ack(lines[2], 4), "{ran:?}");
    cli.sees(" local 晚安\r\n").await;
    telnet.sees(" local 晚安\r\n").await;

    // Each reads it back.
    let entries = ["anna 今天天气很好", "大明 早上好", "local a", "local 晚安"];
    cli.types("/history\r").await;
    let history = cli.sees("4 entries\r\n").await;
    telnet.types("/history\r").await;
    let telnet_history = telnet.sees("end 4\r\n").await;
    let nc = run(peer("nc.openbsd").args(["-N", host, port]), "/history\n").await.stdout;
    for shown in [history, telnet_history, nc] {
        let lines: Vec<&str> =
            shown.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).collect();
        let is_shown = |(line, entry): (&str, &str)| line.ends_with(&format!(" {entry}"));
        assert!(lines.into_iter().zip(entries).filter(|shown| is_shown(*shown)).count() == 4, "{shown}");
    }
    cli.ends_in(&[">"]).await;
    cli.types(CTRL_D).await;
    assert_eq!(cli.ends().await.0, Some(0));
    telnet.types("/quit\r").await;
    assert!(telnet.ends().await.1.contains("bye\r\n"));

    // And so does anyone with the files.
    let journal = data.path().join("diary");
    assert_eq!(stored(&journal), entries);
    let cut = run(peer("cut").arg("-f1").args(day_files(&journal)), "").await.stdout;
    let diary: Vec<&str> = cut.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(diary.len(), 4);
    for ((line, entry), seq) in diary.iter().zip(entries).zip(1..) {
        assert!(line.starts_with(&format!("{seq} ")) && line.ends_with(&format!("+00:00 {entry}")), "{cut}");
    }
    let found = run(peer("grep").args(["-h", "天气"]).args(day_files(&journal)), "").await.stdout;
    assert!(found.lines().count() == 1 && found.contains(" anna 今天天气很好\t"), "{found}");
}
