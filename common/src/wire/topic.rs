//! Name of a topic on the log. The only place that knows how tenant and subject are joined.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::{InvalidName, Subject, Tenant};

/// `{tenant}.{subject}`, for example `admin.device-data`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Topic {
    name: Arc<str>,
    tenant: Tenant,
}

impl Topic {
    /// The topic of a tenant for a subject.
    pub fn new(tenant: &Tenant, subject: &Subject) -> Self {
        Self { name: format!("{tenant}.{subject}").into(), tenant: tenant.clone() }
    }

    /// Reads a topic name. Everything before the first dot is the tenant.
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName::new("topic", name, "a tenant, a dot and a subject");
        let (tenant, subject) = name.split_once('.').ok_or_else(invalid)?;
        let tenant = Tenant::try_from(tenant.to_owned())?;
        Subject::parse(subject)?;
        Ok(Self { name: name.into(), tenant })
    }

    /// The tenant that owns every record of the topic.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// What the records are about, as text.
    pub fn subject(&self) -> &str {
        &self.name[self.tenant.as_str().len() + 1..]
    }

    /// The whole name, as the log engine knows it.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

/// The name says the tenant already; topics are keys on the path of every message.
impl Hash for Topic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_read_back_as_it_was_built() {
        for tenant in [Tenant::parse("admin").unwrap(), Tenant::management()] {
            let topic = Topic::new(&tenant, &Subject::DEVICE);
            let read = Topic::parse(topic.as_str()).unwrap();
            assert_eq!(read, topic);
            assert_eq!(read.tenant(), &tenant);
            assert_eq!(read.subject(), Subject::DEVICE.as_str());
        }
    }

    #[test]
    fn what_is_no_topic_is_refused() {
        for bad in ["", "admin", ".device-data", "admin.", "Admin.device-data", "admin.a b", "admin.#"] {
            assert!(Topic::parse(bad).is_err(), "{bad}");
        }
    }
}
