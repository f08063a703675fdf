//! Settings of x509-identity.

use serde::Deserialize;

/// Section `x509_identity`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address of the API.
    pub listen: String,
    /// Bits of the RSA key of the authority: 2048, 3072 or 4096.
    pub ca_key_bits: u32,
    /// How long the authority is good, in days.
    pub ca_validity_days: u32,
    /// How long certificates of devices and listeners are good, in days.
    pub certificate_validity_days: u32,
    /// Whether the device of a new certificate must exist.
    pub check_device_exists: bool,
}

impl Config {
    /// Says what is wrong before anything starts.
    pub fn validate(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            [2048, 3072, 4096].contains(&self.ca_key_bits),
            "x509_identity.ca_key_bits must be 2048, 3072 or 4096"
        );
        for (key, days) in [
            ("ca_validity_days", self.ca_validity_days),
            ("certificate_validity_days", self.certificate_validity_days),
        ] {
            anyhow::ensure!((1..=36_500).contains(&days), "x509_identity.{key} must be 1 to 36500 days");
        }
        anyhow::ensure!(
            self.certificate_validity_days <= self.ca_validity_days,
            "x509_identity.certificate_validity_days must not be more than x509_identity.ca_validity_days"
        );
        Ok(())
    }
}
