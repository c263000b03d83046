//! The line editor of a person at a terminal: a prompt, a history of what was typed, entries of several lines,
//! and what is printed appears above the prompt.
//!
//! The editor has a thread of its own, which sits in a read of the terminal. What is printed goes through a
//! second one, because the editor takes it only between two keys.

mod draft;
mod line;
mod screen;

use std::borrow::Cow;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use diary_proto::Command;
use diary_proto::entry::check_text;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{
    Cmd, ColorMode, ConditionalEventHandler, Config, Context, Editor, Event, EventContext, EventHandler,
    Helper, KeyCode, KeyEvent, Modifiers, RepeatCount,
};
use textwrap::core::display_width;
use tokio::sync::mpsc;

use crate::term::input::{Typed, is_command};
use crate::term::output;
use line::Editing;

pub(crate) use draft::Drafts;
pub(crate) use screen::{Above, Screen};

/// Lines that were typed and not taken yet.
const TYPED_MAX: usize = 64;

/// What was typed in earlier runs, so much of it.
const HISTORY_MAX: usize = 1000;

/// Stands behind each line of an entry but its last.
const GOES_ON: &str = " …";

/// Columns that this may take, with one that stays free: some terminals show it as wide as two letters.
const GOES_ON_COLUMNS: usize = 4;

/// The prompt, and what stands in its place while the server is away. The editor looks at it each time that
/// something is printed, and wants both to be as wide.
const PROMPT: &str = "> ";
const PROMPT_AWAY: &str = "! ";

/// The prompt, which shows whether the server is there, and what goes on above it.
#[derive(Clone, Default)]
pub(crate) struct Prompt {
    away: Arc<AtomicBool>,
    above: Above,
    editing: Editing,
}

impl Prompt {
    /// To be called before that is told in words.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    pub(crate) fn ui(&self) -> crate::term::ui::Ui {
        crate::term::ui::Ui::above(self.above.clone())
    }

    pub(crate) fn above(&self) -> &Above {
        &self.above
    }
}

impl Highlighter for Prompt {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        if self.away.load(Ordering::Relaxed) { PROMPT_AWAY.into() } else { prompt.into() }
    }

    /// Marks where an entry goes on with another line. Only behind the end of a line is room for more than what
    /// was typed.
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if !line.contains('\n') {
            return line.into();
        }
        let columns =
            terminal_size::terminal_size_of(io::stdout()).map_or(0, |(columns, _)| columns.0.into());
        marked(line, columns).into()
    }
}

fn marked(line: &str, columns: usize) -> String {
    let (mut marked, mut before) = (String::new(), PROMPT.len());
    let mut lines = line.split('\n').peekable();
    while let Some(line) = lines.next() {
        marked.push_str(line);
        if lines.peek().is_some() {
            let used = (before + display_width(line)).checked_rem(columns).unwrap_or(columns);
            marked.push_str(if used + GOES_ON_COLUMNS <= columns { GOES_ON } else { "" });
            marked.push('\n');
        }
        before = 0;
    }
    marked
}

impl Helper for Prompt {}
impl Completer for Prompt {
    type Candidate = String;
}
/// It is asked for a hint at every change, and so knows what stands on the line.
impl Hinter for Prompt {
    type Hint = String;

    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<String> {
        self.editing.set_line(line);
        None
    }
}
impl Validator for Prompt {}

/// Starts the editor on the terminal that is the program's input and output. `state` is the folder for what
/// outlives a run.
///
/// # Errors
/// Those of the terminal.
pub(crate) fn start(
    state: Option<&Path>,
    drafts: Drafts,
) -> rustyline::Result<(mpsc::Receiver<Typed>, Prompt, Screen)> {
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
    editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), Cmd::Newline);
    editor.bind_sequence(
        KeyEvent(KeyCode::Char('\\'), Modifiers::NONE),
        EventHandler::Conditional(Box::new(NoteBackslash(prompt.editing.clone()))),
    );
    editor.bind_sequence(
        KeyEvent(KeyCode::Enter, Modifiers::NONE),
        EventHandler::Conditional(Box::new(GoOnBehindBackslash(prompt.editing.clone()))),
    );
    let printer = editor.create_external_printer()?;
    let editing = prompt.editing.clone();
    let screen = Screen::start(prompt.above.clone(), printer, editing.clone())?;
    let (lines, typed) = mpsc::channel(TYPED_MAX);
    let history = state.map(|state| state.join("history"));
    let edited = Edited { lines, editing, history, drafts, next: None };
    thread::Builder::new().name("editor".to_owned()).spawn(move || edited.read(editor))?;
    Ok((typed, prompt, screen))
}

