//! Where sentences for the user go.

use std::fmt;
use std::io::Write;

use super::above::Above;
use super::output;

/// The space above the prompt until the line editor gives the terminal back; otherwise stderr.
#[derive(Clone, Default)]
pub(crate) struct Ui(pub(super) Option<Above>);

impl Ui {
    /// Prints a sentence.
    pub(crate) fn say(&self, sentence: fmt::Arguments<'_>) {
        let above = self.0.clone().map(|mut above| above.write_all(format!("{sentence}\n").as_bytes()));
        if !matches!(above, Some(Ok(()))) {
            output::say(sentence);
        }
    }
}
