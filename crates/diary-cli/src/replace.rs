//! Files that are there whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Puts a new file in the place of what is at `path`. A crash leaves one or the other.
///
/// # Errors
/// Those of writing and renaming; the old one is still there then.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = OsString::from(path);
    name.push(".new");
    let new = PathBuf::from(name);
    let written = write(&new, text).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // What failed before is told; what is left over helps nobody.
        let _ = fs::remove_file(&new);
    }
    written
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    // Else a power cut could leave the new name on an empty file.
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for text in ["old", "new"] {
            replace(&path, text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        replace(&taken, "text").unwrap_err();
        replace(&folder.path().join("nowhere/file"), "text").unwrap_err();
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["file", "taken"]);
    }
}
