//! What nearly every service needs of auth and data-broker: the list of tenants, and topics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{delete, get},
};
use serde_json::{Value, json};

use super::{eventually, fresh_tenant};
use crate::{
    engine::{
        Engines,
        event_log::{Headers, NewRecord, TopicProfile},
    },
    http::{
        Problem, Shape,
        caller::ServiceCaller,
        client::Service,
        server::{HttpServer, Layers},
    },
    wire::{Subject, Tenant, Topic},
};

/// Auth and data-broker, as much of them as services under test call. Cheap to clone.
#[derive(Clone)]
pub struct Neighbours {
    engines: Engines,
    /// A topic of its own, so that tests on one Kafka do not see each other's tenants; the common one when it is the real
    /// data-broker that tells it.
    tenancy: Topic,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    generations: i64,
    tenants: Vec<(Tenant, i64)>,
    removals: Vec<Removal>,
}

struct Removal {
    tenant: Tenant,
    generation: i64,
    services: Vec<String>,
}

/// How topics of tests are made.
pub const TEST_TOPIC: TopicProfile = TopicProfile { partitions: 1, replication: 1, retention_ms: 3_600_000 };

impl Neighbours {
    /// Serves on the engines of a test, as all of `services`, with the further routes of `more`.
    pub async fn start(engines: &Engines, services: &[Service], more: Router) -> Self {
        let subject = if services.contains(&Service::DataBroker) {
            Subject::parse(&format!("{}.{}", Subject::TENANCY, fresh_tenant()))
        } else {
            Ok(Subject::TENANCY)
        };
        let tenancy = Topic::new(&Tenant::management(), &subject.expect("a valid subject"));
        let neighbours = Self { engines: engines.clone(), tenancy, known: Arc::default() };
        let router = Router::new()
            .route("/topic/{subject}", get(allocate_topic))
            .route("/admin/tenants", get(list_tenants))
            .route("/admin/removals/{tenant}/{generation}", delete(confirm))
            .with_state(neighbours.clone())
            .merge(more);
        let layers = Layers {
            service: "neighbours",
            shape: Shape::Message,
            key: engines.client.key().clone(),
            clock: engines.clock.clone(),
            settings: engines.http,
        };
        let http = HttpServer::bind("127.0.0.1:0", engines.http).await.expect("a free port");
        let url = format!("http://{}", http.local_addr().expect("an address"));
        for service in services {
            engines.client.urls().set(*service, url.clone());
        }
        engines.shutdown.spawn("neighbours", http.run(layers.wrap(router), engines.shutdown.clone()));
        neighbours
    }

    /// Adds a tenant to the list, without an event.
    pub fn add_tenant(&self, tenant: &Tenant) {
        let mut known = self.known();
        if known.tenants.iter().all(|(other, _)| other != tenant) {
            known.generations += 1;
            let generation = known.generations;
            known.tenants.push((tenant.clone(), generation));
        }
    }

    /// Adds a tenant and announces it.
    pub async fn create_tenant(&self, tenant: &Tenant) {
        self.add_tenant(tenant);
        self.announce("CREATE", tenant).await;
    }

    /// Takes a tenant from the list without recording a removal, as no auth should.
    pub fn lose_tenant(&self, tenant: &Tenant) {
        self.known().tenants.retain(|(other, _)| other != tenant);
    }

    /// Records a removal that these services have to confirm, without an event.
    pub fn record_removal(&self, tenant: &Tenant, services: &[&str]) {
        let mut known = self.known();
        let generation = known.tenants.iter().find(|(other, _)| other == tenant).map_or(0, |(_, g)| *g);
        known.tenants.retain(|(other, _)| other != tenant);
        let services = services.iter().map(ToString::to_string).collect();
        known.removals.push(Removal { tenant: tenant.clone(), generation, services });
    }

    /// Puts the removal of the tenant that had this name first back on the list, as an instance that is late sees it.
    pub fn record_removal_again(&self, tenant: &Tenant, service: &str) {
        let services = vec![service.to_owned()];
        self.known().removals.push(Removal { tenant: tenant.clone(), generation: 1, services });
    }

