//! Calls of the system that no crate wraps safely. This is the one crate with unsafe code, so that no other needs any.
//!
//! They are glibc's on Linux. Elsewhere each does nothing, or knows nothing.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Gives the free pages of all heaps back to the system. It takes some milliseconds and holds up who allocates meanwhile.
///
/// glibc returns only what is freed at the top of its heaps. After many sessions have held much, the rest of the heap is
/// free and stays resident. Other allocators give memory back by themselves.
pub fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim (malloc_trim(3)) takes no pointer, may be called at any time, and is thread-safe.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What was written to a connected stream socket and its peer has not taken (SIOCOUTQ: tcp(7), unix(7)). On TCP it is in
/// bytes, and taken is what was acknowledged. On a Unix socket it is the memory that it takes, in bytes. 0 where it is not
/// known.
///
/// # Errors
/// Those of ioctl(2): it is no such socket.
pub fn untaken_bytes(socket: BorrowedFd<'_>) -> io::Result<usize> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::os::fd::AsRawFd;
        let mut bytes: libc::c_int = 0;
        // SAFETY: SIOCOUTQ, another name of TIOCOUTQ, writes one int to the pointer, which outlives the call; the
        // descriptor is open as long as it is borrowed.
        if unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(usize::try_from(bytes).unwrap_or(0))
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    {
        let _ = socket;
        Ok(0)
    }
}

/// How long ago the system of a TCP socket's peer acknowledged anything, were it only a probe (`tcpi_last_ack_recv` of
/// TCP_INFO: tcp(7)). [`Duration::MAX`] where it is not known.
///
/// # Errors
/// Those of getsockopt(2): it is no TCP socket.
pub fn silence(socket: BorrowedFd<'_>) -> io::Result<Duration> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::os::fd::AsRawFd;
        let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
        let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).expect("it is small");
        // SAFETY: the kernel writes at most `length` bytes to the pointer and the length to the other; both outlive the
        // call. The descriptor is open as long as it is borrowed.
        let got = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if got < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it has only numbers, for which all zeros are valid too.
        let info = unsafe { info.assume_init() };
        Ok(Duration::from_millis(info.tcpi_last_ack_recv.into()))
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    {
        let _ = socket;
        Ok(Duration::MAX)
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_a_unix_peer_has_not_taken() {
        let (mut socket, mut peer) = UnixStream::pair().unwrap();
        assert_eq!(untaken_bytes(socket.as_fd()).unwrap(), 0);
        socket.write_all(&[7; 1000]).unwrap();
        assert!(untaken_bytes(socket.as_fd()).unwrap() >= 1000);
        peer.read_exact(&mut [0; 1000]).unwrap();
        assert_eq!(untaken_bytes(socket.as_fd()).unwrap(), 0);
        assert!(silence(socket.as_fd()).is_err());
    }

    #[test]
    fn what_a_tcp_peer_has_not_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(written) = socket.write(&[7; 65_536]) {
            sent += written;
        }
        let untaken = untaken_bytes(socket.as_fd()).unwrap();
        assert!(untaken > 0 && untaken <= sent, "{untaken} of {sent} bytes");
        let mut taken = vec![0; sent];
        peer.read_exact(&mut taken).unwrap();
        let waits = std::time::Instant::now();
        // The last acknowledgement may be on its way.
        while untaken_bytes(socket.as_fd()).unwrap() > 0 {
            assert!(waits.elapsed() < Duration::from_secs(60), "everything was taken");
        }
        assert!(silence(socket.as_fd()).unwrap() < Duration::from_secs(60));
    }

    #[test]
    fn a_file_is_no_socket() {
        let file = std::fs::File::open("/proc/self/status").unwrap();
        assert!(untaken_bytes(file.as_fd()).is_err() && silence(file.as_fd()).is_err());
    }
}
