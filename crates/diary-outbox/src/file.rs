//! Names, finds, creates and locks the files of an outbox.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::error::Error;

/// Extension of a tray's file.
pub(crate) const FILE_END: &str = ".jsonl";

/// Extension of a file with one text that was set aside.
pub(crate) const ASIDE_END: &str = ".txt";

/// Minimum number of characters of the random part in an id: enough that ids rarely collide, few enough to type.
const ID_MIN_CHARS: usize = 4;

/// Returns a new path in `folder`, as in `20261121T001502.123456Z-3f9a1c04d2e8b711`. Names sort by time.
pub(crate) fn new_path(folder: &Path, end: &str) -> io::Result<PathBuf> {
    let random = getrandom::u64()?;
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%S.%6fZ");
    Ok(folder.join(format!("{time}-{random:016x}{end}")))
}

/// Returns the tray files in a folder, oldest first.
pub(crate) fn files(folder: Option<&Path>, troubles: &mut Vec<Error>) -> Vec<PathBuf> {
    files_with(FILE_END, folder, troubles)
}

/// Returns the files that end in `end`, oldest first.
pub(crate) fn files_with(end: &str, folder: Option<&Path>, troubles: &mut Vec<Error>) -> Vec<PathBuf> {
    let Some(folder) = folder else { return Vec::new() };
    let found = fs::read_dir(folder);
    if let Some(error) = found.as_ref().err().filter(|error| error.kind() != ErrorKind::NotFound) {
        troubles.push(Error::unreadable(folder, error));
    }
    let paths = found.into_iter().flatten().flatten().map(|file| file.path());
    let mut files: Vec<_> =
        paths.filter(|path| path.to_str().is_some_and(|path| path.ends_with(end))).collect();
    files.sort_unstable();
    files
}

/// Returns the random part of a tray's file name; `None` for any other name.
pub(crate) fn random_part(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?.strip_suffix(FILE_END)?;
    Some(name.rsplit_once('-').map_or(name, |(_, random)| random))
}

/// Returns the shortest unique prefix of a file's random part.
pub(crate) fn short_part<'a>(path: &'a Path, files: &[PathBuf]) -> &'a str {
    let random = random_part(path).unwrap_or_default();
    let shared = |other: &str| random.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let others = files.iter().filter(|other| *other != path).filter_map(|other| random_part(other));
    let needed = others.map(|other| shared(other) + 1).max().unwrap_or(0);
    random.get(..needed.max(ID_MIN_CHARS)).unwrap_or(random)
}

/// Opens and locks a file. Fails with [`ErrorKind::WouldBlock`] if another process holds it.
pub(crate) fn open_locked(options: &OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.open(path)?;
    file.try_lock()?;
    // The holder may have removed it between open and lock.
    if file.metadata()?.nlink() == 0 {
        return Err(ErrorKind::NotFound.into());
    }
    Ok(file)
}

/// Creates a locked file with these bytes. File and name are synced when it returns. [`ErrorKind::NotFound`] and
/// [`ErrorKind::WouldBlock`]: another process took it for a leftover.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file =
        open_locked(OpenOptions::new().read(true).append(true).create_new(true).mode(0o600), path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_data());
    let named = written.and_then(|()| path.parent().map_or(Ok(()), sync_folder));
    // A partial file is of no use.
    named.inspect_err(|_| drop(fs::remove_file(path)))?;
    Ok(file)
}

/// Creates the folder and its missing ancestors, and syncs their names.
pub(crate) fn create_folder(folder: &Path) -> io::Result<()> {
    let missing = folder.ancestors().take_while(|folder| !folder.exists()).count();
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    folder.ancestors().skip(1).take(missing).try_for_each(sync_folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
