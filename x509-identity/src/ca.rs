//! The authority in use: loaded or made in the background, used from blocking threads.

use std::sync::Arc;

use common::{
    backoff::Backoff,
    clock::Clock,
    http::{Problem, admin::ReadyFlag},
};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    config::Config,
    domain::{Authority, authority::AuthorityError},
    storage::authority::AuthorityRepository,
};

/// The authority, as soon as there is one. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CurrentAuthority(watch::Receiver<Option<Arc<Authority>>>);

impl CurrentAuthority {
    /// The authority and the work that provides it.
    pub(crate) fn prepare(
        config: &Config,
        repository: AuthorityRepository,
        clock: Clock,
        ready: ReadyFlag,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, receiver) = watch::channel(None);
        let (bits, days) = (config.ca_key_bits, config.ca_validity_days);
        let work = async move {
            let mut backoff = Backoff::default();
            loop {
                match load_or_generate(&repository, bits, days, clock.now_ms()).await {
                    Ok(authority) => {
                        ready.ready();
                        let _ = sender.send(Some(Arc::new(authority)));
                        // The channel stays open for as long as the service lives.
                        sender.closed().await;
                        return;
                    }
                    Err(error) => {
                        warn!(error = format!("{error:#}"), "there is no certificate authority yet");
                        ready.not_ready(error.to_string());
                    }
                }
                backoff.wait().await;
            }
        };
        (Self(receiver), work)
    }

    /// The authority, or 503 while there is none.
    pub(crate) fn get(&self) -> Result<Arc<Authority>, Problem> {
        self.0.borrow().clone().ok_or_else(|| Problem::unavailable("certificate authority"))
    }

    /// Signs something on a blocking thread: RSA takes milliseconds.
    pub(crate) async fn sign<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Authority) -> Result<T, AuthorityError> + Send + 'static,
    ) -> Result<T, Problem> {
        let authority = self.get()?;
        let done = tokio::task::spawn_blocking(move || work(&authority)).await;
        done.map_err(Problem::internal)?
            .map_err(|error| Problem::internal(format!("{error}: {:?}", std::error::Error::source(&error))))
    }
}

async fn load_or_generate(
    repository: &AuthorityRepository,
    key_bits: u32,
    validity_days: u32,
    now_ms: i64,
) -> anyhow::Result<Authority> {
    if let Some((key, certificate)) = repository.load().await? {
        return Ok(Authority::load(key, certificate)?);
    }
    info!(key_bits, "making the certificate authority");
    let made =
        tokio::task::spawn_blocking(move || Authority::generate(key_bits, validity_days, now_ms)).await??;
    repository.store(made.key_pem(), made.certificate_pem()).await?;
    // What is stored counts: another instance may have been faster.
    let (key, certificate) =
        repository.load().await?.ok_or_else(|| anyhow::anyhow!("the authority was not stored"))?;
    Ok(Authority::load(key, certificate)?)
}
