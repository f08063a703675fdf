//! What an operator does with a running platform on the command line.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use system_tests::{
    Stack,
    command::{Outcome, run},
    stack::Kind,
};

async fn tatami(stack: &Stack, arguments: &[&str]) -> Outcome {
    run(stack.command(arguments), Duration::from_secs(90)).await
}

async fn tenants_and_keys(kind: Kind) {
    let stack = Stack::start(kind).await;
    let admin = stack.admin().await;

    let added = tatami(&stack, &["tenant", "add", "plant"]).await;
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    let again = tatami(&stack, &["tenant", "add", "plant"]).await;
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("There is a tenant plant already"), "{}", again.stderr);

    // It works like any other, and a new key logs nobody out.
    let user = admin.create_user_of(&stack, "plant").await;
    let device = user.create_device().await;
    let rotated = tatami(&stack, &["auth", "rotate-keys"]).await;
    assert_eq!(rotated.code, Some(0), "{}", rotated.stderr);
    assert_eq!(user.status(&format!("/device/{device}")).await, StatusCode::OK);
    let keys = admin.get("/auth/.well-known/jwks.json").await;
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(2), "{keys}");
    let refreshed = user.post("/auth/refresh", json!({})).await;
    assert!(refreshed["jwt"].is_string(), "{refreshed}");

    // It does not go without being asked, and goes with everything.
    let refused = tatami(&stack, &["tenant", "remove", "plant"]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    assert!(refused.stdout.contains("its users (1)"), "{}", refused.stdout);
    assert_eq!(user.status("/device").await, StatusCode::OK, "nothing was removed");
    let removed = tatami(&stack, &["tenant", "remove", "plant", "--yes"]).await;
    assert_eq!(removed.code, Some(0), "{}{}", removed.stdout, removed.stderr);
    assert!(removed.stdout.contains("nothing is left of it"), "{}", removed.stdout);
    assert_eq!(user.status("/device").await, StatusCode::UNAUTHORIZED);
    let listed = tatami(&stack, &["tenant", "list"]).await;
    assert!(listed.stdout.contains("admin") && !listed.stdout.contains("plant"), "{}", listed.stdout);
    let unknown = tatami(&stack, &["tenant", "remove", "plant", "--yes"]).await;
    assert!(unknown.stderr.contains("Unknown tenant"), "{}", unknown.stderr);
    let next = admin.create_user_of(&stack, "plant").await;
    assert_eq!(next.get("/device").await["devices"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_and_keys_on_embedded_engines() {
    tenants_and_keys(Kind::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_and_keys_with_a_process_per_service() {
    tenants_and_keys(Kind::Split).await;
}
