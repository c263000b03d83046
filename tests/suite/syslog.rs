//! A syslog daemon forwards its lines to a quiet listener: all of them, once, in order.

use std::fmt::Write;
use std::process::Stdio;

use diary_server::Listen;

use crate::support::{Server, end_process, peer, stored};

const LINES: u64 = 200_000;

/// What the daemon reads, line by line.
fn text(number: u64) -> String {
    format!("line {number}, 第 {number} 行")
}

#[tokio::test]
async fn rsyslog_forwards_every_line_once() {
    let server = Server::with(|config| config.listen.push(Listen::tcp("127.0.0.1:0").quiet())).await;
    let (host, port) = server.addresses()[1].strip_prefix("quiet:").unwrap().split_once(':').unwrap();
    let mut follower = server.lines().await;
    assert_eq!(follower.ask("/follow #1").await, "ok follow from 1");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let mut log = String::new();
    for number in 1..=LINES {
        writeln!(log, "{}", text(number)).unwrap();
    }
    std::fs::write(folder.path().join("log"), log).unwrap();
    // Queues of rsyslog's own would hold lines while it ends; without them, reading waits for sending.
    let config = format!(
        r#"
        global(workDirectory="{path}")
        module(load="imfile")
        input(type="imfile" File="{path}/log" Tag="log" ruleset="diary")
        template(name="line" type="string" string="%msg%\n")
        ruleset(name="diary" queue.type="Direct") {{
          action(type="omfwd" target="{host}" port="{port}" protocol="tcp" TCP_Framing="traditional"
                 template="line" queue.type="Direct" action.resumeRetryCount="-1")
        }}
        "#
    );
    std::fs::write(folder.path().join("rsyslog.conf"), config).unwrap();
    let mut command = peer("rsyslogd");
    command.args(["-n", "-f", &format!("{path}/rsyslog.conf"), "-i", &format!("{path}/pid")]);
    let rsyslogd = command.stdout(Stdio::null()).spawn().unwrap();

    for number in 1..=LINES {
        let entry = follower.line().await;
        assert!(entry.ends_with(&format!(" local {}", text(number))), "{number}: {entry}");
    }
    // It has nothing left to send when it ends, so the server finds all that ever came.
    end_process(rsyslogd).await;
    let journal = server.journal();
    let _folder = server.stop().await;
    let entries = stored(&journal);
    assert_eq!(entries.len() as u64, LINES);
    assert!(entries.iter().zip(1..).all(|(entry, number)| *entry == format!("local {}", text(number))));
}
