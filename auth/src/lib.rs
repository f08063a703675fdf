#![doc = include_str!("../README.md")]

mod access;
mod admission;
pub mod config;
mod domain;
mod first_start;
mod handlers;
mod keys;
mod mail;
mod passwords;
mod router;
mod storage;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::FromRef};
use common::{
    clock::Clock,
    engine::{Engines, outbox::Outbox},
    http::{
        Shape,
        server::{HttpServer, Layers},
    },
    tenancy::Topics,
};
use secrecy::SecretString;
use tokio::sync::oneshot;

pub use crate::config::Config;
use crate::{
    access::AccessCache,
    domain::password::Policy,
    first_start::FirstStart,
    handlers::graphql::{self, LoginSchema, PermissionSchema},
    keys::KeyRing,
    mail::{Mailer, Post},
    passwords::Passwords,
    storage::{
        AccessRepository, FirstStartRepository, GroupRepository, KeyRepository, PasswordRepository,
        PermissionRepository, RelationRepository, Rights, TenantChanges, TenantRepository, UserRepository,
    },
};

/// Name of the service.
pub const SERVICE: &str = "auth";
/// The default settings.
pub const DEFAULT_CONFIG: &str = include_str!("../config.default.toml");

#[derive(Clone, FromRef)]
struct AppState {
    config: Arc<Config>,
    users: UserRepository,
    tenants: TenantRepository,
    tenant_changes: TenantChanges,
    groups: GroupRepository,
    permissions: PermissionRepository,
    relations: RelationRepository,
    access: AccessCache,
    keys: KeyRing,
    passwords: Passwords,
    secrets: PasswordRepository,
    policy: Arc<Policy>,
    post: Post,
    clock: Clock,
    login_schema: LoginSchema,
    permission_schema: PermissionSchema,
}

/// The service, bound and not serving yet.
pub struct Server {
    http: HttpServer,
    router: Router,
    access: AccessCache,
    keys: KeyRing,
    token_lifetime_s: i64,
    topics: Topics,
    first_start: FirstStart,
    mailer: Option<Mailer>,
    engines: Engines,
}

impl Server {
    /// Binds the listener; does not wait for the database.
    pub async fn bind(config: Config, engines: Engines) -> anyhow::Result<Self> {
        config.validate()?;
        let policy = config.password_policy()?;
        let http = HttpServer::bind(&config.listen, engines.http).await?;
        let (shutdown, clock) = (&engines.shutdown, engines.clock.clone());
        let database_ready = engines.readiness.register("auth database");
        let sql = engines.sql.open(SERVICE, sqlx::migrate!("./migrations"), database_ready, shutdown)?;
        let topics = Topics::new(engines.client.clone(), SERVICE);
        let outbox = Outbox::start(sql.clone(), engines.log.clone(), topics.clone(), clock.clone(), shutdown);
        let access = AccessCache::new(AccessRepository::new(sql.clone()), config.access_cache_s);
        let rights = Rights::new(sql.clone(), outbox.clone(), clock.clone());
        let keys = KeyRing::new(KeyRepository::new(rights.clone()), clock.clone());
        let passwords = Passwords::new(config.password_queue, Duration::from_secs(config.password_wait_s));
        let tenants = TenantRepository::new(sql.clone(), &config.removal_confirmed_by);
        let first_start = FirstStart {
            repository: FirstStartRepository::new(
                sql.clone(),
                outbox.clone(),
                tenants.clone(),
                clock.clone(),
            ),
            keys: keys.clone(),
            passwords: passwords.clone(),
            admin_password: config::unless_empty(&config.admin_password),
            show: None,
            ready: engines.readiness.register("auth first start"),
            hash: None,
        };
        let secrets = PasswordRepository::new(sql.clone(), outbox.clone(), clock.clone());
        let (post, mailer) = Mailer::new(&config.mail, config.password_link_lifetime_s, secrets.clone())?;
        let users = UserRepository::new(sql, outbox, tenants.clone(), clock.clone());
        let token_lifetime_s = config.token_lifetime_s;
        let state = AppState {
            config: Arc::new(config),
            users,
            tenant_changes: TenantChanges::new(rights.clone(), tenants.clone()),
            tenants,
            groups: GroupRepository::new(rights.clone()),
            permissions: PermissionRepository::new(rights.clone()),
            relations: RelationRepository::new(rights),
            access: access.clone(),
            keys: keys.clone(),
            passwords,
            secrets,
            policy: Arc::new(policy),
            post,
            clock: clock.clone(),
            login_schema: graphql::login_schema(),
            permission_schema: graphql::permission_schema(),
        };
        let layers = Layers {
            service: SERVICE,
            shape: Shape::MessageStatus,
            key: engines.client.key().clone(),
            clock,
            settings: engines.http,
        };
        let router = layers.wrap(router::router(state));
        Ok(Self { http, router, access, keys, token_lifetime_s, topics, first_start, mailer, engines })
    }

    /// The bound address.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Gives the password of the user `admin` when this start generates one, for showing it once. Nothing comes when
    /// it is known already. Without a call the password is logged.
    pub fn initial_admin_password(&mut self) -> oneshot::Receiver<SecretString> {
        let (sender, receiver) = oneshot::channel();
        self.first_start.show = Some(sender);
        receiver
    }

    /// Serves until the end is asked for.
    pub async fn run(self) {
        let shutdown = self.engines.shutdown.clone();
        self.access.follow(&self.engines, self.topics);
        let (keys, stop) = (self.keys.keep(self.token_lifetime_s), shutdown.clone());
        shutdown.spawn("signing keys", async move {
            stop.unless_requested(keys).await;
        });
        if let Some(mailer) = self.mailer {
            mailer.start(&shutdown);
        }
        let (first_start, stop) = (self.first_start, shutdown.clone());
        shutdown.spawn("first start", async move {
            stop.unless_requested(first_start.run()).await;
        });
        self.http.run(self.router, shutdown).await;
    }
}
