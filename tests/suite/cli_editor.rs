//! The line editor of `diary`, as seen on a terminal screen.

use rustix::process::Signal;
use tokio::process::Command;

use crate::support::{
    ALT_ENTER, BACKSPACE, CTRL_D, CTRL_R, LEFT, Lines, Process, Relay, Server, Terminal, UP, cli_command,
    run, stored,
};

/// Returns the `diary` command of anna, whose outbox is in `home`.
pub(crate) fn cli(home: &tempfile::TempDir, address: &str) -> Command {
    cli_of(home, address, "anna")
}

pub(crate) fn cli_of(home: &tempfile::TempDir, address: &str, name: &str) -> Command {
    let mut command = cli_command();
    command.arg(address).args(["--name", name, "-n", "0"]);
    command.env("XDG_STATE_HOME", home.path()).env("XDG_CONFIG_HOME", home.path());
    command
}

/// Returns the output of `diary outbox`.
async fn outbox(home: &tempfile::TempDir) -> String {
    let mut command = cli_command();
    command.arg("outbox").env("XDG_STATE_HOME", home.path()).env("XDG_CONFIG_HOME", home.path());
    run(&mut command, "").await.stdout
}

/// Sends the kept entries; returns the exit code.
async fn send_outbox(home: &tempfile::TempDir) -> Option<i32> {
    let mut command = cli_command();
    command.args(["outbox", "send"]).env("XDG_STATE_HOME", home.path()).env("XDG_CONFIG_HOME", home.path());
    run(&mut command, "").await.code
}

/// Returns the confirmation of an entry on disk.
pub(crate) fn ok(seq: u64, address: &str) -> String {
    format!("ok {seq} on {address}")
}

/// Returns the address of a stopped server, and a terminal started against it.
async fn offline(home: &tempfile::TempDir, data: &tempfile::TempDir) -> (String, Terminal) {
    let server = Process::start(data.path(), &["127.0.0.1:0"], &[]).await;
    let address = server.address().to_owned();
    server.stop().await;
    let mut terminal = Terminal::start(cli(home, &address));
    terminal.sees("what you type is saved, and sent once the server is there").await;
    terminal.ends_in(&["!"]).await;
    (address, terminal)
}

/// A whole session: editing keys, pastes, entries of others in the middle of a line, and a server that goes
/// away and comes back.
#[tokio::test]
async fn a_day_at_the_terminal() {
    let home = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    let mut server = Process::start(data.path(), &["127.0.0.1:0"], &[]).await;
    let address = server.address().to_owned();
    let mut terminal = Terminal::start(cli(&home, &address));
    let welcome = format!("anna writes in diary at {address}; /help lists the commands");
    terminal.ends_in(&[&welcome, ">"]).await;

    // Chinese, with Left and Backspace: both move by characters, not columns.
    terminal.types("今天天气不好").await;
    terminal.types(&format!("{LEFT}{BACKSPACE}很\r")).await;
    terminal.ends_in(&["> 今天天气很好", &ok(1, &address), ">"]).await;

    // An entry of another user appears above the line being typed.
    terminal.types("half a ").await;
    terminal.ends_in(&["> half a"]).await;
    let mut other = Lines::connect(&address).await;
    other.ask("早上好").await;
    terminal.sees(" local 早上好\r\n").await;
    terminal.ends_in(&["> half a"]).await;
    terminal.types("line").await;
    terminal.ends_in(&["> half a line"]).await;
    terminal.types("\r").await;
    terminal.ends_in(&["> half a line", &ok(3, &address), ">"]).await;

    // Several lines in one entry: by backslash, Alt-Enter and paste.
    terminal.types("one\\\r").await;
    terminal.types(&format!("two{ALT_ENTER}three\r")).await;
    terminal.ends_in(&[&ok(4, &address), ">"]).await;
    let ten: Vec<String> = (1..=10).map(|number| format!("line {number} \\")).collect();
    terminal.pastes(&ten.join("\r")).await;
    terminal.types("\r").await;
    terminal.ends_in(&[&ok(5, &address), ">"]).await;

    // The server is gone: the prompt shows it, and entries wait.
    server.signal(Signal::KILL);
    server.wait().await;
    terminal.ends_in(&["!"]).await;
    terminal.types("写在黑暗里\r").await;
    terminal.ends_in(&["! 写在黑暗里", "1 unsent", "!"]).await;
    terminal.types("second\r").await;
    terminal.ends_in(&["! second", "2 unsent", "!"]).await;
    terminal.types("/history 1\r").await;
    let waits = "not connected; the answer comes after reconnecting";
    terminal.ends_in(&["! /history 1", waits, "!"]).await;
    assert_eq!(outbox(&home).await.matches("held by a running diary process").count(), 2);
    let mut server = Process::start(data.path(), &[&address], &[]).await;
    terminal.sees_all(&["ok 6 on ", "ok 7 on ", "reconnected\r\n"]).await;
    terminal.ends_in(&[">"]).await;
    terminal.types(CTRL_D).await;
    assert_eq!(terminal.ends().await.0, Some(0));
    assert_eq!(outbox(&home).await, "");
    server.signal(Signal::TERM);
    server.wait().await;

    let pasted = format!("anna {}", ten.join("\n").replace('\\', r"\\").replace('\n', r"\n"));
    let expected = [
        "anna 今天天气很好",
        "local 早上好",
        "anna half a line",
        r"anna one\ntwo\nthree",
        &pasted,
        "anna 写在黑暗里",
        "anna second",
    ];
    assert_eq!(stored(&data.path().join("diary")), expected);
}

