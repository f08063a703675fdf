//! Which tenants exist, at start and while running, and which topics they have.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use serde::Deserialize;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::{
    backoff::Backoff,
    engine::{
        Engines,
        event_log::{Record, Start},
    },
    http::{
        caller::Caller,
        client::{CallError, InternalClient, Service},
    },
    shutdown::Shutdown,
    wire::{
        Subject, Tenant, Topic,
        event::tenancy::{TenancyEvent, TenancyKind},
    },
};

/// Topics of tenants, as data-broker allocates them. Asks once per topic. Cheap to clone.
#[derive(Clone)]
pub struct Topics {
    client: InternalClient,
    service: &'static str,
    known: Arc<RwLock<HashMap<(Tenant, Subject), Topic>>>,
}

#[derive(Deserialize)]
struct TopicAnswer {
    topic: String,
}

impl Topics {
    /// Topics for the service of this name.
    pub fn new(client: InternalClient, service: &'static str) -> Self {
        Self { client, service, known: Arc::default() }
    }

    /// The topic of a tenant for a subject; data-broker creates it at the first request (dojot-api.md 4.2).
    pub async fn resolve(&self, tenant: &Tenant, subject: &Subject) -> Result<Topic, CallError> {
        let name = (tenant.clone(), subject.clone());
        if let Some(topic) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&name) {
            return Ok(topic.clone());
        }
        let caller = Caller::service(self.service, tenant);
        let answer: TopicAnswer =
            self.client.get(Service::DataBroker, &format!("/topic/{subject}"), &caller).await?;
        let unreadable = |reason: String| CallError::Unavailable { service: Service::DataBroker, reason };
        let topic = Topic::parse(&answer.topic).map_err(|error| unreadable(error.to_string()))?;
        if topic.tenant() != tenant {
            return Err(unreadable(format!("{topic} was given for tenant {tenant}")));
        }
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(name, topic.clone());
        Ok(topic)
    }

    /// Like [`Topics::resolve`], trying again until data-broker answers. `None` when the tenant is gone.
    pub async fn resolve_at_last(&self, tenant: &Tenant, subject: &Subject) -> Option<Topic> {
        let mut backoff = Backoff::default();
        loop {
            match self.resolve(tenant, subject).await {
                Ok(topic) => return Some(topic),
                Err(error) if error.is_gone() => return None,
                Err(error) => warn!(%tenant, %subject, %error, "the topic is not known yet"),
            }
            backoff.wait().await;
        }
    }

    /// Forgets a topic that was deleted.
    pub fn forget(&self, tenant: &Tenant, subject: &Subject) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&(tenant.clone(), subject.clone()));
    }

    /// Forgets all topics of a tenant.
    pub(crate) fn forget_tenant(&self, tenant: &Tenant) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).retain(|(owner, _), _| owner != tenant);
    }
}

/// A tenant came or went.
#[derive(Debug, Clone)]
pub enum TenantChange {
    /// It exists now, or did when the service started.
    Created(Tenant),
    /// It is gone: what lives of it in this process (sessions, sockets, subscriptions) ends.
    Removed(Tenant),
    /// Auth does not list it any more, though nobody announced its removal. Nothing ends and nothing is deleted on this
    /// ground: the list may be the mistake.
    Missing(Tenant),
    /// The service removes what it keeps of a tenant that is gone, and then confirms. Comes after `Removed`, and comes
    /// again after a restart until it is confirmed.
    Purge(Removal),
}

/// The end of a tenant, as auth has recorded it. Its name is not given to a new tenant before every service that keeps
/// data of tenants has confirmed.
#[derive(Clone)]
pub struct Removal {
    tenant: Tenant,
    generation: i64,
    client: InternalClient,
    service: &'static str,
}

impl std::fmt::Debug for Removal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Removal({}/{})", self.tenant, self.generation)
    }
}

impl Removal {
    /// Whose data goes.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// Which of the tenants that have had this name.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// Carries the removal out as a task of the process, so that nobody waits for it: `work`, which tries until nothing is
    /// left, and then the confirmation.
    pub fn carry_out(self, shutdown: &Shutdown, work: impl Future<Output = ()> + Send + 'static) {
        let stop = shutdown.clone();
        shutdown.spawn("removal of a tenant", async move {
            let work = async {
                work.await;
                self.confirm().await;
            };
            stop.unless_requested(work).await;
        });
    }

