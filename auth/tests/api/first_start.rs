//! What is there at the first start (dojot-api.md 2.9).

use auth::{Config, Server};
use common::{testing::client, wire::Tenant};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::stack::{Stack, admin, answer, config, redacted};

fn without_password() -> Config {
    Config { admin_password: "".into(), ..config() }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_permissions_and_admin_are_dojots() {
    for stack in Stack::both(&config()).await {
        let permissions = stack
            .rows(
                "SELECT CAST(id AS TEXT) || ' ' || name || ' ' || path || ' ' || method || ' ' || permission
                 || ' ' || type || ' ' || CAST(created_by AS TEXT) FROM permissions ORDER BY id",
            )
            .await;
        insta::assert_json_snapshot!("permissions", permissions);
        let groups = stack
            .rows(
                "SELECT CAST(g.id AS TEXT) || ' ' || g.name || ' ' || g.description || ': ' || p.name
                 FROM groups g JOIN group_permissions gp ON gp.group_id = g.id
                 JOIN permissions p ON p.id = gp.permission_id ORDER BY g.id, p.id",
            )
            .await;
        insta::assert_json_snapshot!("groups", groups);
        let (_, user) = stack.get("/user/admin", &admin()).await;
        insta::assert_json_snapshot!("admin", redacted(user));
        let members = stack.rows("SELECT CAST(group_id AS TEXT) FROM user_groups WHERE user_id = 1").await;
        assert_eq!(members, ["1"]);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_password_is_shown_once_and_stays() {
    for mut stack in Stack::engines().await {
        let engines = stack.test.engines.clone();
        let mut first = Server::bind(without_password(), engines.clone()).await.unwrap();
        let shown = first.initial_admin_password();
        stack.base = stack.run(first).await;
        let password = shown.await.expect("a password is shown");
        assert_eq!(password.expose_secret().len(), 16);
        stack.token("admin", password.expose_secret()).await;

        // A later start generates nothing, and a password in the settings changes nothing.
        let mut second = Server::bind(config(), engines).await.unwrap();
        let shown = second.initial_admin_password();
        stack.base = stack.run(second).await;
        assert!(shown.await.is_err());
        stack.token("admin", password.expose_secret()).await;
        assert_eq!(stack.rows("SELECT CAST(COUNT(*) AS TEXT) FROM permissions").await, ["22"]);
        assert_eq!(stack.rows("SELECT CAST(COUNT(*) AS TEXT) FROM signing_keys").await, ["1"]);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_start_together_agree() {
    for mut stack in Stack::engines().await {
        let engines = stack.test.engines.clone();
        let mut bases = Vec::new();
        let mut shown = Vec::new();
        let mut servers = Vec::new();
        for _ in 0..3 {
            let mut server = Server::bind(without_password(), engines.clone()).await.unwrap();
            shown.push(server.initial_admin_password());
            servers.push(server);
        }
        for server in servers {
            bases.push(format!("http://{}", server.local_addr().unwrap()));
            engines.shutdown.spawn("auth", server.run());
        }
        let mut passwords = Vec::new();
        for shown in shown {
            passwords.extend(shown.await.ok());
        }
        assert_eq!(passwords.len(), 1, "one instance made the user and shows the password");
        assert_eq!(stack.rows("SELECT CAST(COUNT(*) AS TEXT) FROM users").await, ["1"]);
        assert_eq!(stack.rows("SELECT CAST(COUNT(*) AS TEXT) FROM permissions").await, ["22"]);
        assert_eq!(stack.rows("SELECT CAST(COUNT(*) AS TEXT) FROM signing_keys").await, ["1"]);

        // All know the one key: a token of one instance is good at the others.
        stack.base.clone_from(&bases[0]);
        let token = stack.token("admin", passwords[0].expose_secret()).await;
        for base in &bases {
            let (status, body) = stack.decide_at(base, &token, "GET", "/device/").await;
            assert_eq!((status, &body["decision"]), (200, &json!("permit")), "{body}");
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tenant_admin_is_announced() {
    for stack in Stack::both(&config()).await {
        let admin = Tenant::parse("admin").unwrap();
        assert_eq!(stack.tenancy_events(&[], &admin).await, [] as [String; 0]);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_its_database_answers_and_does_not_hang() {
    for mut stack in Stack::engines().await {
        let mut engines = stack.test.engines.clone();
        engines.sql = common::engine::SqlEngine::Postgres(common::engine::sql::PostgresSettings {
            url: "postgres://nobody@127.0.0.1:1/nothing".into(),
            max_connections: 2,
        });
        let server = Server::bind(config(), engines.clone()).await.unwrap();
        stack.base = format!("http://{}", server.local_addr().unwrap());
        engines.shutdown.spawn("auth", server.run());
        let login = json!({"username": "admin", "passwd": "x"});
        let (status, body) =
            answer(client().post(format!("{}/", stack.base)).json(&login).send().await.unwrap()).await;
        assert_eq!((status, &body["message"]), (503, &json!("Problem connecting to database")));
        assert_eq!(stack.get("/user", &admin()).await.0, 503);
        assert!(!engines.readiness.is_ready());
        stack.end().await;
    }
}
