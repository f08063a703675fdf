//! Certificate signing requests, good and bad. Unit tests use them too.

use openssl::{
    asn1::{Asn1Object, Asn1OctetString},
    base64,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    rsa::Rsa,
    x509::{X509Extension, X509NameBuilder, X509ReqBuilder, extension::SubjectAlternativeName},
};

/// A key on an elliptic curve.
pub(crate) fn ec(curve: Nid) -> PKey<Private> {
    PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap()).unwrap()
}

/// A key that is quickly made.
pub(crate) fn p256() -> PKey<Private> {
    ec(Nid::X9_62_PRIME256V1)
}

/// An RSA key.
pub(crate) fn rsa(bits: u32) -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap()
}

/// An RSA key with another public exponent than the usual one.
pub(crate) fn rsa_with(exponent: u32) -> PKey<Private> {
    let exponent = BigNum::from_u32(exponent).unwrap();
    PKey::from_rsa(Rsa::generate_with_e(2048, &exponent).unwrap()).unwrap()
}

/// A request for a device.
pub(crate) fn for_device(name: &str) -> String {
    Csr::new(&[("CN", name)]).pem(&p256())
}

/// A request that is not signed yet.
pub(crate) struct Csr {
    builder: X509ReqBuilder,
    digest: MessageDigest,
}

impl Csr {
    pub(crate) fn new(subject: &[(&str, &str)]) -> Self {
        let mut name = X509NameBuilder::new().unwrap();
        for (kind, value) in subject {
            name.append_entry_by_text(kind, value).unwrap();
        }
        let mut builder = X509ReqBuilder::new().unwrap();
        builder.set_subject_name(&name.build()).unwrap();
        Self { builder, digest: MessageDigest::sha256() }
    }

    pub(crate) fn digest(mut self, digest: MessageDigest) -> Self {
        self.digest = digest;
        self
    }

    /// With DNS names and addresses.
    pub(crate) fn names(self, dns: &[&str], addresses: &[&str]) -> Self {
        let mut names = SubjectAlternativeName::new();
        for name in dns {
            names.dns(name);
        }
        for address in addresses {
            names.ip(address);
        }
        let extension = names.build(&self.builder.x509v3_context(None)).unwrap();
        self.extension(extension)
    }

    /// With alternative names that are given as DER.
    pub(crate) fn raw_names(self, der: &[u8]) -> Self {
        let kind = Asn1Object::from_str("2.5.29.17").unwrap();
        let content = Asn1OctetString::new_from_bytes(der).unwrap();
        self.extension(X509Extension::new_from_der(&kind, false, &content).unwrap())
    }

    fn extension(mut self, extension: X509Extension) -> Self {
        let mut extensions = openssl::stack::Stack::new().unwrap();
        extensions.push(extension).unwrap();
        self.builder.add_extensions(&extensions).unwrap();
        self
    }

    pub(crate) fn der(mut self, key: &PKey<Private>) -> Vec<u8> {
        self.builder.set_pubkey(key).unwrap();
        self.builder.sign(key, self.digest).unwrap();
        self.builder.build().to_der().unwrap()
    }

    pub(crate) fn pem(self, key: &PKey<Private>) -> String {
        pem("CERTIFICATE REQUEST", &self.der(key))
    }

    /// For the key of somebody else.
    pub(crate) fn stolen(mut self, key: &PKey<Private>, own: &PKey<Private>) -> String {
        self.builder.set_pubkey(key).unwrap();
        self.builder.sign(own, self.digest).unwrap();
        pem("CERTIFICATE REQUEST", &self.builder.build().to_der().unwrap())
    }
}

/// Bytes as PEM.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::encode_block(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
