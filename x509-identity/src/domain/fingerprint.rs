//! SHA-256 of a certificate.

use std::fmt;

use sha2::{Digest, Sha256};

/// Upper-case hex pairs joined by colons (dojot-connectors.md 2.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    pub fn of(der: &[u8]) -> Self {
        let pairs: Vec<String> = Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect();
        Self(pairs.join(":"))
    }

    /// Reads a fingerprint with or without colons, in either case.
    pub fn parse(text: &str) -> Option<Self> {
        let mut digits = Vec::with_capacity(64);
        for (index, character) in text.chars().enumerate() {
            match character {
                ':' if index > 0 && digits.len().is_multiple_of(2) => {}
                digit if digit.is_ascii_hexdigit() && digits.len() < 64 => {
                    digits.push(digit.to_ascii_uppercase())
                }
                _ => return None,
            }
        }
        if digits.len() != 64 || text.len() > 96 {
            return None;
        }
        let pairs: Vec<String> = digits.chunks(2).map(|pair| pair.iter().collect()).collect();
        Some(Self(pairs.join(":")))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_becomes_the_same() {
        let canonical = Fingerprint::of(b"certificate");
        let without_colons = canonical.as_str().replace(':', "");
        for spelling in [canonical.as_str(), &without_colons, &without_colons.to_lowercase()] {
            assert_eq!(Fingerprint::parse(spelling), Some(canonical.clone()), "{spelling}");
        }
    }

    #[test]
    fn what_is_no_fingerprint_is_refused() {
        let good = Fingerprint::of(b"").0;
        for bad in [
            "",
            "AB",
            "zz",
            &good[1..],
            &format!("{good}:00"),
            &good.replace(':', "::"),
            "::::",
            &format!(":{good}"),
        ] {
            assert_eq!(Fingerprint::parse(bad), None, "{bad}");
        }
    }
}
