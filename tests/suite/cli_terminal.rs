//! `diary` on a terminal: a conversation.

use diary_proto::Time;
use rustix::process::Signal;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::support::{CTRL_C, CTRL_D, Process, Server, Terminal, UP, cli_command, soon, stored};

/// Starts `diary` on a terminal as anna, in the server's zone.
async fn start(address: &str, arguments: &[&str]) -> Terminal {
    let mut terminal = Terminal::start(cli(address, arguments));
    terminal.sees(" writes in diary at ").await;
    terminal.sees("/help lists the commands\r\n").await;
    // From here on, the line editor handles keys.
    terminal.sees("> ").await;
    terminal
}

fn cli(address: &str, arguments: &[&str]) -> Command {
    let mut command = cli_command();
    command.arg(address).args(["--name", "anna"]).args(arguments).env("TZ", "Asia/Shanghai");
    command
}

/// Returns the day heading and the minute of an entry, given its line in line mode.
fn day_and_minute(line: &str) -> (String, String) {
    let time = Time::parse(line.split(' ').nth(1).unwrap().as_bytes()).unwrap().civil();
    (format!("── {} ──", time.strftime("%Y-%m-%d %A")), time.strftime("%H:%M").to_string())
}

#[tokio::test]
async fn the_past_under_a_heading_then_an_ack_a_line() {
    let server = Server::start().await;
    let mut other = server.lines().await;
    other.ask("too old to be shown").await;
    other.ask("今天天气很好").await;
    other.ask("second").await;
    let lines = other.history("2").await;
    let (heading, minute) = day_and_minute(&lines[0]);
    let (heading_after, minute_after) = day_and_minute(&lines[1]);

    let mut terminal = start(server.address(), &["-n", "2"]).await;
    let past = terminal.sees(" local second\r\n").await;
    let past = &past[past.find("──").unwrap()..];
    let second = if heading_after == heading { String::new() } else { format!("{heading_after}\r\n") };
    let expected =
        format!("{heading}\r\n{minute} #2 local 今天天气很好\r\n{second}{minute_after} #3 local second\r\n");
    assert_eq!(past, expected);
    for (text, seq) in [("hello", 4), ("你好", 5), ("//home is where", 6)] {
        terminal.types(&format!("{text}\r")).await;
        terminal.sees(text).await;
        terminal.sees(&format!("ok {seq} on ")).await;
    }
    terminal.ends_in(&[">"]).await;
    terminal.types(CTRL_D).await;
    assert_eq!(terminal.ends().await.0, Some(0));
    assert_eq!(stored(&server.journal())[3..], ["anna hello", "anna 你好", "anna /home is where"]);
    server.stop().await;
}

#[tokio::test]
async fn the_commands() {
    let server = Server::start().await;
    let mut terminal = start(server.address(), &["-n", "0"]).await;
    for (line, answer) in [
        ("Rain", "ok 1 on "),
        ("雨", "ok 2 on "),
        ("/history", "anna Rain\r\n"),
        ("", "anna 雨\r\n2 entries\r\n"),
        ("/history 1", "anna 雨\r\n1 entry\r\n"),
        ("/history 2001-01-01", "no entries\r\n"),
        ("/history 今天", "anna 雨\r\n2 entries\r\n"),
        ("/history 3 days ago", "no entries\r\n"),
        ("/history last month..yesterday", "no entries\r\n"),
        ("/history #1", "anna Rain\r\n1 entry\r\n"),
        ("/search rain", "anna Rain\r\n1 entry\r\n"),
        ("/search RAIN", "no entries\r\n"),
        ("/search 雨", "anna 雨\r\n1 entry\r\n"),
        ("/name 小明", "you write as 小明\r\n"),
        ("三", "ok 3 on "),
        ("/history 1", "小明 三\r\n1 entry\r\n"),
        ("/name a b", "error bad-argument: "),
        ("/nonsense", "error unknown-command: "),
        ("quit", "(stored as a text; /help lists the commands)\r\n"),
        ("/help", "/follow [#SEQ | off]"),
        ("", "//text"),
    ] {
        // An empty line expects more of the previous answer.
        if !line.is_empty() {
            terminal.types(&format!("{line}\r")).await;
        }
        for part in answer.split_inclusive('\n') {
            terminal.sees(part).await;
        }
    }
    terminal.types("/quit\r").await;
    assert_eq!(terminal.ends().await.0, Some(0));
    assert_eq!(stored(&server.journal()), ["anna Rain", "anna 雨", "小明 三", "小明 quit"]);
    server.stop().await;
}

