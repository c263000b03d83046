//! Prints an answer.

use diary_client::Event;

use crate::error::{CliError, exit};
use crate::render::Printer;
use crate::term::output::{Output, say};

/// An output, its formatter, and what was met so far.
pub(super) struct Page {
    pub(super) printer: Printer,
    pub(super) output: Output,
    bytes: Vec<u8>,
    entries: u64,
    damage: bool,
}

impl Page {
    pub(super) fn new(mut printer: Printer, mut output: Output) -> Self {
        let mut bytes = Vec::new();
        printer.begin(&mut bytes);
        output.print(&bytes);
        Self { printer, output, bytes, entries: 0, damage: false }
    }

    /// Prints an event, unless the reader is gone.
    pub(super) fn print(&mut self, event: &Event) {
        if self.output.is_gone() {
            return;
        }
        match event {
            Event::Entry(_) => self.entries += 1,
            Event::Gap(_) | Event::Damaged { .. } => self.damage = true,
            Event::Restored { .. } => {}
        }
        self.bytes.clear();
        self.printer.event(event, &mut self.bytes);
        self.put();
    }

    /// Prints the formatted bytes, and reports what has no place in the format.
    fn put(&mut self) {
        self.output.print(&self.bytes);
        self.printer.notices.drain(..).for_each(|notice| say(format_args!("{notice}")));
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// The output failed, something is damaged, or nothing was printed; `nothing` is the sentence for the last.
    pub(super) fn finish(&mut self, nothing: String) -> Result<(), CliError> {
        self.bytes.clear();
        self.printer.end(&mut self.bytes);
        self.put();
        self.output.finish()?;
        match self.entries {
            _ if self.output.is_gone() => Ok(()),
            _ if self.damage => Err(CliError::Told(exit::DAMAGE)),
            0 => Err(CliError::NothingFound(nothing)),
            _ => Ok(()),
        }
    }
}
