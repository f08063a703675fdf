//! The authority in use: loaded or made in the background, used from blocking threads.

use std::{num::NonZero, sync::Arc, thread::available_parallelism};

use common::{
    backoff::Backoff,
    clock::Clock,
    http::{Problem, admin::ReadyFlag},
};
use tokio::sync::{Semaphore, watch};
use tracing::{info, warn};

use crate::{
    config::Config,
    domain::{
        Authority, Issued, Request,
        authority::{AuthorityError, Revoked},
    },
    storage::authority::AuthorityRepository,
};

/// The authority, as soon as there is one. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CurrentAuthority {
    current: watch::Receiver<Option<Arc<Authority>>>,
    /// As many signatures at a time as there are processors: more would only starve other requests.
    signing: Arc<Semaphore>,
    validity_days: u32,
}

impl CurrentAuthority {
    /// The authority and the work that provides it.
    pub(crate) fn prepare(
        config: &Config,
        repository: AuthorityRepository,
        clock: Clock,
        ready: ReadyFlag,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, current) = watch::channel(None);
        let (bits, days) = (config.ca_key_bits, config.ca_validity_days);
        let work = async move {
            let mut backoff = Backoff::default();
            loop {
                match load_or_generate(&repository, bits, days, clock.now_ms()).await {
                    Ok(authority) => {
                        // In this order: who is told that the service is ready finds an authority.
                        sender.send_replace(Some(Arc::new(authority)));
                        ready.ready();
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
        let signing = Arc::new(Semaphore::new(available_parallelism().map_or(1, NonZero::get)));
        (Self { current, signing, validity_days: config.certificate_validity_days }, work)
    }

    /// The authority, or 503 while there is none.
    pub(crate) fn get(&self) -> Result<Arc<Authority>, Problem> {
        self.current.borrow().clone().ok_or_else(|| Problem::unavailable("certificate authority"))
    }

    /// Signs a certificate.
    pub(crate) async fn issue(&self, request: Request, now_ms: i64) -> Result<Issued, Problem> {
        let days = self.validity_days;
        self.sign(move |authority| authority.issue(request, days, now_ms)).await
    }

    /// Signs a revocation list.
    pub(crate) async fn revocation_list(
        &self,
        revoked: Vec<Revoked>,
        now_ms: i64,
    ) -> Result<String, Problem> {
        self.sign(move |authority| authority.revocation_list(&revoked, now_ms)).await
    }

    /// Signs something on a blocking thread: RSA takes milliseconds.
    async fn sign<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Authority) -> Result<T, AuthorityError> + Send + 'static,
    ) -> Result<T, Problem> {
        let authority = self.get()?;
        let turn = Arc::clone(&self.signing).acquire_owned().await.map_err(Problem::internal)?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&authority);
            drop(turn);
            result
        });
        done.await
            .map_err(Problem::internal)?
            .map_err(|error| Problem::internal(format!("{:#}", anyhow::Error::from(error))))
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
