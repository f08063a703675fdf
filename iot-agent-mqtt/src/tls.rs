//! The TLS side of the agent: its own certificate and whom it believes, kept fresh.
//!
//! x509-identity issues the server certificate for a key that never leaves this process, and tells which authorities
//! may vouch for devices: the platform's and every tenant's trusted ones. A verified chain alone opens nothing: the
//! owner of the certificate's fingerprint is looked up for every connection. There are no session tickets and no
//! session cache, so no handshake can skip the client's certificate.

use std::{net::IpAddr, pin::Pin, time::Duration};

use anyhow::Context;
use common::{
    backoff::Backoff,
    clock::Clock,
    engine::Engines,
    http::{
        Caller,
        admin::ReadyFlag,
        client::{InternalClient, Service},
    },
    wire::Tenant,
};
use openssl::{
    asn1::Asn1Time,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    ssl::{
        Ssl, SslAcceptor, SslContext, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslVerifyMode,
        SslVersion,
    },
    stack::Stack,
    x509::{
        X509, X509NameBuilder, X509ReqBuilder, extension::SubjectAlternativeName, verify::X509VerifyFlags,
    },
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, sync::watch, time::Instant};
use tokio_openssl::SslStream;
use tracing::{info, warn};

use crate::SERVICE;

/// What handshakes are made with; absent until x509-identity has answered.
pub(crate) type Acceptor = watch::Receiver<Option<SslContext>>;

/// The client's side of a finished handshake.
pub(crate) struct Peer {
    /// SHA-256, upper-case hex pairs joined by colons.
    pub(crate) fingerprint: String,
    /// When the certificate ends, milliseconds since the epoch.
    pub(crate) not_after_ms: i64,
}

/// Does the handshake; waits for the server's certificate if it is not there yet.
pub(crate) async fn accept(
    mut acceptor: Acceptor,
    stream: TcpStream,
    clock: &Clock,
) -> anyhow::Result<(SslStream<TcpStream>, Peer)> {
    let context = acceptor.wait_for(Option::is_some).await?.clone().context("no certificate yet")?;
    let mut stream = SslStream::new(Ssl::new(&context)?, stream)?;
    Pin::new(&mut stream).accept().await?;
    let certificate = stream.ssl().peer_certificate().context("the client has no certificate")?;
    let digest = certificate.digest(MessageDigest::sha256())?;
    let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    let now_s = clock.now_s();
    let left = Asn1Time::from_unix(now_s)?.diff(certificate.not_after())?;
    let not_after_s = now_s + i64::from(left.days) * 86_400 + i64::from(left.secs);
    Ok((stream, Peer { fingerprint: pairs.join(":"), not_after_ms: not_after_s * 1000 }))
}

#[derive(Serialize)]
struct CertificateIn<'a> {
    csr: &'a str,
    hostnames: &'a [String],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CertificateOut {
    certificate_pem: String,
    ca_pem: String,
}

#[derive(Deserialize)]
struct BundleOut {
    pem: String,
}

/// Keeps the TLS listener's certificate and authorities fresh.
pub(crate) struct Keeper {
    client: InternalClient,
    caller: Caller,
    hostnames: Vec<String>,
    flag: ReadyFlag,
    sender: watch::Sender<Option<SslContext>>,
    key: PKey<Private>,
    csr: String,
    certificate: Option<(CertificateOut, Instant)>,
    bundle: String,
    /// Something is newer than what handshakes are made with.
    stale: bool,
}

impl Keeper {
    /// How soon the listener begins once its certificate can be had.
    const READINESS: Duration = Duration::from_millis(500);
    /// How often the authorities are asked for: a tenant that trusts a new one waits this long.
    const REFRESH: Duration = Duration::from_mins(1);
    /// How often the own certificate is renewed.
    const RENEW: Duration = Duration::from_hours(1);

