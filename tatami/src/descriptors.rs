//! File descriptors. Every connection is one or more, the system gives a process only so many, and without one left nothing
//! works: neither a database nor an honest client. So the limits on connections are made to fit before anything listens.

use common::http::server::HttpSettings;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

use crate::{services::Service, settings::Settings};

/// What a process needs beside its clients: files of the databases and the log, connections to engines, the admin listener,
/// and [`INSIDE`].
const RESERVED: usize = 1024;

/// Connections of health and metrics.
const ADMIN: usize = 64;

/// Connections between services that no request of the gateway is behind, such as the look-ups of agents. Services take so
/// many more than the gateway does, so that a gateway without a free place leaves them theirs.
const INSIDE: usize = 256;

/// Services that a gateway keeps unused connections to.
const BEHIND_THE_GATEWAY: usize = 6;

/// The unused connections to one service are this part of all descriptors at most, where there are too few.
const IDLE_SHARE: usize = 64;

/// What runs in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runs {
    Everything,
    One(Service),
}

impl Runs {
    /// Descriptors for a connection to an HTTP listener: in one process the gateway's connection to a service has both its
    /// ends here.
    fn per_request(self) -> usize {
        match self {
            Self::Everything => 3,
            Self::One(Service::Gateway) => 2,
            Self::One(Service::IotAgentMqtt | Service::Persister) => 0,
            Self::One(_) => 1,
        }
    }

    /// For a connection that the gateway keeps and does not use.
    fn per_idle(self) -> usize {
        match self {
            Self::Everything => 2,
            Self::One(Service::Gateway) => 1,
            Self::One(_) => 0,
        }
    }

    fn has_agent(self) -> bool {
        matches!(self, Self::Everything | Self::One(Service::IotAgentMqtt))
    }
}

/// Raises the limit of this process as far as it may, and returns it.
pub(crate) fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) =
            setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        debug!(%error, "the limit on open files stays as it is");
    }
    let current = getrlimit(Resource::Nofile).current;
    current.map_or(usize::MAX, |current| usize::try_from(current).unwrap_or(usize::MAX))
}

/// Reduces the limits on connections until they fit into so many descriptors together with everything else: all by the same
/// share, except that the gateway keeps enough unused connections to services. With fewer than it has clients at work it
/// would open and close one for every other request.
pub(crate) fn fit(settings: &mut Settings, runs: Runs, open_files: usize) {
    let left = left_for_clients(settings, open_files);
    if idle_demand(settings, runs).saturating_add(client_demand(settings, runs)) <= left {
        return;
    }
    let reduce_to = |reduced: usize, setting: &'static str, value: &mut usize| {
        if *value <= reduced {
            return;
        }
        warn!(
            setting,
            wanted = *value,
            reduced,
            open_files,
            "a limit on connections is reduced because the process may not open more files (ulimit -n)"
        );
        *value = reduced;
    };
    if runs.per_idle() > 0 {
        let idle = &mut settings.gateway.max_idle_connections;
        reduce_to(left / IDLE_SHARE, "gateway.max_idle_connections", idle);
    }
    let left = left.saturating_sub(idle_demand(settings, runs));
    let wanted = client_demand(settings, runs);
    let reduce = |setting, value: &mut usize| {
        let share = (*value as u128).saturating_mul(left as u128) / (wanted as u128).max(1);
        reduce_to(usize::try_from(share).unwrap_or(*value).max(1), setting, value);
    };
    if runs.per_request() > 0 {
        reduce("http.max_connections", &mut settings.http.max_connections);
    }
    // One address has a quarter of what there is, and not less than the operator wants because others have less.
    let quarter = |all: usize| (all / 4).max(1);
    if runs.per_idle() > 0 {
        let most = quarter(settings.http.max_connections);
        let per_address = &mut settings.gateway.max_connections_per_address;
        reduce_to(most, "gateway.max_connections_per_address", per_address);
    }
    if runs.has_agent() {
        let agent = &mut settings.iot_agent_mqtt;
        reduce("iot_agent_mqtt.max_connections", &mut agent.max_connections);
        let most = quarter(agent.max_connections);
        let per_address = &mut agent.max_connections_per_address;
        reduce_to(most, "iot_agent_mqtt.max_connections_per_address", per_address);
    }
}

/// How many descriptors the clients of this process need when all limits are reached.
fn client_demand(settings: &Settings, runs: Runs) -> usize {
    let http = settings.http.max_connections.saturating_mul(runs.per_request());
    let mqtt = if runs.has_agent() { settings.iot_agent_mqtt.max_connections } else { 0 };
    http.saturating_add(mqtt)
}

/// How many the unused connections of the gateway need.
fn idle_demand(settings: &Settings, runs: Runs) -> usize {
    settings.gateway.max_idle_connections.saturating_mul(runs.per_idle() * BEHIND_THE_GATEWAY)
}

/// At least half: who has few descriptors is served by few.
fn left_for_clients(settings: &Settings, open_files: usize) -> usize {
    let databases = BEHIND_THE_GATEWAY * settings.postgres.max_connections as usize;
    open_files.saturating_sub(RESERVED + databases).max(open_files / 2)
}

/// The limits of the listeners that only services of this process call.
pub(crate) fn inside(http: HttpSettings) -> HttpSettings {
    HttpSettings { max_connections: http.max_connections.saturating_add(INSIDE), ..http }
}

/// The limits of the admin listener.
pub(crate) fn admin(http: HttpSettings) -> HttpSettings {
    HttpSettings { max_connections: http.max_connections.min(ADMIN), ..http }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Options;

    fn settings() -> Settings {
        Settings::load(&Options::default()).unwrap()
    }

    #[test]
    fn all_limits_together_fit() {
        for runs in [
            Runs::Everything,
            Runs::One(Service::Gateway),
            Runs::One(Service::IotAgentMqtt),
            Runs::One(Service::DeviceManager),
        ] {
            for open_files in [256, 1024, 4096, 20_000, 65_536] {
                let mut settings = settings();
                fit(&mut settings, runs, open_files);
                let (used, left) = (
                    client_demand(&settings, runs) + idle_demand(&settings, runs),
                    left_for_clients(&settings, open_files),
                );
                assert!(used <= left && left < open_files, "{runs:?} {open_files}: {used} of {left}");
                assert!(settings.http.max_connections > 0 && settings.iot_agent_mqtt.max_connections > 0);
            }
        }
    }

    #[test]
    fn enough_descriptors_change_nothing_and_few_keep_the_proportions() {
        let (mut many, mut few, wanted) = (settings(), settings(), settings());
        fit(&mut many, Runs::Everything, 1_000_000);
        fit(&mut few, Runs::Everything, 20_000);
        let limits = |settings: &Settings| {
            let agent = &settings.iot_agent_mqtt;
            [
                settings.http.max_connections,
                settings.gateway.max_connections_per_address,
                agent.max_connections,
                agent.max_connections_per_address,
            ]
        };
        assert_eq!(limits(&many), limits(&wanted));
        let [http, http_address, mqtt, mqtt_address] = limits(&few);
        assert!(http_address.abs_diff(http / 4) <= 1 && mqtt_address.abs_diff(mqtt / 4) <= 1);
        assert!(http < wanted.http.max_connections && mqtt.abs_diff(5 * http) <= 5);
    }

    #[test]
    fn a_service_without_clients_of_its_own_is_left_alone() {
        let mut settings = settings();
        fit(&mut settings, Runs::One(Service::Auth), 30_000);
        assert_eq!(settings.http.max_connections, 20_000);
    }
}
