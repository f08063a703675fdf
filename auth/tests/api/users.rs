//! Users (dojot-api.md 2.2).

use auth::Config;
use common::{
    http::Caller,
    testing::{client, fresh_tenant},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::stack::{Stack, admin, answer, config, fresh_name, gateway, new_user, ok, redacted, refused};

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_created_shown_changed_and_removed() {
    for stack in Stack::both(&config()).await {
        let tenant = common::wire::Tenant::parse("tenant1").unwrap();
        let mut body = new_user(&tenant, "joao", json!("user"));
        // What dojot's dashboard sends besides is ignored.
        body["id"] = json!("8934");
        body["passwd"] = json!("x");
        let (status, created) = stack.post("/user", &admin(), body).await;
        assert_eq!(status, 200);
        let password = created[0]["initialPassword"].as_str().unwrap().to_owned();
        insta::assert_json_snapshot!("created", redacted(created));
        stack.token("joao", &password).await;

        for path in ["/user/2", "/user/joao", "/user/2/", "/user/joao/"] {
            let (status, shown) = stack.get(path, &admin()).await;
            assert_eq!(status, 200);
            let date = shown["user"]["created_date"].as_str().unwrap();
            assert_eq!((date.len(), &date[10..11], &date[19..20]), (26, " ", "."), "{date}");
            insta::assert_json_snapshot!("shown", redacted(shown));
        }
        let change = json!({"service": "tenant1", "email": "J@example.com", "name": "J"});
        assert_eq!(stack.put("/user/joao/", &admin(), change).await, ok());
        let (_, listed) = stack.get("/user/", &admin()).await;
        insta::assert_json_snapshot!("listed", redacted(listed));

        let removed = stack.delete("/user/2", &admin()).await;
        assert_eq!(removed, (200, json!({"message": "User removed", "status": 200})));
        assert_eq!(stack.get("/user/2", &admin()).await, refused(404, "Unknown user id"));
        // Identifiers are not given twice.
        let (next, _) = stack.user(&tenant, "joao", json!("user")).await;
        assert_eq!(next.user_id, 3);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_breaks_a_rule_is_not_created() {
    for stack in Stack::both(&config()).await {
        let (tenant, name) = (fresh_tenant(), fresh_name());
        stack.user(&tenant, &name, json!("user")).await;
        let good = new_user(&tenant, &fresh_name(), json!("user"));
        let with = |key: &str, value: Value| {
            let mut body = good.clone();
            body[key] = value;
            body
        };
        let email = format!("{}@example.com", name.to_uppercase());
        let cases = [
            (json!(["x"]), "Missing username".to_owned()),
            (json!({}), "Missing username".to_owned()),
            (with("username", json!(name)), format!("Username {name} is in use.")),
            (with("email", json!(email)), format!("E-mail {email} is in use.")),
            (with("profile", Value::Null), "Missing profile".to_owned()),
            (with("email", json!("x")), "Invalid e-mail address".to_owned()),
        ];
        for (body, message) in cases {
            assert_eq!(stack.post("/user", &admin(), body).await, refused(400, &message));
        }
        let service = stack.post("/user", &admin(), with("service", json!("T-1 x!"))).await;
        assert_eq!(service.0, 400);
        let plain = stack.test.request(Method::POST, &stack.base, "/user", &admin()).body(good.to_string());
        assert_eq!(answer(plain.send().await.unwrap()).await, refused(400, "invalid mimetype"));
        assert_eq!(stack.post("/user/", &admin(), good).await.0, 200);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_become_groups() {
    for stack in Stack::both(&config()).await {
        let tenant = fresh_tenant();
        let cases = [
            (json!("user"), json!(["user"]), json!([]), "user"),
            (json!(2), json!([2]), json!([]), "2"),
            (json!("2"), json!(["2"]), json!([]), "2"),
            (json!("nope"), json!([]), json!(["nope"]), "nope"),
            (json!(["user", "nope", "admin"]), json!(["user", "admin"]), json!(["nope"]), "user"),
            (json!(["user", 2]), json!(["user"]), json!([2]), "user"),
            (json!([99]), json!([]), json!([99]), "99"),
        ];
        for (profile, joined, not_joined, stored) in cases {
            let body = new_user(&tenant, &fresh_name(), profile.clone());
            let (status, body) = stack.post("/user", &admin(), body).await;
            assert_eq!(status, 200, "{body}");
            let answer = &body[0];
            assert_eq!((&answer["groups"], &answer["could not add"]), (&joined, &not_joined), "{profile}");
            assert_eq!(answer["user"]["profile"], stored);
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_of_change_and_removal() {
    for stack in Stack::both(&config()).await {
        let (tenant, name, other) = (fresh_tenant(), fresh_name(), fresh_name());
        stack.user(&tenant, &name, json!("user")).await;
        stack.user(&tenant, &other, json!("user")).await;
        let good = json!({"service": tenant, "email": format!("{name}@example.com"), "name": "N"});
        let with = |key: &str, value: Value| {
            let mut body = good.clone();
            body[key] = value;
            body
        };
        let path = format!("/user/{name}");
        let cases = [
            (path.as_str(), with("service", Value::Null), refused(400, "Missing service")),
            (&path, with("email", Value::Null), refused(400, "Missing email")),
            (&path, with("name", Value::Null), refused(400, "Missing user's name (full name)")),
            (&path, with("username", json!("another")), refused(400, "usernames can't be updated")),
            (
                &path,
                with("email", json!(format!("{other}@example.com"))),
                refused(400, "email already in use"),
            ),
            (&path, json!([]), refused(400, "Missing service")),
            ("/user/nobody", good.clone(), refused(404, "Unknown user id")),
            ("/user/9999", good.clone(), refused(404, "Unknown user id")),
            ("/user/99999999999999999999", good.clone(), refused(404, "Unknown user id")),
            ("/user/a%00b", good.clone(), refused(404, "Unknown user id")),
            (
                "/user/admin",
                json!({"service": tenant, "email": "admin@noemail.com", "name": "A"}),
                refused(405, "Can't edit service of admin"),
            ),
            (&path, with("username", json!(name)), ok()),
            (&path, with("profile", json!("admin")), ok()),
            (&path, good.clone(), ok()),
        ];
        for (path, body, expected) in cases {
            assert_eq!(stack.put(path, &admin(), body.clone()).await, expected, "{path} {body}");
        }
        let (_, shown) = stack.get(&path, &admin()).await;
        assert_eq!((&shown["user"]["profile"], &shown["user"]["name"]), (&json!("user"), &json!("N")));

        let himself = refused(400, "a user can't remove himself");
        assert_eq!(stack.delete("/user/admin", &admin()).await, himself);
        let (second, _) = stack.user(&admin().tenant, &fresh_name(), json!("admin")).await;
        let the_admin = refused(405, "Can't delete the admin user");
        assert_eq!(stack.delete("/user/admin", &second).await, the_admin);
        assert_eq!(stack.delete("/user/1", &second).await, the_admin);
        assert_eq!(stack.delete("/user/nobody", &admin()).await, refused(404, "Unknown user id"));
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_found_by_a_part_of_their_name() {
    for stack in Stack::both(&config()).await {
        let tenant = fresh_tenant();
        for name in ["ab_one", "abtwo", "xab"] {
            stack.user(&tenant, name, json!("user")).await;
        }
        let cases: [(&str, &[&str]); 6] = [
            ("ab", &["ab_one", "abtwo", "xab"]),
            ("b_o", &["ab_one"]),
            ("ab_t", &[]),
            ("AB", &[]),
            ("%25", &[]),
            ("a%00b", &[]),
        ];
        for (part, expected) in cases {
            let (status, body) = stack.get(&format!("/user?username={part}"), &admin()).await;
            if expected.is_empty() {
                assert_eq!((status, body), refused(404, "No results found with these filters"), "{part}");
            } else {
                let users = body["users"].as_array().unwrap();
                let found: Vec<&str> = users.iter().map(|user| user["username"].as_str().unwrap()).collect();
                assert_eq!((status, found.as_slice()), (200, expected), "{part}");
            }
        }
        let (_, all) = stack.get("/user?username=", &admin()).await;
        assert_eq!(all["users"].as_array().unwrap().len(), 4);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_another_tenant_are_not_found() {
    for stack in Stack::both(&config()).await {
        let (mine, theirs) = (fresh_tenant(), fresh_tenant());
        // Not even who has every permission in a tenant reaches another one.
        let (me, _) = stack.user(&mine, &fresh_name(), json!("admin")).await;
        let (them, _) = stack.user(&theirs, &fresh_name(), json!("user")).await;
        let unknown = refused(404, "Unknown user id");
        for name in [them.user.clone(), them.user_id.to_string(), "admin".to_owned(), "1".to_owned()] {
            let path = format!("/user/{name}");
            let change = json!({"service": mine, "email": "x@example.com", "name": "N"});
            assert_eq!(stack.get(&path, &me).await, unknown);
            assert_eq!(stack.put(&path, &me, change).await, unknown);
            assert_eq!(stack.delete(&path, &me).await, unknown);
        }
        let (_, listed) = stack.get("/user", &me).await;
        let services: Vec<&Value> =
            listed["users"].as_array().unwrap().iter().map(|user| &user["service"]).collect();
        assert_eq!(services, [&json!(mine)]);
        let filtered = stack.get(&format!("/user?username={}", them.user), &me).await;
        assert_eq!(filtered, refused(404, "No results found with these filters"));

        let forbidden = refused(403, "Forbidden");
        let elsewhere = new_user(&theirs, &fresh_name(), json!("user"));
        assert_eq!(stack.post("/user", &me, elsewhere).await, forbidden);
        let move_me = json!({"service": theirs, "email": "y@example.com", "name": "N"});
        assert_eq!(stack.put(&format!("/user/{}", me.user), &me, move_me).await, forbidden);
        let (status, own) = stack.post("/user", &me, new_user(&mine, &fresh_name(), json!("admin"))).await;
        assert_eq!((status, &own[0]["groups"]), (200, &json!(["admin"])));
        assert_eq!(own[0]["user"]["created_by"], me.user_id.to_string());
        let path = format!("/user/{}", own[0]["user"]["id"].as_str().unwrap());
        assert_eq!(stack.delete(&path, &me).await.0, 200);
        // Nobody was harmed.
        assert_eq!(stack.get(&format!("/user/{}", them.user), &admin()).await.0, 200);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_admins_make_admins() {
    for stack in Stack::both(&config()).await {
        for tenant in [fresh_tenant(), admin().tenant] {
            let (manager, _) = stack.user(&tenant, &fresh_name(), json!("user")).await;
            for profile in [json!("admin"), json!(1), json!("1")] {
                let body = new_user(&tenant, &fresh_name(), profile.clone());
                let (status, body) = stack.post("/user", &manager, body).await;
                assert_eq!((status, &body[0]["groups"]), (200, &json!([])), "{body}");
                assert_eq!(body[0]["could not add"], json!([profile]));
            }
            // Being in the tenant of the platform is not enough to reach others.
            let elsewhere = new_user(&fresh_tenant(), &fresh_name(), json!("user"));
            assert_eq!(stack.post("/user", &manager, elsewhere).await.0, 403);
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_bring_dojots_ways_back() {
    let config = Config { users_across_tenants: true, user_initial_password: "temppwd".into(), ..config() };
    for stack in Stack::both(&config).await {
        let name = fresh_name();
        let (_, body) = stack.post("/user", &admin(), new_user(&fresh_tenant(), &name, json!("user"))).await;
        let members: Vec<&String> = body[0].as_object().unwrap().keys().collect();
        assert_eq!(members, ["user", "groups", "could not add", "message"]);
        stack.token(&name, "temppwd").await;
        let id = body[0]["user"]["id"].as_str().unwrap().parse().unwrap();
        let user = Caller { tenant: fresh_tenant(), user: name, user_id: id, ..admin() };
        assert_eq!(stack.get("/user/admin", &user).await.0, 200);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_caller_nobody_manages_users() {
    for stack in Stack::both(&config()).await {
        let requests = [
            (Method::GET, "/user"),
            (Method::GET, "/user/"),
            (Method::GET, "/user/admin"),
            (Method::POST, "/user"),
            (Method::PUT, "/user/1/"),
            (Method::DELETE, "/user/1"),
        ];
        for (method, path) in requests {
            for header in [None, Some("eyJ9.AAAA"), Some("")] {
                let url = format!("{}{path}", stack.base);
                let mut request = client().request(method.clone(), url).bearer_auth("a.b.c");
                if let Some(header) = header {
                    request = request.header("x-tatami-caller", header);
                }
                let answer = answer(request.send().await.unwrap()).await;
                assert_eq!(answer, refused(401, "AuthenticationError"), "{method} {path}");
            }
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_removed_or_moved_changes_nothing_with_a_request_that_was_on_its_way() {
    for stack in Stack::both(&config()).await {
        let (tenant, elsewhere) = (fresh_tenant(), fresh_tenant());
        let (gone, _) = stack.user(&tenant, &fresh_name(), json!("admin")).await;
        let (moved, _) = stack.user(&tenant, &fresh_name(), json!("admin")).await;
        let (stays, _) = stack.user(&tenant, &fresh_name(), json!("user")).await;
        assert_eq!(stack.delete(&format!("/user/{}", gone.user), &admin()).await.0, 200);
        let change = json!({"service": elsewhere, "email": "moved@example.com", "name": "N"});
        assert_eq!(stack.put(&format!("/user/{}", moved.user), &admin(), change).await.0, 200);
        // The gateway has verified them before.
        for former in [&gone, &moved] {
            let refused = refused(401, "AuthenticationError");
            let body = new_user(&tenant, &fresh_name(), json!("user"));
            assert_eq!(stack.post("/user", former, body).await, refused);
            let path = format!("/user/{}", stays.user);
            let change = json!({"service": tenant, "email": "x@example.com", "name": "N"});
            assert_eq!(stack.put(&path, former, change).await, refused);
            assert_eq!(stack.delete(&path, former).await, refused);
        }
        // Nor does anybody bring a tenant back that is gone.
        assert_eq!(stack.delete(&format!("/user/{}", stays.user), &admin()).await.0, 200);
        let body = new_user(&tenant, &fresh_name(), json!("admin"));
        assert_eq!(stack.post("/user", &gone, body).await.0, 401);
        let (_, listed) = stack.get("/admin/tenants", &gateway()).await;
        assert_eq!(listed["tenants"], json!(["admin", elsewhere]));
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lists_have_everybody_once() {
    const MANY: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)
        INSERT INTO users (id, username, name, tenant, email, profile, credential_key, created_ms, created_by)
        SELECT 1000 + i, 'many_' || CAST(i AS TEXT), CASE i % 3 WHEN 0 THEN 'Same' WHEN 1 THEN 'same' ELSE 'Ähnlich ' || CAST(i AS TEXT) END,
            'crowd', CAST(i AS TEXT) || '@example.com', 'user', CAST(i AS TEXT), 0, 1 FROM n RETURNING username";
    const MEMBERS: &str = "INSERT INTO user_groups (user_id, group_id)
        SELECT id, 2 FROM users WHERE id > 1000 AND id <= 3000 RETURNING CAST(user_id AS TEXT)";
    for stack in Stack::both(&config()).await {
        assert_eq!((stack.rows(MANY).await.len(), stack.rows(MEMBERS).await.len()), (2500, 2000));
        let ids = async |path: &str| {
            let (status, listed) = stack.get(path, &admin()).await;
            assert_eq!(status, 200, "{path}");
            let listed = listed["users"].as_array().unwrap_or_else(|| panic!("{listed}")).iter();
            let mut ids: Vec<i64> =
                listed.map(|user| user["id"].as_str().unwrap().parse().unwrap()).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(ids("/user?username=many_").await, (1001..=3500).collect::<Vec<_>>());
        assert_eq!(ids("/user?username=many_25").await.len(), 12);
        // As many as two pages have.
        assert_eq!(ids("/pap/group/user/users").await, (1001..=3000).collect::<Vec<_>>());
        stack.end().await;
    }
}
