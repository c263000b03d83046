//! The header of the PROXY protocol, in which a proxy says whose connection it passes on
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>). It comes before anything else.
//!
//! Version 1 is a line (`PROXY TCP4 192.0.2.7 198.51.100.1 51234 8888` and CR LF), version 2 binary. Both are taken;
//! checksums and what else version 2 may have behind the addresses are skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::entry::parse_number;
use crate::limits::PROXY_HEADER_MAX_BYTES;

/// How version 1 begins.
const PREFIX: &[u8] = b"PROXY ";

/// Longest header of version 1, CR LF included (2.1).
const LINE_MAX_BYTES: usize = 107;

/// How version 2 begins (2.2).
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The signature's first line that is not empty, in line mode.
const SIGNATURE_LINE: &[u8] = b"\0";

/// The version, and the command that says that the proxy speaks for itself, as when it looks whether the server is well.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The highest families and transports that are assigned.
const UNIX_FAMILY: u8 = 3;
const DATAGRAMS: u8 = 2;

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Who connected to the proxy. `None`: the proxy itself, or it cannot say; then the connection's own address counts.
    pub source: Option<SocketAddr>,
    /// Its length in bytes; what is behind it is the peer's.
    pub bytes: usize,
}

/// Why bytes are not a header, whatever follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// They begin otherwise.
    #[error("this is not a PROXY header, which has to come first here")]
    Missing,
    /// A field is wrong.
    #[error("the PROXY header cannot be read")]
    Malformed,
    /// It is over its limit.
    #[error("a PROXY header may have 107 bytes in version 1, and {PROXY_HEADER_MAX_BYTES} in version 2")]
    TooLong,
}

impl Header {
    /// Reads the header that `bytes` begin with; `None` if it is not whole yet.
    ///
    /// # Errors
    /// [`BadHeader`], as soon as it is certain.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, BadHeader> {
        let begins = |with: &[u8]| bytes.starts_with(with) || with.starts_with(bytes);
        match bytes {
            [] => Ok(None),
            _ if begins(PREFIX) => Self::read_line(bytes),
            _ if begins(SIGNATURE) => Self::read_binary(bytes),
            _ => Err(BadHeader::Missing),
        }
    }

    fn read_line(bytes: &[u8]) -> Result<Option<Self>, BadHeader> {
        let end = memchr::memchr(b'\n', &bytes[..bytes.len().min(LINE_MAX_BYTES)]);
        match end {
            None if bytes.len() < LINE_MAX_BYTES => Ok(None),
            None => Err(BadHeader::TooLong),
            Some(end) => {
                let source = bytes[..end].strip_suffix(b"\r").and_then(source_of_line);
                Ok(Some(Self { source: source.ok_or(BadHeader::Malformed)?, bytes: end + 1 }))
            }
        }
    }

    fn read_binary(bytes: &[u8]) -> Result<Option<Self>, BadHeader> {
        let rest = bytes.get(SIGNATURE.len()..).unwrap_or_default();
        let Some((&[command, kind, high, low], rest)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let whole = SIGNATURE.len() + 4 + length;
        if whole > PROXY_HEADER_MAX_BYTES {
            return Err(BadHeader::TooLong);
        }
        let Some(addresses) = rest.get(..length) else {
            return Ok(None);
        };
        let source = match (command, kind) {
            (LOCAL, _) => None,
            (PROXY, TCP4) => Some(source_of_binary::<4, Ipv4Addr>(addresses)?),
            (PROXY, TCP6) => Some(source_of_binary::<16, Ipv6Addr>(addresses)?),
            // Unspecified, Unix, or datagrams.
            (PROXY, _) if kind >> 4 <= UNIX_FAMILY && kind & 0xf <= DATAGRAMS => None,
            _ => return Err(BadHeader::Malformed),
        };
        Ok(Some(Self { source, bytes: whole }))
    }
}

/// Looks for the signature of version 2 at the start of a connection, where it could be taken for the ends of messages.
#[derive(Debug, Clone)]
pub(crate) struct SignatureWatch {
    /// What of it has not come; nothing once something else has.
    rest: &'static [u8],
}

impl Default for SignatureWatch {
    fn default() -> Self {
        Self { rest: SIGNATURE }
    }
}

