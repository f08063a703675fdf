//! What all connections of the process share.

use std::sync::Arc;

use common::{
    clock::Clock,
    engine::{Engines, EventLog},
    shutdown::Shutdown,
    tenancy::Topics,
};

use crate::{
    SERVICE,
    authenticate::Authenticator,
    config::Config,
    control::{Control, Watching},
    link::Link,
    metrics::Metrics,
    redelivery::Redelivery,
    sessions::Sessions,
};

/// See the module.
pub(crate) struct Agent {
    pub(crate) config: Config,
    pub(crate) log: EventLog,
    pub(crate) clock: Clock,
    pub(crate) shutdown: Shutdown,
    pub(crate) topics: Topics,
    pub(crate) authenticator: Authenticator,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) control: Control,
    pub(crate) redelivery: Redelivery,
    pub(crate) metrics: Metrics,
}

impl Agent {
    pub(crate) fn new(config: Config, engines: &Engines) -> anyhow::Result<Self> {
        let topics = Topics::new(engines.client.clone(), SERVICE);
        let sessions = Arc::new(Sessions::new(config.max_connections_per_device));
        let metrics = Metrics::new();
        let control = Control::new(
            &engines.log,
            topics.clone(),
            Arc::clone(&sessions),
            metrics.clone(),
            config.delivery_queue,
        )?;
        let redelivery = Redelivery::new(&engines.log, engines.clock.clone(), config.redelivery_window_s)?;
        Ok(Self {
            authenticator: Authenticator::new(engines, &config),
            log: engines.log.clone(),
            clock: engines.clock.clone(),
            shutdown: engines.shutdown.clone(),
            config,
            topics,
            sessions,
            control,
            redelivery,
            metrics,
        })
    }

    /// Forgets what is no longer needed; called now and then.
    pub(crate) fn sweep(&self) {
        self.sessions.forget(self.clock.now_ms());
        self.control.sweep();
        self.redelivery.sweep();
    }
}

/// A session's place in the agent. Dropping it leaves everything.
pub(crate) struct Presence {
    pub(crate) agent: Arc<Agent>,
    pub(crate) link: Arc<Link>,
    _watching: Watching,
}

impl Presence {
    /// For a link that has entered the sessions.
    pub(crate) fn new(agent: &Arc<Agent>, link: Arc<Link>, watching: Watching) -> Self {
        agent.metrics.connections.increment(1.0);
        Self { agent: Arc::clone(agent), link, _watching: watching }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.agent.sessions.leave(&self.link, self.agent.clock.now_ms());
        self.agent.metrics.connections.decrement(1.0);
    }
}