/// Text typed before the server is up is not lost, even if it stays down for this run.
#[tokio::test]
async fn what_is_typed_before_there_is_a_server_goes_out_with_the_next_run() {
    let home = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    let (address, mut terminal) = offline(&home, &data).await;
    terminal.types("too early\r").await;
    terminal.ends_in(&["! too early", "1 unsent", "!"]).await;
    terminal.types(CTRL_D).await;
    let (code, said) = terminal.ends().await;
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("1 entry was not acked: kept in "), "{said}");
    assert!(outbox(&home).await.contains("too early"));

    // The next run reports the kept entries.
    let mut terminal = Terminal::start(cli(&home, &address));
    terminal.sees("1 unsent\r\n").await;
    terminal.ends_in(&["!"]).await;
    terminal.types("later\r").await;
    terminal.sees("2 unsent\r\n").await;
    terminal.ends_in(&["!"]).await;
    terminal.types(CTRL_D).await;
    assert_eq!(terminal.ends().await.0, Some(5));

    let server = Process::start(data.path(), &[&address], &[]).await;
    let mut terminal = Terminal::start(cli(&home, &address));
    let kept = format!("2 kept entries sent to {address}\r\n");
    terminal.sees_all(&[&kept, "anna too early\r\n", "anna later\r\n"]).await;
    terminal.types("in time\r").await;
    terminal.ends_in(&["> in time", &ok(3, &address), ">"]).await;
    terminal.types(CTRL_D).await;
    assert_eq!(terminal.ends().await.0, Some(0));
    server.stop().await;
    assert_eq!(stored(&data.path().join("diary")), ["anna too early", "anna later", "anna in time"]);
}

/// A text is on disk as soon as it is typed, whatever it waits for.
#[tokio::test]
async fn what_waits_behind_commands_outlives_the_program() {
    let home = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    let (address, mut terminal) = offline(&home, &data).await;
    terminal.types("one\r/history\rtwo\r/search x\rthree\r").await;
    terminal.types("/name ben\rfour\r/follow #1\r/name cleo\rfive\r/quit\r").await;
    terminal.sees("5 unsent\r\n").await;
    terminal.signal(Signal::KILL);
    terminal.ends().await;
    let kept = outbox(&home).await;
    let texts: Vec<&str> = kept.lines().filter_map(|line| Some(line.rsplit_once(' ')?.1)).collect();
    assert_eq!(texts, ["one", "two", "three", "four", "five"], "{kept}");

    let server = Process::start(data.path(), &[&address], &[]).await;
    assert_eq!(send_outbox(&home).await, Some(0));
    server.stop().await;
    let expected = ["anna one", "anna two", "anna three", "ben four", "cleo five"];
    assert_eq!(stored(&data.path().join("diary")), expected);
}

/// Within one conversation, commands and texts are handled in the order typed.
#[tokio::test]
async fn what_waited_goes_on_in_its_order() {
    let home = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    let (address, mut terminal) = offline(&home, &data).await;
    terminal.types("one\r/history\r/name ben\rtwo\r/name cleo\rthree\r").await;
    terminal.sees("3 unsent\r\n").await;
    let server = Process::start(data.path(), &[&address], &[]).await;
    terminal.sees("you write as ben\r\n").await;
    terminal.sees("ok 2").await;
    terminal.sees("you write as cleo\r\n").await;
    terminal.sees("ok 3").await;
    terminal.ends_in(&[">"]).await;
    terminal.types(CTRL_D).await;
    assert_eq!(terminal.ends().await.0, Some(0));
    assert_eq!(outbox(&home).await, "");
    server.stop().await;
    assert_eq!(stored(&data.path().join("diary")), ["anna one", "ben two", "cleo three"]);
}