    /// Tells auth that the service keeps nothing of the tenant any more; tries until auth has heard it.
    async fn confirm(&self) {
        let caller = Caller::service(self.service, &Tenant::management());
        let path = format!("/admin/removals/{}/{}", self.tenant, self.generation);
        let mut backoff = Backoff::up_to(Duration::from_secs(2));
        while let Err(error) = self.client.delete(Service::Auth, &path, &caller).await {
            warn!(service = self.service, removal = ?self, %error, "a removal cannot be confirmed yet");
            backoff.wait().await;
        }
        info!(service = self.service, tenant = %self.tenant, "the data of a removed tenant is gone");
    }
}

/// When a service removes what it keeps of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// At once.
    AtOnce,
    /// When all others have confirmed: they may still need what it keeps.
    Last,
}

/// What auth answers at `GET /admin/tenants`.
#[derive(Debug, Default, Deserialize)]
struct TenantsAnswer {
    tenants: Vec<String>,
    /// Which of the tenants that have had its name each of them is.
    #[serde(default)]
    generations: HashMap<String, i64>,
    #[serde(default)]
    removals: Vec<RemovalAnswer>,
}

#[derive(Debug, Deserialize)]
struct RemovalAnswer {
    tenant: Tenant,
    generation: i64,
    /// Services that have not confirmed.
    services: Vec<String>,
}

impl TenantsAnswer {
    async fn ask(client: &InternalClient, service: &str) -> Result<Self, CallError> {
        client.get(Service::Auth, "/admin/tenants", &Caller::service(service, &Tenant::management())).await
    }

    /// Tenants and their generations, without one that was removed while the answer was made.
    fn existing(&self) -> BTreeMap<Tenant, Option<i64>> {
        let existing = self.tenants.iter().filter_map(|name| {
            let (tenant, generation) = (Tenant::parse(name).ok()?, self.generations.get(name).copied());
            let is_gone = |of: &RemovalAnswer| of.tenant == tenant && Some(of.generation) == generation;
            (!self.removals.iter().any(is_gone)).then_some((tenant, generation))
        });
        existing.collect()
    }
}

/// Asks auth which tenants exist at this moment.
pub async fn list(client: &InternalClient, service: &str) -> Result<BTreeSet<Tenant>, CallError> {
    Ok(TenantsAnswer::ask(client, service).await?.existing().into_keys().collect())
}

/// Reports the tenants that exist and then those that come and go, for as long as the receiver lives.
///
/// The tenancy topic is opened before auth is asked for the list, so no tenant falls between the two; the list is
/// asked for again every minute, after every removal and after every failure. Events only make it faster: a removal that
/// happened while the service was down is in the list until the service has confirmed it.
pub fn follow(
    engines: &Engines,
    topics: Topics,
    service: &'static str,
    turn: Turn,
) -> mpsc::Receiver<TenantChange> {
    let (sender, receiver) = mpsc::channel(1024);
    let follower = Follower {
        engines: engines.clone(),
        topics,
        service,
        turn,
        sender,
        known: BTreeMap::new(),
        purging: BTreeSet::new(),
    };
    let stop = engines.shutdown.clone();
    engines.shutdown.spawn("tenancy", async move {
        stop.unless_requested(follower.run()).await;
    });
    receiver
}

struct Follower {
    engines: Engines,
    topics: Topics,
    service: &'static str,
    turn: Turn,
    sender: mpsc::Sender<TenantChange>,
    /// With their generations; none for a tenant that only its event has named.
    known: BTreeMap<Tenant, Option<i64>>,
    /// Removals that were passed on.
    purging: BTreeSet<(Tenant, i64)>,
}

impl Follower {
    const LIST_AGAIN_AFTER: Duration = Duration::from_mins(1);

    async fn run(mut self) {
        /// Services start together and find each other after a moment.
        const PATIENCE: u32 = 6;
        let mut backoff = Backoff::default();
        let mut failures = 0;
        while !self.sender.is_closed() {
            if let Err(error) = self.follow(&mut backoff).await {
                failures += 1;
                let (service, error) = (self.service, format!("{error:#}"));
                if failures > PATIENCE {
                    warn!(service, error, "tenants cannot be followed for the moment");
                } else {
                    debug!(service, error, "tenants cannot be followed yet");
                }
            }
            backoff.wait().await;
        }
    }

