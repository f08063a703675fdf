//! Which tenants exist, at start and while running, and which topics they have.

use std::{
    collections::{BTreeSet, HashMap},
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

    /// Like [`Topics::resolve`], trying again until data-broker answers.
    pub async fn resolve_at_last(&self, tenant: &Tenant, subject: &Subject) -> Topic {
        let mut backoff = Backoff::default();
        loop {
            match self.resolve(tenant, subject).await {
                Ok(topic) => return topic,
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
    pub fn forget_tenant(&self, tenant: &Tenant) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).retain(|(owner, _), _| owner != tenant);
    }
}

/// A tenant came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantChange {
    /// It exists now, or did when the service started.
    Created(Tenant),
    /// Its removal was announced: what is kept of it may go.
    Removed(Tenant),
    /// Auth does not list it any more, though nobody announced its removal. Nothing is deleted on this ground: the list may
    /// be the mistake.
    Missing(Tenant),
}

#[derive(Deserialize)]
struct TenantsAnswer {
    tenants: Vec<String>,
}

/// Reports the tenants that exist and then those that come and go, for as long as the receiver lives.
///
/// The tenancy topic is opened before auth is asked for the list, so no tenant falls between the two; the list is
/// asked for again every minute and after every failure.
pub fn follow(engines: &Engines, topics: Topics, service: &'static str) -> mpsc::Receiver<TenantChange> {
    let (sender, receiver) = mpsc::channel(1024);
    let follower = Follower { engines: engines.clone(), topics, service, sender, known: BTreeSet::new() };
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
    sender: mpsc::Sender<TenantChange>,
    known: BTreeSet<Tenant>,
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
        while !self.sender.is_closed() {
            self.take_over_list().await?;
            backoff.reset();
            let list_again = tokio::time::Instant::now() + Self::LIST_AGAIN_AFTER;
            while let Ok(batch) = tokio::time::timeout_at(list_again, tail.next_batch(100)).await {
                for record in batch? {
                    self.take_over_event(&record).await;
                }
            }
        }
        Ok(())
    }

    async fn take_over_list(&mut self) -> anyhow::Result<()> {
        let caller = Caller::service(self.service, &Tenant::management());
        let answer: TenantsAnswer = self.engines.client.get(Service::Auth, "/admin/tenants", &caller).await?;
        let listed: BTreeSet<Tenant> =
            answer.tenants.iter().filter_map(|name| Tenant::parse(name).ok()).collect();
        for gone in self.known.difference(&listed).cloned().collect::<Vec<_>>() {
            self.forget(gone.clone(), TenantChange::Missing(gone)).await;
        }
        for tenant in listed {
            self.create(tenant).await;
        }
        Ok(())
    }

    async fn take_over_event(&mut self, record: &Record) {
        match serde_json::from_slice::<TenancyEvent>(&record.value) {
            Ok(TenancyEvent { kind: TenancyKind::Create, tenant }) => self.create(tenant).await,
            Ok(TenancyEvent { kind: TenancyKind::Delete, tenant }) => {
                self.forget(tenant.clone(), TenantChange::Removed(tenant)).await;
            }
            Err(error) => warn!(topic = %record.topic, offset = record.offset, %error, "not a tenancy event"),
        }
    }

    async fn create(&mut self, tenant: Tenant) {
        if self.known.insert(tenant.clone()) {
            info!(service = self.service, %tenant, "tenant is there");
            // A closed channel is noticed by the loops above.
            let _ = self.sender.send(TenantChange::Created(tenant)).await;
        }
    }

    async fn forget(&mut self, tenant: Tenant, change: TenantChange) {
        if self.known.remove(&tenant) {
            info!(service = self.service, %tenant, "tenant is gone");
            self.topics.forget_tenant(&tenant);
            let _ = self.sender.send(change).await;
        }
    }
}
