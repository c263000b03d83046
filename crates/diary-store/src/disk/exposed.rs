//! Folders that others can write to.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Group and others may write.
const OTHERS_WRITE: u32 = 0o022;

/// Only who owns a name may change it, as in /tmp.
const STICKY: u32 = 0o1000;

/// How others can change what is in a journal's folder. Displays as a sentence that ends with the command that mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exposed {
    /// Others may write to this folder.
    Writable {
        /// The folder.
        dir: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Another user owns this folder.
    Foreign {
        /// The folder.
        dir: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who should.
        user: u32,
    },
}

/// How others can change what is in `dir`. Its mode counts, its owner, and the mode of the folder above, where others
/// could put another folder in its place. root is nobody else.
pub(super) fn exposed(dir: &Path) -> io::Result<Vec<Exposed>> {
    let dir = fs::canonicalize(dir)?;
    let (about, user) = (fs::metadata(&dir)?, rustix::process::geteuid().as_raw());
    let above = dir.parent().map(|above| Ok::<_, io::Error>((above.to_owned(), fs::metadata(above)?.mode())));
    let above = above.transpose()?.filter(|(_, mode)| mode & STICKY == 0);
    let writable = |(dir, mode): (PathBuf, u32)| {
        (mode & OTHERS_WRITE != 0).then_some(Exposed::Writable { dir, mode: mode & 0o7777 })
    };
    let mut exposed: Vec<_> = writable((dir.clone(), about.mode())).into_iter().collect();
    exposed.extend(above.and_then(writable));
    if ![0, user].contains(&about.uid()) {
        exposed.push(Exposed::Foreign { dir, owner: about.uid(), user });
    }
    Ok(exposed)
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Writable { dir, mode } => write!(
                f,
                "others can write to {} (mode {mode:04o}), and so change or remove what is in the diary; to end that: \
                 chmod go-w {}",
                dir.display(),
                quoted(dir)
            ),
            Self::Foreign { dir, owner, user } => write!(
                f,
                "{} belongs to the user {owner}, and this runs as the user {user}: the owner can change or remove what \
                 is in the diary; to end that: chown -R {user} {}",
                dir.display(),
                quoted(dir)
            ),
        }
    }
}

/// As a shell takes it for one word.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}