/// Type-ahead, or a paste that the terminal does not mark, loses nothing.
#[tokio::test]
async fn lines_that_come_at_once_are_all_taken() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let mut terminal = Terminal::start(cli(&home, server.address()));
    terminal.sees("/help lists the commands").await;
    terminal.sees("> ").await;
    let lines: Vec<String> = (1..=30).map(|number| format!("line {number}")).collect();
    terminal.types(&format!("{}\r", lines.join("\r"))).await;
    terminal.sees("ok 30 on ").await;
    // Invalid UTF-8 loses only the invalid bytes.
    terminal.types_bytes(b"caf\xe9\r").await;
    terminal.sees("is not UTF-8; the line was not sent, and is restored without it").await;
    terminal.ends_in(&["> caf"]).await;
    terminal.types("é\r").await;
    terminal.sees("ok 31 on ").await;
    terminal.ends_in(&[">"]).await;
    terminal.types(CTRL_D).await;
    assert_eq!(terminal.ends().await.0, Some(0));
    let stored = stored(&server.journal());
    assert_eq!(stored[..30], lines.iter().map(|line| format!("anna {line}")).collect::<Vec<_>>());
    assert_eq!(stored.last().unwrap(), "anna café");
    let history = std::fs::read_to_string(home.path().join("diary/history")).unwrap();
    assert!(history.contains("\ncaf\n"), "{history}");
    server.stop().await;
}

/// `history = false` in the configuration.
#[tokio::test]
async fn typed_lines_are_remembered_unless_a_setting_says_no() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let history = home.path().join("diary/history");
    std::fs::create_dir(home.path().join("diary")).unwrap();
    for (setting, remembered) in [("history = false\n", false), ("history = true\n", true)] {
        std::fs::write(home.path().join("diary/config.toml"), setting).unwrap();
        let mut terminal = Terminal::start(cli(&home, server.address()));
        terminal.sees("> ").await;
        terminal.types("one\r").await;
        terminal.sees("ok ").await;
        terminal.ends_in(&[">"]).await;
        terminal.types(CTRL_D).await;
        assert_eq!(terminal.ends().await.0, Some(0));
        assert_eq!(history.exists(), remembered);
    }
    server.stop().await;
}

/// Text that is pasted or recalled from the history is taken literally: it is no command, and is not cut at a
/// backslash.
#[tokio::test]
async fn a_text_of_several_lines_is_a_text() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let mut terminal = Terminal::start(cli(&home, server.address()));
    terminal.sees("/help lists the commands").await;
    terminal.ends_in(&[">"]).await;
    terminal.pastes("/etc/hosts\r/quit\\\rends in \\").await;
    terminal.types("\r").await;
    terminal.sees("ok 1 on ").await;
    terminal.types(&format!("{UP}\r")).await;
    terminal.sees("ok 2 on ").await;
    terminal.pastes("// a remark\r// two").await;
    terminal.types("\r").await;
    terminal.sees("ok 3 on ").await;
    // An ellipsis marks a line that continues.
    terminal.types("one\\\rtwo").await;
    terminal.ends_in(&["> one\\ …", "two"]).await;
    terminal.types("\r").await;
    terminal.sees("ok 4 on ").await;
    terminal.types("/quit\r").await;
    assert_eq!(terminal.ends().await.0, Some(0));
    let pasted = r"anna /etc/hosts\n/quit\\\nends in \\";
    let expected = [pasted, pasted, r"anna // a remark\n// two", r"anna one\ntwo"];
    assert_eq!(stored(&server.journal()), expected);
    server.stop().await;
}

