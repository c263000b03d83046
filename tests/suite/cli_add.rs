//! `diary add`: no text is lost or stored twice, even if the server or the client dies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::clocks::set_clock;
use crate::support::{CTRL_D, Process, Ran, Server, Terminal, cli_command, run, soon, stored};

/// Clients connect from 127.0.0.1 only, so none takes the port while the server is down.
pub(crate) const FIRST_LISTEN: &str = "127.0.0.2:0";

/// Home directory of one user.
pub(crate) struct Home(pub(crate) TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Returns the `diary` command of anna.
    pub(crate) fn cli(&self, address: &str, arguments: &[&str]) -> Command {
        let mut command = cli_command();
        command.env("XDG_STATE_HOME", self.0.path().join("state"));
        command.env("XDG_CONFIG_HOME", self.0.path().join("config"));
        command.env("DIARY_SERVER", address).env("DIARY_NAME", "anna").env("TZ", "Asia/Shanghai");
        command.args(arguments);
        command
    }

    pub(crate) async fn run(&self, address: &str, arguments: &[&str]) -> Ran {
        run(&mut self.cli(address, arguments), "").await
    }

    pub(crate) fn outbox(&self) -> PathBuf {
        self.0.path().join("state/diary/outbox")
    }

    /// Returns every file in the outbox directory.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let Ok(files) = fs::read_dir(self.outbox()) else { return Vec::new() };
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        files
    }
}

/// Returns an address on which nothing listens yet.
pub(crate) async fn address_to_be() -> String {
    let listener = TcpListener::bind(FIRST_LISTEN).await.unwrap();
    listener.local_addr().unwrap().to_string()
}

pub(crate) async fn server_at(address: &str, data: &Path) -> Process {
    Process::start(data, &[address], &[]).await
}

/// Asserts the exit code and stdout, and that stderr is empty.
pub(crate) fn assert_quiet(ran: &Ran, code: i32, stdout: &str) {
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(code), stdout, ""));
}

/// Ctrl-C while the server is silent prints where the text is kept, and how to drop it.
#[tokio::test]
async fn an_add_that_is_interrupted_says_where_the_text_is() {
    for signal in [Signal::INT, Signal::TERM] {
        let home = Home::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut command = home.cli(&address, &["add", "a"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let silent = soon("it connects", listener.accept()).await.unwrap();
        let pid = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        let ran = soon("it ends", child.wait_with_output()).await.unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!((ran.status.code(), &ran.stdout[..]), (Some(5), &b""[..]), "{said}");
        assert!(said.starts_with("interrupted before the ack: the text is kept in "), "{said}");
        let id = said.split("diary outbox drop ").nth(1).unwrap().split(' ').next().unwrap();
        assert_eq!(home.run(&address, &["outbox", "drop", id]).await.code, Some(0));
        assert!(home.files().is_empty());
        drop(silent);
    }
}

#[tokio::test]
async fn what_cannot_be_an_entry_is_a_usage_error() {
    let home = Home::new();
    let address = address_to_be().await;
    let long = "x".repeat(65537);
    for (arguments, input, why) in [
        (&["add", ""][..], &b""[..], "needs a text"),
        (&["add", "  "], b"", "the text is blank"),
        (&["add", "-"], b"", "the input is empty"),
        (&["add", "-"], b"\n", "needs a text"),
        (&["add", "-"], b" \n\t\n", "the text is blank"),
        (&["add", "-"], b"a\xff", "not UTF-8"),
        (&["add", "-"], b"a\0b", "NUL"),
        (&["add", "-"], long.as_bytes(), "65536"),
        (&["add", &long], b"", "65536"),
        (&["add"], b"", "<TEXT|->"),
    ] {
        let ran = run(&mut home.cli(&address, arguments), input).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{why}: {}", ran.stderr);
        assert!(ran.stderr.contains(why), "{why}: {}", ran.stderr);
    }
    assert!(home.files().is_empty(), "nothing of it is kept");
}

/// The author and server of the text are unknown, so it is set aside for the user.
#[tokio::test]
async fn a_configuration_that_cannot_be_read_loses_no_text() {
    let (home, server) = (Home::new(), Server::start().await);
    let config = home.0.path().join("config/diary");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("config.toml"), "# mine\nserver = host:8888\n").unwrap();
    let why = format!(
        "{}:2: string values must be quoted, expected literal string",
        config.join("config.toml").display()
    );
    let words = ["add", "--at", "2015-03-02 08:15", "-"];
    let ran = run(&mut home.cli(server.address(), &words), "two\nlines\n").await;
    let file = home.files().remove(0);
    let path = file.display();
    let said = format!("nothing was written: {why}; the text is in {path}; write it with ");
    let (_, advice) = ran.stderr.split_once(&said).unwrap();
    let advice = advice.strip_suffix(", then remove it\n").unwrap();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
    assert_eq!(fs::read_to_string(&file).unwrap(), "two\nlines");
    for arguments in [&["log"][..], &["search", "x"], &["follow"]] {
        assert_eq!(home.run(server.address(), arguments).await.stderr, format!("{why}\n"));
    }
    // Commands that do not need the configuration work.
    for arguments in
        [&["man"][..], &["completions", "bash"], &["--help"], &["--version"], &["outbox", "send"]]
    {
        let ran = home.run(server.address(), arguments).await;
        let aside = if arguments[0] == "outbox" { "1 text was set aside; see diary outbox\n" } else { "" };
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), aside), "{arguments:?}");
    }

    // The printed advice works.
    fs::remove_file(config.join("config.toml")).unwrap();
    let text = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let (command, input) = advice.split_once(" < ").unwrap();
    assert_eq!(input, file.to_str().unwrap());
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let ran = run(&mut home.cli(server.address(), &words), text).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "1\n"), "{ran:?}");
    assert_eq!(stored(&server.journal()), ["anna two\\nlines"]);
    let ran = home.run(server.address(), &["log", "--on", "2015-03-02"]).await;
    assert!(ran.stdout.contains(" anna (2015-03-02 08:15) two"), "{ran:?}");
    server.stop().await;
}

