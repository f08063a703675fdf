//! Settings of device-manager.

use serde::Deserialize;

/// Section `device_manager`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address of the API.
    pub listen: String,
    /// Most entries on one page of a list.
    pub max_page_size: i64,
    /// Most lists of one tenant that are read at a time.
    pub lists_per_tenant: usize,
    /// How long others may wait for their turn, in milliseconds.
    pub list_wait_ms: u64,
    /// Most devices that one request may create or remove.
    pub max_devices_per_request: i64,
}

impl Config {
    /// Says what is wrong before anything starts.
    pub fn validate(&self) -> anyhow::Result<()> {
        let limit = 1..=1_000_000;
        for (name, value) in
            [("max_page_size", self.max_page_size), ("max_devices_per_request", self.max_devices_per_request)]
        {
            anyhow::ensure!(limit.contains(&value), "device_manager.{name} must be between 1 and 1000000");
        }
        for (name, value, most) in [
            ("lists_per_tenant", self.lists_per_tenant as u64, 10_000),
            ("list_wait_ms", self.list_wait_ms, 25_000),
        ] {
            anyhow::ensure!(
                (1..=most).contains(&value),
                "device_manager.{name} must be between 1 and {most}"
            );
        }
        Ok(())
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits { max_page_size: self.max_page_size, max_devices_per_request: self.max_devices_per_request }
    }
}

/// The limits of single requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_page_size: i64,
    pub(crate) max_devices_per_request: i64,
}
