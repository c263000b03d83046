//! The line editor of a person at a terminal: a prompt, a history of what was typed, entries of several lines,
//! and what is printed appears above the prompt.
//!
//! The editor has a thread of its own, which sits in a read of the terminal. What is printed goes through a
//! second one, because the editor takes it only between two keys.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use diary_proto::Command;
use diary_proto::entry::check_text;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{
    Cmd, ColorMode, ConditionalEventHandler, Config, Editor, Event, EventContext, EventHandler,
    ExternalPrinter, Helper, KeyCode, KeyEvent, Modifiers, RepeatCount,
};
use tokio::sync::mpsc;

use crate::input::{Typed, is_command};
use crate::output;

/// Lines that were typed and not taken yet.
const TYPED_MAX: usize = 64;

/// Pieces of output that wait for the editor.
const PIECES_MAX: usize = 256;

/// Bytes that are shown at once.
const SHOW_MAX_BYTES: usize = 64 * 1024;

/// What was typed in earlier runs, so much of it.
const HISTORY_MAX: usize = 1000;

/// Turns bracketed paste off again, which the editor turns on.
const PASTE_OFF: &[u8] = b"\x1b[?2004l";

/// The prompt, and what stands in its place while the server is away. The editor looks at it each time that
/// something is printed, and wants both to be as wide.
const PROMPT: &str = "> ";
const PROMPT_AWAY: &str = "! ";

/// The prompt, which shows whether the server is there.
#[derive(Clone, Default)]
pub(crate) struct Prompt(Arc<AtomicBool>);

impl Prompt {
    /// To be called before that is told in words.
    pub(crate) fn set_away(&self, away: bool) {
        self.0.store(away, Ordering::Relaxed);
    }
}

impl Highlighter for Prompt {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        if self.0.load(Ordering::Relaxed) { PROMPT_AWAY.into() } else { prompt.into() }
    }
}

impl Helper for Prompt {}
impl Completer for Prompt {
    type Candidate = String;
}
impl Hinter for Prompt {
    type Hint = String;
}
impl Validator for Prompt {}

/// The terminal while the editor has it. Dropping it gives it back as it was.
pub(crate) struct Screen {
    before: Option<Termios>,
    shower: Option<thread::JoinHandle<()>>,
}

/// Where output goes that is to appear above the prompt.
#[derive(Clone)]
pub(crate) struct Above(std_mpsc::SyncSender<Vec<u8>>);

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the editor on the terminal that is the program's input and output. `state` is the folder for what
/// outlives a run.
///
/// # Errors
/// Those of the terminal.
pub(crate) fn start(
    state: Option<&Path>,
) -> rustyline::Result<(mpsc::Receiver<Typed>, Above, Prompt, Screen)> {
    let config = Config::builder()
        .bracketed_paste(true)
        .max_history_size(HISTORY_MAX)?
        .history_ignore_dups(true)?
        // It is only the prompt that changes, and no colour.
        .color_mode(ColorMode::Forced)
        .build();
    let mut editor = Editor::<Prompt, FileHistory>::with_config(config)?;
    let prompt = Prompt::default();
    editor.set_helper(Some(prompt.clone()));
    let (draft, pasted) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicBool::new(false)));
    editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), Cmd::Newline);
    editor.bind_sequence(
        KeyEvent(KeyCode::Enter, Modifiers::NONE),
        EventHandler::Conditional(Box::new(GoOnBehindBackslash { pasted: Arc::clone(&pasted) })),
    );
    editor.bind_sequence(
        KeyEvent(KeyCode::BracketedPasteStart, Modifiers::NONE),
        EventHandler::Conditional(Box::new(NotePaste(Arc::clone(&pasted)))),
    );
    editor.bind_sequence(
        KeyEvent(KeyCode::Char('C'), Modifiers::CTRL),
        EventHandler::Conditional(Box::new(KeepDraft(Arc::clone(&draft)))),
    );
    let before = tcgetattr(io::stdin()).ok();
    let mut printer = editor.create_external_printer()?;
    let (pieces, waiting) = std_mpsc::sync_channel::<Vec<u8>>(PIECES_MAX);
    let shower = thread::Builder::new().name("screen".to_owned()).spawn(move || {
        for mut bytes in &waiting {
            while bytes.len() < SHOW_MAX_BYTES
                && let Ok(more) = waiting.try_recv()
            {
                bytes.extend(more);
            }
            if printer.print(String::from_utf8_lossy(&bytes).into_owned()).is_err() {
                return;
            }
        }
    })?;
    let above = Above(pieces);
    output::show_above(Some(above.clone()));
    let (lines, typed) = mpsc::channel(TYPED_MAX);
    let history = state.map(|state| state.join("history"));
    let edited = Edited { lines, draft, pasted, history };
    thread::Builder::new().name("editor".to_owned()).spawn(move || edited.read(editor))?;
    Ok((typed, above, prompt, Screen { before, shower: Some(shower) }))
}