/// What becomes of what is typed.
struct Edited {
    lines: mpsc::Sender<Typed>,
    editing: Editing,
    history: Option<PathBuf>,
    /// What an earlier run was not told to send.
    drafts: Drafts,
    /// What stands on the next line from the start.
    next: Option<String>,
}

impl Edited {
    /// Reads until the end of input, a goodbye, or Ctrl-C on an empty line.
    fn read(mut self, mut editor: Editor<Prompt, FileHistory>) {
        if let Some(history) = &self.history {
            // There is none at first.
            let _ = editor.load_history(history);
        }
        for path in self.drafts.of_nobody() {
            let path = path.display();
            output::say(format_args!(
                "{path} has a line that was not sent, and nobody knows to whom it goes; diary add - < {path} writes it, and to remove the file ends this"
            ));
        }
        self.next = self.drafts.take();
        if self.next.is_some() {
            let whose = self.drafts.whose();
            output::say(format_args!(
                "this was not sent when the last conversation with {whose} was ended; Enter sends it"
            ));
        }
        loop {
            let read = match self.next.take() {
                Some(line) => {
                    self.editing.set_line(&line);
                    editor.readline_with_initial(PROMPT, (&line, ""))
                }
                None => editor.readline(PROMPT),
            };
            if !self.take(read, &mut editor) {
                return self.editing.set_over();
            }
        }
    }

    /// Hands over what was typed; false at the end.
    fn take(&mut self, read: rustyline::Result<String>, editor: &mut Editor<Prompt, FileHistory>) -> bool {
        let line = match read {
            Ok(ref line) => self.editing.finish(line.clone()),
            Err(_) => self.editing.take_line(),
        };
        match read {
            Ok(_) => {
                // Whoever pastes lines does not mean the last one's end.
                let text = line.trim_end_matches(['\n', '\r']);
                if text.is_empty() {
                    self.drafts.done();
                    return true;
                }
                self.remember(editor, text);
                let is_last = is_command(text) && Command::parse(text) == Ok(Command::Quit);
                let typed = Typed::Line(check_text(text).map(|()| text.to_owned()));
                if self.lines.blocking_send(typed).is_err() {
                    // The conversation is over; what comes too late for it is for the next one.
                    self.editing.set_line(text);
                    return false;
                }
                self.drafts.done();
                !is_last
            }
            Err(ReadlineError::Interrupted) if line.is_empty() => {
                self.drafts.done();
                let _ = self.lines.blocking_send(Typed::Interrupt);
                false
            }
            Err(ReadlineError::Interrupted) => {
                self.remember(editor, &line);
                self.drafts.done();
                output::say(format_args!("not sent; Up brings it back, Ctrl-C again ends"));
                true
            }
            // A byte that is no UTF-8 ends the editor's line.
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                output::say(format_args!(
                    "the terminal sent a byte that is not UTF-8; the line is not sent, and stands here without it"
                ));
                if !line.is_empty() {
                    self.remember(editor, &line);
                    self.next = Some(line);
                }
                true
            }
            // The end of input, or of the terminal, which may have had a line.
            Err(_) => {
                if line.is_empty() {
                    self.drafts.done();
                }
                self.editing.set_line(&line);
                false
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

/// Notes that a backslash is typed.
struct NoteBackslash(Editing);

impl ConditionalEventHandler for NoteBackslash {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, at: &EventContext<'_>) -> Option<Cmd> {
        self.0.backslash_behind((at.pos() == at.line().len()).then_some(at.line()));
        None
    }
}

/// Enter goes on with another line behind a backslash that was just typed.
struct GoOnBehindBackslash(Editing);

impl ConditionalEventHandler for GoOnBehindBackslash {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, at: &EventContext<'_>) -> Option<Cmd> {
        (at.pos() == at.line().len() && self.0.goes_on_behind(at.line())).then_some(Cmd::Newline)
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
