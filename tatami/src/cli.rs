//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::services::Service;

/// Tatami, a multi-tenant IoT platform: REST, MQTT, websockets and socket.io as dojot speaks them, in one binary.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the whole platform in this process
    ///
    /// Without engine URLs everything is embedded and lives in the data directory. Any mix is allowed: `--kafka` alone
    /// uses Kafka and embeds the rest.
    Up(Options),
    #[command(flatten)]
    Service(ServiceCommand),
    /// Shows settings
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
        #[command(flatten)]
        options: Options,
    },
    /// Checks the engines and says what is wrong
    Doctor(Options),
    /// Makes, lists and removes tenants of a running platform
    ///
    /// Logs in with the password in `TATAMI_PASSWORD`, or asks for it.
    Tenant {
        #[command(subcommand)]
        command: TenantCommand,
        #[command(flatten)]
        login: Login,
    },
    /// Exits with 0 when the process that answers there is ready
    Health {
        /// Readiness page of the process
        #[arg(long, default_value = "http://127.0.0.1:9000/health/ready")]
        url: String,
    },
}

/// One service as a process of its own. It talks to the others through Kafka, HTTP and the databases.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Runs the API gateway: every request from outside comes through here
    ///
    /// With a command behind it, it only tells about the route table and runs nothing.
    Gateway(GatewayOptions),
    /// Runs users, logins, tenants and the policy decisions
    ///
    /// With a command behind it, it asks a running platform and runs nothing.
    Auth(AuthOptions),
    /// Runs devices, templates, actuation and device passwords
    DeviceManager(Options),
    /// Runs topics and socket.io
    DataBroker(Options),
    /// Runs the writer of readings into the history store
    Persister(Options),
    /// Runs queries over readings
    History(Options),
    /// Runs tickets and websockets
    KafkaWs(Options),
    /// Runs the MQTT agent
    IotAgentMqtt(Options),
    /// Runs the certificate authority and its records
    X509Identity(Options),
}

/// What `tatami gateway` is asked.
#[derive(Debug, Args)]
pub(crate) struct GatewayOptions {
    #[command(subcommand)]
    pub(crate) command: Option<GatewayCommand>,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// What `tatami gateway` can do besides running.
#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Prints the effective route table, every path in the order in which they are looked at
    ///
    /// It is the embedded table, changed by the file that the setting `gateway.routes_file` names.
    Routes {
        /// As JSON, with everything that a route has
        #[arg(long)]
        json: bool,
    },
    /// Says which route a request takes, what it must pass and where it goes, or why it is refused
    Explain {
        /// Such as GET
        method: String,
        /// Path as a client sends it, such as /device/x, or a whole URL
        path: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Checks a file of routes; exits with 1 and tells the line when something is wrong
    Check {
        /// The file
        file: PathBuf,
    },
}

/// What `tatami auth` is asked.
#[derive(Debug, Args)]
pub(crate) struct AuthOptions {
    #[command(subcommand)]
    pub(crate) command: Option<AuthCommand>,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// What `tatami auth` can do besides running.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthCommand {
    /// Makes a new key that signs tokens; nobody is logged out
    ///
    /// Logs in with the password in `TATAMI_PASSWORD`, or asks for it.
    RotateKeys {
        #[command(flatten)]
        login: Login,
    },
}

/// What `tatami tenant` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Lists tenants, and those that are being removed
    List,
    /// Makes a tenant, which stays until it is removed; without this, a tenant comes and goes with its users
    Add {
        /// A lower-case letter, then lower-case letters, digits and underscores
        name: String,
    },
    /// Removes a tenant with its users, devices, history, certificates and topics
    Remove {
        /// Its name
        name: String,
        /// Does not ask
        #[arg(long)]
        yes: bool,
        /// How long to wait until all services have removed what they keep, in seconds
        #[arg(long = "wait", value_name = "SECONDS", default_value_t = 60)]
        wait_s: u64,
    },
}

/// A running platform, and who asks. The password is taken from `TATAMI_PASSWORD`, or asked for.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Address of the gateway
    #[arg(global = true, long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    pub(crate) gateway: String,
    /// Login name
    #[arg(global = true, long, value_name = "NAME", default_value = "admin")]
    pub(crate) user: String,
}

/// What `tatami config` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Prints the effective settings, secrets masked
    Show,
}

/// Where settings come from. Every setting can also be given as `TATAMI_<SECTION>__<KEY>` in the environment or in the
/// settings file; `tatami config show` lists them all.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Options {
    /// Settings file (TOML)
    #[arg(global = true, long, value_name = "FILE", env = "TATAMI_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Where embedded engines and generated keys are kept
    #[arg(
        global = true,
        long,
        value_name = "DIRECTORY",
        env = "TATAMI_DATA_DIR",
        default_value = "tatami-data"
    )]
    pub(crate) data_dir: PathBuf,
    /// Address that the gateway and the MQTT listeners bind; 0.0.0.0 for all
    #[arg(global = true, long, value_name = "ADDRESS")]
    pub(crate) host: Option<String>,
    /// Port of the gateway (default 8000)
    #[arg(global = true, long)]
    pub(crate) port: Option<u16>,
    /// Port of plain MQTT with user and password (default 1883)
    #[arg(global = true, long)]
    pub(crate) mqtt_port: Option<u16>,
    /// Port of MQTT over TLS with client certificates (default 8883)
    #[arg(global = true, long)]
    pub(crate) mqtt_tls_port: Option<u16>,
    /// Port of health and metrics, on loopback (default 9000)
    #[arg(global = true, long)]
    pub(crate) admin_port: Option<u16>,
    /// Kafka brokers, `host:port,…`, instead of the embedded log
    #[arg(global = true, long, value_name = "BROKERS")]
    pub(crate) kafka: Option<String>,
    /// PostgreSQL, `postgres://user:password@host/database`, instead of SQLite
    #[arg(global = true, long, value_name = "URL")]
    pub(crate) postgres: Option<String>,
    /// MongoDB, `mongodb://host`, instead of SQLite for readings
    #[arg(global = true, long, value_name = "URL")]
    pub(crate) mongodb: Option<String>,
    /// Redis, `redis://host/db`, instead of memory for tickets
    #[arg(global = true, long, value_name = "URL")]
    pub(crate) redis: Option<String>,
}

impl ServiceCommand {
    /// Which service, and its options.
    pub(crate) fn parts(&self) -> (Service, &Options) {
        match self {
            Self::Gateway(gateway) => (Service::Gateway, &gateway.options),
            Self::Auth(auth) => (Service::Auth, &auth.options),
            Self::DeviceManager(options) => (Service::DeviceManager, options),
            Self::DataBroker(options) => (Service::DataBroker, options),
            Self::Persister(options) => (Service::Persister, options),
            Self::History(options) => (Service::History, options),
            Self::KafkaWs(options) => (Service::KafkaWs, options),
            Self::IotAgentMqtt(options) => (Service::IotAgentMqtt, options),
            Self::X509Identity(options) => (Service::X509Identity, options),
        }
    }
}
