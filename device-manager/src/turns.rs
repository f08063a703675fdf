//! Lists are the expensive requests: they share connections and memory among tenants and leave the rest to everybody else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use common::wire::Tenant;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::error::Error;

/// Who may read a list now. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Turns {
    /// Database connections for lists. Waiting for one is first come, first served, and nobody comes with more than
    /// `per_tenant` lists.
    reading: Arc<Semaphore>,
    tenants: Arc<Mutex<HashMap<Tenant, Weak<Semaphore>>>>,
    per_tenant: usize,
    longest_wait: Duration,
}

/// The place of one list, from its first statement until its last byte is handed over.
pub(crate) struct Turn {
    reading: Arc<Semaphore>,
    longest_wait: Duration,
    _place: OwnedSemaphorePermit,
}

impl Turns {
    /// `per_tenant` lists of one tenant at a time, and of all of them `reading` that use the database.
    pub(crate) fn new(per_tenant: usize, reading: usize, longest_wait: Duration) -> Self {
        let reading = Arc::new(Semaphore::new(reading));
        Self { reading, tenants: Arc::default(), per_tenant, longest_wait }
    }

    /// Waits for a place among the lists of a tenant.
    pub(crate) async fn take(&self, tenant: &Tenant) -> Result<Turn, Error> {
        let place = within(self.longest_wait, self.of(tenant)).await?;
        Ok(Turn { reading: Arc::clone(&self.reading), longest_wait: self.longest_wait, _place: place })
    }

    fn of(&self, tenant: &Tenant) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tenants.get(tenant).and_then(Weak::upgrade) {
            return known;
        }
        // Only tenants whose lists are being read or waited for stay.
        tenants.retain(|_, places| places.strong_count() > 0);
        let places = Arc::new(Semaphore::new(self.per_tenant));
        tenants.insert(tenant.clone(), Arc::downgrade(&places));
        places
    }
}

impl Turn {
    /// Waits until a connection may be used, for as long as the permit is held.
    pub(crate) async fn reading(&self) -> Result<OwnedSemaphorePermit, Error> {
        within(self.longest_wait, Arc::clone(&self.reading)).await
    }
}

async fn within(longest: Duration, semaphore: Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Error> {
    let permit = tokio::time::timeout_at(Instant::now() + longest, semaphore.acquire_owned()).await;
    // It is never closed.
    permit.ok().and_then(Result::ok).ok_or(Error::Busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tenants_do_not_wait_for_each_other() {
        let (a, b) = (Tenant::parse("a").unwrap(), Tenant::parse("b").unwrap());
        let turns = Turns::new(2, 1, Duration::from_millis(50));
        let (first, _second) = (turns.take(&a).await.unwrap(), turns.take(&a).await.unwrap());
        assert!(matches!(turns.take(&a).await, Err(Error::Busy)), "two of one tenant");
        let other = turns.take(&b).await.unwrap();
        let reading = first.reading().await.unwrap();
        assert!(matches!(other.reading().await, Err(Error::Busy)), "one connection");
        drop(reading);
        drop(other.reading().await.unwrap());
        drop((first, other));
        let _third = turns.take(&a).await.unwrap();
        drop(turns.take(&Tenant::parse("c").unwrap()).await.unwrap());
        assert_eq!(turns.tenants.lock().unwrap().len(), 2, "nothing is kept of a tenant without lists");
    }
}