/// Entries written before a day starts belong to the day before, which is still today.
#[tokio::test]
async fn today_is_the_day_of_the_diary() {
    let server = Server::with(|config| config.day_start = "23:59".parse().unwrap()).await;
    let mut terminal = start(server.address(), &["-n", "0"]).await;
    terminal.types("late\r").await;
    terminal.sees("ok 1 on ").await;
    for day in ["today", "今天"] {
        terminal.types(&format!("/history {day}\r")).await;
        terminal.sees("anna late\r\n").await;
        terminal.sees("1 entry\r\n").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn entries_of_others_as_they_come() {
    let server = Server::start().await;
    let mut other = server.lines().await;
    other.ask("before").await;
    let mut terminal = start(server.address(), &["-n", "0"]).await;
    // New entries are followed by default.
    other.ask("今天").await;
    terminal.sees(" local 今天\r\n").await;
    // Entries typed here are already on the screen, and are not shown again.
    terminal.types("mine\r").await;
    terminal.sees("ok 3 on ").await;
    other.ask("after").await;
    let seen = terminal.sees(" local after\r\n").await;
    assert!(!seen.contains("mine") && !seen.contains("before"), "{seen}");
    terminal.types("/follow #1\r").await;
    terminal.sees(" local before\r\n").await;
    terminal.sees(" local after\r\n").await;

    terminal.types("/follow off\r").await;
    terminal.sees("not following\r\n").await;
    other.ask("unseen").await;
    terminal.types("last\r").await;
    let seen = terminal.sees("ok 6 on ").await;
    assert!(!seen.contains("unseen"), "{seen}");
    server.stop().await;
}

/// Starts at some entry, and shows every one after it.
#[tokio::test]
async fn following_from_now_on() {
    let server = Server::start().await;
    let mut other = server.lines().await;
    other.ask("before").await;
    let mut terminal = start(server.address(), &["-n", "0"]).await;
    terminal.types("/follow\r").await;
    let enough = CancellationToken::new();
    let is_enough = enough.clone();
    let writing = tokio::spawn(async move {
        let mut number = 0;
        while !is_enough.is_cancelled() {
            number += 1;
            other.ask(&format!("live {number}")).await;
        }
        number
    });
    let mut seen = terminal.sees(" local live ").await;
    enough.cancel();
    let last: u64 = writing.await.unwrap();
    seen += &terminal.sees(&format!("{last}\r\n")).await;
    assert!(!seen.contains("before"), "{seen}");
    let live: Vec<u64> = seen.lines().filter_map(|line| line.split_once(" live ")?.1.parse().ok()).collect();
    assert!(live.iter().copied().eq(live[0]..=last), "{seen}");
    server.stop().await;
}

/// An entry may contain anything, but must not move the cursor.
#[tokio::test]
async fn entries_cannot_command_the_terminal() {
    let server = Server::start().await;
    let mut other = server.lines().await;
    let trick = "\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\u{8}\u{202e}tri\rck";
    other.ask(trick).await;
    let mut terminal = Terminal::start(cli(server.address(), &[]));
    let escaped = r"\x1b[2J\x1b]0;title\x07\u{9b}31m\x08\u{202e}tri\rck";
    let mut seen = terminal.sees(escaped).await;
    for command in ["/history", "/search title", "/follow #1"] {
        terminal.types(&format!("{command}\r")).await;
        seen += &terminal.sees(escaped).await;
    }
    other.ask(trick).await;
    seen += &terminal.sees(escaped).await;
    // Sequences of the line editor itself.
    for own in ["\u{1b}[?2004h", "\u{1b}[?2004l", "\u{1b}[?2026h", "\u{1b}[?2026l", "\u{1b}[K", "\u{1b}[2C"] {
        seen = seen.replace(own, "");
    }
    let harmless = |c: char| !c.is_control() || matches!(c, '\r' | '\n');
    assert!(seen.chars().all(|c| harmless(c) && c != '\u{202e}'), "{seen:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_lost_connection_loses_nothing_that_was_typed() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Process::start(data.path(), &["127.0.0.1:0"], &[]).await;
    let address = server.address().to_owned();
    let mut terminal = start(&address, &["-n", "0"]).await;
    terminal.types("/follow #1\r").await;
    terminal.sees("following").await;
    let mut seq = 0;
    for signal in [Signal::KILL, Signal::TERM] {
        seq += 1;
        terminal.types(&format!("before {seq}\r")).await;
        terminal.sees(&format!("ok {seq} on ")).await;
        server.signal(signal);
        server.wait().await;
        terminal.sees("reconnecting\r\n").await;
        seq += 1;
        terminal.types(&format!("away {seq}\r")).await;
        terminal.sees("1 unsent\r\n").await;
        server = Process::start(data.path(), &[&address], &[]).await;
        terminal.sees_all(&["reconnected\r\n", &format!("ok {seq} on ")]).await;
    }
    terminal.ends_in(&[">"]).await;
    terminal.types(CTRL_D).await;
    assert_eq!(terminal.ends().await.0, Some(0));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().await, Some(0));
    let entries = ["anna before 1", "anna away 2", "anna before 3", "anna away 4"];
    assert_eq!(stored(&data.path().join("diary")), entries);
}

#[tokio::test]
async fn ctrl_c_drops_no_half_line() {
    let server = Server::start().await;
    let mut terminal = start(server.address(), &[]).await;
    terminal.types("half a line").await;
    terminal.sees("half a line").await;
    terminal.types(CTRL_C).await;
    terminal.sees("not sent; Up brings it back, Ctrl-C again ends\r\n").await;
    terminal.types(UP).await;
    terminal.sees("half a line").await;
    terminal.types(" is whole\r").await;
    terminal.sees("ok 1 on ").await;
    terminal.ends_in(&[">"]).await;
    terminal.types(CTRL_D).await;
    assert_eq!(terminal.ends().await.0, Some(0));
    assert_eq!(stored(&server.journal()), ["anna half a line is whole"]);
    server.stop().await;
}

#[tokio::test]
async fn ctrl_c_ends_at_once() {
    let server = Server::start().await;
    let mut terminal = start(server.address(), &[]).await;
    terminal.types("one\r").await;
    terminal.sees("ok 1 on ").await;
    terminal.types(CTRL_C).await;
    assert_eq!(terminal.ends().await.0, Some(130));
    assert_eq!(stored(&server.journal()), ["anna one"]);
    server.stop().await;
}

#[tokio::test]
async fn a_long_answer_does_not_hold_up_others() {
    let server = Server::start().await;
    let mut other = server.lines().await;
    other.send("a line\n".repeat(5000)).await;
    for _ in 0..5000 {
        other.line().await;
    }
    // Nobody reads this terminal, so it takes only a few thousand bytes.
    let mut terminal = start(server.address(), &["-n", "all"]).await;
    soon("the ack of another comes", other.ask("next")).await;
    for _ in 0..5000 {
        terminal.sees(" local a line\r\n").await;
    }
    terminal.types("mine\r").await;
    terminal.sees("ok 5002 on ").await;
    server.stop().await;
}
