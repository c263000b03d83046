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

/// Lets [`receive`] say how much is left, from now on (TCP_INQ, since Linux 4.18).
///
/// # Errors
/// Those of setsockopt(2): it is no TCP socket, or the system does not know that.
pub fn tell_what_is_left(socket: BorrowedFd<'_>) -> io::Result<()> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::os::fd::AsRawFd;
        let on: libc::c_int = 1;
        let length = libc::socklen_t::try_from(size_of_val(&on)).expect("it is small");
        // SAFETY: the kernel reads `length` bytes from the pointer, which outlives the call; the descriptor is open as long
        // as it is borrowed.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INQ,
                (&raw const on).cast(),
                length,
            )
        };
        if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    {
        let _ = socket;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Reads from a socket what is there, and says how many bytes are left to read (one at the end of the input), if
/// [`tell_what_is_left`] has been called.
///
/// # Errors
/// Those of recvmsg(2).
pub fn receive(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<(usize, Option<usize>)> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::os::fd::AsRawFd;
        let mut parts = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        // Room for a header and an int, aligned as a header must be.
        let mut control = [0_u64; 4];
        // SAFETY: it has only numbers and pointers, for which all zeros are valid too.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut parts;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: all that the message points to outlives the call and is as long as it says; the descriptor is open as long
        // as it is borrowed.
        let read = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
        let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: the kernel has filled the control buffer and its length in. A header that it gives is whole, and one of
        // this type has an int behind it, which may lie at any address.
        let left = unsafe {
            libc::CMSG_FIRSTHDR(&raw const message).as_ref().and_then(|header| {
                let is_left = (header.cmsg_level, header.cmsg_type) == (libc::IPPROTO_TCP, libc::TCP_CM_INQ);
                is_left.then(|| libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned())
            })
        };
        Ok((read, left.map(|left| usize::try_from(left).unwrap_or(0))))
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    {
        let (read, _) = rustix::net::recv(socket, into, rustix::net::RecvFlags::empty())?;
        Ok((read, None))
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
    fn what_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        let mut into = [0; 4];
        peer.write_all(b"abc").unwrap();
        assert_eq!(receive(socket.as_fd(), &mut into).unwrap(), (3, None), "it was not asked for");
        tell_what_is_left(socket.as_fd()).unwrap();
        peer.write_all(b"defghi").unwrap();
        assert_eq!(receive(socket.as_fd(), &mut into).unwrap(), (4, Some(2)));
        assert_eq!(receive(socket.as_fd(), &mut into).unwrap(), (2, Some(0)));
        drop(peer);
        assert_eq!(receive(socket.as_fd(), &mut into).unwrap().0, 0);
        assert!(tell_what_is_left(UnixStream::pair().unwrap().0.as_fd()).is_err());
    }

    #[test]
    fn a_file_is_no_socket() {
        let file = std::fs::File::open("/proc/self/status").unwrap();
        assert!(receive(file.as_fd(), &mut [0; 4]).is_err());
        assert!(untaken_bytes(file.as_fd()).is_err() && silence(file.as_fd()).is_err());
    }
}
