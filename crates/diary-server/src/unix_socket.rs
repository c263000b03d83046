//! Unix sockets to listen on: who may connect, and whose file it is.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, fchmod, flock, fstat, open};
use rustix::io::Errno;
use rustix::process::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep};

use crate::limits::{BACKLOG, SOCKET_LOCK_MAX};

/// Between two tries to lock a folder: no event says when a lock is free.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A Unix socket that listens. The file of one that we bound goes with it, unless another server has the place by then.
pub(crate) struct UnixSocket {
    // Dropped first: as long as the socket listens, no other server takes its file for one that was left behind.
    _file: Option<SocketFile>,
    path: PathBuf,
    listener: UnixListener,
}

impl UnixSocket {
    /// Listens at `path`, where the mode says who may connect. Replaces a socket that a killed server left behind, but
    /// none that is in use, and nothing else. Not cancel safe: the file may stay behind.
    pub(crate) async fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        let _lock = lock(path).await;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Linux gives the file the socket's mode, less what the umask takes: at no time is it wider.
        fchmod(&socket, Mode::from_raw_mode(mode))?;
        let address = SockAddr::unix(path)?;
        match socket.bind(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_left_behind(path, error).await?;
                socket.bind(&address)?;
            }
            bound => bound?,
        }
        let file = SocketFile::of(path, mode)?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let listener = UnixListener::from_std(OwnedFd::from(socket).into())?;
        Ok(Self { _file: Some(file), path: path.to_owned(), listener })
    }

    /// One that somebody else has bound at `path`, and whose file is theirs.
    pub(crate) fn of_another(listener: UnixListener, path: PathBuf) -> Self {
        Self { _file: None, path, listener }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection. Cancel safe.
    pub(crate) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

/// Keeps other servers from this folder while we bind, as far as its file system can: one that starts at the same time
/// would take a socket that does not listen yet for one that was left behind. Cancel safe.
async fn lock(path: &Path) -> Option<OwnedFd> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let until = Instant::now() + SOCKET_LOCK_MAX;
    // A thread that waited for it could not be called back, and somebody may hold it for ever.
    loop {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(folder),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => sleep(LOCK_PAUSE).await,
            Err(_) => return None,
        }
    }
}

/// Removes a socket on which nothing listens; `in_use` is the error otherwise.
async fn remove_left_behind(path: &Path, in_use: io::Error) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::other("not a socket; choose another path"));
    }
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if !UnixStream::connect(path).await.is_err_and(|error| refused(&error)) {
        return Err(in_use);
    }
    fs::remove_file(path)
}

/// The file of a socket that this process has bound.
struct SocketFile {
    path: PathBuf,
    /// Device and inode. No other file gets these numbers as long as the socket is open.
    id: (u64, u64),
}

impl SocketFile {
    /// The file of a socket that was bound just now. Gives it what the umask took of its mode.
    fn of(path: &Path, mode: u32) -> io::Result<Self> {
        let file = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket || stat.st_uid != geteuid().as_raw() {
            return Err(io::Error::other("somebody else replaced the socket; choose a folder of your own"));
        }
        let bound = Self { path: path.to_owned(), id: (stat.st_dev, stat.st_ino) };
        if Mode::from_raw_mode(stat.st_mode) != Mode::from_raw_mode(mode) {
            // By its handle: the path may lead elsewhere by now.
            let file = format!("/proc/self/fd/{}", file.as_raw_fd());
            fs::set_permissions(file, Permissions::from_mode(mode))?;
        }
        Ok(bound)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.id);
        if is_ours {
            // Somebody may have removed it meanwhile.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn waiting_for_a_lock_takes_no_thread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let held = fs::File::open(folder.path()).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let mut binding = pin!(UnixSocket::bind(&path, 0o600));
            assert!(futures::poll!(&mut binding).is_pending(), "somebody has the lock");
            let reading = tokio::task::spawn_blocking(|| ());
            let patience = Duration::from_secs(60);
            tokio::time::timeout(patience, reading).await.expect("a reading has its thread").unwrap();
            assert!(!path.exists());
            drop(held);
            assert_eq!(binding.await.unwrap().path(), path);
        });
    }
}
