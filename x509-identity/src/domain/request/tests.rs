use openssl::{hash::MessageDigest, nid::Nid, pkey::PKey};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData};

use super::*;
use crate::domain::csr::{Csr, ec, for_device, p256, pem, rsa, rsa_with};

/// A request that OpenSSL would not make.
fn unusual(subject: &[(DnType, DnValue)]) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in subject {
        params.distinguished_name.push(kind.clone(), value.clone());
    }
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

fn common_name(value: &str) -> String {
    unusual(&[(DnType::CommonName, DnValue::Utf8String(value.to_owned()))])
}

fn values(request: &Request) -> Vec<&str> {
    request.subject.iter().map(|(_, value)| text_of(value)).collect()
}

#[test]
fn the_keys_of_the_contract_are_accepted() {
    let rsa_2048 = rsa(2048);
    for (key, digest) in [
        (ec(Nid::X9_62_PRIME256V1), MessageDigest::sha256()),
        (ec(Nid::X9_62_PRIME256V1), MessageDigest::sha512()),
        (ec(Nid::SECP384R1), MessageDigest::sha384()),
        (ec(Nid::SECP521R1), MessageDigest::sha256()),
        (ec(Nid::SECP521R1), MessageDigest::sha512()),
        (rsa_2048.clone(), MessageDigest::sha256()),
        (rsa_2048.clone(), MessageDigest::sha512()),
        (rsa(3072), MessageDigest::sha256()),
        (rsa_with(65_539), MessageDigest::sha256()),
    ] {
        let request = Request::parse(&Csr::new(&[("CN", "a1b2c3")]).digest(digest).pem(&key)).unwrap();
        assert_eq!(request.public_key.subject_public_key_info(), key.public_key_to_der().unwrap());
        assert_eq!(values(&request), ["a1b2c3"]);
    }
}

#[test]
fn other_keys_are_refused_by_name() {
    let csr = || Csr::new(&[("CN", "a")]);
    let edwards = PKey::generate_ed25519().unwrap();
    for (request, expected) in [
        (csr().pem(&rsa(1024)), RequestError::ShortRsaKey),
        (csr().pem(&rsa(2047)), RequestError::ShortRsaKey),
        (csr().pem(&rsa_with(3)), RequestError::SmallRsaExponent),
        (csr().pem(&rsa_with(65_535)), RequestError::SmallRsaExponent),
        (csr().pem(&ec(Nid::SECP256K1)), RequestError::UnknownCurve),
        (csr().pem(&ec(Nid::SECP224R1)), RequestError::UnknownCurve),
        (
            csr().digest(MessageDigest::null()).pem(&edwards),
            RequestError::UnknownAlgorithm("1.3.101.112".to_owned()),
        ),
    ] {
        assert_eq!(Request::parse(&request).unwrap_err(), expected);
    }
}

#[test]
fn only_the_holder_of_the_key_can_ask() {
    let (key, own) = (p256(), p256());
    let stolen = Csr::new(&[("CN", "a")]).stolen(&key, &own);
    assert_eq!(Request::parse(&stolen).unwrap_err(), RequestError::BadSignature);
    let good = Csr::new(&[("CN", "a")]).der(&key);
    for position in [good.len() - 1, good.len() - 10] {
        let mut broken = good.clone();
        broken[position] ^= 1;
        let refused = Request::parse(&pem("CERTIFICATE REQUEST", &broken)).unwrap_err();
        assert_eq!(refused, RequestError::BadSignature);
    }
}

