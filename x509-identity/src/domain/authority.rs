//! The platform's certificate authority: its profile and what it signs (dojot-connectors.md 2.4).

use rand::Rng;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256,
    RevocationReason, RevokedCertParams, RsaKeySize, SerialNumber,
};
use time::{Duration, OffsetDateTime};
use x509_parser::{certificate::X509Certificate, pem::parse_x509_pem, prelude::FromDer};

use super::{Fingerprint, Request};

#[cfg(test)]
mod tests;

const ORGANIZATION: &str = "dojot IoT Platform";

/// The authority: a certificate and the key that signs with it.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    key_pem: String,
    certificate_pem: String,
    fingerprint: Fingerprint,
    not_after: OffsetDateTime,
}

/// A certificate that was issued.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    /// The certificate.
    pub(crate) pem: String,
    /// Its SHA-256.
    pub(crate) fingerprint: Fingerprint,
    /// Subject as `CN=…, O=…`.
    pub(crate) subject_dn: String,
    /// Serial number in hex.
    pub(crate) serial: String,
    /// First moment of validity, milliseconds since the epoch.
    pub(crate) not_before_ms: i64,
    /// Last moment of validity.
    pub(crate) not_after_ms: i64,
}

/// A certificate on the revocation list.
#[derive(Debug, Clone)]
pub(crate) struct Revoked {
    /// Serial number in hex.
    pub(crate) serial: String,
    /// When, milliseconds since the epoch.
    pub(crate) revoked_ms: i64,
}

/// What rcgen or the parser refused. The texts are for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// From signing or from making keys.
    #[error("the authority failed")]
    Rcgen(#[from] rcgen::Error),
    /// What was stored or signed cannot be read.
    #[error("a certificate of the authority cannot be read")]
    Unreadable,
}

impl Authority {
    /// Makes a new authority. Takes seconds of computing.
    pub(crate) fn generate(key_bits: u32, validity_days: u32, now_ms: i64) -> Result<Self, AuthorityError> {
        let size = match key_bits {
            2048 => RsaKeySize::_2048,
            3072 => RsaKeySize::_3072,
            _ => RsaKeySize::_4096,
        };
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size)?;
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, "X509 Identity CA");
        name.push(DnType::OrganizationalUnitName, "Certificate Issuer");
        name.push(DnType::OrganizationName, ORGANIZATION);
        let mut params = CertificateParams::default();
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.serial_number = Some(serial());
        (params.not_before, params.not_after) = validity(now_ms, validity_days);
        let certificate = params.self_signed(&key)?;
        Self::load(key.serialize_pem(), certificate.pem())
    }

    /// The authority that was made and stored before.
    pub(crate) fn load(key_pem: String, certificate_pem: String) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem_and_sign_algo(&key_pem, &PKCS_RSA_SHA256)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)?;
        let (_, pem) = parse_x509_pem(certificate_pem.as_bytes()).map_err(|_| AuthorityError::Unreadable)?;
        let not_after = pem.parse_x509().map_err(|_| AuthorityError::Unreadable)?.validity().not_after;
        let (fingerprint, not_after) = (Fingerprint::of(&pem.contents), not_after.to_datetime());
        Ok(Self { issuer, key_pem, certificate_pem, fingerprint, not_after })
    }

    /// The private key, for storing it.
    pub(crate) fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// The certificate that devices and listeners trust.
    pub(crate) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// SHA-256 of the certificate.
    pub(crate) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Signs a checked request with the profile of devices, which listeners share.
    pub(crate) fn issue(
        &self,
        request: Request,
        validity_days: u32,
        now_ms: i64,
    ) -> Result<Issued, AuthorityError> {
        let mut name = DistinguishedName::new();
        for (kind, value) in request.subject {
            name.push(kind, value);
        }
        name.push(DnType::OrganizationName, ORGANIZATION);
        let mut params = CertificateParams::default();
        params.distinguished_name = name;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::ContentCommitment,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyAgreement,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::EmailProtection,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.subject_alt_names = request.alternative_names;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        (params.not_before, params.not_after) = validity(now_ms, validity_days);
        params.not_after = params.not_after.min(self.not_after);
        let certificate = params.signed_by(&request.public_key, &self.issuer)?;
        describe(certificate.der(), certificate.pem())
    }

    /// Signs the list of revoked certificates, good for a day. Lists are numbered by their time, so that a later one
    /// has a greater number on every instance.
    pub(crate) fn revocation_list(&self, revoked: &[Revoked], now_ms: i64) -> Result<String, AuthorityError> {
        let now = date(now_ms);
        let revoked_certs = revoked
            .iter()
            .map(|entry| RevokedCertParams {
                serial_number: SerialNumber::from_slice(&bytes_of_hex(&entry.serial)),
                revocation_time: date(entry.revoked_ms),
                reason_code: Some(RevocationReason::Superseded),
                invalidity_date: None,
            })
            .collect();
        let list = CertificateRevocationListParams {
            this_update: now,
            next_update: now + Duration::days(1),
            crl_number: SerialNumber::from(now_ms as u64),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }
}

fn describe(der: &[u8], pem: String) -> Result<Issued, AuthorityError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| AuthorityError::Unreadable)?;
    Ok(Issued {
        pem,
        fingerprint: Fingerprint::of(der),
        subject_dn: certificate.subject().to_string(),
        serial: hex_of(certificate.raw_serial()),
        not_before_ms: certificate.validity().not_before.timestamp() * 1000,
        not_after_ms: certificate.validity().not_after.timestamp() * 1000,
    })
}

/// 16 random bytes that read as a positive number without a leading zero.
fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::rng().random();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// From five minutes ago, because clocks of devices are not exact.
fn validity(now_ms: i64, days: u32) -> (OffsetDateTime, OffsetDateTime) {
    let now = date(now_ms);
    (now - Duration::minutes(5), now + Duration::days(i64::from(days)))
}

fn date(ms: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().concat()
}

fn bytes_of_hex(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .filter_map(|index| u8::from_str_radix(hex.get(2 * index..2 * index + 2)?, 16).ok())
        .collect()
}
