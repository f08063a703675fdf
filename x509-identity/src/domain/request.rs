//! Checks of a certificate signing request (dojot-connectors.md 2.4).

use std::net::IpAddr;

use openssl::x509::X509Req;
use rcgen::{DnType, DnValue, SanType, SubjectPublicKeyInfo, string::Ia5String};
use x509_parser::{
    asn1_rs::Tag,
    certification_request::X509CertificationRequest,
    cri_attributes::ParsedCriAttribute,
    extensions::{GeneralName, ParsedExtension},
    oid_registry::{
        OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
        OID_X509_EXT_SUBJECT_ALT_NAME,
    },
    pem::parse_x509_pem,
    prelude::FromDer,
    public_key::PublicKey,
    x509::{AttributeTypeAndValue, SubjectPublicKeyInfo as RequestedKey},
};

use super::names::normalized;

#[cfg(test)]
mod tests;

/// Longest accepted PEM text, in bytes.
const MAX_PEM: usize = 65_536;
const MIN_RSA_BITS: usize = 2048;
/// Most attributes of a subject.
const MAX_ATTRIBUTES: usize = 32;
/// Longest value of an attribute, in characters.
const MAX_VALUE: usize = 255;
/// Most alternative names.
const MAX_NAMES: usize = 100;
/// Longest alternative name, in bytes.
const MAX_NAME: usize = 1024;

/// What a good request asks to have certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// The public key.
    pub(crate) public_key: SubjectPublicKeyInfo,
    /// Subject without the organization; the first attribute of each kind.
    pub(crate) subject: Vec<(DnType, DnValue)>,
    /// Subject alternative names.
    pub(crate) alternative_names: Vec<SanType>,
    common_name: Option<String>,
}

/// Why a request is refused; the texts are the contract's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    /// It is no PKCS#10 request in PEM.
    #[error("Can not parse ASN1 data structure from binary data")]
    Unreadable,
    /// Its signature does not match its key.
    #[error("The signature of the certificate signing request is not valid.")]
    BadSignature,
    /// Its RSA key is too short.
    #[error("The RSA public key length less than 2048 bits is not supported.")]
    ShortRsaKey,
    /// The public exponent of its RSA key invites attacks on careless padding.
    #[error("The RSA public key exponent less than 65537 is not supported.")]
    SmallRsaExponent,
    /// Its curve is not one of NIST's three.
    #[error(
        "The elliptical curve used in the ECDSA public key algorithm is not supported. (Use the NIST-recommended curves: P-256, P-384 or P-521)"
    )]
    UnknownCurve,
    /// Its key is neither RSA nor ECDSA.
    #[error("The public key algorithm must be RSA or ECDSA. The key algorithm with OID={0} is not supported")]
    UnknownAlgorithm(String),
    /// Its subject has too many attributes, or values that are too long or not text.
    #[error(
        "The SubjectDN must have at most 32 attributes of at most 255 characters, without control characters."
    )]
    BadSubject,
    /// It has too many alternative names, or names that cannot be copied.
    #[error(
        "The subject alternative names must be at most 100 DNS names, IP addresses, e-mail addresses and URIs."
    )]
    BadAlternativeName,
}

impl Request {
    /// Reads and checks a request in PEM.
    pub(crate) fn parse(pem: &str) -> Result<Self, RequestError> {
        let der = der_of(pem)?;
        let (rest, csr) = X509CertificationRequest::from_der(&der).map_err(|_| RequestError::Unreadable)?;
        if !rest.is_empty() {
            return Err(RequestError::Unreadable);
        }
        let info = &csr.certification_request_info;
        check_key(&info.subject_pki)?;
        check_signature(&der)?;
        let subject = subject(&csr)?;
        let common_name = subject.iter().find_map(|(kind, value)| match (kind, value) {
            (DnType::CommonName, value) => Some(text_of(value).to_owned()),
            _ => None,
        });
        Ok(Self {
            public_key: SubjectPublicKeyInfo::from_der(info.subject_pki.raw)
                .map_err(|_| RequestError::Unreadable)?,
            subject,
            alternative_names: alternative_names(&csr)?,
            common_name,
        })
    }

    /// Adds host names and addresses that the request itself does not have.
    pub(crate) fn add_host_names(&mut self, names: &[String]) -> Result<(), RequestError> {
        for name in names {
            let name = match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(ascii(name)?),
            };
            if !self.alternative_names.contains(&name) {
                self.alternative_names.push(name);
            }
        }
        if self.alternative_names.len() > MAX_NAMES {
            return Err(RequestError::BadAlternativeName);
        }
        Ok(())
    }

    /// The names under which clients could know a server with this certificate, in one spelling. The common name is
    /// one of them, as clients fall back to it.
    pub(crate) fn claimed_names(&self) -> Vec<String> {
        let alternative = self.alternative_names.iter().filter_map(|name| match name {
            SanType::DnsName(name) => Some(normalized(name.as_str())),
            SanType::IpAddress(address) => Some(normalized(&address.to_string())),
            _ => None,
        });
        alternative.chain(self.common_name.as_deref().map(normalized)).collect()
    }
}

fn der_of(pem: &str) -> Result<Vec<u8>, RequestError> {
    let pem = pem.trim();
    if pem.len() > MAX_PEM || !pem.starts_with("-----BEGIN CERTIFICATE REQUEST-----") {
        return Err(RequestError::Unreadable);
    }
    match parse_x509_pem(pem.as_bytes()) {
        Ok(([], parsed)) => Ok(parsed.contents),
        _ => Err(RequestError::Unreadable),
    }
}

