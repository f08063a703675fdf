use openssl::{
    asn1::Asn1Time,
    stack::Stack,
    x509::{
        X509, X509Crl, X509PurposeId, X509StoreContext, X509StoreContextRef, store::X509StoreBuilder,
        verify::X509VerifyParam,
    },
};
use x509_parser::extensions::ParsedExtension;

use super::*;
use crate::domain::csr::{Csr, for_device, p256};

const NOW_MS: i64 = 1_800_000_000_000;
const DAY_MS: i64 = 86_400_000;

fn authority() -> Authority {
    Authority::generate(2048, 10_950, NOW_MS).unwrap()
}

fn issue(authority: &Authority, csr: &str) -> Issued {
    authority.issue(Request::parse(csr).unwrap(), 365, NOW_MS).unwrap()
}

fn is_trusted(authority: &Authority, issued: &Issued, purpose: X509PurposeId) -> bool {
    let mut param = X509VerifyParam::new().unwrap();
    param.set_time(NOW_MS / 1000);
    param.set_purpose(purpose).unwrap();
    let mut store = X509StoreBuilder::new().unwrap();
    store.add_cert(X509::from_pem(authority.certificate_pem().as_bytes()).unwrap()).unwrap();
    store.set_param(&param).unwrap();
    let certificate = X509::from_pem(issued.pem.as_bytes()).unwrap();
    let mut context = X509StoreContext::new().unwrap();
    context
        .init(&store.build(), &certificate, &Stack::new().unwrap(), X509StoreContextRef::verify_cert)
        .unwrap()
}

#[test]
fn certificates_have_the_profile_of_the_contract() {
    let authority = authority();
    let csr = Csr::new(&[("CN", "a1b2c3"), ("O", "Evil")]).names(&["a.example.com"], &["10.0.0.1"]);
    let issued = issue(&authority, &csr.pem(&p256()));
    let (_, pem) = parse_x509_pem(issued.pem.as_bytes()).unwrap();
    let certificate = pem.parse_x509().unwrap();
    assert_eq!(certificate.version().0, 2);
    assert_eq!(certificate.signature_algorithm.algorithm.to_id_string(), "1.2.840.113549.1.1.11");
    assert_eq!(issued.subject_dn, "CN=a1b2c3, O=dojot IoT Platform");
    assert_eq!(
        certificate.issuer().to_string(),
        "CN=X509 Identity CA, OU=Certificate Issuer, O=dojot IoT Platform"
    );
    let mut found = Vec::new();
    for extension in certificate.extensions() {
        found.push(match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(basic) => format!("ca {} {}", basic.ca, extension.critical),
            ParsedExtension::KeyUsage(usage) => format!("usage {usage} {}", extension.critical),
            ParsedExtension::ExtendedKeyUsage(usage) => {
                assert!(usage.client_auth && usage.email_protection && usage.server_auth);
                assert!(!usage.any && !usage.code_signing && !usage.ocsp_signing && !usage.time_stamping);
                "extended usage".to_owned()
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                let names: Vec<String> = names.general_names.iter().map(ToString::to_string).collect();
                names.join(", ")
            }
            ParsedExtension::AuthorityKeyIdentifier(key) => {
                assert!(key.key_identifier.is_some());
                "authority key".to_owned()
            }
            ParsedExtension::SubjectKeyIdentifier(_) => "subject key".to_owned(),
            other => panic!("not in the profile: {other:?}"),
        });
    }
    found.sort();
    assert_eq!(
        found,
        [
            "DNSName(a.example.com), IPAddress(0a:00:00:01)",
            "authority key",
            "ca false true",
            "extended usage",
            "subject key",
            "usage Digital Signature, Non Repudiation, Key Encipherment, Key Agreement true",
        ]
    );
}

#[test]
fn certificates_are_trusted_for_their_purposes() {
    let (authority, other) = (authority(), authority());
    let issued = issue(&authority, &for_device("a1b2c3"));
    for purpose in [X509PurposeId::SSL_CLIENT, X509PurposeId::SSL_SERVER] {
        assert!(is_trusted(&authority, &issued, purpose));
        assert!(!is_trusted(&other, &issued, purpose));
    }
    assert!(!is_trusted(&authority, &issued, X509PurposeId::TIMESTAMP_SIGN));
}

#[test]
fn certificates_are_valid_for_the_days_that_are_set() {
    let authority = authority();
    let issued = issue(&authority, &for_device("a"));
    assert_eq!(issued.not_after_ms, NOW_MS + 365 * DAY_MS);
    assert_eq!(issued.not_before_ms, NOW_MS - 300_000);
    let certificate = X509::from_pem(issued.pem.as_bytes()).unwrap();
    assert_eq!(certificate.not_after(), &*Asn1Time::from_unix(issued.not_after_ms / 1000).unwrap());
}

#[test]
fn no_certificate_outlives_the_authority() {
    let authority = Authority::generate(2048, 100, NOW_MS).unwrap();
    assert_eq!(issue(&authority, &for_device("a")).not_after_ms, NOW_MS + 100 * DAY_MS);
}

#[test]
fn the_same_request_gives_different_certificates() {
    let (authority, csr) = (authority(), for_device("a"));
    let (first, second) = (issue(&authority, &csr), issue(&authority, &csr));
    assert_ne!(first.serial, second.serial);
    assert_ne!(first.fingerprint, second.fingerprint);
    assert_eq!(first.serial.len(), 32);
}

#[test]
fn the_authority_survives_its_storage() {
    let made = authority();
    let loaded = Authority::load(made.key_pem().to_owned(), made.certificate_pem().to_owned()).unwrap();
    assert_eq!(loaded.fingerprint(), made.fingerprint());
    assert!(is_trusted(&made, &issue(&loaded, &for_device("a")), X509PurposeId::SSL_CLIENT));
    assert!(Authority::load("garbage".to_owned(), made.certificate_pem().to_owned()).is_err());
    assert!(Authority::load(made.key_pem().to_owned(), "garbage".to_owned()).is_err());
}

#[test]
fn revocation_lists_name_the_revoked() {
    let authority = authority();
    let key = X509::from_pem(authority.certificate_pem().as_bytes()).unwrap().public_key().unwrap();
    let list = |revoked: &[Revoked]| {
        let pem = authority.revocation_list(revoked, NOW_MS).unwrap();
        let list = X509Crl::from_pem(pem.as_bytes()).unwrap();
        assert!(list.verify(&key).unwrap());
        list
    };
    assert!(list(&[]).get_revoked().is_none());
    let (first, second) = (issue(&authority, &for_device("a")), issue(&authority, &for_device("b")));
    let with_first = list(&[Revoked { serial: first.serial, revoked_ms: NOW_MS }]);
    let of = |issued: &str| X509::from_pem(issued.as_bytes()).unwrap();
    let is_revoked =
        |pem: &str| matches!(with_first.get_by_cert(&of(pem)), openssl::x509::CrlStatus::Revoked(_));
    assert!(is_revoked(&first.pem));
    assert!(!is_revoked(&second.pem));
}
