//! How many topics a tenant may have.

use std::sync::Arc;

use axum::http::StatusCode;
use common::{
    engine::event_log::EventLog,
    http::Problem,
    wire::{Subject, Tenant, Topic},
};

use crate::config::Config;

/// Counts the topics of subjects that the platform does not know itself. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Quota {
    config: Arc<Config>,
    log: EventLog,
}

impl Quota {
    pub(crate) fn new(config: Arc<Config>, log: EventLog) -> Self {
        Self { config, log }
    }

    /// Refuses a topic that would be one too many. Those who ask at the same moment do not see each other.
    pub(crate) async fn admit(&self, tenant: &Tenant, subject: &Subject) -> Result<(), Problem> {
        if subject.is_known() {
            return Ok(());
        }
        let topics = self.log.topics_of(tenant).await?;
        let is_there = topics.iter().any(|topic| topic.subject() == subject.as_str());
        let most = self.config.max_topics_per_tenant;
        if is_there || topics.iter().filter(|topic| is_made_up(topic)).count() < most {
            return Ok(());
        }
        let message = format!(
            "tenant {tenant} has {most} topics of subjects of its own, which is the most that \
             data_broker.max_topics_per_tenant allows"
        );
        Err(Problem::new(StatusCode::CONFLICT, message))
    }
}

fn is_made_up(topic: &Topic) -> bool {
    !Subject::parse(topic.subject()).is_ok_and(|subject| subject.is_known())
}