/// During a history search no entries are printed, and none is lost.
#[tokio::test]
async fn entries_that_come_while_the_editor_shows_something_else() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let mut terminal = Terminal::start(cli(&home, server.address()));
    terminal.sees("/help lists the commands").await;
    terminal.ends_in(&[">"]).await;
    terminal.types("one\r").await;
    terminal.sees("ok 1 on ").await;
    terminal.types(CTRL_R).await;
    terminal.sees("reverse-i-search").await;
    let mut other = server.lines().await;
    let text = "x".repeat(50);
    let lines: String = (1..=5000).map(|number| format!("{number} {text}\n")).collect();
    other.send(lines).await;
    for _ in 0..5000 {
        other.line().await;
    }
    terminal.types("\x07").await;
    let seen = terminal.sees(" local 5000 ").await;
    let numbers = seen.split(" local ").skip(1).map(|entry| entry.split(' ').next().unwrap().parse::<u32>());
    assert!(numbers.map(Result::unwrap).eq(1..=5000));
    // It can be ended here as well, with more entries pending than fit.
    terminal.types(CTRL_R).await;
    terminal.sees("reverse-i-search").await;
    other.send("more\n".repeat(5000)).await;
    for _ in 0..5000 {
        other.line().await;
    }
    terminal.signal(Signal::TERM);
    assert_eq!(terminal.ends().await.0, Some(130));
    server.stop().await;
}

/// The connection breaks again while missed entries arrive: each one appears once, in order.
#[tokio::test]
async fn a_catch_up_that_breaks_in_its_middle() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let relay = Relay::start(server.address()).await;
    let mut terminal = Terminal::start(cli(&home, relay.address()));
    terminal.sees("/help lists the commands").await;
    terminal.ends_in(&[">"]).await;
    let mut other = server.lines().await;
    other.ask("before").await;
    terminal.sees(" local before\r\n").await;
    relay.close();
    terminal.ends_in(&["!"]).await;
    terminal.types("mine\r").await;
    terminal.sees("1 unsent\r\n").await;
    other.send((1..=5000).map(|number| format!("missed {number}\n")).collect::<String>()).await;
    for _ in 0..5000 {
        other.line().await;
    }
    relay.open_and_cut_after(200_000);
    let seen = terminal.sees_all(&[" missed 5000\r\n", " on 127.0.0.1:"]).await;
    relay.cuts().await;
    let numbers =
        seen.split(" missed ").skip(1).map(|entry| entry.split('\r').next().unwrap().parse::<u32>());
    assert!(numbers.map(Result::unwrap).eq(1..=5000));
    terminal.ends_in(&[">"]).await;
    terminal.types(CTRL_D).await;
    assert_eq!(terminal.ends().await.0, Some(0));
    let stored = stored(&server.journal());
    assert_eq!(stored.iter().filter(|entry| *entry == "anna mine").count(), 1);
    server.stop().await;
}

/// A very long entry is shortened, so that it does not push everything else off the screen; `/history` shows
/// all of it.
#[tokio::test]
async fn a_long_entry_of_another() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let mut terminal = Terminal::start(cli(&home, server.address()));
    terminal.sees("/help lists the commands").await;
    terminal.ends_in(&[">"]).await;
    let mut other = server.lines().await;
    other.ask(&"word ".repeat(13_000)).await;
    terminal.sees("more lines; /history #1 shows all\r\n").await;
    terminal.types("/history #1\r").await;
    let seen = terminal.sees("1 entry\r\n").await;
    assert_eq!(seen.matches("word").count(), 13_000);
    server.stop().await;
}

/// A terminal that cannot run the editor still gets a prompt.
#[tokio::test]
async fn a_dumb_terminal() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let mut command = cli(&home, server.address());
    command.env("TERM", "dumb");
    let mut terminal = Terminal::start(command);
    terminal.sees("TERM=dumb does not support line editing; going on without it: ").await;
    terminal.sees("entries of others are shown only after /follow").await;
    terminal.ends_in(&[">"]).await;
    terminal.types("hello\r").await;
    terminal.ends_in(&["> hello", &ok(1, server.address()), ">"]).await;
    terminal.types("/history\r").await;
    terminal.ends_in(&["1 entry", ">"]).await;
    terminal.types("one\\\rtwo\r").await;
    terminal.ends_in(&[&ok(2, server.address()), ">"]).await;
    terminal.types(CTRL_D).await;
    assert_eq!(terminal.ends().await.0, Some(0));
    assert_eq!(stored(&server.journal()), ["anna hello", r"anna one\ntwo"]);
    server.stop().await;
}

