//! The line that is being edited, as far as others than the editor need to know it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the editor's thread tells of itself.
#[derive(Clone, Default)]
pub(super) struct Editing {
    line: Arc<Mutex<Line>>,
    /// The editor reads no more.
    over: Arc<AtomicBool>,
}

#[derive(Default)]
struct Line {
    text: String,
    /// What stood there once a backslash was typed at its end.
    behind_backslash: Option<String>,
    /// What stood there each time that Enter went on behind such a backslash. One that was pasted, or comes back
    /// from the history, is the text's own.
    went_on: Vec<String>,
}

impl Editing {
    /// This stands on the line now.
    pub(super) fn set_line(&self, text: &str) {
        text.clone_into(&mut self.lock().text);
    }

    /// A backslash is typed behind this, or elsewhere in the line.
    pub(super) fn backslash_behind(&self, text: Option<&str>) {
        self.lock().behind_backslash = text.map(|text| format!("{text}\\"));
    }

    /// Whether Enter goes on with another line behind this: it ends in a backslash that was just typed.
    pub(super) fn goes_on_behind(&self, text: &str) -> bool {
        let mut line = self.lock();
        let goes_on = line.behind_backslash.take().is_some_and(|behind| behind == text);
        if goes_on {
            line.went_on.push(text.to_owned());
        }
        goes_on
    }

    /// What stands on the line, without the backslashes that went on with another one. A new one begins.
    pub(super) fn take_line(&self) -> String {
        let line = std::mem::take(&mut *self.lock());
        line.finish(line.text.clone())
    }

    /// The same for a line that the editor gives.
    pub(super) fn finish(&self, text: String) -> String {
        std::mem::take(&mut *self.lock()).finish(text)
    }

    pub(super) fn set_over(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn finish(&self, mut text: String) -> String {
        let whole = text.clone();
        for behind in self.went_on.iter().rev() {
            // Whoever changed it since sees the backslash, and may mean it.
            if whole.strip_prefix(behind.as_str()).is_some_and(|rest| rest.starts_with('\n')) {
                text.remove(behind.len() - 1);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_backslash_that_was_typed_at_the_end_goes_on() {
        let editing = Editing::default();
        assert!(!editing.goes_on_behind("pasted\\"));
        editing.backslash_behind(Some("one"));
        assert!(editing.goes_on_behind("one\\"));
        editing.backslash_behind(Some("one\\\ntwo"));
        assert!(editing.goes_on_behind("one\\\ntwo\\"));
        editing.backslash_behind(None);
        assert!(!editing.goes_on_behind("one\\\ntwo\\\nthree\\"));
        let line = "one\\\ntwo\\\nthree\\\nfour".to_owned();
        assert_eq!(editing.finish(line.clone()), "one\ntwo\nthree\\\nfour");
        assert_eq!(editing.finish(line.clone()), line, "another line");
        editing.set_line("half");
        assert_eq!((editing.take_line(), editing.take_line()), ("half".to_owned(), String::new()));
    }
}
