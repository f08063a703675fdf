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

use crate::{SERVICE, config::Config, domain::identity::Identity, link::Login, packet::Refusal};

/// What a client shows.
pub(crate) enum Credentials {
    /// Nothing but its name; only where the settings allow it.
    Name(Identity),
    /// A user name in the form `tenant@device`, and a password.
    Password { user: String, password: String },
    /// A certificate that the TLS handshake has verified: SHA-256, upper-case hex pairs joined by colons.
    Certificate { fingerprint: String },
}

/// Whose credentials they are, and how that was proved.
#[derive(PartialEq, Eq)]
pub(crate) struct Identified {
    /// The device.
    pub(crate) identity: Identity,
    /// The proof.
    pub(crate) login: Login,
    /// Which of the tenants that have had this name; 0 when nobody knows.
    pub(crate) generation: i64,
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
    /// When the password was issued; certificates have none.
    #[serde(default)]
    issued: i64,
    #[serde(default)]
    generation: i64,
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
    pub(crate) async fn identify(&self, credentials: &Credentials) -> Result<Identified, Refusal> {
        let asked = async {
            let _slot = self.slots.acquire().await.map_err(|_| Refusal::Unavailable)?;
            match credentials {
                Credentials::Name(identity) => {
                    let (identity, login) = (identity.clone(), Login::Anonymous);
                    Ok(Identified { identity, login, generation: 0 })
                }
                Credentials::Password { user, password } => self.owner_of_password(user, password).await,
                Credentials::Certificate { fingerprint } => self.owner_of_certificate(fingerprint).await,
            }
        };
        tokio::time::timeout(self.timeout, asked).await.unwrap_or_else(|_| {
            warn!("a client was refused because its look-up took too long");
            Err(Refusal::Unavailable)
        })
    }

    async fn owner_of_password(&self, user: &str, password: &str) -> Result<Identified, Refusal> {
        let path = "/basic-auth/v1/internal/authentication";
        let body = PasswordIn { username: user, password };
        let answer = self.client.post(Service::DeviceManager, path, &self.caller, &body).await;
        let (identity, owner) = Self::owner(answer, &[401], Refusal::Credentials)?;
        let login = Login::Password { issued_ms: owner.issued };
        Ok(Identified { identity, login, generation: owner.generation })
    }

    async fn owner_of_certificate(&self, fingerprint: &str) -> Result<Identified, Refusal> {
        let path = format!("/internal/api/v1/certificates/{fingerprint}");
        let answer = self.client.get(Service::X509Identity, &path, &self.caller).await;
        let (identity, owner) = Self::owner(answer, &[404], Refusal::NotAuthorized)?;
        let login = Login::Certificate(fingerprint.into());
        Ok(Identified { identity, login, generation: owner.generation })
    }

    /// An answer that does not clearly say yes or no is no answer.
    fn owner(
        answer: Result<OwnerOut, CallError>,
        no: &[u16],
        refusal: Refusal,
    ) -> Result<(Identity, OwnerOut), Refusal> {
        let owner = match answer {
            Ok(owner) => owner,
            Err(CallError::Refused { status, .. }) if no.contains(&status.as_u16()) => return Err(refusal),
            Err(error) => {
                warn!(%error, "a client was refused because nobody could tell who it is");
                return Err(Refusal::Unavailable);
            }
        };
        match (Tenant::parse(&owner.tenant), DeviceId::parse(&owner.device)) {
            (Ok(tenant), Ok(device)) => Ok((Identity { tenant, device }, owner)),
            // A certificate may belong to an application: it is no device.
            _ => Err(refusal),
        }
    }
}