impl Drop for Screen {
    fn drop(&mut self) {
        output::show_above(None);
        if let Some(shower) = self.shower.take() {
            // Everything that wrote to it is gone.
            let _ = shower.join();
        }
        if let Some(before) = &self.before {
            // Nobody is left to tell if this fails.
            let _ = tcsetattr(io::stdin(), OptionalActions::Drain, before);
            let _ = io::stdout().write_all(PASTE_OFF).and_then(|()| io::stdout().flush());
        }
    }
}

/// What becomes of what is typed.
struct Edited {
    lines: mpsc::Sender<Typed>,
    /// What stood there when Ctrl-C was pressed.
    draft: Arc<Mutex<String>>,
    /// Something was pasted into this line.
    pasted: Arc<AtomicBool>,
    history: Option<PathBuf>,
}

impl Edited {
    /// Reads until the end of input, a goodbye, or Ctrl-C on an empty line.
    fn read(self, mut editor: Editor<Prompt, FileHistory>) {
        if let Some(history) = &self.history {
            // There is none at first.
            let _ = editor.load_history(history);
        }
        loop {
            match editor.readline(PROMPT) {
                Ok(line) => {
                    // In what was pasted, a backslash at the end of a line is the text's own.
                    let pasted = self.pasted.swap(false, Ordering::Relaxed);
                    let line = if pasted { line } else { line.replace("\\\n", "\n") };
                    // Whoever pastes lines does not mean the last one's end.
                    let text = line.trim_end_matches(['\n', '\r']);
                    if text.is_empty() {
                        continue;
                    }
                    self.remember(&mut editor, text);
                    let is_last = is_command(text) && Command::parse(text) == Ok(Command::Quit);
                    let text = check_text(text).map(|()| text.to_owned());
                    if self.lines.blocking_send(Typed::Line(text)).is_err() || is_last {
                        return;
                    }
                }
                Err(ReadlineError::Interrupted) => {
                    self.pasted.store(false, Ordering::Relaxed);
                    let draft =
                        std::mem::take(&mut *self.draft.lock().unwrap_or_else(PoisonError::into_inner));
                    if draft.is_empty() {
                        let _ = self.lines.blocking_send(Typed::Interrupt);
                        return;
                    }
                    self.remember(&mut editor, &draft);
                    output::say(format_args!("not sent; Up brings it back, Ctrl-C again ends"));
                }
                // A byte that is no UTF-8 ends the editor's line.
                Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    output::say(format_args!(
                        "the terminal sent a byte that is not UTF-8, and the line is not sent; type it again"
                    ));
                }
                // The end of input, or of the terminal.
                Err(_) => return,
            }
        }
    }

    fn remember(&self, editor: &mut Editor<Prompt, FileHistory>, text: &str) {
        let added = editor.add_history_entry(text);
        let Some(history) = self.history.as_ref().filter(|_| added.is_ok_and(|added| added)) else { return };
        if let Some(folder) = history.parent() {
            // It may be there; whatever else is wrong, the next call finds.
            let _ = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        }
        // What cannot be written is still there until the end of this run.
        let _ = editor.append_history(history);
    }
}

/// Enter behind a backslash goes on with another line; but what was pasted may end in one.
struct GoOnBehindBackslash {
    pasted: Arc<AtomicBool>,
}

impl ConditionalEventHandler for GoOnBehindBackslash {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, at: &EventContext<'_>) -> Option<Cmd> {
        let is_behind = at.pos() == at.line().len() && at.line().ends_with('\\');
        (is_behind && !self.pasted.load(Ordering::Relaxed)).then_some(Cmd::Newline)
    }
}

/// Notes that something is pasted.
struct NotePaste(Arc<AtomicBool>);

impl ConditionalEventHandler for NotePaste {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, _: &EventContext<'_>) -> Option<Cmd> {
        self.0.store(true, Ordering::Relaxed);
        None
    }
}

/// Ctrl-C keeps what stands there.
struct KeepDraft(Arc<Mutex<String>>);

impl ConditionalEventHandler for KeepDraft {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, at: &EventContext<'_>) -> Option<Cmd> {
        at.line().clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Some(Cmd::Interrupt)
    }
}
