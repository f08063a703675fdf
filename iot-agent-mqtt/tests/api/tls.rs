//! Devices with certificates.

use std::{pin::Pin, sync::atomic::Ordering, time::Duration};

use common::{
    testing::{TestEngines, eventually},
    wire::Subject,
};
use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    ssl::{Ssl, SslContext, SslMethod, SslVerifyMode, SslVersion},
    x509::{
        X509, X509Builder, X509Name, X509NameBuilder, X509NameRef, X509Req,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::{
    client::{Client, Hello},
    platform::{Platform, ready},
};

crate::on_both_engines!(
    a_certificate_says_who_it_is,
    certificates_that_say_nothing_are_refused,
    a_lost_certificate_ends_its_sessions,
    a_session_ends_with_its_certificate,
    nothing_is_resumed,
    the_listener_is_ready_soon_after_the_authority,
);

/// A certificate authority for tests.
pub(crate) struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

/// A certificate with its key.
pub(crate) struct Identity {
    key: PKey<Private>,
    certificate: X509,
}

impl Identity {
    pub(crate) fn fingerprint(&self) -> String {
        let digest = self.certificate.digest(MessageDigest::sha256()).unwrap();
        digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }
}

fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn name(name: &str) -> X509Name {
    let mut builder = X509NameBuilder::new().unwrap();
    builder.append_entry_by_text("CN", name).unwrap();
    builder.build()
}

fn builder(subject: &X509NameRef, serial: u32, seconds: i64) -> X509Builder {
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(subject).unwrap();
    builder.set_serial_number(&BigNum::from_u32(serial).unwrap().to_asn1_integer().unwrap()).unwrap();
    let now = common::clock::Clock::system().now_s();
    builder.set_not_before(&Asn1Time::from_unix(now - 300).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(now + seconds).unwrap()).unwrap();
    builder
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = new_key();
        let name = name("tests");
        let mut builder = builder(&name, 1, 3600);
        builder.set_issuer_name(&name).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        Self { certificate: builder.build(), key }
    }

    pub(crate) fn pem(&self) -> String {
        String::from_utf8(self.certificate.to_pem().unwrap()).unwrap()
    }

    /// Signs the request of a listener.
    pub(crate) fn sign(&self, csr: &str) -> String {
        let csr = X509Req::from_pem(csr.as_bytes()).unwrap();
        assert!(csr.verify(&csr.public_key().unwrap()).unwrap());
        assert_eq!(csr.extensions().unwrap().len(), 1);
        let mut builder = builder(csr.subject_name(), 2, 3600);
        builder.set_issuer_name(self.certificate.subject_name()).unwrap();
        builder.set_pubkey(&csr.public_key().unwrap()).unwrap();
        let names = SubjectAlternativeName::new()
            .dns("localhost")
            .ip("127.0.0.1")
            .build(&builder.x509v3_context(Some(&self.certificate), None))
            .unwrap();
        builder.append_extension(names).unwrap();
        builder.sign(&self.key, MessageDigest::sha256()).unwrap();
        String::from_utf8(builder.build().to_pem().unwrap()).unwrap()
    }

    /// A device's certificate, good for some seconds.
    pub(crate) fn identity(&self, seconds: i64) -> Identity {
        let key = new_key();
        let mut builder = builder(&name("a device"), 3, seconds);
        builder.set_issuer_name(self.certificate.subject_name()).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.sign(&self.key, MessageDigest::sha256()).unwrap();
        Identity { certificate: builder.build(), key }
    }
}

/// Shakes hands; a server that refuses the certificate may say so only at the first read.
async fn shake_hands(
    platform: &Platform,
    identity: Option<&Identity>,
    version: SslVersion,
) -> Option<Client<SslStream<TcpStream>>> {
    let mut context = SslContext::builder(SslMethod::tls_client()).unwrap();
    context.set_min_proto_version(Some(version)).unwrap();
    context.set_max_proto_version(Some(version)).unwrap();
    context.set_verify(SslVerifyMode::PEER);
    context.cert_store_mut().add_cert(platform.known.authority.certificate.clone()).unwrap();
    if let Some(identity) = identity {
        context.set_certificate(&identity.certificate).unwrap();
        context.set_private_key(&identity.key).unwrap();
    }
    let mut ssl = Ssl::new(&context.build()).unwrap();
    ssl.param_mut().set_ip("127.0.0.1".parse().unwrap()).unwrap();
    let stream = TcpStream::connect(platform.tls).await.unwrap();
    let mut stream = SslStream::new(ssl, stream).unwrap();
    Pin::new(&mut stream).connect().await.ok()?;
    Some(Client(stream))
}

async fn connect(platform: &Platform, identity: &Identity, hello: &Hello) -> Client<SslStream<TcpStream>> {
    let mut client = shake_hands(platform, Some(identity), SslVersion::TLS1_3).await.unwrap();
    client.hello(hello).await;
    client
}

/// A certificate that belongs to a device.
fn owned(platform: &Platform, device: &str, seconds: i64) -> Identity {
    let identity = platform.known.authority.identity(seconds);
    let owner = (platform.tenant.to_string(), device.to_owned());
    platform.known.owners.lock().unwrap().insert(identity.fingerprint(), owner);
    identity
}