fn check_key(key: &RequestedKey<'_>) -> Result<(), RequestError> {
    let algorithm = &key.algorithm.algorithm;
    if *algorithm == OID_PKCS1_RSAENCRYPTION {
        return match key.parsed() {
            Ok(PublicKey::RSA(rsa)) if bits(rsa.modulus) < MIN_RSA_BITS => Err(RequestError::ShortRsaKey),
            Ok(PublicKey::RSA(rsa)) if is_small(rsa.exponent) => Err(RequestError::SmallRsaExponent),
            Ok(PublicKey::RSA(_)) => Ok(()),
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

/// Whether a public exponent, big-endian, is less than 65537.
fn is_small(exponent: &[u8]) -> bool {
    // What has more than 17 bits is larger, and 65536 is even: with 17 bits only 65536 is left to refuse.
    bits(exponent) < 17 || (bits(exponent) == 17 && exponent.ends_with(&[1, 0, 0]))
}

/// Length of a big-endian number.
fn bits(number: &[u8]) -> usize {
    let significant = number.iter().position(|byte| *byte != 0).map_or(&[][..], |first| &number[first..]);
    significant.first().map_or(0, |first| significant.len() * 8 - first.leading_zeros() as usize)
}

/// Proves that the sender has the private key. OpenSSL does it, because the parser does not know P-521.
fn check_signature(der: &[u8]) -> Result<(), RequestError> {
    let verify = || {
        let request = X509Req::from_der(der)?;
        request.verify(&*request.public_key()?)
    };
    if verify().unwrap_or(false) { Ok(()) } else { Err(RequestError::BadSignature) }
}

fn subject(csr: &X509CertificationRequest<'_>) -> Result<Vec<(DnType, DnValue)>, RequestError> {
    let mut subject: Vec<(DnType, DnValue)> = Vec::new();
    for attribute in csr.certification_request_info.subject.iter_attributes() {
        let (kind, value) = (kind_of(attribute)?, value_of(attribute)?);
        let repeated = subject.iter().any(|(other, _)| *other == kind);
        if repeated || kind == DnType::OrganizationName || text_of(&value).is_empty() {
            continue;
        }
        subject.push((kind, value));
        if subject.len() > MAX_ATTRIBUTES {
            return Err(RequestError::BadSubject);
        }
    }
    Ok(subject)
}

fn kind_of(attribute: &AttributeTypeAndValue<'_>) -> Result<DnType, RequestError> {
    let oid: Vec<u64> = attribute.attr_type().iter().ok_or(RequestError::Unreadable)?.collect();
    // What cannot be written again; the parser takes all that begins with 2.40 or more for such a one.
    match oid[..] {
        [0 | 1, 0..40, ..] | [2, _, ..] => Ok(DnType::from_oid(&oid)),
        _ => Err(RequestError::Unreadable),
    }
}

/// The value, in the string type that it has in the request.
fn value_of(attribute: &AttributeTypeAndValue<'_>) -> Result<DnValue, RequestError> {
    let text = attribute.as_str().map_err(|_| RequestError::Unreadable)?;
    if text.chars().count() > MAX_VALUE || text.chars().any(char::is_control) {
        return Err(RequestError::BadSubject);
    }
    let same_type = match attribute.attr_value().tag() {
        Tag::PrintableString => text.try_into().map(DnValue::PrintableString).ok(),
        Tag::Ia5String => text.try_into().map(DnValue::Ia5String).ok(),
        _ => None,
    };
    Ok(same_type.unwrap_or_else(|| DnValue::Utf8String(text.to_owned())))
}

/// The text of a value that [`value_of`] has made.
fn text_of(value: &DnValue) -> &str {
    match value {
        DnValue::PrintableString(text) => text.as_str(),
        DnValue::Ia5String(text) => text.as_str(),
        DnValue::Utf8String(text) => text,
        _ => "",
    }
}

fn alternative_names(csr: &X509CertificationRequest<'_>) -> Result<Vec<SanType>, RequestError> {
    let requested = csr.certification_request_info.attributes().iter().find_map(|attribute| match attribute
        .parsed_attribute()
    {
        ParsedCriAttribute::ExtensionRequest(request) => Some(&request.extensions),
        _ => None,
    });
    let extension = requested.and_then(|extensions| {
        extensions.iter().find(|extension| extension.oid == OID_X509_EXT_SUBJECT_ALT_NAME)
    });
    let Some(extension) = extension else { return Ok(Vec::new()) };
    let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
        return Err(RequestError::Unreadable);
    };
    if names.general_names.len() > MAX_NAMES {
        return Err(RequestError::BadAlternativeName);
    }
    names.general_names.iter().map(alternative_name).collect()
}

/// Names are written anew, never copied as bytes: what another parser could read differently does not survive.
fn alternative_name(name: &GeneralName<'_>) -> Result<SanType, RequestError> {
    Ok(match name {
        GeneralName::DNSName(name) => SanType::DnsName(ascii(name)?),
        GeneralName::RFC822Name(name) => SanType::Rfc822Name(ascii(name)?),
        GeneralName::URI(uri) => SanType::URI(ascii(uri)?),
        GeneralName::IPAddress(bytes) => SanType::IpAddress(address(bytes)?),
        _ => return Err(RequestError::BadAlternativeName),
    })
}

fn ascii(name: &str) -> Result<Ia5String, RequestError> {
    let good = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    if !good {
        return Err(RequestError::BadAlternativeName);
    }
    name.try_into().map_err(|_| RequestError::BadAlternativeName)
}

fn address(bytes: &[u8]) -> Result<IpAddr, RequestError> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(v4.into());
    }
    let v6 = <[u8; 16]>::try_from(bytes).map_err(|_| RequestError::BadAlternativeName)?;
    Ok(v6.into())
}
