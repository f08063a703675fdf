//! Where services are, and which of their instances are well.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use axum::http::{
    HeaderValue, Uri,
    uri::{Authority, Scheme},
};
use common::{
    clock::Clock,
    http::{
        balance::{Balancer, Instance, Lease},
        client::{Service, Urls},
    },
};
use futures_util::future::join_all;
use tokio::{net::TcpStream, time::MissedTickBehavior};
use tracing::{info, warn};

use crate::{
    connections::{Connections, Limits},
    domain::route::{RouteTable, Target},
    live::Routes,
};

/// Address of an instance, read from its URL.
#[derive(Debug)]
pub(crate) struct Address {
    /// Host and port.
    pub(crate) authority: Authority,
    /// The same as a header.
    pub(crate) host: HeaderValue,
    /// Path of the URL, without a slash at its end; usually empty.
    pub(crate) base: String,
    /// Host and port to connect to.
    pub(crate) dialled: String,
    /// Those that are open and unused.
    pub(crate) connections: Connections,
}

/// The instances of one service.
#[derive(Debug)]
pub(crate) struct Pool {
    /// The service in metrics.
    pub(crate) name: String,
    urls: Vec<String>,
    pub(crate) balancer: Balancer<Address>,
}

/// The instances of all services. URLs of the platform's services are read again every second, not for every request.
pub(crate) struct Upstreams {
    urls: Urls,
    services: RwLock<HashMap<Service, Known>>,
    /// By their URLs, which routes may share.
    others: RwLock<HashMap<Vec<String>, Arc<Pool>>>,
}

struct Known {
    pool: Arc<Pool>,
    until_ms: i64,
}

impl Upstreams {
    const KEEP_MS: i64 = 1_000;

    pub(crate) fn new(urls: Urls) -> Self {
        Self { urls, services: RwLock::default(), others: RwLock::default() }
    }

    /// Who answers for a target, if somebody is known. `route` is the name of the route that asks.
    pub(crate) fn pool(&self, target: &Target, route: &str, now_ms: i64) -> Option<Arc<Pool>> {
        let pool = match target {
            Target::Service(service) => self.service(*service, now_ms)?,
            Target::Urls(others) => self.other(&others.urls, route),
            Target::Answer(..) => return None,
        };
        (!pool.balancer.instances().is_empty()).then_some(pool)
    }

    fn service(&self, service: Service, now_ms: i64) -> Option<Arc<Pool>> {
        let known = read(&self.services);
        if let Some(known) = known.get(&service).filter(|known| now_ms < known.until_ms) {
            return Some(Arc::clone(&known.pool));
        }
        drop(known);
        let urls = self.urls.all(service);
        if urls.is_empty() {
            return None;
        }
        let mut known = self.services.write().unwrap_or_else(PoisonError::into_inner);
        let until_ms = now_ms + Self::KEEP_MS;
        let pool = match known.get(&service) {
            // What is known of the health of the instances stays.
            Some(known) if known.pool.urls == urls => Arc::clone(&known.pool),
            before => {
                if let Some(before) = before {
                    before.pool.forget();
                }
                Arc::new(Pool::new(service.name(), urls))
            }
        };
        known.insert(service, Known { pool: Arc::clone(&pool), until_ms });
        Some(pool)
    }

    fn other(&self, urls: &[String], route: &str) -> Arc<Pool> {
        if let Some(pool) = read(&self.others).get(urls) {
            return Arc::clone(pool);
        }
        let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
        let pool = others.entry(urls.to_vec()).or_insert_with(|| Arc::new(Pool::new(route, urls.to_vec())));
        Arc::clone(pool)
    }

    /// Forgets the instances that only an earlier table had.
    pub(crate) fn keep_only(&self, table: &RouteTable) {
        let is_used = |urls: &Vec<String>| {
            table
                .routes()
                .iter()
                .any(|route| matches!(&route.target, Target::Urls(others) if others.urls == *urls))
        };
        let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
        others.retain(|urls, pool| {
            let is_used = is_used(urls);
            if !is_used {
                pool.forget();
            }
            is_used
        });
    }