#[test]
fn what_is_no_request_is_unreadable() {
    let key = p256();
    let der = Csr::new(&[("CN", "a")]).der(&key);
    let good = pem("CERTIFICATE REQUEST", &der);
    let trailing = [&der[..], &[0]].concat();
    for bad in [
        "",
        "garbage",
        "-----BEGIN CERTIFICATE REQUEST-----",
        "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----",
        "-----BEGIN CERTIFICATE REQUEST-----\nß\n-----END CERTIFICATE REQUEST-----",
        &pem("NEW CERTIFICATE REQUEST", &der),
        &pem("CERTIFICATE", &der),
        &pem("CERTIFICATE REQUEST", b"garbage"),
        &pem("CERTIFICATE REQUEST", &trailing),
        &pem("CERTIFICATE REQUEST", &der[..der.len() - 1]),
        &pem("CERTIFICATE REQUEST", &vec![0; 60_000]),
        &format!("{good}{good}"),
        &format!("{good}more"),
        &format!("less\n{good}"),
        &good.replace("-----BEGIN", "-----BEGIN\0"),
        &"A".repeat(100_000),
    ] {
        let start: String = bad.chars().take(70).collect();
        assert_eq!(Request::parse(bad).unwrap_err(), RequestError::Unreadable, "{start}");
    }
    assert!(Request::parse(&format!("\n {good}\n\n")).is_ok());
}

/// Whatever is changed in a good request, the answer is an error and not a panic.
#[test]
fn no_byte_can_be_changed() {
    let der = Csr::new(&[("C", "BR"), ("CN", "a")]).names(&["a.example.com"], &["10.0.0.1"]).der(&p256());
    for position in 0..der.len() {
        for change in [1, 0x20, 0x80, 0xff] {
            let mut changed = der.clone();
            changed[position] ^= change;
            let result = Request::parse(&pem("CERTIFICATE REQUEST", &changed));
            assert!(result.is_err(), "byte {position} changed by {change}");
        }
        assert!(Request::parse(&pem("CERTIFICATE REQUEST", &der[..position])).is_err(), "{position}");
    }
}

#[test]
fn the_first_attribute_of_each_kind_stays_and_the_organization_goes() {
    let subject =
        [("C", "BR"), ("O", "Evil"), ("CN", "first"), ("OU", "unit"), ("CN", "second"), ("O", "Evil 2")];
    let request = Request::parse(&Csr::new(&subject).pem(&p256())).unwrap();
    assert_eq!(values(&request), ["BR", "first", "unit"]);
    let empty = Request::parse(&Csr::new(&[]).pem(&p256())).unwrap();
    assert!(empty.subject.is_empty() && empty.claimed_names().is_empty());
}

#[test]
fn string_types_stay() {
    let ascii = Ia5String::try_from("a@b.c").unwrap();
    let email = DnType::from_oid(&[1, 2, 840, 113_549, 1, 9, 1]);
    let subject = [
        (DnType::CountryName, DnValue::PrintableString("BR".try_into().unwrap())),
        (email, DnValue::Ia5String(ascii)),
        (DnType::CommonName, DnValue::Utf8String("Campinas – São Paulo".to_owned())),
    ];
    assert_eq!(Request::parse(&unusual(&subject)).unwrap().subject, subject);
}

#[test]
fn subjects_are_bounded_text() {
    for good in ["", "a", &"é".repeat(255), "a/b\\c\"d';--", "名前"] {
        assert!(Request::parse(&common_name(good)).is_ok(), "{good}");
    }
    for bad in ["a\0b", "a\nb", "\u{7f}", "\u{85}", &"a".repeat(256), &"a".repeat(40_000)] {
        assert_eq!(Request::parse(&common_name(bad)).unwrap_err(), RequestError::BadSubject);
    }
    let kinds = |count: u64| -> String {
        let attribute = |last: u64| (DnType::from_oid(&[1, 2, 3, last]), DnValue::from("x"));
        unusual(&(0..count).map(attribute).collect::<Vec<_>>())
    };
    assert!(Request::parse(&kinds(32)).is_ok());
    assert_eq!(Request::parse(&kinds(33)).unwrap_err(), RequestError::BadSubject);
}

