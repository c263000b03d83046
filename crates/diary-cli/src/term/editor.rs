//! The line editor for a user at a terminal: a prompt, a history of typed lines, entries of several lines, and
//! output above the prompt.
//!
//! The editor has its own thread, which blocks in a read of the terminal. Output goes through a second thread,
//! because the editor accepts it only between two keys.

mod draft;
mod line;
mod screen;

use std::borrow::Cow;
use std::fs;
use std::io;
use std::mem::take;
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use diary_proto::Command;
use diary_proto::entry::check_text;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::{FileHistory, History};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{
    Cmd, ColorMode, ConditionalEventHandler, Config, Editor, Event, EventContext, EventHandler, Helper,
    KeyCode, KeyEvent, Modifiers, RepeatCount,
};
use textwrap::core::display_width;
use tokio::sync::mpsc;

use crate::term::above::Above;
use crate::term::input::{Typed, is_command, is_login};
use crate::term::ui::Ui;
use crate::term::{obeys_escapes, width};
use line::Editing;
use screen::{Modes, write_now};

pub(crate) use draft::Drafts;
pub(crate) use screen::Screen;

/// Typed lines that wait for the conversation.
const TYPED_MAX: usize = 64;

/// Limit on the lines of the history.
const HISTORY_MAX: usize = 1000;

/// Columns of a terminal that does not report its width; the editor assumes the same.
const USUAL_COLUMNS: usize = 80;

/// Mark at the end of each line of an entry but the last.
const GOES_ON: &str = " …";

/// Columns for the mark, including one that stays free: some terminals show it as wide as two letters.
const GOES_ON_COLUMNS: usize = 4;

/// The prompt, and its substitute while the server is away. The editor asks for it at each output, and requires
/// both to be equally wide.
const PROMPT: &str = "> ";
const PROMPT_AWAY: &str = "! ";

/// The prompt, which shows whether the server is connected, and the output above it.
#[derive(Clone, Default)]
pub(crate) struct Prompt {
    away: Arc<AtomicBool>,
    above: Above,
    editing: Editing,
    modes: Modes,
}

impl Prompt {
    /// Sets whether the server is away. Call it before printing a sentence about that.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    pub(crate) fn above(&self) -> &Above {
        &self.above
    }

    /// Returns where sentences go.
    pub(crate) fn ui(&self) -> Ui {
        Ui(Some(self.above.clone()))
    }
}

impl rustyline::Prompt for Prompt {
    /// Called by the editor when it begins a line, and before it redraws one at another width.
    fn raw(&self) -> &str {
        self.modes.are_set();
        write_now(self.editing.refit(columns()).as_bytes());
        PROMPT
    }

    fn styled(&self) -> &str {
        PROMPT
    }
}

impl Highlighter for Prompt {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        if self.away.load(Ordering::Relaxed) { PROMPT_AWAY.into() } else { prompt.into() }
    }

    /// Marks where an entry continues on another line. Only the end of a line has room for more than what was
    /// typed.
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        self.editing.draw(line, columns());
        marked(line, columns()).into()
    }

    /// Called by the editor at each change of the line and of the cursor.
    fn highlight_char(&self, line: &str, cursor: usize, _: CmdKind) -> bool {
        self.editing.set(line, cursor, columns());
        false
    }
}

fn columns() -> usize {
    Some(width()).filter(|columns| *columns > 0).unwrap_or(USUAL_COLUMNS)
}

fn marked(line: &str, columns: usize) -> String {
    let mut before = PROMPT.len();
    let mark = |line: &str| {
        let used = (take(&mut before) + display_width(line)).checked_rem(columns).unwrap_or(columns);
        let mark = if used + GOES_ON_COLUMNS <= columns { GOES_ON } else { "" };
        line.replace('\n', &format!("{mark}\n"))
    };
    line.split_inclusive('\n').map(mark).collect()
}

