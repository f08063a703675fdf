//! Makes the service usable: a signing key, and at the first start groups, permissions and the user `admin`.

use common::{backoff::Backoff, http::admin::ReadyFlag};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::{
    SERVICE, domain::secret::readable_password, keys::KeyRing, passwords::Passwords,
    storage::FirstStartRepository,
};

pub(crate) struct FirstStart {
    pub(crate) repository: FirstStartRepository,
    pub(crate) keys: KeyRing,
    pub(crate) passwords: Passwords,
    /// Password of the user `admin` from the settings.
    pub(crate) admin_password: Option<SecretString>,
    /// Who wants to show a generated password. Nobody: it is logged.
    pub(crate) show: Option<oneshot::Sender<SecretString>>,
    pub(crate) ready: ReadyFlag,
    /// Hash of the password that this instance tries to give to the user `admin`.
    pub(crate) hash: Option<String>,
}

impl FirstStart {
    /// Tries until everything is there.
    pub(crate) async fn run(mut self) {
        self.repository.migrated().await;
        let generated = SecretString::from(readable_password());
        let mut backoff = Backoff::default();
        while let Err(error) = self.attempt(&generated).await {
            warn!(error = format!("{error:#}"), "not usable yet");
            self.ready.not_ready(error.to_string());
            backoff.wait().await;
        }
        self.ready.ready();
    }

    async fn attempt(&mut self, generated: &SecretString) -> anyhow::Result<()> {
        self.keys.prepare().await?;
        if !self.repository.is_done().await? {
            let hash = self.hash(generated).await?;
            self.repository.run(&hash).await?;
        }
        let Some(hash) = &self.hash else { return Ok(()) };
        // Ours, even if the answer to an earlier commit was lost; or of an instance that was faster.
        if self.repository.is_password_of_admin(hash).await? {
            info!("first start: groups, permissions and the user admin are there");
            if self.admin_password.is_none() {
                self.announce(generated);
            }
        }
        Ok(())
    }

    async fn hash(&mut self, generated: &SecretString) -> anyhow::Result<String> {
        if let Some(hash) = &self.hash {
            return Ok(hash.clone());
        }
        let password = self.admin_password.as_ref().unwrap_or(generated).clone();
        let hash = self.passwords.hash(password, SERVICE).await;
        let hash = hash.map_err(|_| anyhow::anyhow!("the password of the user admin cannot be hashed"))?;
        self.hash = Some(hash.clone());
        Ok(hash)
    }

    fn announce(&mut self, password: &SecretString) {
        let not_shown = match self.show.take() {
            Some(show) => show.send(password.clone()).is_err(),
            None => true,
        };
        if not_shown {
            // The only way to this password; without it nobody could log in.
            warn!(password = password.expose_secret(), "first start: the user admin has this password");
        }
    }
}
