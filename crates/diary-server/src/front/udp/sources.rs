//! Which datagrams are taken. A source address can be forged, so an answer may go to somebody who answers it in turn;
//! and an endless loop of answers is made impossible, or at least slow:
//!
//! - What looks like an answer of a diary is not taken ([`is_answer`]): no two diaries answer each other.
//! - The diary's own address is no client of it.
//! - Ports below 1024 are those of services, such as echo (7) and chargen (19), which answer whatever comes. A client has
//!   a higher one, also behind a NAT (RFC 4787, 4.2.1).
//! - Each source has a rate: [`SOURCE_BURST`](crate::limits::SOURCE_BURST).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use diary_proto::answer::MARK;
use diary_proto::time::{TIME_BYTES, Time};
use diary_proto::{Code, Refusal};
use tokio::time::Instant;

use crate::limits::{Limits, SOURCES_MAX, SOURCES_SEARCH_PAUSE};
use crate::peer::network_of;

/// Ports from here on are given to clients.
const FIRST_CLIENT_PORT: u16 = 1024;

pub(super) struct Sources {
    /// The diary's.
    port: u16,
    rates: Rates,
}

impl Sources {
    pub(super) fn new(port: u16, limits: &Limits) -> Self {
        let (burst, refill) = (limits.source_burst, limits.source_refill);
        Self { port, rates: Rates { burst, refill, full_at: HashMap::new(), search_at: None } }
    }

    /// Whether a datagram may be stored and answered.
    ///
    /// # Errors
    /// Why not, for the log: nobody is told.
    pub(super) fn admit(&mut self, from: SocketAddr, datagram: &[u8], now: Instant) -> Result<(), Refusal> {
        let denied = |why| Err(Refusal::new(Code::Denied, why));
        if from.port() < FIRST_CLIENT_PORT {
            return denied("this comes from a service's port (below 1024), and no client has one");
        }
        if from.port() == self.port && is_of_this_machine(from) {
            return denied("this comes from an address of the diary itself");
        }
        if is_answer(datagram) {
            return denied("this is an answer of a diary, not an entry");
        }
        if !self.rates.admit(Source::of(from.ip()), now) {
            return Err(Refusal::new(Code::Busy, "this source sends more datagrams than one may"));
        }
        Ok(())
    }
}

/// Whether the first line is what a diary answers: an entry as it is shown, or what begins with the mark.
fn is_answer(datagram: &[u8]) -> bool {
    datagram.starts_with(MARK.as_bytes()) || is_entry(datagram)
}

/// `SEQ TIME AUTHOR TEXT`.
pub(super) fn is_entry(line: &[u8]) -> bool {
    let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let Some((b" ", rest)) = line[digits..].split_at_checked(1) else { return false };
    let Some((time, rest)) = rest.split_at_checked(TIME_BYTES) else { return false };
    digits > 0 && rest.first() == Some(&b' ') && Time::parse(time).is_some()
}

