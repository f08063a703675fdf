//! Follows what happens to the devices that are connected here: actuations for them, and everything that ends their
//! right to be connected.
//!
//! One tail per process. It follows three subjects of every tenant that has a connected device, so a process does
//! not read the events of tenants that it does not serve. A tenant is followed before its first client is accepted:
//! whatever happens afterwards is seen. What happens *between* the check of a client's credentials and its entry
//! into [`Sessions`] is covered by the [epoch](Control::epoch): it moves with every event that could have
//! ended the client's rights and with every tenant that is newly followed, and when it has moved the client is
//! checked once more, now that it would be found by the next event.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use common::{
    backoff::Backoff,
    engine::{
        EventLog,
        event_log::{LogError, Record, Start, Tail},
    },
    shutdown::Shutdown,
    tenancy::{TenantChange, Topics},
    wire::{
        DeviceId, Subject, Tenant, Topic,
        event::{DeviceEvent, OwnershipEvent},
    },
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{OnceCell, mpsc};
use tracing::warn;

use crate::{
    domain::dialect::Event,
    link::{Close, Link, Login},
    metrics::Metrics,
    sessions::Sessions,
};

/// What [`Control::take`] takes.
const SUBJECTS: [Subject; 3] = [Subject::DEVICE, Subject::CERTIFICATES, Subject::BASIC_CREDENTIALS];

/// See the module.
pub(crate) struct Control {
    tail: Tail,
    topics: Topics,
    sessions: Arc<Sessions>,
    metrics: Metrics,
    delivery_queue: usize,
    epoch: AtomicU64,
    tenants: RwLock<HashSet<Tenant>>,
    watched: Mutex<HashMap<Tenant, Arc<Watch>>>,
}

/// A tenant that is followed for as long as somebody holds this.
pub(crate) struct Watch {
    users: AtomicUsize,
    /// Had no user at the last sweep: the next one removes it if it still has none.
    idle: AtomicBool,
    /// Set when the tail follows the tenant.
    followed: OnceCell<[Topic; SUBJECTS.len()]>,
}

/// One session's hold on a [`Watch`].
pub(crate) struct Watching(Arc<Watch>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A device event, as much of it as matters here. The rest (whole devices with their templates) is only skipped.
#[derive(Deserialize)]
struct BriefDeviceEvent<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Subjected<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    attrs: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct CredentialsEvent<'a> {
    #[serde(default)]
    metadata: CredentialsMetadata,
    #[serde(borrow)]
    data: CredentialsData<'a>,
}

#[derive(Deserialize)]
struct CredentialsMetadata {
    /// When it happened, milliseconds since the epoch.
    #[serde(default = "CredentialsMetadata::later_than_all")]
    ts: i64,
}

impl CredentialsMetadata {
    /// An event that does not say when it happened ends every session: to connect again is no harm.
    fn later_than_all() -> i64 {
        i64::MAX
    }
}

impl Default for CredentialsMetadata {
    fn default() -> Self {
        Self { ts: Self::later_than_all() }
    }
}

#[derive(Deserialize)]
struct CredentialsData<'a> {
    #[serde(borrow)]
    opr: Cow<'a, str>,
    #[serde(borrow)]
    device: Cow<'a, str>,
}

/// Adds a topic to a tail, trying again while the log is not ready for it: a new topic may need a moment. Callers
/// set the time-out.
pub(crate) async fn add(
    tail: &Tail,
    topic: &Topic,
    start: impl Fn() -> Start,
) -> Result<Vec<(i32, i64)>, LogError> {
    let mut backoff = Backoff::up_to(Duration::from_millis(500));
    loop {
        match tail.add(topic, start()).await {
            Err(LogError::Unavailable(_)) => backoff.wait().await,
            added => return added,
        }
    }
}

impl Control {
    pub(crate) fn new(
        log: &EventLog,
        topics: Topics,
        sessions: Arc<Sessions>,
        metrics: Metrics,
        delivery_queue: usize,
    ) -> Result<Self, LogError> {
        Ok(Self {
            tail: log.tail()?,
            topics,
            sessions,
            metrics,
            delivery_queue,
            epoch: AtomicU64::new(0),
            tenants: RwLock::default(),
            watched: Mutex::default(),
        })
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<Tenant, Arc<Watch>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever a client that was checked before might no longer be welcome.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Follows a tenant for one more session. When it returns, every later event of the tenant will be seen.
    pub(crate) async fn watch(&self, tenant: &Tenant) -> anyhow::Result<Watching> {
        let watching = {
            let mut watched = self.watched();
            let watch = watched.entry(tenant.clone()).or_insert_with(|| {
                Arc::new(Watch { users: 0.into(), idle: false.into(), followed: OnceCell::new() })
            });
            // Under the lock: the sweep never sees a watch that is about to be used.
            watch.users.fetch_add(1, Ordering::SeqCst);
            Watching(Arc::clone(watch))
        };
        watching.0.followed.get_or_try_init(|| self.follow(tenant)).await?;
        Ok(watching)
    }

    async fn follow(&self, tenant: &Tenant) -> anyhow::Result<[Topic; SUBJECTS.len()]> {
        let mut topics = Vec::with_capacity(SUBJECTS.len());
        for subject in &SUBJECTS {
            let topic = self.topics.resolve(tenant, subject).await?;
            let added = add(&self.tail, &topic, || Start::End).await;
            added.with_context(|| format!("cannot follow {topic}"))?;
            topics.push(topic);
        }
        self.epoch.fetch_add(1, Ordering::SeqCst);
        topics.try_into().map_err(|_| anyhow::anyhow!("a topic is missing"))
    }

    /// Stops following tenants that had no session since the last sweep.
    pub(crate) fn sweep(&self) {
        self.watched().retain(|_, watch| {
            let unused = watch.users.load(Ordering::SeqCst) == 0;
            if unused && watch.idle.load(Ordering::SeqCst) {
                self.unfollow(watch);
                return false;
            }
            watch.idle.store(unused, Ordering::SeqCst);
            true
        });
    }

    fn unfollow(&self, watch: &Watch) {
        watch.followed.get().into_iter().flatten().for_each(|topic| self.tail.remove(topic));
    }

    /// Whether a tenant exists, as far as this process has heard.
    pub(crate) fn knows(&self, tenant: &Tenant) -> bool {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner).contains(tenant)
    }

