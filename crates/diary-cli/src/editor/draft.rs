//! A line that was not finished when the program was ended from outside: the next conversation begins with it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Its file, in the folder for what outlives a run.
const FILE: &str = "draft";

/// Keeps a line, below those that nobody went on with.
///
/// # Errors
/// It is not kept.
pub(crate) fn keep(state: Option<&Path>, line: &str) -> io::Result<()> {
    let state = state.ok_or(io::ErrorKind::NotFound)?;
    DirBuilder::new().recursive(true).mode(0o700).create(state)?;
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(state.join(FILE))?;
    let begun = file.metadata()?.len() > 0;
    file.write_all(format!("{}{line}", if begun { "\n" } else { "" }).as_bytes())?;
    file.sync_all()?;
    fs::File::open(state)?.sync_all()
}

/// What was kept, and is no longer.
pub(super) fn take(state: Option<&Path>) -> Option<String> {
    let file = state?.join(FILE);
    // Of two programs that begin at once, one has it.
    let mine = file.with_extension(std::process::id().to_string());
    fs::rename(&file, &mine).ok()?;
    let line = fs::read_to_string(&mine).ok()?;
    fs::remove_file(mine).ok()?;
    Some(line).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_taken_once() {
        let state = tempfile::tempdir().unwrap();
        let state = Some(state.path());
        assert_eq!(take(state), None);
        keep(state, "half a 行").unwrap();
        assert_eq!(take(state).as_deref(), Some("half a 行"));
        assert_eq!(take(state), None);
        keep(state, "one").unwrap();
        keep(state, "two\nthree").unwrap();
        assert_eq!(take(state).as_deref(), Some("one\ntwo\nthree"));
        assert!(keep(None, "x").is_err());
    }
}
