//! Sends the mails that wait in the database, with links that set passwords.
//!
//! A mail is a row of the transaction that wants it. It leaves after the commit and is tried for a quarter of an hour; a
//! mail whose acknowledgement gets lost is sent again, and then the link of the last one is good.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use common::{backoff::Backoff, shutdown::Shutdown};
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};
use openssl::x509::X509;
use secrecy::ExposeSecret;
use tokio::sync::Notify;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::{
    config::{Encryption, MailConfig},
    domain::secret::{link, link_hash},
    storage::{ChangeError, Mail, MailKind, PasswordRepository},
};

/// Whether mails are sent, and the way to say that one waits. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Post(Option<Arc<Notify>>);

/// Sends what waits.
pub(crate) struct Mailer {
    passwords: PasswordRepository,
    transport: AsyncSmtpTransport<Tokio1Executor>,
    sender: Mailbox,
    link_prefix: String,
    link_lifetime_s: i64,
    wake: Arc<Notify>,
}

impl Post {
    /// Whether there is a mail server.
    pub(crate) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Says that a mail waits.
    pub(crate) fn wake(&self) {
        if let Some(wake) = &self.0 {
            wake.notify_one();
        }
    }
}

impl Mailer {
    /// How long one attempt may take.
    const TIMEOUT: Duration = Duration::from_secs(30);
    /// Finds mails that are due again, and those of an instance that died.
    const LOOK_EVERY: Duration = Duration::from_secs(2);
    /// After so many attempts a mail is given up.
    const MOST_ATTEMPTS: i64 = 10;

    /// Reads the settings; without a mail server there is no mailer.
    pub(crate) fn new(
        settings: &MailConfig,
        link_lifetime_s: i64,
        passwords: PasswordRepository,
    ) -> anyhow::Result<(Post, Option<Self>)> {
        if settings.host.is_empty() {
            return Ok((Post(None), None));
        }
        let sender = settings.sender.parse().context("auth.mail.sender must be an e-mail address")?;
        let is_url = ["http://", "https://"].iter().any(|scheme| settings.link_prefix.starts_with(scheme));
        anyhow::ensure!(is_url, "auth.mail.link_prefix must begin with http:// or https://");
        let tls = match settings.encryption {
            Encryption::Starttls => Tls::Required(tls(settings)?),
            Encryption::Tls => Tls::Wrapper(tls(settings)?),
            Encryption::None => Tls::None,
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host)
            .port(settings.port)
            .tls(tls)
            .timeout(Some(Self::TIMEOUT));
        if !settings.user.is_empty() {
            let password = settings.password.expose_secret().to_owned();
            transport = transport.credentials(Credentials::new(settings.user.clone(), password));
        }
        let wake = Arc::new(Notify::new());
        let mailer = Self {
            passwords,
            transport: transport.build(),
            sender,
            link_prefix: settings.link_prefix.clone(),
            link_lifetime_s,
            wake: Arc::clone(&wake),
        };
        Ok((Post(Some(wake)), Some(mailer)))
    }

    /// Sends until the end is asked for.
    pub(crate) fn start(self, shutdown: &Shutdown) {
        let stop = shutdown.clone();
        shutdown.spawn("mails", async move {
            stop.unless_requested(self.run()).await;
        });
    }

    async fn run(self) {
        self.passwords.migrated().await;
        let mut backoff = Backoff::default();
        loop {
            match self.send_next().await {
                Ok(true) => backoff.reset(),
                Ok(false) => {
                    backoff.reset();
                    let _ = tokio::time::timeout(Self::LOOK_EVERY, self.wake.notified()).await;
                }
                Err(error) => {
                    warn!(error = format!("{error:#}"), "mails wait");
                    backoff.wait().await;
                }
            }
        }
    }

