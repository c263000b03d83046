//! Where sentences for the person go.

use std::fmt;
use std::io::Write;

use super::above::Above;
use super::output;

/// The space above the prompt of a line editor, or else stderr.
#[derive(Clone, Default)]
pub(crate) struct Ui(Option<Above>);

impl Ui {
    /// Above a prompt, until the editor gives the terminal back.
    pub(crate) fn above(above: Above) -> Self {
        Self(Some(above))
    }

    /// Says one sentence.
    pub(crate) fn say(&self, sentence: fmt::Arguments<'_>) {
        let above = self.0.clone().map(|mut above| above.write_all(format!("{sentence}\n").as_bytes()));
        if !matches!(above, Some(Ok(()))) {
            output::say(sentence);
        }
    }
}