/// No escape sequences are sent to a terminal that would display them.
#[tokio::test]
async fn a_terminal_without_escape_sequences() {
    let server = Server::start().await;
    let mut other = server.lines().await;
    other.ask("in colour").await;
    for kind in [None, Some(""), Some("emacs"), Some("dumb")] {
        let home = tempfile::tempdir().unwrap();
        let mut command = cli_command();
        command
            .arg(server.address())
            .env("XDG_STATE_HOME", home.path())
            .env_remove("NO_COLOR")
            .env_remove("TERM");
        kind.map(|kind| command.env("TERM", kind));
        let mut terminal = Terminal::start(command);
        let seen = terminal.sees("in colour\r\n").await;
        assert!(
            seen.contains("does not support line editing") && !seen.contains('\x1b'),
            "{kind:?}: {seen:?}"
        );
    }
    server.stop().await;
}

/// A line longer than the new width is wrapped again, and so is later output.
#[tokio::test]
async fn a_window_of_another_width() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let mut terminal = Terminal::start(cli(&home, server.address()));
    terminal.sees("/help lists the commands").await;
    terminal.ends_in(&[">"]).await;
    terminal.types("one\r").await;
    let ok = ok(1, server.address());
    terminal.ends_in(&["> one", &ok, ">"]).await;
    let line: String = (0..40).map(|number| format!("{number:04}-")).collect();
    terminal.types(&line).await;
    for columns in [80, 50, 120, 33, 80] {
        terminal.resizes(columns);
        let shown = format!("> {line}");
        let rows: Vec<&str> =
            shown.as_bytes().chunks(columns.into()).map(|row| std::str::from_utf8(row).unwrap()).collect();
        terminal.ends_in_rows(&[&["> one", &ok][..], &rows].concat()).await;
    }
    terminal.resizes(50);
    let mut other = server.lines().await;
    other.ask(&"word ".repeat(30)).await;
    terminal.sees("word\r\n").await;
    terminal.types("\r").await;
    terminal.sees("ok 3 on ").await;
    let contents = terminal.contents();
    let printed: Vec<&str> = contents.lines().filter(|row| row.contains("word")).collect();
    assert!(
        printed.len() > 3 && printed.iter().all(|row| row.len() <= 50 && row.ends_with(" word")),
        "{contents}"
    );
    server.stop().await;
}

/// A server that hangs is reported long before the connection is given up.
#[tokio::test]
async fn a_server_that_hangs() {
    for kind in ["xterm", "dumb"] {
        let home = tempfile::tempdir().unwrap();
        let data = tempfile::tempdir().unwrap();
        let mut server = Process::start(data.path(), &["127.0.0.1:0"], &[]).await;
        let address = server.address().to_owned();
        let away = if kind == "dumb" { ">" } else { "!" };
        let mut command = cli(&home, &address);
        command.env("TERM", kind);
        let mut terminal = Terminal::start(command);
        terminal.sees("/help lists the commands").await;
        terminal.ends_in(&[">"]).await;
        server.signal(Signal::STOP);
        terminal.types("one\r").await;
        let told = format!("1 unsent: {address} has acked nothing for 2 s");
        terminal.ends_in(&[&told, away]).await;
        terminal.types("two\r").await;
        terminal.ends_in(&["2 unsent", away]).await;
        server.signal(Signal::CONT);
        terminal.ends_in(&[&ok(2, &address), ">"]).await;
        terminal.types(CTRL_D).await;
        assert_eq!(terminal.ends().await.0, Some(0));
        server.signal(Signal::TERM);
        server.wait().await;
    }
}

/// `/name` applies to the entries typed after it, even without a server.
#[tokio::test]
async fn a_name_that_was_said_offline() {
    let home = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    let (address, mut terminal) = offline(&home, &data).await;
    terminal.types("one\r").await;
    terminal.sees("1 unsent\r\n").await;
    terminal.types("/name ben\rtwo\r").await;
    terminal.sees("2 unsent\r\n").await;
    // Until the next prompt, the line discipline would handle the key.
    terminal.ends_in(&["!"]).await;
    terminal.types(CTRL_D).await;
    let (code, said) = terminal.ends().await;
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("2 entries were not acked: kept in "), "{said}");

    let server = Process::start(data.path(), &[&address], &[]).await;
    assert_eq!(send_outbox(&home).await, Some(0));
    server.stop().await;
    assert_eq!(stored(&data.path().join("diary")), ["anna one", "ben two"]);

    let mut terminal = Terminal::start(cli(&home, &address));
    terminal.ends_in(&["!"]).await;
    terminal.types(CTRL_D).await;
    assert_eq!(terminal.ends().await.0, Some(3), "nothing was typed, and nobody was there");
}
