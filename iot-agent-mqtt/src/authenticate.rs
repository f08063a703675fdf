//! Asks the services that know whether a client is who it says.

use std::time::Duration;

use common::{
    engine::Engines,
    http::{
        Caller,
        client::{CallError, InternalClient, Service},
    },
    wire::{DeviceId, Tenant},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tracing::warn;

use crate::{SERVICE, config::Config, domain::identity::Identity, packet::Refusal};

/// What a client shows.
pub(crate) enum Credentials {
    /// Nothing but its name; only where the settings allow it.
    Name(Identity),
    /// A user name in the form `tenant@device`, and a password.
    Password { user: String, password: String },
    /// A certificate that the TLS handshake has verified: SHA-256, upper-case hex pairs joined by colons.
    Certificate { fingerprint: String },
}

/// See the module.
pub(crate) struct Authenticator {
    client: InternalClient,
    caller: Caller,
    /// Passwords are slow to check on purpose: clients queue here and not in the other service.
    slots: Semaphore,
    timeout: Duration,
}

#[derive(Serialize)]
struct PasswordIn<'a> {
    username: &'a str,
    password: &'a str,
}

#[derive(Deserialize)]
struct OwnerOut {
    tenant: String,
    device: String,
}

impl Authenticator {
    pub(crate) fn new(engines: &Engines, config: &Config) -> Self {
        Self {
            client: engines.client.clone(),
            caller: Caller::service(SERVICE, &Tenant::management()),
            slots: Semaphore::new(config.lookups_at_once),
            timeout: config.lookup_timeout(),
        }
    }

    /// The device that the credentials belong to.
    pub(crate) async fn identify(&self, credentials: &Credentials) -> Result<Identity, Refusal> {
        let asked = async {
            let _slot = self.slots.acquire().await.map_err(|_| Refusal::Unavailable)?;
            match credentials {
                Credentials::Name(identity) => Ok(identity.clone()),
                Credentials::Password { user, password } => self.owner_of_password(user, password).await,
                Credentials::Certificate { fingerprint } => self.owner_of_certificate(fingerprint).await,
            }
        };
        tokio::time::timeout(self.timeout, asked).await.unwrap_or_else(|_| {
            warn!("a client was refused because its look-up took too long");
            Err(Refusal::Unavailable)
        })
    }

    async fn owner_of_password(&self, user: &str, password: &str) -> Result<Identity, Refusal> {
        let path = "/basic-auth/v1/internal/authentication";
        let body = PasswordIn { username: user, password };
        let answer = self.client.post(Service::DeviceManager, path, &self.caller, &body).await;
        Self::owner(answer, &[401], Refusal::Credentials)
    }

    async fn owner_of_certificate(&self, fingerprint: &str) -> Result<Identity, Refusal> {
        let path = format!("/internal/api/v1/certificates/{fingerprint}");
        let answer = self.client.get(Service::X509Identity, &path, &self.caller).await;
        Self::owner(answer, &[404], Refusal::NotAuthorized)
    }

    /// An answer that does not clearly say yes or no is no answer.
    fn owner(answer: Result<OwnerOut, CallError>, no: &[u16], refusal: Refusal) -> Result<Identity, Refusal> {
        let owner = match answer {
            Ok(owner) => owner,
            Err(CallError::Refused { status, .. }) if no.contains(&status.as_u16()) => return Err(refusal),
            Err(error) => {
                warn!(%error, "a client was refused because nobody could tell who it is");
                return Err(Refusal::Unavailable);
            }
        };
        match (Tenant::parse(&owner.tenant), DeviceId::parse(&owner.device)) {
            (Ok(tenant), Ok(device)) => Ok(Identity { tenant, device }),
            // A certificate may belong to an application: it is no device.
            _ => Err(refusal),
        }
    }
}
