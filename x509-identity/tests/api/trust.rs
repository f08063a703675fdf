//! What OpenSSL says about what the service signs.

use openssl::{
    hash::MessageDigest,
    stack::Stack,
    x509::{
        CrlStatus, X509, X509Crl, X509PurposeId, X509StoreContext, X509StoreContextRef,
        store::X509StoreBuilder, verify::X509VerifyParam,
    },
};

pub(crate) fn parse(pem: &str) -> X509 {
    X509::from_pem(pem.as_bytes()).unwrap()
}

/// Whether a certificate of the authority is good for this purpose, and for this host if there is one.
pub(crate) fn is_trusted(ca: &str, pem: &str, purpose: X509PurposeId, host: Option<&str>) -> bool {
    let mut param = X509VerifyParam::new().unwrap();
    param.set_purpose(purpose).unwrap();
    match host.map(|host| (host, host.parse())) {
        Some((_, Ok(address))) => param.set_ip(address).unwrap(),
        Some((host, Err(_))) => param.set_host(host).unwrap(),
        None => {}
    }
    let mut store = X509StoreBuilder::new().unwrap();
    store.add_cert(parse(ca)).unwrap();
    store.set_param(&param).unwrap();
    let mut context = X509StoreContext::new().unwrap();
    context
        .init(&store.build(), &parse(pem), &Stack::new().unwrap(), X509StoreContextRef::verify_cert)
        .unwrap()
}

/// Whether a list, whose signature must be the authority's, revokes a certificate.
pub(crate) fn is_revoked(ca: &str, crl: &str, pem: &str) -> bool {
    let list = X509Crl::from_pem(crl.as_bytes()).unwrap();
    assert!(list.verify(&parse(ca).public_key().unwrap()).unwrap(), "the list is signed by the authority");
    matches!(list.get_by_cert(&parse(pem)), CrlStatus::Revoked(_))
}

/// SHA-256 of a certificate, as the service writes it.
pub(crate) fn fingerprint(pem: &str) -> String {
    let digest = parse(pem).digest(MessageDigest::sha256()).unwrap();
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}