    async fn follow(&mut self, backoff: &mut Backoff) -> anyhow::Result<()> {
        let tail = self.engines.log.tail()?;
        let topic = self.topics.resolve(&Tenant::management(), &Subject::TENANCY).await?;
        tail.add(&topic, Start::End).await?;
        // While others have to remove their data first.
        let mut soon = Backoff::up_to(Duration::from_secs(2));
        while !self.sender.is_closed() {
            let is_waiting = self.take_over_list().await?;
            backoff.reset();
            let pause = if is_waiting { soon.pause() } else { Self::LIST_AGAIN_AFTER };
            let list_again = tokio::time::Instant::now() + pause;
            while let Ok(batch) = tokio::time::timeout_at(list_again, tail.next_batch(100)).await {
                if self.take_over_events(&batch?).await {
                    soon.reset();
                    break;
                }
            }
        }
        Ok(())
    }

    /// Returns whether there is a removal whose turn has not come yet.
    async fn take_over_list(&mut self) -> anyhow::Result<bool> {
        let answer = TenantsAnswer::ask(&self.engines.client, self.service).await?;
        let listed = answer.existing();
        for tenant in self.known.keys().cloned().collect::<Vec<_>>() {
            match listed.get(&tenant) {
                Some(generation) => self.compare(tenant, *generation).await,
                None if answer.removals.iter().any(|removal| removal.tenant == tenant) => {
                    self.forget(tenant.clone(), TenantChange::Removed(tenant)).await;
                }
                None => self.forget(tenant.clone(), TenantChange::Missing(tenant)).await,
            }
        }
        let is_waiting = self.purge(answer.removals).await;
        for (tenant, generation) in listed {
            self.create(tenant, generation).await;
        }
        Ok(is_waiting)
    }

    /// A tenant that has another generation than before is another tenant: the one that was known is gone.
    async fn compare(&mut self, tenant: Tenant, listed: Option<i64>) {
        let Some(known) = self.known.get_mut(&tenant) else { return };
        if known.is_none() || listed.is_none() {
            *known = listed;
        } else if *known != listed {
            self.forget(tenant.clone(), TenantChange::Removed(tenant)).await;
        }
    }

    /// Passes on the removals that wait for this service. Returns whether there are some whose turn has not come.
    async fn purge(&mut self, removals: Vec<RemovalAnswer>) -> bool {
        let mut is_waiting = false;
        let mut mine = BTreeSet::new();
        for RemovalAnswer { tenant, generation, services } in removals {
            if !services.iter().any(|service| service == self.service) {
                continue;
            }
            mine.insert((tenant.clone(), generation));
            if self.turn == Turn::Last && services.len() > 1 {
                is_waiting = true;
            } else if self.purging.insert((tenant.clone(), generation)) {
                let client = self.engines.client.clone();
                let removal = Removal { tenant, generation, client, service: self.service };
                let _ = self.sender.send(TenantChange::Purge(removal)).await;
            }
        }
        self.purging.retain(|removal| mine.contains(removal));
        is_waiting
    }

    /// Returns whether the list has to be asked for at once.
    async fn take_over_events(&mut self, batch: &[Record]) -> bool {
        let mut is_removal = false;
        for record in batch {
            match serde_json::from_slice::<TenancyEvent>(&record.value) {
                Ok(TenancyEvent { kind: TenancyKind::Create, tenant }) => self.create(tenant, None).await,
                Ok(TenancyEvent { kind: TenancyKind::Delete, tenant }) => {
                    is_removal = true;
                    self.forget(tenant.clone(), TenantChange::Removed(tenant)).await;
                }
                Err(error) => {
                    warn!(topic = %record.topic, offset = record.offset, %error, "not a tenancy event");
                }
            }
        }
        is_removal
    }

    async fn create(&mut self, tenant: Tenant, generation: Option<i64>) {
        if !self.known.contains_key(&tenant) {
            self.known.insert(tenant.clone(), generation);
            debug!(service = self.service, %tenant, "tenant is there");
            // A closed channel is noticed by the loops above.
            let _ = self.sender.send(TenantChange::Created(tenant)).await;
        }
    }

    async fn forget(&mut self, tenant: Tenant, change: TenantChange) {
        if self.known.remove(&tenant).is_some() {
            info!(service = self.service, %tenant, "tenant is gone");
            self.topics.forget_tenant(&tenant);
            let _ = self.sender.send(change).await;
        }
    }
}
