//! Checks of a certificate signing request (dojot-connectors.md 2.4).

use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    oid_registry::{
        OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
    },
    pem::parse_x509_pem,
    prelude::FromDer,
    public_key::PublicKey,
    x509::SubjectPublicKeyInfo,
};

/// Longest accepted PEM text, in bytes.
const MAX_PEM: usize = 65_536;
const MIN_RSA_BITS: usize = 2048;
const OID_ORGANIZATION: &str = "2.5.4.10";
const OID_SUBJECT_ALT_NAME: &str = "2.5.29.17";

/// What a good request asks to have certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The public key, as DER of a SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    /// Subject as object identifier and text, without the organization; the first of each kind.
    pub subject: Vec<(Vec<u64>, String)>,
    /// Content of the subject alternative name extension, as DER.
    pub alternative_names: Option<Vec<u8>>,
    /// Its DNS names and addresses, in lower case.
    pub host_names: Vec<String>,
}

/// Why a request is refused; the texts are the contract's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is no PKCS#10 request in PEM.
    #[error("Can not parse ASN1 data structure from binary data")]
    Unreadable,
    /// Its signature does not match its key.
    #[error("The signature of the certificate signing request is not valid.")]
    BadSignature,
    /// Its RSA key is too short.
    #[error("The RSA public key length less than 2048 bits is not supported.")]
    ShortRsaKey,
    /// Its curve is not one of NIST's three.
    #[error(
        "The elliptical curve used in the ECDSA public key algorithm is not supported. (Use the NIST-recommended curves: P-256, P-384 or P-521)"
    )]
    UnknownCurve,
    /// Its key is neither RSA nor ECDSA.
    #[error("The public key algorithm must be RSA or ECDSA. The key algorithm with OID={0} is not supported")]
    UnknownAlgorithm(String),
}

impl Request {
    /// Reads and checks a request in PEM.
    pub fn parse(pem: &str) -> Result<Self, RequestError> {
        if pem.len() > MAX_PEM {
            return Err(RequestError::Unreadable);
        }
        let (_, pem) = parse_x509_pem(pem.as_bytes()).map_err(|_| RequestError::Unreadable)?;
        if pem.label != "CERTIFICATE REQUEST" {
            return Err(RequestError::Unreadable);
        }
        let (rest, csr) =
            X509CertificationRequest::from_der(&pem.contents).map_err(|_| RequestError::Unreadable)?;
        if !rest.is_empty() {
            return Err(RequestError::Unreadable);
        }
        let info = &csr.certification_request_info;
        check_key(&info.subject_pki)?;
        csr.verify_signature().map_err(|_| RequestError::BadSignature)?;
        let (alternative_names, host_names) = alternative_names(&csr)?;
        Ok(Self {
            public_key: info.subject_pki.raw.to_vec(),
            subject: subject(&csr)?,
            alternative_names,
            host_names,
        })
    }
}

fn check_key(key: &SubjectPublicKeyInfo<'_>) -> Result<(), RequestError> {
    let algorithm = &key.algorithm.algorithm;
    if *algorithm == OID_PKCS1_RSAENCRYPTION {
        return match key.parsed() {
            Ok(PublicKey::RSA(rsa)) if rsa.key_size() >= MIN_RSA_BITS => Ok(()),
            Ok(_) => Err(RequestError::ShortRsaKey),
            Err(_) => Err(RequestError::Unreadable),
        };
    }
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        let known = [OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521];
        return if curve.is_some_and(|curve| known.contains(&curve)) {
            Ok(())
        } else {
            Err(RequestError::UnknownCurve)
        };
    }
    Err(RequestError::UnknownAlgorithm(algorithm.to_id_string()))
}

fn subject(csr: &X509CertificationRequest<'_>) -> Result<Vec<(Vec<u64>, String)>, RequestError> {
    let mut subject: Vec<(Vec<u64>, String)> = Vec::new();
    for attribute in csr.certification_request_info.subject.iter_attributes() {
        let kind = attribute.attr_type();
        let oid: Vec<u64> = kind.iter().ok_or(RequestError::Unreadable)?.collect();
        let repeated = subject.iter().any(|(other, _)| *other == oid);
        if repeated || kind.to_id_string() == OID_ORGANIZATION {
            continue;
        }
        subject.push((oid, attribute.as_str().map_err(|_| RequestError::Unreadable)?.to_owned()));
    }
    Ok(subject)
}

fn alternative_names(
    csr: &X509CertificationRequest<'_>,
) -> Result<(Option<Vec<u8>>, Vec<String>), RequestError> {
    let Some(requested) = csr.certification_request_info.attributes().iter().find_map(|attribute| {
        match attribute.parsed_attribute() {
            x509_parser::cri_attributes::ParsedCriAttribute::ExtensionRequest(request) => Some(request),
            _ => None,
        }
    }) else {
        return Ok((None, Vec::new()));
    };
    let Some(extension) =
        requested.extensions.iter().find(|extension| extension.oid.to_id_string() == OID_SUBJECT_ALT_NAME)
    else {
        return Ok((None, Vec::new()));
    };
    let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
        return Err(RequestError::Unreadable);
    };
    let host_names = names
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_lowercase()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        })
        .collect();
    Ok((Some(extension.value.to_vec()), host_names))
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string())
}