impl SignatureWatch {
    /// What is behind it, if `input` has all of the rest.
    pub(crate) fn completed_by<'i>(&mut self, input: &'i [u8]) -> Option<&'i [u8]> {
        let behind = input.strip_prefix(self.rest).filter(|_| !self.rest.is_empty())?;
        self.rest = &[];
        Some(behind)
    }

    /// This much has been read on.
    pub(crate) fn pass(&mut self, bytes: &[u8]) {
        self.rest = self.rest.strip_prefix(bytes).unwrap_or_default();
    }
}

/// Whether the first line of line mode, without its line end, is where a header begins.
pub(crate) fn begins_header(line: &[u8]) -> bool {
    line == SIGNATURE_LINE || (line.len() < LINE_MAX_BYTES && source_of_line(line).is_some())
}

/// What a line of version 1, without CR LF, says about the source; `None` if it is not one.
fn source_of_line(line: &[u8]) -> Option<Option<SocketAddr>> {
    let mut words = line.strip_prefix(PREFIX)?.split(|&byte| byte == b' ');
    match words.next()? {
        // What follows is to be ignored.
        b"UNKNOWN" => Some(None),
        b"TCP4" => source_of_words::<Ipv4Addr>(words).map(Some),
        b"TCP6" => source_of_words::<Ipv6Addr>(words).map(Some),
        _ => None,
    }
}

fn source_of_words<'a, Ip: FromStr + Into<IpAddr>>(
    mut words: impl Iterator<Item = &'a [u8]>,
) -> Option<SocketAddr> {
    let mut ip = || std::str::from_utf8(words.next()?).ok()?.parse::<Ip>().ok();
    let (source, _destination) = (ip()?, ip()?);
    let mut port = || u16::try_from(parse_number(words.next()?)?).ok();
    let (port, _destination_port) = (port()?, port()?);
    words.next().is_none().then(|| SocketAddr::new(source.into(), port))
}

