//! dojot's dashboard logs in and edits the permissions of groups (dojot-api.md 7.2), and who tries passwords that way gets nowhere.

use common::testing::eventually;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use system_tests::{
    Stack,
    api::Api,
    stack::{ADMIN_PASSWORD, Kind},
};

/// The request that the dashboard's page for logging in sends.
async fn log_in(stack: &Stack, username: &str, password: &str) -> (StatusCode, Value) {
    let query = format!(
        "mutation {{ login(username: \"{username}\", passwd: \"{password}\") {{ jwt user {{ username profile service permissions {{ subject actions }} }} }} }}"
    );
    Api::nobody(stack).send(Method::POST, "/graphql-auth/", Some(json!({ "query": query }))).await
}

/// A user with the token that the login gives.
async fn logged_in(stack: &Stack, username: &str, password: &str) -> Api {
    let (status, answer) = log_in(stack, username, password).await;
    let login = &answer["data"]["login"];
    assert_eq!((status, login["user"]["username"].as_str()), (StatusCode::OK, Some(username)), "{answer}");
    Api::holding(stack, username, login["jwt"].as_str().unwrap())
}

/// What the dashboard's page for groups reads and saves.
async fn permissions(api: &Api, query: &str, variables: Value) -> Value {
    let body = json!({ "query": query, "variables": variables.to_string() });
    api.post("/graphql/permissions", body).await["data"]["permissions"].clone()
}

async fn a_dashboard(kind: Kind) {
    let stack = Stack::start(kind).await;
    let admin = logged_in(&stack, "admin", ADMIN_PASSWORD).await;
    let everything = permissions(&admin, "query { permissions { subject actions } }", json!({})).await;
    assert_eq!(everything.as_array().map(Vec::len), Some(13), "{everything}");

    // A group and a member of it, who may nothing.
    admin.post("/auth/pap/group", json!({ "name": "ops" })).await;
    let joe = json!({ "username": "joe", "service": "plant", "email": "joe@example.com", "name": "Joe", "profile": "ops" });
    let made = admin.post("/auth/user", joe).await;
    let password = made[0]["initialPassword"].as_str().unwrap().to_owned();
    let joe = logged_in(&stack, "joe", &password).await;
    assert_eq!(joe.status("/device").await, StatusCode::FORBIDDEN);
    let asked = json!({ "query": "{ permissions { subject } }" });
    let (status, _) = joe.send(Method::POST, "/graphql/permissions", Some(asked)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(Api::nobody(&stack).status("/graphql/permissions").await, StatusCode::UNAUTHORIZED);

    // He gets something and loses it, with the same token.
    let sees_devices = async |expected: StatusCode| {
        let answered = async || (joe.status("/device").await == expected).then_some(());
        eventually("the gateway has heard of the change", answered).await;
    };
    let save = "mutation ($permissions: [PermissionRequest]!, $group: String!) { permissions(group: $group, \
                permissions: $permissions) { message status action subject } }";
    let wanted = json!({ "group": "ops", "permissions": [{ "subject": "device", "actions": ["viewer"] }] });
    let saved = permissions(&admin, save, wanted).await;
    assert_eq!(saved, json!([{ "message": "ok", "status": 200, "action": "viewer", "subject": "device" }]));
    sees_devices(StatusCode::OK).await;
    let read = "query { permissions(group: \"ops\") { subject actions } }";
    let shown = permissions(&admin, read, json!({})).await;
    assert_eq!(shown, json!([{ "subject": "device", "actions": ["viewer"] }]));
    permissions(&admin, save, json!({ "group": "ops", "permissions": [] })).await;
    sees_devices(StatusCode::FORBIDDEN).await;

    // Many passwords in one request are none.
    let guess =
        |number: usize| format!("a{number}: login(username: \"joe\", passwd: \"{number}\") {{ jwt }} ");
    let many: String = (0..8).map(guess).collect();
    let body = json!({ "query": format!("mutation {{ {many} }}") });
    let (status, answer) = Api::nobody(&stack).send(Method::POST, "/graphql-auth", Some(body)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    // Many requests are stopped, on both ways to log in, and who is behind the same address gets in.
    let mut failures = 0;
    let (status, answer) = loop {
        let (status, answer) = log_in(&stack, "joe", &format!("wrong {failures}")).await;
        if status != StatusCode::OK {
            break (status, answer);
        }
        assert_eq!(answer, json!({ "data": { "login": null } }));
        failures += 1;
        assert!(failures <= 10, "as many as there may be in a minute");
    };
    assert_eq!((status, failures), (StatusCode::TOO_MANY_REQUESTS, 10), "{answer}");
    assert_eq!(log_in(&stack, "joe", &password).await.0, StatusCode::TOO_MANY_REQUESTS);
    let body = json!({ "username": "joe", "passwd": password });
    let (status, _) = Api::nobody(&stack).send(Method::POST, "/auth", Some(body)).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    logged_in(&stack, "admin", ADMIN_PASSWORD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dashboard_on_embedded_engines() {
    a_dashboard(Kind::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dashboard_with_a_process_per_service() {
    a_dashboard(Kind::Split).await;
}