    /// Looks regularly whether the instances that the routes lead to can be reached, for ever.
    pub(crate) async fn watch(&self, routes: &Routes, clock: &Clock, every: Duration, limits: &Limits) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now_ms = clock.now_ms();
            let mut pools: Vec<Arc<Pool>> = Vec::new();
            for route in routes.current().table.routes() {
                let pool = self.pool(&route.target, &route.name, now_ms);
                let is_new = |pool: &Arc<Pool>| pools.iter().all(|known| !Arc::ptr_eq(known, pool));
                if let Some(pool) = pool.filter(is_new) {
                    pools.push(pool);
                }
            }
            join_all(pools.iter().map(|pool| pool.check(clock, limits))).await;
        }
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    fn new(name: &str, urls: Vec<String>) -> Self {
        let balancer = Balancer::new(urls.iter().filter_map(|url| Address::parse(url)));
        Self { name: name.to_owned(), urls, balancer }
    }

    /// The instance for a request: the preferred one at first, while it is well, else the next one that was not tried.
    pub(crate) fn choose(
        &self,
        preferred: Option<&Authority>,
        tried: &[usize],
        now_ms: i64,
    ) -> Option<Lease<Address>> {
        let place = |authority: &Authority| {
            self.balancer.instances().iter().position(|instance| instance.target.authority == *authority)
        };
        let preferred = preferred.filter(|_| tried.is_empty()).and_then(place);
        let preferred = preferred.and_then(|place| self.balancer.take(place, now_ms));
        preferred.or_else(|| self.balancer.pick(now_ms, tried))
    }

    /// Notes that an instance did not answer.
    pub(crate) fn failed(&self, place: usize, now_ms: i64) {
        let Some(instance) = self.balancer.instances().get(place) else { return };
        instance.failed(now_ms);
        metrics::counter!("gateway_upstream_failures_total", &self.labels(instance)).increment(1);
    }

    /// Notes that a request is tried with another instance.
    pub(crate) fn retried(&self) {
        metrics::counter!("gateway_upstream_retries_total", "service" => self.name.clone()).increment(1);
    }

    async fn check(&self, clock: &Clock, limits: &Limits) {
        join_all(self.balancer.instances().iter().map(|instance| async {
            let address = &instance.target.dialled;
            instance.target.connections.purge(limits);
            let connected = tokio::time::timeout(limits.connect, TcpStream::connect(address)).await;
            let reason = match connected {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("no connection in time".to_owned()),
            };
            if instance.set_down(reason.is_some()) {
                if let Some(reason) = reason {
                    warn!(service = self.name, address, reason, "an instance is away");
                } else {
                    info!(service = self.name, address, "an instance is back");
                }
            }
            self.show(instance, instance.is_healthy(clock.now_ms()));
        }))
        .await;
    }

    fn forget(&self) {
        for instance in self.balancer.instances() {
            self.show(instance, false);
        }
    }

    fn show(&self, instance: &Instance<Address>, is_up: bool) {
        metrics::gauge!("gateway_upstream_up", &self.labels(instance)).set(f64::from(u8::from(is_up)));
    }

    fn labels(&self, instance: &Instance<Address>) -> [(&'static str, String); 2] {
        [("service", self.name.clone()), ("instance", instance.target.authority.to_string())]
    }
}

impl Address {
    fn parse(url: &str) -> Option<Self> {
        let parsed: Option<Uri> = url.parse().ok();
        let parts = parsed.map(Uri::into_parts).filter(|parts| parts.scheme == Some(Scheme::HTTP));
        let Some((parts, authority)) =
            parts.and_then(|mut parts| parts.authority.take().map(|host| (parts, host)))
        else {
            warn!(url, "the URL of a service must begin with http://");
            return None;
        };
        let host = HeaderValue::from_str(authority.as_str()).ok()?;
        let base = parts.path_and_query.map(|path| path.path().trim_end_matches('/').to_owned());
        let dialled = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        let base = base.unwrap_or_default();
        Some(Self { authority, host, base, dialled, connections: Connections::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::route::Others;

    #[test]
    fn addresses_are_read_from_urls() {
        for (url, expected) in [
            ("http://127.0.0.1:5000", Some(("127.0.0.1:5000", "", "127.0.0.1:5000"))),
            ("http://auth/", Some(("auth", "", "auth:80"))),
            ("http://[::1]:80/base/", Some(("[::1]:80", "/base", "[::1]:80"))),
            ("https://auth", None),
            ("auth:5000", None),
            ("", None),
        ] {
            let address = Address::parse(url);
            let dialled = address.as_ref().map(|address| address.dialled.clone());
            let read = address.as_ref().map(|address| (address.authority.as_str(), address.base.as_str()));
            assert_eq!(read, expected.map(|(authority, base, _)| (authority, base)), "{url}");
            assert_eq!(dialled.as_deref(), expected.map(|(_, _, dialled)| dialled), "{url}");
        }
    }

    #[test]
    fn what_is_known_of_instances_outlives_a_second_look() {
        let urls = Urls::default();
        urls.set(Service::Auth, "http://a:1, http://b:2/");
        let upstreams = Upstreams::new(urls.clone());
        let pool = |now_ms| upstreams.pool(&Target::Service(Service::Auth), "x", now_ms);
        let first = pool(0).unwrap();
        let authorities = |pool: &Pool| -> Vec<String> {
            pool.balancer.instances().iter().map(|one| one.target.authority.to_string()).collect()
        };
        assert_eq!(authorities(&first), ["a:1", "b:2"]);
        assert!(Arc::ptr_eq(&first, &pool(Upstreams::KEEP_MS).unwrap()));
        urls.set(Service::Auth, "http://c:3");
        assert_eq!(authorities(&pool(3 * Upstreams::KEEP_MS).unwrap()), ["c:3"]);
        urls.set(Service::Auth, "ftp://c:3");
        assert!(pool(5 * Upstreams::KEEP_MS).is_none());
        assert!(upstreams.pool(&Target::Service(Service::History), "x", 0).is_none());
    }

    #[test]
    fn routes_share_instances_and_forgotten_routes_leave_none() {
        let upstreams = Upstreams::new(Urls::default());
        let target = Target::Urls(Others { urls: vec!["http://a:1".to_owned()], is_trusted: false });
        let pool = upstreams.pool(&target, "x", 0).unwrap();
        assert!(Arc::ptr_eq(&pool, &upstreams.pool(&target, "y", 0).unwrap()));
        upstreams.keep_only(&RouteTable::embedded().unwrap());
        assert!(!Arc::ptr_eq(&pool, &upstreams.pool(&target, "x", 0).unwrap()));
    }
}
