//! What users may do, remembered for a while and forgotten at once when it changes, here or in another instance.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use common::{
    backoff::Backoff,
    engine::{
        Engines,
        event_log::{EventLog, Record, Start},
        sql::SqlError,
    },
    tenancy::Topics,
    wire::{Subject, Tenant, event::Revocation},
};
use moka::sync::Cache;
use tracing::warn;

use crate::{
    domain::decide::{Part, Pattern, Rules},
    storage::{AccessRepository, Holder},
};

/// A user who holds tokens and permissions.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) tenant: Tenant,
    /// Which of the tenants that have had this name.
    pub(crate) generation: i64,
    pub(crate) username: String,
    /// `iss` of tokens that are still good.
    pub(crate) credential_key: String,
    pub(crate) rules: Rules,
}

/// Access of users. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AccessCache {
    repository: AccessRepository,
    users: Cache<i64, Arc<Access>>,
    patterns: Cache<(Part, String), Pattern>,
    state: Arc<Mutex<State>>,
}

/// Guards the cache. Held between awaits only.
#[derive(Default)]
struct State {
    /// Changes of other instances are heard of; without them nothing is remembered.
    listening: bool,
    /// Changes that this instance is making; meanwhile nobody is answered from memory.
    under_way: usize,
    /// Counts what was forgotten: an answer of the database that is older than that is not remembered.
    changes: u64,
}

impl State {
    fn is_trusted(&self) -> bool {
        self.listening && self.under_way == 0
    }
}

/// A change of what a user may do, or everybody, from before its transaction begins until it is dropped.
pub(crate) struct Change {
    cache: AccessCache,
    user: Option<i64>,
}

impl Drop for Change {
    fn drop(&mut self) {
        self.cache.forget(self.user);
        self.cache.state().under_way -= 1;
    }
}

impl AccessCache {
    const MAX_USERS: u64 = 50_000;
    const MAX_PATTERNS: u64 = 10_000;

    pub(crate) fn new(repository: AccessRepository, seconds: u64) -> Self {
        let users = Cache::builder().max_capacity(Self::MAX_USERS).time_to_live(Duration::from_secs(seconds));
        Self {
            repository,
            users: users.build(),
            patterns: Cache::new(Self::MAX_PATTERNS),
            state: Arc::default(),
        }
    }

    /// Access of a user; `None` when there is no such user. A `fresh` one is not from memory: who has heard of a
    /// change before this instance did would otherwise hear the old answer once more.
    pub(crate) async fn of(&self, user: i64, fresh: bool) -> Result<Option<Arc<Access>>, SqlError> {
        let (trusted, changes) = {
            let state = self.state();
            (state.is_trusted(), state.changes)
        };
        if let Some(access) = self.users.get(&user).filter(|_| trusted && !fresh) {
            return Ok(Some(access));
        }
        let Some(holder) = self.repository.holder(user).await? else { return Ok(None) };
        let access = Arc::new(self.compile(holder));
        let state = self.state();
        if state.is_trusted() && state.changes == changes {
            self.users.insert(user, Arc::clone(&access));
        }
        Ok(Some(access))
    }

    /// Announces a change of a user, or of everybody, that is about to be made.
    pub(crate) fn change(&self, user: Option<i64>) -> Change {
        self.state().under_way += 1;
        Change { cache: self.clone(), user }
    }

    /// Forgets a user, or everybody.
    fn forget(&self, user: Option<i64>) {
        let mut state = self.state();
        state.changes += 1;
        match user {
            Some(user) => self.users.invalidate(&user),
            None => self.users.invalidate_all(),
        }
    }

    fn listening(&self, listening: bool) {
        self.state().listening = listening;
        self.forget(None);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compile(&self, holder: Holder) -> Access {
        let Holder { tenant, generation, username, credential_key, grants } = holder;
        let rules = Rules::of(grants, |part, text| self.pattern(part, text));
        Access { tenant, generation, username, credential_key, rules }
    }

    fn pattern(&self, part: Part, text: &str) -> Pattern {
        self.patterns.get_with((part, text.to_owned()), || Pattern::compile(part, text))
    }

    /// Follows the changes that other instances announce, until the end is asked for.
    pub(crate) fn follow(&self, engines: &Engines, topics: Topics) {
        let follower = Follower { cache: self.clone(), log: engines.log.clone(), topics };
        let stop = engines.shutdown.clone();
        engines.shutdown.spawn("revocations", async move {
            stop.unless_requested(follower.run()).await;
        });
    }
}

struct Follower {
    cache: AccessCache,
    log: EventLog,
    topics: Topics,
}

impl Follower {
    async fn run(self) {
        let mut backoff = Backoff::default();
        loop {
            if let Err(error) = self.follow(&mut backoff).await {
                warn!(error = format!("{error:#}"), "revocations cannot be followed for the moment");
            }
            self.cache.listening(false);
            backoff.wait().await;
        }
    }

    async fn follow(&self, backoff: &mut Backoff) -> anyhow::Result<()> {
        let tail = self.log.tail()?;
        let topic = self.topics.resolve(&Tenant::management(), &Subject::REVOCATION).await?;
        tail.add(&topic, Start::End).await?;
        // What was announced before is in the database, and nothing is remembered from before.
        self.cache.listening(true);
        loop {
            for record in tail.next_batch(1000).await? {
                self.take_over(&record);
            }
            backoff.reset();
        }
    }

    fn take_over(&self, record: &Record) {
        match serde_json::from_slice::<Revocation>(&record.value) {
            Ok(revocation) => self.cache.forget(revocation.user_id),
            Err(error) => {
                warn!(topic = %record.topic, offset = record.offset, %error, "not a revocation");
                self.cache.forget(None);
            }
        }
    }
}
