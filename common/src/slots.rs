//! How many sockets may be open: of each tenant or client address, and in all.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use crate::wire::Tenant;

/// Counts sockets per owner, which is a tenant mostly, and in all. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Slots<K = Tenant> {
    counts: Arc<Mutex<Counts<K>>>,
    gauge: Option<&'static str>,
    per_owner: usize,
    total: usize,
}

#[derive(Debug)]
struct Counts<K> {
    total: usize,
    owners: HashMap<K, usize>,
}

/// The place of one socket, given back when it is dropped.
#[derive(Debug)]
pub struct Slot<K: Hash + Eq = Tenant> {
    counts: Arc<Mutex<Counts<K>>>,
    gauge: Option<&'static str>,
    owner: K,
}

impl<K: Hash + Eq + Clone> Slots<K> {
    /// `per_owner` sockets of one owner and `total` in all may be open.
    pub fn new(per_owner: usize, total: usize) -> Self {
        let counts = Counts { total: 0, owners: HashMap::new() };
        Self { counts: Arc::new(Mutex::new(counts)), gauge: None, per_owner, total }
    }

    /// The same, with a metric of this name that tells how many are open.
    #[must_use]
    pub fn shown_as(self, gauge: &'static str) -> Self {
        Self { gauge: Some(gauge), ..self }
    }

    /// A place for a socket of this owner, if there is one left.
    pub fn take(&self, owner: &K) -> Option<Slot<K>> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.owners.get(owner).copied().unwrap_or_default();
        if counts.total >= self.total || own >= self.per_owner {
            return None;
        }
        counts.total += 1;
        counts.owners.insert(owner.clone(), own + 1);
        show(self.gauge, counts.total);
        Some(Slot { counts: Arc::clone(&self.counts), gauge: self.gauge, owner: owner.clone() })
    }
}

/// Of an IPv6 address only the network of 64 bits, because whoever has one address of it has all of them.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn show(gauge: Option<&'static str>, total: usize) {
    if let Some(gauge) = gauge {
        metrics::gauge!(gauge).set(total as f64);
    }
}

impl<K: Hash + Eq> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        show(self.gauge, counts.total);
        if let Some(own) = counts.owners.get_mut(&self.owner) {
            *own -= 1;
            if *own == 0 {
                counts.owners.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_address() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn places_are_limited_and_given_back() {
        let (a, b, c) =
            (Tenant::parse("a").unwrap(), Tenant::parse("b").unwrap(), Tenant::parse("c").unwrap());
        let slots = Slots::new(2, 3);
        let first = slots.take(&a).unwrap();
        let _second = slots.take(&a).unwrap();
        assert!(slots.take(&a).is_none(), "two for one tenant");
        let _third = slots.take(&b).unwrap();
        assert!(slots.take(&c).is_none(), "three in all");
        drop(first);
        assert!(slots.take(&c).is_some());
        assert!(
            slots.counts.lock().unwrap().owners.len() == 2,
            "nothing is kept of a tenant without sockets"
        );
    }
}
