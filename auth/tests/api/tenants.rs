//! Tenants come and go with their users (dojot-api.md 2.8).

use auth::Config;
use common::{http::Caller, testing::fresh_tenant, wire::Tenant};
use serde_json::{Value, json};

use crate::stack::{Stack, admin, config, fresh_name, gateway, new_user};

fn create(tenant: &Tenant) -> String {
    format!(r#"{{"type":"CREATE","tenant":"{tenant}"}}"#)
}

fn delete(tenant: &Tenant) -> String {
    format!(r#"{{"type":"DELETE","tenant":"{tenant}"}}"#)
}

async fn names(stack: &Stack) -> Vec<String> {
    let (status, body) = stack.get("/admin/tenants", &gateway()).await;
    assert_eq!(status, 200);
    serde_json::from_value(body["tenants"].clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_user_creates_a_tenant_and_the_last_removes_it() {
    for stack in Stack::both(&config()).await {
        let (tenant, last) = (fresh_tenant(), fresh_tenant());
        let (first, _) = stack.user(&tenant, &fresh_name(), json!("user")).await;
        let (second, _) = stack.user(&tenant, &fresh_name(), json!("user")).await;
        assert!(names(&stack).await.contains(&tenant.to_string()));
        for user in [first, second] {
            assert_eq!(stack.delete(&format!("/user/{}", user.user_id), &admin()).await.0, 200);
        }
        assert_eq!(names(&stack).await, ["admin"]);
        stack.user(&tenant, &fresh_name(), json!("user")).await;
        stack.user(&last, &fresh_name(), json!("user")).await;
        let events = stack.tenancy_events(&[&tenant], &last).await;
        assert_eq!(events, [create(&tenant), delete(&tenant), create(&tenant)]);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_user_who_moves_takes_the_tenant_along() {
    for stack in Stack::both(&config()).await {
        let (from, to, last) = (fresh_tenant(), fresh_tenant(), fresh_tenant());
        let (user, _) = stack.user(&from, &fresh_name(), json!("user")).await;
        let path = format!("/user/{}", user.user);
        for service in [&to, &to, &from] {
            let change = json!({"service": service, "email": "m@example.com", "name": "N"});
            assert_eq!(stack.put(&path, &admin(), change).await.0, 200);
        }
        stack.user(&last, &fresh_name(), json!("user")).await;
        let events = stack.tenancy_events(&[&from, &to], &last).await;
        let expected = [create(&from), delete(&from), create(&to), delete(&to), create(&from)];
        assert_eq!(events, expected);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_first_users_create_one_tenant() {
    for stack in Stack::both(&config()).await {
        let (tenant, last) = (fresh_tenant(), fresh_tenant());
        let admin = admin();
        let one = || async {
            let body = new_user(&tenant, &fresh_name(), json!("user"));
            stack.post("/user", &admin, body).await
        };
        let (a, b, c, d) = tokio::join!(one(), one(), one(), one());
        let mut ids: Vec<i64> = Vec::new();
        for (status, body) in [a, b, c, d] {
            assert_eq!(status, 200, "{body}");
            ids.push(body[0]["user"]["id"].as_str().unwrap().parse().unwrap());
        }
        ids.sort_unstable();
        assert_eq!(ids, [2, 3, 4, 5]);
        stack.user(&last, &fresh_name(), json!("user")).await;
        assert_eq!(stack.tenancy_events(&[&tenant], &last).await, [create(&tenant)]);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_who_change_places_do_not_block_each_other() {
    for stack in Stack::both(&config()).await {
        let (a, b, last) = (fresh_tenant(), fresh_tenant(), fresh_tenant());
        let (first, _) = stack.user(&a, &fresh_name(), json!("user")).await;
        let (second, _) = stack.user(&b, &fresh_name(), json!("user")).await;
        let admin = admin();
        let change = |user: &str, service: &Tenant| {
            let body = json!({"service": service, "email": format!("{user}@example.com"), "name": "N"});
            let (path, stack, admin) = (format!("/user/{user}"), &stack, &admin);
            async move { stack.put(&path, admin, body).await }
        };
        for (to_first, to_second) in [(&b, &a), (&a, &b), (&b, &a), (&a, &b)] {
            let (x, y) = tokio::join!(change(&first.user, to_first), change(&second.user, to_second));
            assert_eq!((x.0, y.0), (200, 200), "{x:?} {y:?}");
        }
        stack.user(&last, &fresh_name(), json!("user")).await;
        // Whatever the order was, in the end both are there, and creation and removal take turns.
        for tenant in [&a, &b] {
            assert!(names(&stack).await.contains(&tenant.to_string()));
        }
        let events = stack.tenancy_events(&[&a], &last).await;
        let mut expected = [create(&a), delete(&a)].into_iter().cycle();
        assert!(events.iter().all(|event| Some(event) == expected.next().as_ref()), "{events:?}");
        assert_eq!(events.len() % 2, 1);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_for_services_only() {
    for stack in Stack::both(&config()).await {
        let listed = json!({"tenants": ["admin"], "generations": {"admin": 1}, "removals": []});
        for path in ["/admin/tenants", "/admin/tenants/"] {
            assert_eq!(stack.get(path, &gateway()).await, (200, listed.clone()));
            assert_eq!(stack.get(path, &admin()).await.0, 404);
            let anonymous = common::testing::client().get(format!("{}{path}", stack.base)).send();
            assert_eq!(anonymous.await.unwrap().status(), 404);
        }
        assert_eq!(stack.post("/admin/tenants", &gateway(), Value::Null).await.0, 405);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_free_again_when_all_have_confirmed() {
    let keepers = ["history-keeper", "topic-keeper"].map(str::to_owned).to_vec();
    let config = Config { removal_confirmed_by: keepers, ..config() };
    for stack in Stack::both(&config).await {
        let (tenant, other) = (fresh_tenant(), fresh_tenant());
        let (user, _) = stack.user(&tenant, &fresh_name(), json!("user")).await;
        let (mover, _) = stack.user(&other, &fresh_name(), json!("user")).await;
        stack.user(&other, &fresh_name(), json!("user")).await;
        assert_eq!(stack.delete(&format!("/user/{}", user.user_id), &admin()).await.0, 200);
        let waiting = |services: Value| json!([{"tenant": tenant, "generation": 2, "services": services}]);
        let (_, listed) = stack.get("/admin/tenants", &gateway()).await;
        assert_eq!(listed["removals"], waiting(json!(["history-keeper", "topic-keeper"])));
        assert_eq!(listed["generations"], json!({"admin": 1, other.as_str(): 3}));

        let path = format!("/admin/removals/{tenant}/2");
        for (confirmed, path) in [
            ("history-keeper", format!("/admin/removals/{tenant}/1")),
            ("somebody", path.clone()),
            ("history-keeper", path.clone()),
            ("history-keeper", path.clone()),
        ] {
            let keeper = Caller::service(confirmed, &Tenant::management());
            assert_eq!(stack.delete(&path, &keeper).await.0, 204);
        }
        assert_eq!(
            stack.get("/admin/tenants", &gateway()).await.1["removals"],
            waiting(json!(["topic-keeper"]))
        );
        assert_eq!(stack.delete(&path, &admin()).await.0, 404);

        // Neither a new user nor one who moves brings the name back meanwhile.
        let name = fresh_name();
        let refused = stack.post("/user", &admin(), new_user(&tenant, &name, json!("user"))).await;
        let message = format!(
            "The former tenant {tenant} is still being removed; waiting for topic-keeper. Try again in a moment."
        );
        assert_eq!((refused.0, &refused.1["message"]), (503, &json!(message)));
        let change = json!({"service": tenant, "email": "m@example.com", "name": "N"});
        let (mover, admin) = (format!("/user/{}", mover.user), admin());
        let moving = stack.put(&mover, &admin, change);
        let confirm = async {
            let keeper = Caller::service("topic-keeper", &Tenant::management());
            stack.delete(&path, &keeper).await
        };
        let (answer, confirmed) = tokio::join!(moving, confirm);
        assert_eq!((answer.0, confirmed.0), (200, 204), "whoever asked waits for the last confirmation");
        let (_, listed) = stack.get("/admin/tenants", &gateway()).await;
        assert_eq!(listed["removals"], json!([]));
        assert_eq!(listed["generations"][tenant.as_str()], 4, "another tenant than before");
        stack.user(&tenant, &name, json!("user")).await;
        stack.end().await;
    }
}

/// The services that have to confirm removals in these tests.
fn with_keepers() -> Config {
    Config { removal_confirmed_by: vec!["persister".to_owned()], ..config() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_was_made_on_purpose_stays_until_it_is_removed() {
    for stack in Stack::both(&with_keepers()).await {
        let (tenant, last) = (fresh_tenant(), fresh_tenant());
        let path = format!("/tenants/{tenant}");
        let made = stack.post("/tenants", &admin(), json!({"tenant": tenant})).await;
        assert_eq!(made, (200, json!({"message": "tenant created", "status": 200})));
        let again = stack.post("/tenants/", &admin(), json!({"tenant": tenant})).await;
        let message = format!("There is a tenant {tenant} already");
        assert_eq!(again, (409, json!({"message": message, "status": 409})));
        assert!(names(&stack).await.contains(&tenant.to_string()));

        // Its users come and go, and it stays.
        let (user, _) = stack.user(&tenant, &fresh_name(), json!("user")).await;
        assert_eq!(stack.delete(&format!("/user/{}", user.user_id), &admin()).await.0, 200);
        let expected = json!({"tenant": {"tenant": tenant, "users": 0, "stays": true}});
        assert_eq!(stack.get(&path, &admin()).await, (200, expected));

        // Its removal has to be confirmed, and takes the users and their tokens along.
        let name = fresh_name();
        let (_, password) = stack.user(&tenant, &name, json!("user")).await;
        let token = stack.token(&name, &password).await;
        for confirm in ["", "?confirm=", "?confirm=other"] {
            let (status, body) = stack.delete(&format!("{path}{confirm}"), &admin()).await;
            assert_eq!(status, 400, "{body}");
            assert!(body["message"].as_str().unwrap().contains("users (1)"), "{body}");
        }
        let (status, body) = stack.delete(&format!("{path}?confirm={tenant}"), &admin()).await;
        assert_eq!((status, &body["removal"]["services"]), (202, &json!(["persister"])), "{body}");
        assert_eq!(stack.decide(&token, "GET", "/device/").await.0, 401);
        assert_eq!(stack.log_in(&json!({"username": name, "passwd": password})).await.0, 401);
        let (status, body) = stack.get(&path, &admin()).await;
        assert_eq!((status, &body["removal"]["services"]), (200, &json!(["persister"])), "{body}");

        // It is gone when the service has confirmed.
        let generation = body["removal"]["generation"].as_i64().unwrap();
        let confirmation = format!("/admin/removals/{tenant}/{generation}");
        let persister = Caller::service("persister", &Tenant::management());
        assert_eq!(stack.delete(&confirmation, &persister).await.0, 204);
        let unknown = (404, json!({"message": "Unknown tenant", "status": 404}));
        assert_eq!(stack.get(&path, &admin()).await, unknown);
        assert_eq!(stack.delete(&format!("{path}?confirm={tenant}"), &admin()).await, unknown);
        stack.user(&last, &fresh_name(), json!("user")).await;
        assert_eq!(stack.tenancy_events(&[&tenant], &last).await, [create(&tenant), delete(&tenant)]);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_the_platforms_to_make_and_to_remove() {
    for stack in Stack::both(&config()).await {
        let (own, other) = (fresh_tenant(), fresh_tenant());
        let (chief, _) = stack.user(&own, &fresh_name(), json!("admin")).await;
        let (member, _) = stack.user(&own, &fresh_name(), json!("user")).await;
        stack.user(&other, &fresh_name(), json!("user")).await;
        for caller in [&chief, &member] {
            let (status, body) = stack.get("/tenants", caller).await;
            let expected = json!({"tenants": [{"tenant": own, "users": 2, "stays": false}], "removals": []});
            assert_eq!((status, body), (200, expected), "nobody sees other tenants");
            assert_eq!(stack.get(&format!("/tenants/{own}"), caller).await.0, 200);
            for foreign in [other.as_str(), "admin", "nosuch", "No-Such", "dojot-management"] {
                let path = format!("/tenants/{foreign}");
                assert_eq!(stack.get(&path, caller).await.0, 404, "{foreign}");
                assert_eq!(stack.delete(&format!("{path}?confirm={foreign}"), caller).await.0, 404);
            }
            let made = stack.post("/tenants", caller, json!({"tenant": fresh_tenant()})).await;
            assert_eq!(made.0, 403);
            assert_eq!(stack.delete(&format!("/tenants/{own}?confirm={own}"), caller).await.0, 403);
            assert_eq!(stack.post("/keys", caller, json!({})).await.0, 403);
        }
        assert_eq!(stack.delete("/tenants/admin?confirm=admin", &admin()).await.0, 405);
        for (body, status, message) in [
            (json!({}), 400, "Missing tenant"),
            (json!({"tenant": null}), 400, "Missing tenant"),
            (json!([]), 400, "Missing tenant"),
            (json!({"tenant": "Upper"}), 400, "Invalid tenant"),
            (json!({"tenant": 7}), 400, "Invalid tenant"),
            (json!({"tenant": "dojot-management"}), 400, "Invalid tenant"),
            (json!({"tenant": "a".repeat(31)}), 400, "Invalid tenant"),
        ] {
            let (answered, answer) = stack.post("/tenants", &admin(), body).await;
            assert_eq!(answered, status);
            assert!(answer["message"].as_str().unwrap().starts_with(message), "{answer}");
        }
        let mut all = names(&stack).await;
        all.sort();
        let mut expected = vec!["admin".to_owned(), own.to_string(), other.to_string()];
        expected.sort();
        assert_eq!(all, expected);
        stack.end().await;
    }
}
