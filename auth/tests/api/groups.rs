//! Groups (dojot-api.md 2.4).

use common::testing::{answer_to_large, fresh_tenant};
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::stack::{Stack, admin, answer, config, fresh_name, ok, redacted, refused};

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_created_shown_changed_and_removed() {
    for stack in Stack::both(&config()).await {
        let me = admin();
        let created = stack.post("/pap/group", &me, json!({"name": "ops", "description": "d"})).await;
        assert_eq!(created, (200, json!({"status": 200, "id": 3})));
        for path in ["/pap/group/3", "/pap/group/ops", "/pap/group/3/", "/pap/group/ops/"] {
            let (status, shown) = stack.get(path, &me).await;
            assert_eq!(status, 200);
            let date = shown["created_date"].as_str().unwrap();
            assert_eq!((date.len(), &date[10..11], &date[19..20]), (26, "T", "."), "{date}");
            let expected = json!({"id": 3, "name": "ops", "description": "d", "created_date": "[date]", "created_by": 1});
            assert_eq!(redacted(shown).to_string(), expected.to_string());
        }
        assert_eq!(stack.post("/pap/group/", &me, json!({"name": "Dev2"})).await.1["id"], 4);
        assert_eq!(stack.get("/pap/group/4", &me).await.1["description"], Value::Null);
        let names = async |path: &str| {
            let (_, listed) = stack.get(path, &me).await;
            let groups = listed["groups"].as_array().unwrap().clone();
            groups.iter().map(|group| group["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let mut all = names("/pap/group").await;
        // Databases disagree about capitals.
        all.sort();
        assert_eq!(all, ["Dev2", "admin", "ops", "user"]);
        assert_eq!(names("/pap/group/?name=s").await, ["ops", "user"]);
        for filter in ["?name=S", "?name=%25", "?name=_", "?name=%00"] {
            let (path, none) = (format!("/pap/group{filter}"), "No results found with these filters");
            assert_eq!(stack.get(&path, &me).await, refused(404, none), "{filter}");
        }

        assert_eq!(stack.put("/pap/group/ops", &me, json!({"name": "ops2"})).await, ok());
        assert_eq!(stack.get("/pap/group/ops2", &me).await.1["description"], "d");
        assert_eq!(stack.put("/pap/group/3/", &me, json!({"description": null})).await, ok());
        assert_eq!(stack.get("/pap/group/3", &me).await.1["description"], Value::Null);
        assert_eq!(stack.delete("/pap/group/ops2", &me).await, ok());
        for path in ["/pap/group/3", "/pap/group/ops2", "/pap/group/99", "/pap/group/-1", "/pap/group/%00"] {
            let unknown = refused(404, "No group found with this ID");
            assert_eq!(stack.get(path, &me).await, unknown, "{path}");
            assert_eq!(stack.put(path, &me, json!({"name": "x"})).await, unknown, "{path}");
            assert_eq!(stack.delete(path, &me).await, unknown, "{path}");
        }
        // Identifiers are not given twice.
        assert_eq!(stack.post("/pap/group", &me, json!({"name": "ops"})).await.1["id"], 5);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_of_groups() {
    for stack in Stack::both(&config()).await {
        let me = admin();
        stack.post("/pap/group", &me, json!({"name": "ops"})).await;
        let cases = [
            (json!(["x"]), "Missing group name"),
            (json!({}), "Missing group name"),
            (json!({"name": "a".repeat(31)}), "Group name too long"),
            (json!({"name": "o-ps"}), "Invalid group name, only alphanumeric allowed"),
            (json!({"name": 1}), "Invalid group name, only alphanumeric allowed"),
            (json!({"name": "x", "description": "ä".repeat(256)}), "Group description too long"),
            (json!({"name": "ops"}), "Group name ops is in use."),
        ];
        for (body, message) in cases {
            assert_eq!(stack.post("/pap/group", &me, body).await, refused(400, message));
        }
        let renamed = stack.put("/pap/group/ops", &me, json!({"name": "user"})).await;
        assert_eq!(renamed, refused(400, "Group name user is in use."));
        assert_eq!(stack.put("/pap/group/ops", &me, json!({"name": "ops"})).await, ok());
        for group in ["admin", "1"] {
            let path = format!("/pap/group/{group}");
            let edited = stack.put(&path, &me, json!({"name": "x"})).await;
            assert_eq!(edited, refused(405, "Can't edit admin group"));
            assert_eq!(stack.delete(&path, &me).await, refused(405, "Can't delete admin group"));
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_none_are_the_clients_fault() {
    for stack in Stack::both(&config()).await {
        let me = admin();
        let nested = format!("{}{}", "[".repeat(8_000), "]".repeat(8_000));
        let huge = format!(r#"{{"name": "{}"}}"#, "a".repeat(2 << 20));
        let routes = [
            (Method::POST, "/pap/group"),
            (Method::PUT, "/pap/group/2"),
            (Method::POST, "/pap/permission"),
            (Method::PUT, "/pap/permission/1"),
        ];
        for (method, path) in routes {
            for (mimetype, body, status) in [
                (Some("text/plain"), r#"{"name": "x"}"#, 400),
                (None, r#"{"name": "x"}"#, 400),
                (Some("application/json"), "", 400),
                (Some("application/json"), "{", 400),
                (Some("application/json"), &nested, 400),
                (Some("application/json"), "\u{fffd}", 400),
                (Some("application/json"), &huge, 413),
            ] {
                let response = answer_to_large(|| {
                    let request =
                        stack.test.request(method.clone(), &stack.base, path, &me).body(body.to_owned());
                    match mimetype {
                        Some(mimetype) => request.header(CONTENT_TYPE, mimetype),
                        None => request,
                    }
                })
                .await;
                let (answered, answer) = answer(response).await;
                assert_eq!(
                    (answered, &answer["status"]),
                    (status, &json!(status)),
                    "{method} {path} {mimetype:?}"
                );
                if !mimetype.is_some_and(|mimetype| mimetype.ends_with("json")) {
                    assert_eq!(answer["message"], "invalid mimetype");
                }
            }
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_the_members_end_with_their_group() {
    for stack in Stack::both(&config()).await {
        let tenant = fresh_tenant();
        stack.post("/pap/group", &admin(), json!({"name": "ops"})).await;
        stack.post("/pap/grouppermissions/ops/ro_history", &admin(), Value::Null).await;
        let (member, password) = stack.user(&tenant, &fresh_name(), json!("ops")).await;
        let (other, other_password) = stack.user(&tenant, &fresh_name(), json!("user")).await;
        let token = stack.token(&member.user, &password).await;
        let other = stack.token(&other.user, &other_password).await;
        assert_eq!(stack.decide(&token, "GET", "/history/x/").await.1["decision"], "permit");
        assert_eq!(stack.delete("/pap/group/ops", &admin()).await, ok());
        assert_eq!(stack.decide(&token, "GET", "/history/x/").await.0, 401);
        assert_eq!(stack.decide(&other, "GET", "/history/x/").await.1["decision"], "permit");
        let token = stack.token(&member.user, &password).await;
        assert_eq!(stack.decide(&token, "GET", "/history/x/").await.1["decision"], "deny");
        stack.end().await;
    }
}