/// Source and destination, then their ports.
fn source_of_binary<const IP_BYTES: usize, Ip: From<[u8; IP_BYTES]> + Into<IpAddr>>(
    addresses: &[u8],
) -> Result<SocketAddr, BadHeader> {
    let malformed = BadHeader::Malformed;
    let (source, rest) = addresses.split_first_chunk::<IP_BYTES>().ok_or(malformed)?;
    let (_destination, ports) = rest.split_first_chunk::<IP_BYTES>().ok_or(malformed)?;
    let &[high, low, _, _] = ports.first_chunk().ok_or(malformed)?;
    Ok(SocketAddr::new(Ip::from(*source).into(), u16::from_be_bytes([high, low])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header of version 2, with something behind the addresses.
    fn binary(command: u8, kind: u8, addresses: &[u8], more: usize) -> Vec<u8> {
        let length = u16::try_from(addresses.len() + more).unwrap().to_be_bytes();
        [SIGNATURE, &[command, kind], &length, addresses, &vec![7; more]].concat()
    }

    fn addresses_of(source: SocketAddr) -> (u8, Vec<u8>) {
        let ports = [&source.port().to_be_bytes()[..], &[0x22, 0xb8]].concat();
        match source.ip() {
            IpAddr::V4(ip) => (TCP4, [&ip.octets()[..], &[198, 51, 100, 1], &ports].concat()),
            IpAddr::V6(ip) => (TCP6, [&ip.octets()[..], &[1; 16], &ports].concat()),
        }
    }

    #[track_caller]
    fn check(bytes: impl AsRef<[u8]>, header: Result<Option<SocketAddr>, BadHeader>) {
        let bytes = bytes.as_ref();
        let read = Header::read(bytes);
        let expected = header.map(|source| Some(Header { source, bytes: bytes.len() }));
        assert_eq!(read, expected, "{}", bytes.escape_ascii());
    }

    #[test]
    fn lines() {
        check("PROXY TCP4 192.0.2.7 198.51.100.1 51234 8888\r\n", Ok("192.0.2.7:51234".parse().ok()));
        check("PROXY TCP6 2001:db8::7 ::1 0 65535\r\n", Ok("[2001:db8::7]:0".parse().ok()));
        check("PROXY UNKNOWN\r\n", Ok(None));
        let longest = format!("PROXY UNKNOWN {0} {0} 65535 65535\r\n", ["ffff"; 8].join(":"));
        assert_eq!(longest.len(), LINE_MAX_BYTES);
        check(longest, Ok(None));
        for bad in [
            "PROXY TCP4 192.0.2.7 198.51.100.1 51234 8888\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 51234\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 51234 8888 \r\n",
            "PROXY TCP4  192.0.2.7 198.51.100.1 51234 8888\r\n",
            "PROXY TCP4 192.0.2.07 198.51.100.1 51234 8888\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 051234 8888\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 +51234 8888\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 65536 8888\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n",
            "PROXY TCP5 192.0.2.7 198.51.100.1 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
        ] {
            check(bad, Err(BadHeader::Malformed));
        }
        check(format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_MAX_BYTES)), Err(BadHeader::TooLong));
        for missing in ["x", "GET / HTTP/1.1\r\n", "PROXYTCP4", "proxy unknown\r\n", "\r\n\r\nQ", "\0"] {
            check(missing, Err(BadHeader::Missing));
        }
    }

    #[test]
    fn binary_headers() {
        let (tcp4, ipv4) = addresses_of("192.0.2.7:51234".parse().unwrap());
        for (command, kind, addresses) in [
            (LOCAL, 0, &[][..]),
            (LOCAL, tcp4, &ipv4),
            (LOCAL, 0xff, b"x"),
            (PROXY, 0, &[]),
            (PROXY, 0x12, &ipv4),
            (PROXY, 0x31, &[b'/'; 216]),
        ] {
            check(binary(command, kind, addresses, 0), Ok(None));
        }
        for (command, kind, addresses) in [
            (0x22, tcp4, &ipv4[..]),
            (0x11, tcp4, &ipv4),
            (PROXY, 0x41, &ipv4),
            (PROXY, 0x13, &ipv4),
            (PROXY, TCP6, &ipv4),
            (PROXY, tcp4, &ipv4[1..]),
        ] {
            check(binary(command, kind, addresses, 0), Err(BadHeader::Malformed));
        }
        let room = PROXY_HEADER_MAX_BYTES - SIGNATURE.len() - 4 - ipv4.len();
        check(binary(PROXY, tcp4, &ipv4, room), Ok("192.0.2.7:51234".parse().ok()));
        check(binary(PROXY, tcp4, &ipv4, room + 1), Err(BadHeader::TooLong));
    }

    #[test]
    fn first_lines() {
        assert!(begins_header(b"PROXY TCP4 192.0.2.7 198.51.100.1 51234 8888"));
        assert!(begins_header(b"PROXY UNKNOWN") && begins_header(b"\0"));
        for text in ["PROXY servers are slow", "PROXY TCP4 or TCP6?", "PROXY", "proxy UNKNOWN", "\0\0", ""] {
            assert!(!begins_header(text.as_bytes()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_cut_and_anything_behind_give_the_same_header(
            source in any::<SocketAddr>(), more in 0..600usize, behind in ".{0,20}", text in any::<bool>(),
        ) {
            // A flow and a scope do not travel.
            let source = SocketAddr::new(source.ip(), source.port());
            let header = if text {
                let (kind, other) = if source.is_ipv4() { ("TCP4", "127.0.0.1") } else { ("TCP6", "::1") };
                format!("PROXY {kind} {} {other} {} 8888\r\n", source.ip(), source.port()).into_bytes()
            } else {
                let (kind, addresses) = addresses_of(source);
                binary(PROXY, kind, &addresses, more)
            };
            for cut in 0..header.len() {
                prop_assert_eq!(Header::read(&header[..cut]), Ok(None));
            }
            let expected = Header { source: Some(source), bytes: header.len() };
            let input = [&header, behind.as_bytes()].concat();
            prop_assert_eq!(Header::read(&input), Ok(Some(expected)));
        }

        #[test]
        fn any_bytes_do_not_panic_and_are_settled_in_time(
            begin in prop_oneof![Just(PREFIX), Just(SIGNATURE), Just(&b"PROXY TCP4 1.2.3.4 "[..])],
            bytes in proptest::collection::vec(any::<u8>(), 0..PROXY_HEADER_MAX_BYTES),
        ) {
            let mut input = [begin, &bytes].concat();
            let _ = Header::read(&input);
            input.resize(PROXY_HEADER_MAX_BYTES, b'x');
            prop_assert_ne!(Header::read(&input), Ok(None));
        }
    }
}
