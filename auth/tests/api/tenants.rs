//! Tenants come and go with their users (dojot-api.md 2.8).

use common::{testing::fresh_tenant, wire::Tenant};
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
        for path in ["/admin/tenants", "/admin/tenants/"] {
            assert_eq!(stack.get(path, &gateway()).await, (200, json!({"tenants": ["admin"]})));
            assert_eq!(stack.get(path, &admin()).await.0, 404);
            let anonymous = common::testing::client().get(format!("{}{path}", stack.base)).send();
            assert_eq!(anonymous.await.unwrap().status(), 404);
        }
        assert_eq!(stack.post("/admin/tenants", &gateway(), Value::Null).await.0, 405);
        stack.end().await;
    }
}