fn anonymous() -> Hello {
    Hello { user: None, password: None, ..Hello::new("client", "", "") }
}

async fn a_certificate_says_who_it_is(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    ready(&platform).await;
    let identity = owned(&platform, "d1", 600);
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let mut client = shake_hands(&platform, Some(&identity), version).await.unwrap();
        // The user name means nothing.
        client.hello(&Hello::new("client", &format!("{}:d2", platform.tenant), "x")).await;
        client.publish(&platform.attrs("d1"), 1, r#"{"a":1}"#).await;
        assert_eq!(platform.reading().await["metadata"]["deviceid"], "d1");
    }
}

async fn certificates_that_say_nothing_are_refused(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    ready(&platform).await;
    // Verified, and nobody's.
    let nobodys = platform.known.authority.identity(600);
    let mut client = shake_hands(&platform, Some(&nobodys), SslVersion::TLS1_3).await.unwrap();
    assert_eq!(client.refusal(&platform.hello("d1")).await, 5);
    // An owner that is no device.
    let application = platform.known.authority.identity(600);
    let owner = (platform.tenant.to_string(), "an application".to_owned());
    platform.known.owners.lock().unwrap().insert(application.fingerprint(), owner);
    let mut client = shake_hands(&platform, Some(&application), SslVersion::TLS1_3).await.unwrap();
    assert_eq!(client.refusal(&anonymous()).await, 5);
    // No certificate, one of a stranger, one that has ended; each under its owner's name.
    let stranger = Authority::new().identity(600);
    let expired = platform.known.authority.identity(-10);
    for identity in [&stranger, &expired] {
        let owner = (platform.tenant.to_string(), "d1".to_owned());
        platform.known.owners.lock().unwrap().insert(identity.fingerprint(), owner);
    }
    for identity in [None, Some(&stranger), Some(&expired)] {
        for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
            let client = shake_hands(&platform, identity, version).await;
            if let Some(mut client) = client {
                assert_eq!(client.ask(&platform.hello("d1").bytes()).await, None);
            }
        }
    }
    let good = owned(&platform, "d1", 600);
    assert!(shake_hands(&platform, Some(&good), SslVersion::TLS1_1).await.is_none());
    connect(&platform, &good, &anonymous()).await;
}

async fn a_lost_certificate_ends_its_sessions(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    ready(&platform).await;
    let (lost, kept) = (owned(&platform, "d1", 600), owned(&platform, "d1", 600));
    let mut old = connect(&platform, &lost, &anonymous()).await;
    let mut other = connect(&platform, &kept, &Hello { id: "other".to_owned(), ..anonymous() }).await;
    let event = |kind: &str| {
        json!({
            "metadata": {
                "msgid": "x", "timestamp": 1, "service": "x509-identity-mgmt", "tenant": platform.tenant,
                "contentType": "application/vnd.dojot.x509-identities+json"
            },
            "data": {
                "eventType": kind,
                "eventData": {
                    "fingerprint": lost.fingerprint(), "certificatePem": "", "issuedByDojotPki": true,
                    "autoRegistered": false
                }
            }
        })
    };
    platform.announce(&Subject::CERTIFICATES, &event("ownership.create")).await;
    assert!(old.is_alive().await);
    platform.known.owners.lock().unwrap().remove(&lost.fingerprint());
    platform.announce(&Subject::CERTIFICATES, &event("ownership.delete")).await;
    assert_eq!(old.read().await, None);
    assert!(other.is_alive().await);
    let mut again = shake_hands(&platform, Some(&lost), SslVersion::TLS1_3).await.unwrap();
    assert_eq!(again.refusal(&anonymous()).await, 5);
}

async fn a_session_ends_with_its_certificate(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    ready(&platform).await;
    let identity = owned(&platform, "d1", 3);
    let mut client = connect(&platform, &identity, &anonymous().level(5)).await;
    assert!(client.is_alive().await);
    assert_eq!(client.read().await, Some((0xe0, vec![0xa0, 0])));
}

async fn nothing_is_resumed(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    ready(&platform).await;
    let identity = owned(&platform, "d1", 600);
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let mut client = shake_hands(&platform, Some(&identity), version).await.unwrap();
        client.hello(&anonymous()).await;
        assert!(client.is_alive().await);
        let session = client.0.ssl().session().expect("a session");
        // Neither a ticket nor, in version 1.2, an identifier to come back with.
        assert!(session.id().is_empty() || version == SslVersion::TLS1_3);
        assert!(!client.0.ssl().session_reused());
    }
}

async fn the_listener_is_ready_soon_after_the_authority(engines: TestEngines) {
    let platform = Platform::start(engines).await;
    ready(&platform).await;
    let known = &platform.known;
    known.no_authority.store(true, Ordering::SeqCst);
    known.asked.lock().unwrap().clear();
    platform.another_agent().await;
    let asked = eventually("the agent has asked often", || async {
        let asked = known.asked.lock().unwrap().clone();
        (asked.len() > 8).then_some(asked)
    })
    .await;
    // By now, pauses that went on doubling would be longer.
    let pause = asked[8] - asked[7];
    assert!(pause < Duration::from_millis(1500), "{pause:?}");
    assert!(!platform.engines.engines.readiness.is_ready());
    known.no_authority.store(false, Ordering::SeqCst);
    ready(&platform).await;
}