    /// Whether there was one that could be taken over.
    async fn send_next(&self) -> anyhow::Result<bool> {
        let link = link();
        let lifetime_ms = self.link_lifetime_s.saturating_mul(1000);
        let mail = match self.passwords.next_mail(&link_hash(&link), lifetime_ms).await {
            Ok(Some(mail)) => mail,
            Ok(None) => return Ok(false),
            Err(ChangeError::Unknown(_)) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let tenant = &mail.user.tenant;
        match self.send(&mail, &link).await {
            Ok(()) => {
                count("sent");
                info!(%tenant, "a mail with a link for a password has left");
                self.passwords.sent(&mail).await?;
            }
            Err(reason) if mail.attempt >= Self::MOST_ATTEMPTS => {
                count("given up");
                let error = format!("{reason:#}");
                error!(%tenant, attempt = mail.attempt, error, "a mail with a link for a password is given up");
                self.passwords.give_up(&mail).await?;
            }
            Err(reason) => {
                count("failed");
                let error = format!("{reason:#}");
                warn!(%tenant, attempt = mail.attempt, error, "a mail with a link for a password cannot be sent yet");
                self.passwords.postpone(&mail, pause_ms(mail.attempt)).await?;
            }
        }
        Ok(true)
    }

    async fn send(&self, mail: &Mail, link: &str) -> anyhow::Result<()> {
        let message = self.message(mail, link)?;
        let sent = tokio::time::timeout(Self::TIMEOUT, self.transport.send(message)).await;
        sent.context("the mail server does not answer in time")??;
        Ok(())
    }

    fn message(&self, mail: &Mail, link: &str) -> anyhow::Result<Message> {
        let to = Mailbox::new(None, mail.user.email.parse().context("not an address that can be sent to")?);
        let (username, prefix) = (&mail.user.username, &self.link_prefix);
        let minutes = self.link_lifetime_s / 60;
        let (subject, why) = match mail.kind {
            MailKind::Activation => (
                "Your new account",
                format!("You are the user {username} now. To log in you need a password."),
            ),
            MailKind::Reset => (
                "Your password",
                format!(
                    "Somebody, perhaps you, has asked for a new password of the user {username}. If it was not you, \
                     nothing needs to be done."
                ),
            ),
        };
        let body =
            format!("{why}\n\nThis page sets one, within {minutes} minutes and once:\n\n{prefix}{link}\n");
        let id = format!("<{}@{}>", Uuid::new_v4(), self.sender.email.domain());
        let message =
            Message::builder().message_id(Some(id)).from(self.sender.clone()).to(to).subject(subject);
        Ok(message.header(ContentType::TEXT_PLAIN).body(body)?)
    }
}

fn tls(settings: &MailConfig) -> anyhow::Result<TlsParameters> {
    let mut tls = TlsParameters::builder(settings.host.clone());
    let file = &settings.trusted_ca;
    if !file.as_os_str().is_empty() {
        let named =
            || format!("auth.mail.trusted_ca: {} has no certificates that can be read", file.display());
        let pem = std::fs::read(file).with_context(named)?;
        anyhow::ensure!(X509::stack_from_pem(&pem).is_ok_and(|found| !found.is_empty()), named());
        tls = tls.add_root_certificate(Certificate::from_pem(&pem).with_context(named)?);
    }
    tls.build().context("auth.mail: TLS cannot be used")
}

/// Longer after each attempt: from a second to five minutes, a quarter of an hour in all.
fn pause_ms(attempt: i64) -> i64 {
    const LONGEST: i64 = 300_000;
    1000_i64
        .checked_shl(u32::try_from(attempt - 1).unwrap_or_default().min(20))
        .unwrap_or(LONGEST)
        .min(LONGEST)
}

fn count(outcome: &'static str) {
    metrics::counter!("auth_mails_total", "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let pauses: Vec<i64> = (1..=10).map(pause_ms).collect();
        assert_eq!(pauses[..3], [1000, 2000, 4000]);
        assert_eq!(pauses[9], 300_000);
        assert!(pauses.iter().sum::<i64>() < 20 * 60_000);
    }
}
