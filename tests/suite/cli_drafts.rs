//! A line that is not finished, as the editor of `diary` keeps it: drafts, and programs that are stopped and go on.

use rustix::process::Signal;
use tokio::process::Command;

use crate::cli_editor::{cli, cli_of, ok};
use crate::support::{BACKSPACE, CTRL_C, CTRL_D, CTRL_Z, LEFT, Server, Terminal, UP, stored};

/// Returns the number of saved drafts.
fn drafts(home: &tempfile::TempDir) -> usize {
    let files = std::fs::read_dir(home.path().join("diary")).unwrap();
    files.filter(|file| file.as_ref().unwrap().file_name().to_str().unwrap().contains("draft")).count()
}

/// A signal restores the terminal, and the next run restores the unfinished line.
#[tokio::test]
async fn a_half_line_outlives_a_signal() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let mut terminal = Terminal::start(cli(&home, server.address()));
    let before = terminal.modes_before();
    terminal.sees("/help lists the commands").await;
    terminal.ends_in(&[">"]).await;
    assert_ne!(terminal.modes(), before, "the editor has the keys");
    terminal.types("half a\\\rline of 今天").await;
    terminal.ends_in(&["> half a\\ …", "line of 今天"]).await;
    terminal.signal(Signal::TERM);
    terminal.ends_in(&["draft saved"]).await;
    assert_eq!(terminal.modes(), before);
    assert_eq!(terminal.ends().await.0, Some(130));

    // Other users are not offered the draft, and a crash after it is offered does not lose it.
    let mut ben = Terminal::start(cli_of(&home, server.address(), "ben"));
    ben.sees("ben writes in ").await;
    ben.ends_in(&[">"]).await;
    ben.types(CTRL_D).await;
    assert_eq!(ben.ends().await.0, Some(0));
    let mut terminal = Terminal::start(cli(&home, server.address()));
    terminal.ends_in(&["> half a …", "line of 今天"]).await;
    terminal.signal(Signal::KILL);
    terminal.ends().await;

    let mut terminal = Terminal::start(cli(&home, server.address()));
    terminal.sees("draft restored: Enter sends it, Ctrl-C drops it").await;
    terminal.ends_in(&["> half a …", "line of 今天"]).await;
    terminal.types("\r").await;
    terminal.sees("ok 1 on ").await;
    terminal.types("gone with the window").await;
    terminal.ends_in(&["> gone with the window"]).await;
    assert_eq!(drafts(&home), 0);
    // As if the window was closed.
    terminal.signal(Signal::HUP);
    assert_eq!(terminal.ends().await.0, Some(130));
    let mut terminal = Terminal::start(cli(&home, server.address()));
    terminal.ends_in(&["> gone with the window"]).await;
    assert_eq!(stored(&server.journal()), [r"anna half a\nline of 今天"]);
    server.stop().await;
}

/// A cancelled line is recalled with Up, and is in no file.
#[tokio::test]
async fn a_cancelled_line_is_forgotten_at_the_end() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let mut terminal = Terminal::start(cli(&home, server.address()));
    terminal.sees("/help lists the commands").await;
    terminal.ends_in(&[">"]).await;
    for line in ["one", "two"] {
        terminal.types(&format!("secret {line}{CTRL_C}")).await;
        terminal.ends_in(&["not sent; Up brings it back, Ctrl-C again ends", ">"]).await;
        terminal.types(&format!("said {line}\r")).await;
        terminal.sees("ok ").await;
        terminal.ends_in(&[">"]).await;
    }
    terminal.types(&format!("{UP}{UP}")).await;
    terminal.ends_in(&["> secret two"]).await;
    terminal.types(CTRL_C).await;
    terminal.ends_in(&["not sent; Up brings it back, Ctrl-C again ends", ">"]).await;
    terminal.types(CTRL_D).await;
    assert_eq!(terminal.ends().await.0, Some(0));
    let history = std::fs::read_to_string(home.path().join("diary/history")).unwrap();
    assert!(history.ends_with("\nsaid one\nsaid two\n") && !history.contains("secret"), "{history}");
    server.stop().await;
}

