//! How many sockets may be open: of each tenant, and in all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::wire::Tenant;

/// Counts sockets per tenant and in all. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Slots {
    counts: Arc<Mutex<Counts>>,
    gauge: Option<&'static str>,
    per_tenant: usize,
    total: usize,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    tenants: HashMap<Tenant, usize>,
}

/// The place of one socket, given back when it is dropped.
#[derive(Debug)]
pub struct Slot {
    counts: Arc<Mutex<Counts>>,
    gauge: Option<&'static str>,
    tenant: Tenant,
}

impl Slots {
    /// `per_tenant` sockets of one tenant and `total` in all may be open.
    pub fn new(per_tenant: usize, total: usize) -> Self {
        Self { counts: Arc::default(), gauge: None, per_tenant, total }
    }

    /// The same, with a metric of this name that tells how many are open.
    #[must_use]
    pub fn shown_as(self, gauge: &'static str) -> Self {
        Self { gauge: Some(gauge), ..self }
    }

    /// A place for a socket of this tenant, if there is one left.
    pub fn take(&self, tenant: &Tenant) -> Option<Slot> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.tenants.get(tenant).copied().unwrap_or_default();
        if counts.total >= self.total || own >= self.per_tenant {
            return None;
        }
        counts.total += 1;
        counts.tenants.insert(tenant.clone(), own + 1);
        show(self.gauge, counts.total);
        Some(Slot { counts: Arc::clone(&self.counts), gauge: self.gauge, tenant: tenant.clone() })
    }
}

fn show(gauge: Option<&'static str>, total: usize) {
    if let Some(gauge) = gauge {
        metrics::gauge!(gauge).set(total as f64);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        show(self.gauge, counts.total);
        if let Some(own) = counts.tenants.get_mut(&self.tenant) {
            *own -= 1;
            if *own == 0 {
                counts.tenants.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            slots.counts.lock().unwrap().tenants.len() == 2,
            "nothing is kept of a tenant without sockets"
        );
    }
}