/// On a terminal, the error comes before any input is typed.
#[tokio::test]
async fn a_configuration_that_cannot_be_read_is_told_before_one_types() {
    let home = Home::new();
    let config = home.0.path().join("config/diary");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("config.toml"), "server = host:8888\n").unwrap();
    let mut terminal = Terminal::start(home.cli("127.0.0.1:1", &["add", "-"]));
    terminal.sees("nothing was written: ").await;
    assert_eq!(terminal.ends().await.0, Some(2));
    assert!(home.files().is_empty());
}

/// A user who wrote to another kind of server is told so, and where to learn more.
#[tokio::test]
async fn what_is_no_diary_is_told() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ssh = tokio::spawn(async move {
        let mut socket = listener.accept().await.unwrap().0;
        tokio::io::AsyncWriteExt::write_all(&mut socket, b"SSH-2.0-x\r\n").await.unwrap();
    });
    let ran = home.run(&address, &["add", "a"]).await;
    soon("it greets", ssh).await.unwrap();
    assert_eq!(ran.code, Some(5));
    let said = format!("{address} is not a diary server (it looks like SSH)");
    assert!(ran.stderr.starts_with(&said), "{ran:?}");
    assert!(ran.stderr.ends_with("; check the port (default 8888)\n"), "{ran:?}");
}

#[tokio::test]
async fn the_seq_is_printed_and_nothing_is_left() {
    let (home, server) = (Home::new(), Server::start().await);
    assert_quiet(&home.run(server.address(), &["add", "今天", "天气", "很好"]).await, 0, "1\n");
    let read = run(&mut home.cli(server.address(), &["add", "-"]), "two\nlines\n").await;
    assert_quiet(&read, 0, "2\n");
    assert_quiet(&home.run(server.address(), &["add", "--", "--not", "-a", "flag"]).await, 0, "3\n");
    let limit = "x".repeat(65536) + "\r\n";
    assert_quiet(&run(&mut home.cli(server.address(), &["add", "-"]), limit).await, 0, "4\n");
    let entries = stored(&server.journal());
    assert_eq!(entries[..3], ["anna 今天 天气 很好", "anna two\\nlines", "anna --not -a flag"]);
    assert_eq!(entries[3].len(), "anna ".len() + 65536);
    assert!(home.files().is_empty());
    assert_quiet(&home.run(server.address(), &["outbox", "--json"]).await, 1, "");
    server.stop().await;
}

#[tokio::test]
async fn a_terminal_is_told_where_it_went() {
    let (home, server) = (Home::new(), Server::start().await);
    let mut terminal = Terminal::start(home.cli(server.address(), &["add", "-"]));
    terminal.types("typed\n").await;
    terminal.types(CTRL_D).await;
    terminal.sees(&format!("ok 1 on {}\r\n", server.address())).await;
    assert_eq!(terminal.ends().await.0, Some(0));
    assert_eq!(stored(&server.journal()), ["anna typed"]);
    server.stop().await;
}