#[test]
fn unusual_attributes_are_written_again_or_refused() {
    for (oid, is_good) in [
        (&[2, 5, 4, 5][..], true),
        (&[0, 9, 2342, 19_200_300, 100, 1, 25], true),
        (&[2, 39, 1], true),
        (&[2, 40, 1], false),
        (&[2, 999, 1], false),
        (&[1, 2, u64::MAX >> 2], true),
    ] {
        let request = Request::parse(&unusual(&[(DnType::from_oid(oid), DnValue::from("x"))]));
        match request {
            Ok(request) => assert_eq!((request.subject[0].0.clone(), is_good), (DnType::from_oid(oid), true)),
            Err(error) => assert_eq!((error, is_good), (RequestError::Unreadable, false), "{oid:?}"),
        }
    }
    let wide = DnValue::BmpString("x".try_into().unwrap());
    assert_eq!(
        Request::parse(&unusual(&[(DnType::CommonName, wide)])).unwrap_err(),
        RequestError::Unreadable
    );
}

#[test]
fn alternative_names_are_read() {
    let csr = Csr::new(&[("CN", "Device")]).names(&["A.example.com"], &["10.0.0.1", "::1"]).pem(&p256());
    let request = Request::parse(&csr).unwrap();
    let name = Ia5String::try_from("A.example.com").unwrap();
    let addresses = ["10.0.0.1", "::1"].map(|address| SanType::IpAddress(address.parse().unwrap()));
    assert_eq!(request.alternative_names[0], SanType::DnsName(name));
    assert_eq!(request.alternative_names[1..], addresses);
    assert_eq!(request.claimed_names(), ["a.example.com", "10.0.0.1", "::1", "device"]);
}

#[test]
fn alternative_names_that_could_be_read_differently_are_refused() {
    // A sequence of one name: its tag and content.
    let names = |tag: u8, content: &[u8]| {
        let name = [&[tag, content.len() as u8], content].concat();
        [&[0x30, name.len() as u8], &name[..]].concat()
    };
    for bad in [
        names(0x82, b""),
        names(0x82, b"a\0.example.com"),
        names(0x82, b"a b"),
        names(0x82, "ä".as_bytes()),
        names(0x82, &[0xff]),
        // A string in pieces, which BER allows and DER does not.
        names(0xa2, b"\x16\x09localhost"),
        names(0x87, &[127, 0, 0]),
        names(0xa7, &[4, 4, 127, 0, 0, 1]),
        names(0x88, &[42, 3]),
        names(0x8f, b"x"),
        vec![0x30, 0x05, 0x82],
        vec![0x04, 0x00],
    ] {
        let refused = Request::parse(&Csr::new(&[("CN", "a")]).raw_names(&bad).pem(&p256())).unwrap_err();
        let expected = [RequestError::BadAlternativeName, RequestError::Unreadable];
        assert!(expected.contains(&refused), "{bad:?}: {refused:?}");
    }
    // What stands behind the names is not copied.
    let trailing = [names(0x82, b"a"), vec![0]].concat();
    let read = Request::parse(&Csr::new(&[]).raw_names(&trailing).pem(&p256())).unwrap();
    assert_eq!(read.claimed_names(), ["a"]);
}

#[test]
fn alternative_names_are_few() {
    let many: Vec<String> = (0..101).map(|number| format!("d{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let csr = |names: &[&str]| Csr::new(&[("CN", "a")]).names(names, &[]).pem(&p256());
    assert_eq!(Request::parse(&csr(&many)).unwrap_err(), RequestError::BadAlternativeName);
    assert_eq!(Request::parse(&csr(&many[..100])).unwrap().alternative_names.len(), 100);
}

#[test]
fn host_names_are_added_once() {
    let csr = Csr::new(&[]).names(&["a.example.com"], &[]).pem(&p256());
    let mut request = Request::parse(&csr).unwrap();
    let names = ["a.example.com", "b.example.com", "10.0.0.1", "::1"].map(str::to_owned);
    request.add_host_names(&names).unwrap();
    assert_eq!(request.claimed_names(), names);
    for bad in ["", "a b", "ä", "a\n"] {
        assert!(request.add_host_names(&[bad.to_owned()]).is_err(), "{bad}");
    }
}

#[test]
fn a_request_is_for_one_device_whatever_its_name() {
    assert!(Request::parse(&for_device("a1b2c3")).is_ok());
    assert!(Request::parse(&for_device("admin:a1b2c3")).is_ok());
}