impl Helper for Prompt {}
impl Completer for Prompt {
    type Candidate = String;
}
impl Hinter for Prompt {
    type Hint = String;
}
impl Validator for Prompt {
    fn validate(&self, _: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if self.editing.goes_on() { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

/// Starts the editor on stdin and stdout, which are a terminal. `state` is the folder for state that outlives a
/// run; typed lines are kept there if `remember`. Needs a Tokio runtime.
///
/// # Errors
/// The terminal fails.
pub(crate) fn start(
    state: Option<&Path>,
    drafts: Drafts,
    remember: bool,
) -> rustyline::Result<(mpsc::Receiver<Typed>, Prompt, Screen)> {
    if !obeys_escapes() {
        return Err(io::Error::from(io::ErrorKind::Unsupported).into());
    }
    // If this fails, writing there fails, too.
    let _ = state.map(|state| fs::DirBuilder::new().recursive(true).mode(0o700).create(state));
    let config = Config::builder()
        .max_history_size(HISTORY_MAX)?
        // Forced, since only the prompt changes and no colour is used.
        .color_mode(ColorMode::Forced)
        .build();
    let history =
        state.filter(|_| remember).map(|state| (state.join("history"), FileHistory::with_config(&config)));
    let mut editor = Editor::<Prompt, FileHistory>::with_config(config)?;
    let prompt = Prompt::default();
    editor.set_helper(Some(prompt.clone()));
    editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), Cmd::Newline);
    editor.bind_sequence(KeyEvent::ctrl('Z'), EventHandler::Conditional(Box::new(CtrlZ(prompt.clone()))));
    let screen = Screen::start(prompt.clone(), editor.create_external_printer()?)?;
    let (lines, typed) = mpsc::channel(TYPED_MAX);
    let edited = Edited { editor, lines, prompt: prompt.clone(), history, drafts };
    thread::Builder::new().name("editor".to_owned()).spawn(move || edited.read())?;
    Ok((typed, prompt, screen))
}

/// Passes typed lines to the conversation.
struct Edited {
    editor: Editor<Prompt, FileHistory>,
    lines: mpsc::Sender<Typed>,
    prompt: Prompt,
    /// The file of typed lines, without cancelled ones, which are only in the editor's own history.
    history: Option<(PathBuf, FileHistory)>,
    drafts: Drafts,
}

impl Edited {
    /// Reads until the end of input, `/quit`, or Ctrl-C on an empty line.
    fn read(mut self) {
        if let Some((path, _)) = &self.history {
            // The file may not exist yet.
            let _ = self.editor.load_history(path);
        }
        let mut begun = self.offer_draft();
        loop {
            let read = self.editor.readline_with_initial(&self.prompt, (&begun, ""));
            match self.take(read) {
                ControlFlow::Continue(next) => begun = next,
                ControlFlow::Break(left) => return self.prompt.editing.end(left),
            }
        }
    }

    /// Submits what was typed. Continues with the beginning of the next line, or breaks with what is left.
    fn take(&mut self, read: rustyline::Result<String>) -> ControlFlow<String, String> {
        if let Ok(line) = &read {
            self.prompt.editing.set(line, line.len(), columns());
        }
        let (line, ui) = (self.prompt.editing.take(), self.prompt.ui());
        match read {
            Ok(_) => {
                // Pasted lines often end in an unintended line feed.
                let text = line.trim_end_matches(['\n', '\r']);
                let is_last = is_command(text) && Command::parse(text) == Ok(Command::Quit);
                if !text.is_empty() {
                    if !is_login(text) {
                        let _ = self.editor.add_history_entry(text);
                        self.remember(text);
                    }
                    let typed = Typed::Line(check_text(text).map(|()| text.to_owned()));
                    if self.lines.blocking_send(typed).is_err() {
                        // The conversation is over: keep the line for the next one.
                        return ControlFlow::Break(text.to_owned());
                    }
                }
                let next = self.draft_is_done();
                if is_last { ControlFlow::Break(String::new()) } else { ControlFlow::Continue(next) }
            }
            Err(ReadlineError::Interrupted) if is_login(&line) => {
                ui.say(format_args!("not sent; Ctrl-C again ends"));
                ControlFlow::Continue(self.draft_is_done())
            }
            Err(ReadlineError::Interrupted) if !line.is_empty() => {
                let _ = self.editor.add_history_entry(&line);
                ui.say(format_args!("not sent; Up brings it back, Ctrl-C again ends"));
                ControlFlow::Continue(self.draft_is_done())
            }
            // A byte that is not UTF-8 ends the editor's line.
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                ui.say(format_args!(
                    "the terminal sent a byte that is not UTF-8; the line was not sent, and is restored without it"
                ));
                if !is_login(&line) {
                    self.remember(&line);
                }
                ControlFlow::Continue(line)
            }
            // The end of input, or of the terminal, which may leave a line.
            Err(error) => {
                if line.is_empty() {
                    self.drafts.done();
                }
                if matches!(error, ReadlineError::Interrupted) {
                    let _ = self.lines.blocking_send(Typed::Interrupt);
                }
                ControlFlow::Break(line)
            }
        }
    }

    fn offer_draft(&self) -> String {
        let draft = self.drafts.offer();
        if draft.is_some() {
            self.prompt.ui().say(format_args!("draft restored: Enter sends it, Ctrl-C drops it"));
        }
        draft.unwrap_or_default()
    }

    fn draft_is_done(&self) -> String {
        if self.drafts.done() { self.offer_draft() } else { String::new() }
    }

    fn remember(&mut self, text: &str) {
        if let Some((path, history)) = &mut self.history {
            // If this fails, the line is still in the editor's history of this run.
            let _ = history.add(text).and_then(|_| history.append(path));
        }
    }
}

/// Ctrl-Z. The editor's own handler takes the terminal back before the program has stopped.
struct CtrlZ(Prompt);

impl ConditionalEventHandler for CtrlZ {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, _: &EventContext<'_>) -> Option<Cmd> {
        self.0.modes.stop(&self.0.editing);
        Some(Cmd::Repaint)
    }
}

#[cfg(test)]
mod tests {
    use super::marked;

    #[test]
    fn the_mark_stands_where_there_is_room() {
        assert_eq!(marked("one\ntwo\n", 80), "one …\ntwo …\n");
        assert_eq!(marked("123456\n123456\n1234567\n今天天\n", 10), "123456\n123456 …\n1234567\n今天天 …\n");
        assert_eq!(marked("1\n2", 0), "1\n2");
    }
}