    /// A keeper and what it keeps.
    pub(crate) fn new(engines: &Engines, hostnames: Vec<String>) -> anyhow::Result<(Self, Acceptor)> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
        let key = PKey::from_ec_key(EcKey::generate(&group)?)?;
        let csr = signing_request(&key, &hostnames)?;
        let (sender, acceptor) = watch::channel(None);
        let keeper = Self {
            client: engines.client.clone(),
            caller: Caller::service(SERVICE, &Tenant::management()),
            hostnames,
            flag: engines.readiness.register(format!("{SERVICE} TLS")),
            sender,
            key,
            csr,
            certificate: None,
            bundle: String::new(),
            stale: true,
        };
        Ok((keeper, acceptor))
    }

    /// Runs for ever.
    pub(crate) async fn run(mut self) {
        self.begin().await;
        let mut backoff = Backoff::up_to(Duration::from_secs(30));
        let mut tick = tokio::time::interval(Self::REFRESH);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.reset();
            tick.tick().await;
            while let Err(error) = self.refresh().await {
                // The listener goes on with what it has.
                let error = format!("{error:#}");
                warn!(error, "certificates of the TLS listener cannot be refreshed");
                backoff.wait().await;
            }
            backoff.reset();
        }
    }

    /// Gets the first certificate. Devices wait for it, and at the first start the authority is still being made: it is
    /// asked for often, and what is missing is told once.
    async fn begin(&mut self) {
        let mut backoff = Backoff::up_to(Self::READINESS);
        let mut told = String::new();
        while let Err(error) = self.refresh().await {
            let error = format!("{error:#}");
            self.flag.not_ready(error.clone());
            if error != told {
                info!(error, "the TLS listener waits for its certificate");
                told = error;
            }
            backoff.wait().await;
        }
        self.flag.ready();
    }

    async fn refresh(&mut self) -> anyhow::Result<()> {
        if self.certificate.as_ref().is_none_or(|(_, since)| since.elapsed() >= Self::RENEW) {
            let path = "/internal/api/v1/server-certificates";
            let body = CertificateIn { csr: &self.csr, hostnames: &self.hostnames };
            let issued = self.client.post(Service::X509Identity, path, &self.caller, &body).await?;
            self.certificate = Some((issued, Instant::now()));
            self.stale = true;
        }
        let path = "/internal/api/v1/ca-bundle";
        let bundle: BundleOut = self.client.get(Service::X509Identity, path, &self.caller).await?;
        self.stale |= bundle.pem != self.bundle;
        self.bundle = bundle.pem;
        if self.stale {
            let (certificate, _) = self.certificate.as_ref().context("no certificate yet")?;
            self.sender.send_replace(Some(context(&self.key, certificate, &self.bundle)?));
            self.stale = false;
            info!("the TLS listener has new certificates");
        }
        Ok(())
    }
}

/// The names are in the request itself, so that its signature covers them.
fn signing_request(key: &PKey<Private>, hostnames: &[String]) -> anyhow::Result<String> {
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_text("CN", SERVICE)?;
    let mut request = X509ReqBuilder::new()?;
    request.set_subject_name(&name.build())?;
    request.set_pubkey(key)?;
    let mut names = SubjectAlternativeName::new();
    for host in hostnames {
        if host.parse::<IpAddr>().is_ok() {
            names.ip(host)
        } else {
            names.dns(host)
        };
    }
    let mut extensions = Stack::new()?;
    extensions.push(names.build(&request.x509v3_context(None))?)?;
    request.add_extensions(&extensions)?;
    request.sign(key, MessageDigest::sha256())?;
    Ok(String::from_utf8(request.build().to_pem()?)?)
}

fn context(key: &PKey<Private>, issued: &CertificateOut, bundle: &str) -> anyhow::Result<SslContext> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    builder.set_private_key(key)?;
    let mut chain = X509::stack_from_pem(issued.certificate_pem.as_bytes())?.into_iter();
    builder.set_certificate(&*chain.next().context("the answer has no certificate")?)?;
    for authority in chain.chain(X509::stack_from_pem(issued.ca_pem.as_bytes())?) {
        builder.add_extra_chain_cert(authority)?;
    }
    builder.check_private_key()?;
    builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    for authority in X509::stack_from_pem(bundle.as_bytes())? {
        builder.cert_store_mut().add_cert(authority)?;
    }
    // A tenant may trust an authority that is not a root.
    builder.cert_store_mut().set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    // Every connection shows its certificate: nothing is resumed.
    builder.set_options(SslOptions::NO_TICKET);
    builder.set_num_tickets(0)?;
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    // An idle connection keeps no buffers.
    builder.set_mode(SslMode::RELEASE_BUFFERS);
    Ok(builder.build().into_context())
}
