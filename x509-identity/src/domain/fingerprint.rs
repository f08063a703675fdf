//! SHA-256 of a certificate.

use std::fmt;

use sha2::{Digest, Sha256};

/// Upper-case hex pairs joined by colons (dojot-connectors.md 2.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(String);

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    pub(crate) fn of(der: &[u8]) -> Self {
        let pairs: Vec<String> = Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect();
        Self(pairs.join(":"))
    }

    /// Reads a fingerprint in either case; each colon between its pairs may be there or not.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if !(64..=95).contains(&text.len()) {
            return None;
        }
        let mut characters = text.chars().peekable();
        let mut pairs = Vec::with_capacity(32);
        for _ in 0..32 {
            let pair = [characters.next()?, characters.next()?];
            if !pair.iter().all(char::is_ascii_hexdigit) {
                return None;
            }
            pairs.push(pair.iter().collect::<String>().to_uppercase());
            characters.next_if_eq(&':');
        }
        characters.next().is_none().then(|| Self(pairs.join(":")))
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
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
        let bare = canonical.as_str().replace(':', "");
        let some_colons = format!("{}:{}", &bare[..32], &bare[32..]);
        for spelling in [canonical.as_str(), &bare, &bare.to_lowercase(), &some_colons, &format!("{bare}:")] {
            assert_eq!(Fingerprint::parse(spelling), Some(canonical.clone()), "{spelling}");
        }
    }

    #[test]
    fn what_is_no_fingerprint_is_refused() {
        let good = Fingerprint::of(b"").0;
        let bare = good.replace(':', "");
        for bad in [
            "",
            "AB",
            "zz",
            &good[1..],
            &format!("{good}:"),
            &format!("{good}:00"),
            &format!(":{bare}"),
            &format!("{}::{}", &bare[..32], &bare[32..]),
            &format!("{}:{}", &bare[..31], &bare[31..]),
            &good.replace(':', "-"),
            &"é".repeat(40),
            &"G".repeat(64),
        ] {
            assert_eq!(Fingerprint::parse(bad), None, "{bad}");
        }
    }
}
