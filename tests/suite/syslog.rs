//! Programs that send their logs to a quiet listener: every message is there, once, in order, in each of the framings
//! that they know.

use std::fmt::Write;
use std::process::Stdio;

use crate::support::{Lines, Server, end_process, peer, run, stored};

struct Served {
    server: Server,
    host: String,
    port: String,
    follower: Lines,
}

impl Served {
    /// A server with this quiet listener, and who follows it.
    async fn start(listen: &str) -> Self {
        let server = Server::with(|config| config.listen.push(listen.parse().unwrap())).await;
        let quiet = server.addresses()[1].trim_start_matches("quiet:").trim_start_matches("udp:");
        let (host, port) = quiet.split_once(':').unwrap();
        let (host, port) = (host.to_owned(), port.to_owned());
        let mut follower = server.lines().await;
        assert_eq!(follower.ask("/follow #1").await, "ok follow from 1");
        Self { server, host, port, follower }
    }

    /// Waits until these are the newest entries that the follower has not seen.
    async fn expect(&mut self, texts: impl IntoIterator<Item = String>) {
        for text in texts {
            let entry = self.follower.line().await;
            assert!(entry.ends_with(&format!(" local {text}")), "{text}: {entry}");
        }
    }

    /// Nothing else has come.
    async fn end(self, entries: u64) {
        let journal = self.server.journal();
        drop(self.follower);
        let _folder = self.server.stop().await;
        assert_eq!(stored(&journal).len() as u64, entries);
    }
}

/// A text that is longer in bytes than in characters.
fn text(number: u64) -> String {
    format!("line {number}, 第 {number} 行")
}

/// rsyslog reads so many lines from a file and forwards them with these parameters.
async fn rsyslog(listen: &str, parameters: &str, template: &str, lines: u64) {
    let mut served = Served::start(listen).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let mut log = String::new();
    for number in 1..=lines {
        writeln!(log, "{}", text(number)).unwrap();
    }
    std::fs::write(folder.path().join("log"), log).unwrap();
    let Served { host, port, .. } = &served;
    // Queues of rsyslog's own would hold lines while it ends; without them, reading waits for sending.
    let config = format!(
        r#"
        global(workDirectory="{path}")
        module(load="imfile")
        input(type="imfile" File="{path}/log" Tag="log" ruleset="diary")
        template(name="line" type="string" string="{template}")
        ruleset(name="diary" queue.type="Direct") {{
          action(type="omfwd" target="{host}" port="{port}" {parameters}
                 template="line" queue.type="Direct" action.resumeRetryCount="-1")
        }}
        "#
    );
    std::fs::write(folder.path().join("rsyslog.conf"), config).unwrap();
    let mut command = peer("rsyslogd");
    command.args(["-n", "-f", &format!("{path}/rsyslog.conf"), "-i", &format!("{path}/pid")]);
    let rsyslogd = command.stdout(Stdio::null()).spawn().unwrap();

    let priority = if template.starts_with("<%PRI%>") { "<133>" } else { "" };
    served.expect((1..=lines).map(|number| format!("{priority}{}", text(number)))).await;
    // It has nothing left to send when it ends, so the server finds all that ever came.
    end_process(rsyslogd).await;
    served.end(lines).await;
}

#[tokio::test]
async fn rsyslog_forwards_every_line_once() {
    let parameters = r#"protocol="tcp" TCP_Framing="traditional""#;
    rsyslog("quiet:127.0.0.1:0", parameters, r"%msg%\n", 200_000).await;
}

#[tokio::test]
async fn rsyslog_counts_octets() {
    let parameters = r#"protocol="tcp" TCP_Framing="octet-counted""#;
    rsyslog("quiet:127.0.0.1:0", parameters, "<%PRI%>%msg%", 50_000).await;
}

#[tokio::test]
async fn rsyslog_ends_messages_with_nul() {
    let parameters = r#"protocol="tcp" TCP_Framing="traditional" TCP_FrameDelimiter="0""#;
    rsyslog("quiet:127.0.0.1:0", parameters, "<%PRI%>%msg%", 50_000).await;
}

/// Few enough that no buffer of the system drops any.
const DATAGRAMS: u64 = 100;

#[tokio::test]
async fn rsyslog_sends_datagrams() {
    rsyslog("quiet:udp:127.0.0.1:0", r#"protocol="udp""#, r"<%PRI%>%msg%\n", DATAGRAMS).await;
}

/// Python's own handler sends so many lines and a traceback, which has several.
async fn python(listen: &str, kind: &str, lines: u64) {
    let script = r#"
import logging, logging.handlers, socket, sys
host, port, kind, lines = sys.argv[1:]
handler = logging.handlers.SysLogHandler((host, int(port)), socktype=getattr(socket, kind))
log = logging.getLogger()
log.setLevel(logging.INFO)
log.addHandler(handler)
for number in range(1, int(lines) + 1):
    log.info("line %d, 第 %d 行", number, number)
try:
    1 / 0
except ZeroDivisionError:
    log.exception("出错")
handler.close()
"#;
    let mut served = Served::start(listen).await;
    let mut command = peer("python3");
    command.args(["-Xutf8", "-c", script, &served.host, &served.port, kind, &lines.to_string()]);
    let ran = run(&mut command, "").await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    served.expect((1..=lines).map(|number| format!("<14>{}", text(number)))).await;
    let traceback = served.follower.line().await;
    assert!(
        traceback.contains(r" local <11>出错\nTraceback (most recent call last):\n  File "),
        "{traceback}"
    );
    assert!(traceback.ends_with(r"\nZeroDivisionError: division by zero"), "{traceback}");
    served.end(lines + 1).await;
}

#[tokio::test]
async fn pythons_handler_over_tcp() {
    python("quiet:127.0.0.1:0", "SOCK_STREAM", 2000).await;
}

#[tokio::test]
async fn pythons_handler_over_udp() {
    python("quiet:udp:127.0.0.1:0", "SOCK_DGRAM", DATAGRAMS).await;
}

/// logger sends what it reads, line by line.
async fn logger(listen: &str, arguments: &[&str]) {
    let mut served = Served::start(listen).await;
    let input: String = (1..=DATAGRAMS).map(|number| text(number) + "\n").collect();
    let mut command = peer("logger");
    command
        .args(["--server", &served.host, "--port", &served.port, "--rfc3164", "--tag", "web"])
        .args(arguments);
    let ran = run(&mut command, input).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    for number in 1..=DATAGRAMS {
        let entry = served.follower.line().await;
        let (_, message) = entry.split_once(" local ").unwrap();
        let told = format!(" web: {}", text(number));
        assert!(message.starts_with("<13>") && message.ends_with(&told), "{number}: {entry}");
    }
    served.end(DATAGRAMS).await;
}

#[tokio::test]
async fn logger_over_tcp() {
    logger("quiet:127.0.0.1:0", &["--tcp"]).await;
}

#[tokio::test]
async fn logger_counts_octets() {
    logger("quiet:127.0.0.1:0", &["--tcp", "--octet-count"]).await;
}

#[tokio::test]
async fn logger_over_udp() {
    logger("quiet:udp:127.0.0.1:0", &["--udp"]).await;
    logger("quiet:udp:127.0.0.1:0", &["--udp", "--octet-count"]).await;
}
