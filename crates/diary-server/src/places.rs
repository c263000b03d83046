//! Places for connections: so many in all, and so many for each address.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{CONNECTIONS_PER_ADDRESS_DIVISOR, LEAVING_MAX, Limits};
use crate::peer::network_of;

/// The places of a server.
#[derive(Debug)]
pub(crate) struct Places {
    total: Arc<Semaphore>,
    /// For those that have none, until they have heard so.
    leaving: Arc<Semaphore>,
    for_each_address: usize,
    /// How many each has. Whoever is in here has a place of `total`, so that bounds it.
    taken: Mutex<HashMap<Block, usize>>,
}

/// A connection's place, which is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    places: Arc<Places>,
    block: Option<Block>,
}

/// Addresses that are counted as one ([`network_of`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Block(IpAddr);

/// There is no place for a connection. Displays as what its client is told.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPlace {
    #[error("there are too many connections to this diary; try again later")]
    InAll,
    #[error(
        "the connections of one address are limited to {places}, and {block} has them; close one, or try again later"
    )]
    OfAddress { block: Block, places: usize },
}

impl Places {
    /// So many places as the limits say, but `total` at most.
    pub(crate) fn new(total: usize, limits: &Limits) -> Arc<Self> {
        let for_each_address =
            limits.connections_per_address.unwrap_or(total / CONNECTIONS_PER_ADDRESS_DIVISOR).max(1);
        Arc::new(Self {
            total: Arc::new(Semaphore::new(total)),
            leaving: Arc::new(Semaphore::new(LEAVING_MAX)),
            for_each_address,
            taken: Mutex::default(),
        })
    }

    /// A place for a connection from this address; a Unix socket has none.
    pub(crate) fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Place, NoPlace> {
        let permit = Arc::clone(&self.total).try_acquire_owned().map_err(|_| NoPlace::InAll)?;
        let mut place = Place { _permit: permit, places: Arc::clone(self), block: None };
        place.count_for(address)?;
        Ok(place)
    }

    /// Leave to stay for a moment without a place; at most [`LEAVING_MAX`] have it.
    pub(crate) fn leave(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.leaving).try_acquire_owned().ok()
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Block, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Counts the connection for this address, and no more for the one before. Loopback has as many places as there are:
    /// who is on this machine has other ways to harm the diary, and a proxy or a tunnel on it speaks for many. So have Unix
    /// sockets, which have no address.
    pub(crate) fn count_for(&mut self, address: Option<IpAddr>) -> Result<(), NoPlace> {
        let block = address.and_then(Block::of);
        if block == self.block {
            return Ok(());
        }
        if let Some(block) = block {
            let most = self.places.for_each_address;
            let mut taken = self.places.taken();
            let places = taken.entry(block).or_default();
            // An address that has none may have one, so no entry is left without a place.
            if *places >= most {
                return Err(NoPlace::OfAddress { block, places: most });
            }
            *places += 1;
        }
        self.give_back();
        self.block = block;
        Ok(())
    }