    /// Removes a tenant, announces it and waits until these services have confirmed.
    pub async fn remove_tenant(&self, tenant: &Tenant, services: &[&str]) {
        self.record_removal(tenant, services);
        self.announce("DELETE", tenant).await;
        self.removal_is_over(tenant).await;
    }

    /// Confirms as one of the services would.
    pub fn confirm(&self, tenant: &Tenant, service: &str) {
        self.settle(service, |removal| removal.tenant == *tenant);
    }

    fn settle(&self, service: &str, is_meant: impl Fn(&Removal) -> bool) {
        let mut known = self.known();
        for removal in known.removals.iter_mut().filter(|removal| is_meant(removal)) {
            removal.services.retain(|other| other != service);
        }
        known.removals.retain(|removal| !removal.services.is_empty());
    }

    /// Waits until a removal is confirmed by all.
    pub async fn removal_is_over(&self, tenant: &Tenant) {
        let is_over = || async { self.waiting_for(tenant).is_empty().then_some(()) };
        eventually("all services confirm the removal", is_over).await;
    }

    /// Services that have not confirmed the removal of a tenant.
    pub fn waiting_for(&self, tenant: &Tenant) -> Vec<String> {
        let known = self.known();
        let of_tenant = known.removals.iter().filter(|removal| removal.tenant == *tenant);
        of_tenant.flat_map(|removal| removal.services.clone()).collect()
    }

    /// Appends an event to the tenancy topic.
    pub async fn announce(&self, kind: &str, tenant: &Tenant) {
        let topic = self.tenancy.clone();
        self.create_topic(&topic).await;
        let value = json!({ "type": kind, "tenant": tenant }).to_string().into();
        let record = NewRecord { topic, key: None, value, headers: Headers::new() };
        self.engines.log.append(record).await.expect("the log takes an event");
    }

    /// Creates a topic as data-broker would.
    pub async fn create_topic(&self, topic: &Topic) {
        self.engines.log.create_topic(topic, TEST_TOPIC).await.expect("the log creates a topic");
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn allocate_topic(
    ServiceCaller(caller): ServiceCaller,
    Path(subject): Path<String>,
    State(neighbours): State<Neighbours>,
) -> Result<Json<Value>, Problem> {
    let subject = Subject::parse(&subject).map_err(|error| Problem::bad_request(error.to_string()))?;
    if neighbours.known().removals.iter().any(|removal| removal.tenant == caller.tenant) {
        return Err(Problem::new(StatusCode::GONE, "the tenant is gone"));
    }
    let topic = if subject == Subject::TENANCY {
        neighbours.tenancy.clone()
    } else {
        Topic::new(&caller.tenant, &subject)
    };
    neighbours.engines.log.create_topic(&topic, TEST_TOPIC).await?;
    Ok(Json(json!({ "topic": topic.as_str() })))
}

async fn list_tenants(_: ServiceCaller, State(neighbours): State<Neighbours>) -> Json<Value> {
    let known = neighbours.known();
    let names: Vec<&Tenant> = known.tenants.iter().map(|(tenant, _)| tenant).collect();
    let generations: Value = known.tenants.iter().map(|(tenant, at)| (tenant.to_string(), *at)).collect();
    let removals: Vec<Value> = known
        .removals
        .iter()
        .map(|of| json!({ "tenant": of.tenant, "generation": of.generation, "services": of.services }))
        .collect();
    Json(json!({ "tenants": names, "generations": generations, "removals": removals }))
}

async fn confirm(
    ServiceCaller(caller): ServiceCaller,
    Path((tenant, generation)): Path<(Tenant, i64)>,
    State(neighbours): State<Neighbours>,
) -> StatusCode {
    neighbours.settle(&caller.user, |of| of.tenant == tenant && of.generation == generation);
    StatusCode::NO_CONTENT
}