    /// Keeps the list of tenants, and closes the sessions of those that are removed.
    pub(crate) async fn follow_tenancy(
        &self,
        mut changes: mpsc::Receiver<TenantChange>,
        shutdown: &Shutdown,
    ) {
        let tenants = || self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        while let Some(change) = changes.recv().await {
            match change {
                TenantChange::Created(tenant) => _ = tenants().insert(tenant),
                // Live sessions stay: the list may be the mistake.
                TenantChange::Missing(tenant) => _ = tenants().remove(&tenant),
                TenantChange::Removed(tenant) => {
                    tenants().remove(&tenant);
                    self.epoch.fetch_add(1, Ordering::SeqCst);
                    self.sessions.close_tenant(&tenant, Close::Revoked, |_| true);
                    // A tenant that comes again under this name has other topics.
                    if let Some(watch) = self.watched().remove(&tenant) {
                        self.unfollow(&watch);
                    }
                }
                // Nothing is kept but the sessions, which have ended when this comes.
                TenantChange::Purge(removal) => removal.carry_out(shutdown, async {}),
            }
        }
    }

    /// Reads for ever.
    pub(crate) async fn run(&self) {
        let mut backoff = Backoff::default();
        loop {
            match self.tail.next_batch(500).await {
                Ok(batch) => {
                    backoff.reset();
                    for record in &batch {
                        self.take(record);
                    }
                }
                Err(error) => {
                    warn!(%error, "cannot read events of devices");
                    backoff.wait().await;
                }
            }
        }
    }

    fn take(&self, record: &Record) {
        let subject = record.topic.subject();
        let taken = if subject == Subject::DEVICE.as_str() {
            self.take_device_event(record)
        } else if subject == Subject::CERTIFICATES.as_str() {
            self.take_ownership_event(record)
        } else if subject == Subject::BASIC_CREDENTIALS.as_str() {
            self.take_credentials_event(record)
        } else {
            Err(serde::de::Error::custom("nobody here takes this subject"))
        };
        if let Err(error) = taken {
            metrics::counter!("mqtt_malformed_events_total").increment(1);
            warn!(topic = %record.topic, offset = record.offset, %error, "an event cannot be read");
        }
    }

    fn take_device_event(&self, record: &Record) -> serde_json::Result<()> {
        let event: BriefDeviceEvent<'_> = serde_json::from_slice(&record.value)?;
        let (configure, remove) = (event.event == DeviceEvent::CONFIGURE, event.event == DeviceEvent::REMOVE);
        if !configure && !remove {
            return Ok(());
        }
        let about: Subjected<'_> = serde_json::from_str(event.data.get())?;
        // No device of ours can have an id that is no id.
        let Ok(device) = DeviceId::parse(&about.id) else { return Ok(()) };
        if remove {
            self.close_device(record.topic.tenant(), &device, |_| true);
        } else if let Some(attrs) = about.attrs {
            for link in self.sessions.of(record.topic.tenant(), &device) {
                let dropped = link.deliver(Event::Configure { attrs: attrs.get() }, self.delivery_queue);
                self.metrics.dropped.increment(dropped);
            }
        }
        Ok(())
    }

    fn take_ownership_event(&self, record: &Record) -> serde_json::Result<()> {
        let event: OwnershipEvent = serde_json::from_slice(&record.value)?;
        if matches!(event.data.event_type.as_str(), "ownership.update" | "ownership.delete") {
            let fingerprint = &event.data.event_data.fingerprint;
            self.epoch.fetch_add(1, Ordering::SeqCst);
            self.sessions.close_tenant(
                record.topic.tenant(),
                Close::Revoked,
                |link| matches!(&link.login, Login::Certificate(own) if **own == **fingerprint),
            );
        }
        Ok(())
    }

    fn take_credentials_event(&self, record: &Record) -> serde_json::Result<()> {
        let event: CredentialsEvent<'_> = serde_json::from_slice(&record.value)?;
        // `create` replaces the password that there was. A device that was quick has logged in with the new one already,
        // which was issued at the time that the event carries.
        if !matches!(&*event.data.opr, "create" | "delete") {
            return Ok(());
        }
        let Ok(device) = DeviceId::parse(&event.data.device) else { return Ok(()) };
        let is_delete = event.data.opr == "delete";
        self.close_device(record.topic.tenant(), &device, |link| match link.login {
            Login::Password { issued_ms } => is_delete || issued_ms < event.metadata.ts,
            Login::Anonymous | Login::Certificate(_) => false,
        });
        Ok(())
    }

    fn close_device(&self, tenant: &Tenant, device: &DeviceId, matches: impl Fn(&Link) -> bool) {
        // In this order: a session that enters after the look-up finds that the epoch has moved.
        self.epoch.fetch_add(1, Ordering::SeqCst);
        let links = self.sessions.of(tenant, device);
        links.iter().filter(|link| matches(link)).for_each(|link| link.close(Close::Revoked));
    }
}
