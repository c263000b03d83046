//! The folder for what is set aside, beside the day files: torn tails, and strays that were in the way of a day's file.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use diary_proto::entry::StoredLine;
use diary_proto::{Date, Seal};

use crate::disk::{Disk, DiskFile, Doing, How, NotOurs, OpenError, make_inner_dir, sync_names};
use crate::format::day_file::name;

const QUARANTINE: &str = "quarantine";

/// Behind a stray's name.
const STRAY: &str = ".stray";

/// Copies what lies in a day's file at this place, and makes the copy durable.
pub(crate) fn keep_tail(
    disk: &dyn Disk,
    dir: &Path,
    seal: Seal,
    file: &dyn DiskFile,
    date: Date,
    place: Range<u64>,
) -> Result<(), OpenError> {
    let folder = make_folder(disk, dir)?;
    let at = place.start;
    let mut bytes = vec![0; usize::try_from(place.end - at).unwrap_or(usize::MAX)];
    let read = file.read_full_at(&mut bytes, at).doing("read", &dir.join(name(date)))?;
    bytes.truncate(read);
    let path = write(disk, &folder, &format!("{}.{at}", name(date)), &bytes)?;
    disk.sync_dir(&folder).doing("sync", &folder)?;
    tracing::warn!(
        "the last batch was not finished when the server stopped, or when this copy was made: {read} \
         bytes from byte {at} of {} are now in {}{}",
        name(date),
        path.display(),
        describe_seqs(&bytes, seal)
    );
    Ok(())
}

/// Sets aside what is in the way of a day's file. It may hold entries of the journal, which a repair finds there.
pub(crate) fn move_stray(disk: &dyn Disk, dir: &Path, date: Date) -> Result<(), OpenError> {
    let folder = make_folder(disk, dir)?;
    let taken = disk.list(&folder).doing("list", &folder)?;
    let base = name(date) + STRAY;
    let mut names = (1..).map(|number| numbered(&base, number));
    let free = names.find(|name| taken.iter().all(|taken| taken != name.as_str()));
    let (from, to) = (dir.join(name(date)), folder.join(free.expect("there is always another number")));
    disk.rename(&from, &to).doing("move", &from)?;
    disk.sync_dir(&folder).doing("sync", &folder)?;
    disk.sync_dir(dir).doing("sync", dir)?;
    tracing::error!("{} was in the way of the day's own file and is now {}", name(date), to.display());
    Ok(())
}

/// The strays that were in the way once.
///
/// # Errors
/// Those of listing the folder, if there is one.
pub(crate) fn strays(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let folder = dir.join(QUARANTINE);
    let names = match disk.list(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names.doing("list", &folder)?,
    };
    let is_stray = |name: &std::ffi::OsString| name.to_str().is_some_and(|name| name.contains(STRAY));
    let mut paths: Vec<PathBuf> = names.into_iter().filter(is_stray).map(|name| folder.join(name)).collect();
    paths.sort_unstable();
    Ok(paths)
}

fn make_folder(disk: &dyn Disk, dir: &Path) -> Result<PathBuf, OpenError> {
    let folder = dir.join(QUARANTINE);
    make_inner_dir(disk, &folder)?;
    sync_names(disk, &folder)?;
    Ok(folder)
}

/// `base`, or with `.2`, `.3`, … behind it.
fn numbered(base: &str, number: u64) -> String {
    if number == 1 { base.to_owned() } else { format!("{base}.{number}") }
}

/// Writes under `base`, or with a number behind it where something else has that name. What an interrupted recovery left
/// there is written again.
fn write(disk: &dyn Disk, folder: &Path, base: &str, bytes: &[u8]) -> Result<PathBuf, OpenError> {
    let mut number = 1;
    loop {
        let path = folder.join(numbered(base, number));
        let file = match disk.open(&path, How::CreateNew) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = match disk.open(&path, How::Overwrite) {
                    Err(error) if NotOurs::is(&error) => {
                        number += 1;
                        continue;
                    }
                    file => file.doing("open", &path)?,
                };
                let mut old = vec![0; bytes.len() + 1];
                let read = file.read_full_at(&mut old, 0).doing("read", &path)?;
                if !bytes.starts_with(&old[..read]) {
                    number += 1;
                    continue;
                }
                file
            }
            Err(error) => return Err(error).doing("make", &path),
        };
        file.write_all_at(bytes, 0).doing("write", &path)?;
        file.sync_data().doing("sync", &path)?;
        return Ok(path);
    }
}

fn describe_seqs(bytes: &[u8], seal: Seal) -> String {
    let mut seqs =
        bytes.split(|&b| b == b'\n').filter_map(|line| Some(StoredLine::parse(line, seal).ok()?.seq));
    match seqs.next() {
        Some(first) => format!(" (sound lines in it: seqs {first} to {})", seqs.next_back().unwrap_or(first)),
        None => String::new(),
    }
}