#[tokio::test]
async fn offline_it_is_kept_and_the_next_one_takes_it_along() {
    let (home, data) = (Home::new(), tempfile::tempdir().unwrap());
    let address = address_to_be().await;
    for text in ["one", "two\n\u{1b}[31m"] {
        let ran = home.run(&address, &["add", text]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(5), ""));
        let file = home.files().into_iter().find(|file| ran.stderr.contains(file.to_str().unwrap()));
        assert!(file.is_some(), "the file is named: {}", ran.stderr);
        assert!(
            ran.stderr.contains("the text is kept") && ran.stderr.contains("diary outbox send"),
            "{ran:?}"
        );
        // The other waiting entry is reported first.
        assert_eq!(ran.stderr.lines().count(), if text == "one" { 1 } else { 2 }, "{ran:?}");
    }
    let listed = home.run(&address, &["outbox"]).await;
    let [one, two] = listed.stdout.lines().collect::<Vec<_>>()[..] else { panic!("{listed:?}") };
    assert!(one.contains(&address) && one.ends_with(" one"), "{one}");
    assert!(two.ends_with(" two\\n\\x1b[31m"), "{two}");
    assert_eq!(listed.code, Some(0));

    let server = server_at(&address, data.path()).await;
    let waits = format!("2 entries wait in the outbox for {address}; send with diary outbox send\n");
    for words in [&["log", "--last", "1"][..], &["search", "one"], &["tags"], &["stats"]] {
        let ran = home.run(&address, words).await;
        assert!(ran.code == Some(1) && ran.stderr.starts_with(&waits), "{words:?}: {ran:?}");
        assert_eq!(ran.stderr.matches("outbox").count(), 2, "it is said once: {ran:?}");
    }
    assert_quiet(&home.run(&address, &["add", "three"]).await, 0, "3\n");
    assert_eq!(home.run(&address, &["log", "--last", "1"]).await.stderr, "");
    assert_eq!(stored(&data.path().join("diary")), ["anna one", "anna two\\n\\x1b[31m", "anna three"]);
    assert!(home.files().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn an_entry_is_of_the_day_that_it_is_about_also_if_it_was_sent_later() {
    let (home, data) = (Home::new(), tempfile::tempdir().unwrap());
    let address = address_to_be().await;
    let ran = home.run(&address, &["add", "--at", "2015-03-02 08:15", "moved in"]).await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    let ran = home.run(&address, &["add", "written an hour ago"]).await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    // Backdate the kept entry.
    let file = home.files().pop().unwrap();
    let kept = fs::read_to_string(&file).unwrap();
    let (before, rest) = kept.split_once("\"time\":\"").unwrap();
    fs::write(&file, format!("{before}\"time\":\"2026-11-20T23:30:00.000000+08:00{}", &rest[32..])).unwrap();

    let server = server_at(&address, data.path()).await;
    let ran = home.run(&address, &["add", "now"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "3\n"), "{ran:?}");
    for (day, text) in [("2015-03-02", "(2015-03-02 08:15) moved in"), ("2026-11-20", "written an hour ago")]
    {
        let ran = home.run(&address, &["log", "--on", day]).await;
        assert!(
            ran.code == Some(0) && ran.stdout.contains(text) && ran.stdout.lines().count() == 1,
            "{ran:?}"
        );
    }
    let ran = home.run(&address, &["log", "--on", "today"]).await;
    assert!(ran.stdout.ends_with(" anna now\n") && ran.stdout.lines().count() == 1, "{ran:?}");
    let ran = home.run(&address, &["add", "--at", "soon", "x"]).await;
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.starts_with("nothing was written: \"soon\" is not a time; try "), "{ran:?}");
    server.stop().await;
}

/// A computer that has just booted may not have set its clock yet.
#[tokio::test]
async fn a_clock_of_1970_dates_nothing() {
    let (home, data, address) = (Home::new(), tempfile::tempdir().unwrap(), address_to_be().await);
    let mut command = home.cli(&address, &["add", "kept in 1970"]);
    set_clock("1970-01-02 00:00:00", &mut command);
    assert_eq!(run(&mut command, "").await.code, Some(5));
    let server = server_at(&address, data.path()).await;
    assert_eq!(home.run(&address, &["add", "now"]).await.code, Some(0));
    assert_eq!(stored(&data.path().join("diary")), ["anna kept in 1970", "anna now"]);
    // An entry written now is warned about, too.
    let mut command = home.cli(&address, &["add", "in 1970"]);
    set_clock("1970-01-02 00:00:00", &mut command);
    let ran = run(&mut command, "").await;
    assert!(ran.code == Some(0) && ran.stderr.contains("the clock of this computer is "), "{ran:?}");
    let mut command = home.cli(&address, &["add", "--at", "21:30", "never"]);
    set_clock("1970-01-02 00:00:00", &mut command);
    let ran = run(&mut command, "").await;
    assert!(ran.code == Some(2) && ran.stderr.contains("; set it, or give --at with a zone"), "{ran:?}");
    assert_eq!(stored(&data.path().join("diary"))[2..], ["anna in 1970"]);
    server.stop().await;
}