/// Only an address of this machine can be bound.
fn is_of_this_machine(address: SocketAddr) -> bool {
    let address = match address {
        // Its scope counts.
        SocketAddr::V6(mut address) if address.ip().to_ipv4_mapped().is_none() => {
            address.set_port(0);
            SocketAddr::V6(address)
        }
        address => SocketAddr::new(address.ip().to_canonical(), 0),
    };
    !matches!(UdpSocket::bind(address), Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// Who shares a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    /// An IPv4 address, or the network of an IPv6 address: one host may have a whole /64.
    Address(IpAddr),
    /// All for whom there is no room.
    Others,
}

impl Source {
    fn of(ip: IpAddr) -> Self {
        Self::Address(network_of(ip))
    }
}

/// A token bucket for each source, kept as the time when it is full again (the generic cell rate algorithm of ITU-T
/// I.371). A source that is not here has a full one.
struct Rates {
    burst: u32,
    refill: Duration,
    full_at: HashMap<Source, Instant>,
    /// When those with a full bucket may be searched for again.
    search_at: Option<Instant>,
}

impl Rates {
    fn admit(&mut self, source: Source, now: Instant) -> bool {
        let source =
            if self.full_at.contains_key(&source) || self.has_room(now) { source } else { Source::Others };
        let full_at = self.full_at.entry(source).or_insert(now);
        let next = now.max(*full_at) + self.refill;
        let admitted = next - now <= self.refill * self.burst;
        if admitted {
            *full_at = next;
        }
        admitted
    }

    fn has_room(&mut self, now: Instant) -> bool {
        if self.full_at.len() >= SOURCES_MAX && self.search_at.is_none_or(|at| at <= now) {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.search_at = Some(now + SOURCES_SEARCH_PAUSE);
        }
        self.full_at.len() < SOURCES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_known_by_their_exact_shape() {
        for answer in [
            "7 2026-11-21T08:15:02.123456+08:00 anna text\n",
            "7 2026-11-21T08:15:02.123456+08:00 anna two\nlines",
            "diary/1 ok 7\n",
            "diary/1 ready head=41",
            "diary/1 error utf8: this is not valid UTF-8",
        ] {
            assert!(is_answer(answer.as_bytes()), "{answer}");
        }
        for text in [
            "ok",
            "ok, done",
            "ok 7",
            "error in the pump",
            "error busy: pump 3",
            "error",
            "bye",
            "7",
            "7 ",
            "",
            "7 monkeys",
            "diary",
            "diary/1",
            "diary/2 x",
            "2026-11-21T08:15:02.123456+08:00 anna text",
            "7 2026-11-21T08:15:02+08:00 anna text",
            " 7 2026-11-21T08:15:02.123456+08:00 anna text",
            "7 2026-11-21T08:15:02.123456+08:00",
        ] {
            assert!(!is_answer(text.as_bytes()), "{text}");
        }
    }

    fn sources(burst: u32) -> Sources {
        let limits =
            Limits { source_burst: burst, source_refill: Duration::from_secs(1), ..Limits::default() };
        Sources::new(8888, &limits)
    }

    #[test]
    fn services_and_the_diary_itself_are_no_clients() {
        let mut sources = sources(100);
        let mut code = |from: &str| {
            let admitted = sources.admit(from.parse().unwrap(), b"hello", Instant::now());
            admitted.err().map(|refusal| refusal.code)
        };
        for from in ["192.0.2.1:7", "192.0.2.1:0", "[2001:db8::1]:53", "127.0.0.1:1023"] {
            assert_eq!(code(from), Some(Code::Denied), "{from}");
        }
        for from in ["127.0.0.1:8888", "127.0.0.9:8888", "[::ffff:127.0.0.1]:8888"] {
            assert_eq!(code(from), Some(Code::Denied), "{from}");
        }
        for from in ["192.0.2.1:8888", "127.0.0.1:8889", "192.0.2.1:1024"] {
            assert_eq!(code(from), None, "{from}");
        }
    }

    #[test]
    fn each_source_has_a_rate() {
        let mut sources = sources(3);
        let start = Instant::now();
        let mut admitted = |ip: &str, milliseconds| {
            let from = SocketAddr::new(ip.parse().unwrap(), 5000);
            sources.admit(from, b"hello", start + Duration::from_millis(milliseconds)).is_ok()
        };
        for _ in 0..3 {
            assert!(admitted("192.0.2.1", 0));
            assert!(admitted("2001:db8::1", 0));
        }
        assert!(!admitted("192.0.2.1", 0) && !admitted("::ffff:192.0.2.1", 0));
        assert!(!admitted("2001:db8::1", 999) && !admitted("2001:db8::ffff:2", 999), "one network");
        assert!(admitted("2001:db8:0:1::1", 0) && admitted("192.0.2.2", 0), "others");
        assert!(admitted("192.0.2.1", 1000) && !admitted("192.0.2.1", 1000), "one more each second");
        assert!(
            (0..3).all(|_| admitted("192.0.2.1", 9000)) && !admitted("192.0.2.1", 9000),
            "never more than the burst"
        );
    }

    #[test]
    fn sources_without_end_take_no_memory_without_end() {
        let mut sources = sources(3);
        let start = Instant::now();
        let mut admitted = |n: u32, seconds| {
            let from = SocketAddr::new(IpAddr::from(n.to_be_bytes()), 5000);
            sources.admit(from, b"hello", start + Duration::from_secs(seconds)).is_ok()
        };
        let known = u32::try_from(SOURCES_MAX).unwrap();
        assert!((0..known).all(|n| admitted(n, 0)));
        assert_eq!((known..10 * known).filter(|&n| admitted(n, 0)).count(), 3, "these share one");
        assert!(admitted(0, 0), "who is known is not harmed");
        assert!((known..2 * known).all(|n| admitted(n, 9)), "those that were silent are forgotten");
        assert!(sources.rates.full_at.len() <= SOURCES_MAX + 1);
    }
}
