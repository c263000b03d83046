//! Wrong tokens, by address: whoever shows many waits, and is never locked out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{GUESS_DELAY_MAX, GUESSERS_MAX, GUESSES_FREE, GUESSES_WINDOW};
use crate::peer::network_of;

/// Wrong tokens of the last minute. A Unix socket has no address.
#[derive(Debug, Default)]
pub(super) struct Guesses(Mutex<HashMap<Option<IpAddr>, Guesser>>);

#[derive(Debug)]
struct Guesser {
    since: Instant,
    wrong: u32,
}

impl Guesses {
    /// How long the next token from an address waits: a second more with each wrong one past the free ones.
    pub(super) fn delay(&self, ip: Option<IpAddr>, now: Instant) -> Duration {
        let wrong = match self.guessers().get(&ip.map(network_of)) {
            Some(guesser) if now < guesser.since + GUESSES_WINDOW => guesser.wrong,
            _ => 0,
        };
        Duration::from_secs(wrong.saturating_sub(GUESSES_FREE - 1).into()).min(GUESS_DELAY_MAX)
    }

    /// Notes a wrong token.
    pub(super) fn note(&self, ip: Option<IpAddr>, now: Instant) {
        let mut guessers = self.guessers();
        let ip = ip.map(network_of);
        if guessers.len() >= GUESSERS_MAX && !guessers.contains_key(&ip) {
            guessers.retain(|_, guesser| now < guesser.since + GUESSES_WINDOW);
            // Still full: somebody has that many networks, and none of them is slowed for long.
            if let Some(&other) = guessers.keys().next().filter(|_| guessers.len() >= GUESSERS_MAX) {
                guessers.remove(&other);
            }
        }
        let guesser = guessers.entry(ip).or_insert(Guesser { since: now, wrong: 0 });
        if now >= guesser.since + GUESSES_WINDOW {
            *guesser = Guesser { since: now, wrong: 0 };
        }
        guesser.wrong = guesser.wrong.saturating_add(1);
    }

    fn guessers(&self) -> MutexGuard<'_, HashMap<Option<IpAddr>, Guesser>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_tokens_slow_their_network_for_a_minute() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let ip = |ip: &str| Some(ip.parse().unwrap());
        let seconds = |ip, now| guesses.delay(ip, now).as_secs();
        for wrong in 0..20_u64 {
            assert_eq!(seconds(ip("10.0.0.1"), now), wrong.saturating_sub(9).min(5), "{wrong}");
            guesses.note(ip("10.0.0.1"), now);
        }
        assert_eq!(seconds(ip("::ffff:10.0.0.1"), now), 5);
        assert_eq!((seconds(ip("10.0.0.2"), now), seconds(None, now)), (0, 0));
        (0..10).for_each(|_| guesses.note(ip("2001:db8::1"), now));
        assert_eq!((seconds(ip("2001:db8::2"), now), seconds(ip("2001:db8:0:1::1"), now)), (1, 0));
        let later = now + GUESSES_WINDOW;
        assert_eq!(seconds(ip("10.0.0.1"), later), 0);
        guesses.note(ip("10.0.0.1"), later);
        assert_eq!(seconds(ip("10.0.0.1"), later), 0);
    }

    #[test]
    fn any_number_of_networks_takes_bounded_memory() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        for network in 0..u32::try_from(GUESSERS_MAX).unwrap() + 100 {
            guesses.note(Some(IpAddr::from(network.to_be_bytes())), now);
        }
        assert_eq!(guesses.guessers().len(), GUESSERS_MAX);
    }
}