    /// Counts it for no address any more.
    fn give_back(&mut self) {
        let Some(block) = self.block.take() else {
            return;
        };
        if let Entry::Occupied(mut entry) = self.places.taken().entry(block) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Block {
    /// `None` for loopback.
    fn of(address: IpAddr) -> Option<Self> {
        (!address.to_canonical().is_loopback()).then(|| Self(network_of(address)))
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(total: usize, connections_per_address: Option<usize>) -> Arc<Places> {
        Places::new(total, &Limits { connections_per_address, ..Limits::default() })
    }

    fn ip(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    fn take(places: &Arc<Places>, address: &str) -> Result<Place, NoPlace> {
        places.take(ip(address))
    }

    #[test]
    fn addresses_that_are_one_share_its_places_and_others_have_their_own() {
        for (same, other) in [
            (&["192.0.2.7", "::ffff:192.0.2.7"][..], "192.0.2.8"),
            (&["2001:db8::1", "2001:db8::2", "2001:db8::ffff:ffff:ffff:ffff"], "2001:db8:0:1::1"),
            // Not the IPv4 address with these bits.
            (&["::192.0.2.7", "::1:2:3:4"], "192.0.2.7"),
        ] {
            let places = places(10, Some(2));
            let held = [take(&places, same[0]).unwrap(), take(&places, same[1]).unwrap()];
            for address in same {
                let block = Block::of(address.parse().unwrap()).unwrap();
                assert_eq!(take(&places, address).unwrap_err(), NoPlace::OfAddress { block, places: 2 });
            }
            take(&places, other).unwrap();
            drop(held);
            take(&places, same[0]).unwrap();
        }
    }

    #[test]
    fn this_machine_is_bounded_by_the_places_there_are() {
        let places = places(3, Some(1));
        let held =
            ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"].map(|address| take(&places, address));
        assert_eq!(held.iter().filter(|place| place.is_ok()).count(), 3);
        assert_eq!(*held[3].as_ref().unwrap_err(), NoPlace::InAll);
        assert!(places.taken().is_empty());
    }

    #[test]
    fn what_is_given_back_leaves_nothing_and_a_refused_one_takes_nothing() {
        let places = places(4, Some(2));
        for round in 0..100 {
            let address = format!("192.0.2.{round}");
            let held: Vec<_> = (0..4).map(|_| take(&places, &address)).filter_map(Result::ok).collect();
            assert_eq!((held.len(), places.total.available_permits()), (2, 2));
            assert_eq!(places.taken().len(), 1);
            drop(held);
            assert_eq!((places.taken().len(), places.total.available_permits()), (0, 4));
        }
    }

    #[test]
    fn a_place_counts_for_the_last_address_that_it_was_of() {
        let places = places(10, Some(1));
        let mut moved = take(&places, "192.0.2.1").unwrap();
        let held = take(&places, "192.0.2.2").unwrap();
        moved.count_for(ip("192.0.2.1")).unwrap();
        moved.count_for(ip("192.0.2.2")).unwrap_err();
        take(&places, "192.0.2.1").expect_err("it stays where it was");
        moved.count_for(ip("192.0.2.3")).unwrap();
        let again = take(&places, "192.0.2.1").unwrap();
        take(&places, "192.0.2.3").unwrap_err();
        // From a proxy on this machine, and back to it.
        let mut local = take(&places, "127.0.0.1").unwrap();
        local.count_for(ip("192.0.2.3")).unwrap_err();
        local.count_for(ip("192.0.2.4")).unwrap();
        local.count_for(None).unwrap();
        take(&places, "192.0.2.4").unwrap();
        drop((moved, held, again, local));
        assert_eq!((places.taken().len(), places.total.available_permits()), (0, 10));
    }

    #[test]
    fn few_stay_without_a_place() {
        let places = places(1, None);
        let leaving: Vec<_> = (0..1000).map_while(|_| places.leave()).collect();
        assert_eq!((leaving.len(), places.total.available_permits()), (LEAVING_MAX, 1));
        drop(leaving);
        assert!(places.leave().is_some());
    }

    #[test]
    fn without_a_setting_it_is_a_part_of_all_places_and_one_at_least() {
        for (total, expected) in [(10_000, 1000), (960, 96), (9, 1)] {
            assert_eq!(places(total, None).for_each_address, expected);
        }
    }

    #[test]
    fn a_refusal_says_whose_the_limit_is() {
        let told = |address: &str| {
            let places = places(10, Some(1));
            let _held = take(&places, address).unwrap();
            take(&places, address).unwrap_err().to_string()
        };
        let (v4, v6) = (told("::ffff:192.0.2.7"), told("2001:db8:1:2:3:4:5:6"));
        assert!(v4.contains(" limited to 1, and 192.0.2.7 has "), "{v4}");
        assert!(v6.contains(" limited to 1, and 2001:db8:1:2::/64 has "), "{v6}");
    }
}
