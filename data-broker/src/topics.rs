//! Creates topics by their profiles.

use std::sync::Arc;

use axum::http::StatusCode;
use common::{
    engine::event_log::{EventLog, LogError},
    http::{Problem, client::CallError},
    wire::{Subject, Tenant, Topic},
};

use crate::{config::Config, tenants::Tenants};

/// The topics of all tenants. Cheap to clone.
#[derive(Clone)]
pub(crate) struct OwnTopics {
    config: Arc<Config>,
    log: EventLog,
    tenants: Tenants,
}

/// Why there is no topic.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TopicError {
    /// A topic that is made for a tenant that is gone would be found by the next one of its name.
    #[error("there is no tenant {0}")]
    UnknownTenant(Tenant),
    #[error(transparent)]
    Auth(#[from] CallError),
    #[error(transparent)]
    Log(#[from] LogError),
}

impl From<TopicError> for Problem {
    fn from(error: TopicError) -> Self {
        match error {
            // Not 404, which is also what a caller gets who is not believed: whoever hears this forgets what he has to say.
            TopicError::UnknownTenant(_) => Self::new(StatusCode::GONE, error.to_string()),
            TopicError::Auth(error) => error.into(),
            TopicError::Log(error) => error.into(),
        }
    }
}

impl OwnTopics {
    pub(crate) fn new(config: Arc<Config>, log: EventLog, tenants: Tenants) -> Self {
        Self { config, log, tenants }
    }

    /// The topic of a tenant for a subject, created unless it exists.
    pub(crate) async fn create(&self, tenant: &Tenant, subject: &Subject) -> Result<Topic, TopicError> {
        if !self.tenants.has(tenant).await? {
            return Err(TopicError::UnknownTenant(tenant.clone()));
        }
        let topic = Topic::new(tenant, subject);
        let profile = self
            .config
            .profile(subject)
            .ok_or_else(|| LogError::Failed("no default topic profile".to_owned()))?;
        self.log.create_topic(&topic, profile).await?;
        Ok(topic)
    }
}
