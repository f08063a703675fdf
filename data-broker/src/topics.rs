//! Creates topics by their profiles.

use std::sync::Arc;

use common::{
    engine::event_log::{EventLog, LogError},
    wire::{Subject, Tenant, Topic},
};

use crate::config::Config;

/// The topics of all tenants. Cheap to clone.
#[derive(Clone)]
pub(crate) struct OwnTopics {
    config: Arc<Config>,
    log: EventLog,
}

impl OwnTopics {
    pub(crate) fn new(config: Arc<Config>, log: EventLog) -> Self {
        Self { config, log }
    }

    /// The topic of a tenant for a subject, created unless it exists.
    pub(crate) async fn create(&self, tenant: &Tenant, subject: &Subject) -> Result<Topic, LogError> {
        let topic = Topic::new(tenant, subject);
        let profile = self
            .config
            .profile(subject)
            .ok_or_else(|| LogError::Failed("no default topic profile".to_owned()))?;
        self.log.create_topic(&topic, profile).await?;
        Ok(topic)
    }
}