/// The drafts of two ended programs are offered one after the other.
#[tokio::test]
async fn two_drafts_are_two_entries() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    for _ in 0..2 {
        let mut programs = Vec::new();
        for line in ["first", "second", "third"] {
            let mut terminal = Terminal::start(cli(&home, server.address()));
            terminal.sees("/help lists the commands").await;
            terminal.ends_in(&[">"]).await;
            terminal.types(line).await;
            terminal.ends_in(&[&format!("> {line}")]).await;
            programs.push(terminal);
        }
        for terminal in programs {
            terminal.signal(Signal::TERM);
            assert_eq!(terminal.ends().await.0, Some(130));
        }
        let mut terminal = Terminal::start(cli(&home, server.address()));
        terminal.ends_in(&["> first"]).await;
        terminal.types(" is sent\r").await;
        terminal.ends_in(&["> second"]).await;
        terminal.types(CTRL_C).await;
        terminal.ends_in(&["> third"]).await;
        terminal.types("\r").await;
        terminal.ends_in(&[">"]).await;
        terminal.types(CTRL_D).await;
        assert_eq!(terminal.ends().await.0, Some(0));
        assert_eq!(drafts(&home), 0);
    }
    assert_eq!(stored(&server.journal()), ["anna first is sent", "anna third"].repeat(2));
    server.stop().await;
}

/// Returns a shell with job control, and the command that starts `diary` in it.
fn shell(home: &tempfile::TempDir, address: &str) -> (Command, String) {
    let diary = cli(home, address);
    let mut shell = Command::new("sh");
    shell.arg("-i").env_clear();
    for (name, value) in diary.as_std().get_envs() {
        value.map(|value| shell.env(name, value));
    }
    shell.env("PS1", "$ ").env("PATH", std::env::var_os("PATH").unwrap());
    let words = [diary.as_std().get_program()].into_iter().chain(diary.as_std().get_args());
    let words: Vec<&str> = words.map(|word| word.to_str().unwrap()).collect();
    (shell, words.join(" "))
}

/// After Ctrl-Z the shell has the terminal; after `fg` the editor has it back, with its line.
#[tokio::test]
async fn stopped_and_brought_back() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let (shell, diary) = shell(&home, server.address());
    let mut terminal = Terminal::start(shell);
    terminal.ends_in(&["$"]).await;
    let shell_modes = terminal.modes();
    terminal.types(&format!("{diary}\r")).await;
    terminal.sees("/help lists the commands").await;
    terminal.ends_in(&[">"]).await;
    let editor_modes = terminal.modes();
    let long = "x".repeat(100);
    terminal.types(&long).await;
    let first = format!("> {}", &long[..78]);
    let rows = [&first, &long[78..]];
    terminal.ends_in_rows(&rows).await;
    for _ in 0..3 {
        terminal.types(CTRL_Z).await;
        terminal.sees("topped").await;
        terminal.ends_in(&["$"]).await;
        assert_eq!(terminal.modes(), shell_modes);
        terminal.types("echo $((6 * 7))\r").await;
        terminal.ends_in(&["42", "$"]).await;
        terminal.types("fg\r").await;
        terminal.ends_in_rows(&rows).await;
        assert!(terminal.contents().contains("\n42\n$ fg\n"), "{}", terminal.contents());
        terminal.types(&format!("{LEFT}y{BACKSPACE}")).await;
        terminal.ends_in_rows(&rows).await;
        assert_eq!(terminal.modes(), editor_modes);
    }
    terminal.types("y\r").await;
    terminal.ends_in(&[&ok(1, server.address()), ">"]).await;
    terminal.types(CTRL_D).await;
    terminal.ends_in(&["$"]).await;
    assert_eq!(terminal.modes(), shell_modes);
    assert_eq!(stored(&server.journal()), [format!("anna {}yxxx", "x".repeat(97))]);
    server.stop().await;
}

/// Stopped by another process, with the terminal changed meanwhile.
#[tokio::test]
async fn stopped_by_another() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start().await;
    let mut terminal = Terminal::start(cli(&home, server.address()));
    terminal.sees("/help lists the commands").await;
    terminal.ends_in(&[">"]).await;
    terminal.types("one twp").await;
    terminal.ends_in(&["> one twp"]).await;
    terminal.sees("twp").await;
    let modes = terminal.modes();
    terminal.signal(Signal::STOP);
    terminal.resets_modes();
    terminal.signal(Signal::CONT);
    terminal.sees("\x1b[?2004h").await;
    assert_eq!(terminal.modes(), modes);
    // Without job control, Ctrl-Z has no effect.
    terminal.types(CTRL_Z).await;
    terminal.types(&format!("{BACKSPACE}o\r")).await;
    terminal.ends_in(&["> one two", &ok(1, server.address()), ">"]).await;
    assert_eq!(terminal.modes(), modes);
    server.stop().await;
}
