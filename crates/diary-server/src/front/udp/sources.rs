//! Which datagrams are taken. A source address can be forged, so an answer may go to somebody who answers it in turn;
//! and an endless loop of answers is made impossible, or at least slow:
//!
//! - What looks like an answer of a diary is not taken ([`is_answer`]): no two diaries answer each other.
//! - The diary's own sockets for datagrams are no clients of it, also the quiet ones, where an answer would be an entry.
//! - Ports below 1024 are those of services, such as echo (7) and chargen (19), which answer whatever comes. A client has
//!   a higher one, also behind a NAT (RFC 4787, 4.2.1).
//! - Each source has a rate: [`SOURCE_BURST`](crate::limits::SOURCE_BURST).

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use diary_proto::answer::MARK;
use diary_proto::time::{TIME_BYTES, Time};
use diary_proto::{Code, Refusal};
use tokio::time::Instant;

use crate::limits::{Limits, SOURCE_RATES};
use crate::peer::network_of;

/// Ports from here on are given to clients.
const FIRST_CLIENT_PORT: u16 = 1024;

pub(super) struct Sources {
    /// Those of the diary's sockets for datagrams.
    ports: Arc<[u16]>,
    rates: Rates,
}

impl Sources {
    pub(super) fn new(ports: Arc<[u16]>, limits: &Limits) -> Self {
        Self { ports, rates: Rates::new(limits.source_burst, limits.source_refill) }
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
        if self.ports.contains(&from.port()) && is_of_this_machine(from) {
            return denied("this comes from an address of the diary itself");
        }
        if is_answer(datagram) {
            return denied("this is an answer of a diary, not an entry");
        }
        if !self.rates.admit(network_of(from.ip()), now) {
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

/// A token bucket for each source, kept as the time when it is full again (the generic cell rate algorithm of ITU-T
/// I.371). There are [`SOURCE_RATES`], and a hash that nobody can foresee says which one is a source's: so none can be made
/// to share with another, and forged sources, however many, are spread over all.
struct Rates {
    burst: u32,
    refill: Duration,
    hash: RandomState,
    start: Instant,
    /// In nanoseconds since the start.
    full_at: Vec<u64>,
}

impl Rates {
    fn new(burst: u32, refill: Duration) -> Self {
        let (hash, start) = (RandomState::new(), Instant::now());
        Self { burst, refill, hash, start, full_at: vec![0; SOURCE_RATES] }
    }

    fn admit(&mut self, source: IpAddr, now: Instant) -> bool {
        let place = self.hash.hash_one(source) % SOURCE_RATES as u64;
        let full_at = &mut self.full_at[usize::try_from(place).expect("there are few rates")];
        let (now, refill) = (nanos(now.saturating_duration_since(self.start)), nanos(self.refill));
        let next = now.max(*full_at).saturating_add(refill);
        let admitted = next - now <= refill.saturating_mul(self.burst.into());
        if admitted {
            *full_at = next;
        }
        admitted
    }
}

/// As far as they reach: for 584 years.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
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
        Sources::new([514, 8888, 9999].into(), &limits)
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
        for from in ["127.0.0.1:8888", "127.0.0.9:8888", "[::ffff:127.0.0.1]:8888", "127.0.0.1:9999"] {
            assert_eq!(code(from), Some(Code::Denied), "{from}");
        }
        for from in ["192.0.2.1:8888", "192.0.2.1:9999", "127.0.0.1:8889", "192.0.2.1:1024"] {
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
    fn sources_without_end_leave_each_its_rate() {
        let mut sources = sources(100);
        let start = Instant::now();
        let mut admitted = |n: u32, milliseconds| {
            let from = SocketAddr::new(IpAddr::from(n.to_be_bytes()), 5000);
            sources.admit(from, b"hello", start + Duration::from_millis(milliseconds)).is_ok()
        };
        // Each is new, and nearly two share a rate.
        let forged = 2 * u32::try_from(SOURCE_RATES).unwrap();
        assert!((1..=forged).all(|n| admitted(n, 0)));
        let more = (0..200).filter(|_| admitted(forged + 1, 0)).count();
        assert!((80..=100).contains(&more), "few have taken from what it may: {more} are left");
        assert!(admitted(forged + 1, 1000) && !admitted(forged + 1, 1000), "one more each second");
        let later = (0..200).filter(|_| admitted(1, 1_000_000)).count();
        assert_eq!(later, 100, "they have come back");
    }
}
