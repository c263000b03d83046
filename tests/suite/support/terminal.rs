//! A person at a terminal: types, and waits for what appears.

use pty_process::{Pty, Size};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::{PATIENCE, soon};

pub(crate) const CTRL_C: &str = "\x03";
pub(crate) const CTRL_D: &str = "\x04";
pub(crate) const CTRL_R: &str = "\x12";
pub(crate) const CTRL_Z: &str = "\x1a";
pub(crate) const UP: &str = "\x1b[A";
pub(crate) const LEFT: &str = "\x1b[D";
pub(crate) const BACKSPACE: &str = "\x7f";
pub(crate) const ALT_ENTER: &str = "\x1b\r";

/// Rows and columns.
const SIZE: (u16, u16) = (24, 80);

/// A program on a pseudo-terminal of its own, killed when this is dropped.
pub(crate) struct Terminal {
    pty: Pty,
    child: Child,
    /// What appeared and was not looked at.
    screen: Vec<u8>,
    /// What a person sees of all that appeared.
    shown: vt100::Parser,
    /// How the terminal was before anything ran on it.
    before: Termios,
}

impl Terminal {
    pub(crate) fn start(command: Command) -> Self {
        let (pty, end) = pty_process::open().unwrap();
        pty.resize(Size::new(SIZE.0, SIZE.1)).unwrap();
        let before = tcgetattr(&pty).unwrap();
        let child = pty_process::Command::from(command).spawn(end).unwrap();
        Self { pty, child, screen: Vec::new(), shown: vt100::Parser::new(SIZE.0, SIZE.1, 0), before }
    }

    /// Makes the terminal as wide as this. What it shows is wrapped anew, as most terminals do.
    pub(crate) fn resizes(&mut self, columns: u16) {
        let screen = self.shown.screen();
        let (row, column) = screen.cursor_position();
        let before_cursor = screen.contents_between(0, 0, row, column).replace('\n', "\r\n");
        self.shown = vt100::Parser::new(SIZE.0, columns, 0);
        self.shown.process(before_cursor.as_bytes());
        self.pty.resize(Size::new(SIZE.0, columns)).unwrap();
    }

    /// Gives the terminal the modes that it had before anything ran on it.
    pub(crate) fn resets_modes(&self) {
        tcsetattr(&self.pty, OptionalActions::Now, &self.before).unwrap();
    }

    /// Sends bytes that may be no text.
    pub(crate) async fn types_bytes(&mut self, bytes: &[u8]) {
        soon("the terminal takes keys", self.pty.write_all(bytes)).await.unwrap();
    }

    /// Pastes text, as terminals do where a program asks to be told.
    pub(crate) async fn pastes(&mut self, text: &str) {
        self.types(&format!("\x1b[200~{text}\x1b[201~")).await;
    }

    /// Waits until the lines at the end of the screen are these. One that takes several rows is one.
    pub(crate) async fn ends_in(&mut self, lines: &[&str]) {
        self.ends_in_any(lines, vt100::Screen::contents).await;
    }

    /// Waits until the rows at the end of the screen are these.
    pub(crate) async fn ends_in_rows(&mut self, rows: &[&str]) {
        let all = |screen: &vt100::Screen| screen.rows(0, screen.size().1).collect::<Vec<_>>().join("\n");
        self.ends_in_any(rows, all).await;
    }

    async fn ends_in_any(&mut self, lines: &[&str], contents: impl Fn(&vt100::Screen) -> String) {
        let waited = timeout(PATIENCE, async {
            loop {
                let contents = contents(self.shown.screen());
                let shown: Vec<&str> = contents.trim_end_matches('\n').lines().map(str::trim_end).collect();
                if shown.ends_with(lines) {
                    return true;
                }
                if self.read().await == 0 {
                    return false;
                }
            }
        });
        if waited.await != Ok(true) {
            panic!("{lines:?} are not at the end of this screen:\n{}", contents(self.shown.screen()));
        }
    }

    /// What a person sees, without the empty lines at its end.
    pub(crate) fn contents(&self) -> String {
        self.shown.screen().contents().trim_end().to_owned()
    }

    pub(crate) async fn types(&mut self, keys: &str) {
        soon("the terminal takes keys", self.pty.write_all(keys.as_bytes())).await.unwrap();
    }

    /// Waits until `part` appears behind what was seen before, and returns all up to its end.
    pub(crate) async fn sees(&mut self, part: &str) -> String {
        self.sees_all(&[part]).await
    }

    /// Waits until all of `parts` appeared, in any order, and returns all up to the end of the last one.
    pub(crate) async fn sees_all(&mut self, parts: &[&str]) -> String {
        let waited = timeout(PATIENCE, async {
            loop {
                if let Some(end) = parts.iter().map(|part| self.end_of(part)).collect::<Option<Vec<_>>>() {
                    let seen = self.screen.drain(..end.into_iter().max().unwrap_or(0)).collect();
                    return Some(String::from_utf8(seen).unwrap());
                }
                if self.read().await == 0 {
                    return None;
                }
            }
        });
        let Ok(Some(seen)) = waited.await else {
            panic!("{parts:?} did not appear in `{}`", String::from_utf8_lossy(&self.screen));
        };
        seen
    }

    /// Where `part` ends on the screen.
    fn end_of(&self, part: &str) -> Option<usize> {
        let at = self.screen.windows(part.len()).position(|seen| seen == part.as_bytes())?;
        Some(at + part.len())
    }

    /// The terminal's modes.
    pub(crate) fn modes(&self) -> String {
        format!("{:?}", tcgetattr(&self.pty).unwrap())
    }

    /// Those that it had before anything ran on it.
    pub(crate) fn modes_before(&self) -> String {
        format!("{:?}", self.before)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the program's end; its exit code, and all that it still showed.
    pub(crate) async fn ends(mut self) -> (Option<i32>, String) {
        soon("the program ends", async { while self.read().await > 0 {} }).await;
        let status = soon("the program ends", self.child.wait()).await.unwrap();
        (status.code(), String::from_utf8(self.screen).unwrap())
    }

    /// How many bytes appeared; 0 at the end.
    async fn read(&mut self) -> usize {
        let seen = self.screen.len();
        match self.pty.read_buf(&mut self.screen).await {
            Ok(count) => {
                self.shown.process(&self.screen[seen..]);
                count
            }
            // How Linux says that nobody has the other end open.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => 0,
            Err(error) => panic!("{error}"),
        }
    }
}
