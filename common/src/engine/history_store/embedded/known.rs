//! Which series are stored, so that a sample of one of them costs one row.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
};

use super::Sample;

/// Identifiers of series by a hash of their names. Bounded.
pub(super) struct KnownSeries {
    ids: HashMap<u128, i64>,
    /// 128 bits under keys that nobody knows: two names never meet.
    keys: [RandomState; 2],
    /// SQLite's count of what other connections wrote: somebody else may have removed series.
    data_version: i64,
    /// Beyond so many about a half is forgotten, and looked up again when it comes again.
    pub(super) most: usize,
    /// Which half was forgotten last.
    half: u32,
}

impl Default for KnownSeries {
    fn default() -> Self {
        Self {
            ids: HashMap::new(),
            keys: [RandomState::new(), RandomState::new()],
            data_version: 0,
            most: Self::MOST,
            half: 0,
        }
    }
}

impl KnownSeries {
    /// About 35 MB.
    const MOST: usize = 900_000;

    /// Forgets everything if others have written.
    pub(super) fn look_at(&mut self, data_version: i64) {
        if data_version != self.data_version {
            self.ids.clear();
            self.data_version = data_version;
        }
    }

    pub(super) fn key_of(&self, sample: &Sample) -> u128 {
        self.key(sample.tenant.as_str(), sample.device.as_str(), &sample.attr)
    }

    pub(super) fn key(&self, tenant: &str, device: &str, attr: &str) -> u128 {
        let half = |key: &RandomState| {
            let mut hasher = key.build_hasher();
            for part in [tenant, device, attr] {
                hasher.write_usize(part.len());
                hasher.write(part.as_bytes());
            }
            u128::from(hasher.finish())
        };
        half(&self.keys[0]) << 64 | half(&self.keys[1])
    }

    pub(super) fn get(&self, key: u128) -> Option<i64> {
        self.ids.get(&key).copied()
    }

    pub(super) fn add(&mut self, added: HashMap<u128, i64>) {
        if self.ids.len() + added.len() > self.most {
            // Keys are random, so each of their bits halves them in another way.
            self.half = (self.half + 1) % u128::BITS;
            let bit = self.half;
            self.ids.retain(|key, _| key >> bit & 1 == 0);
        }
        self.ids.extend(added);
    }

    pub(super) fn clear(&mut self) {
        self.ids.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}
