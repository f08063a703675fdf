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
