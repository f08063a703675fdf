//! Permissions (dojot-api.md 2.3).

use common::testing::fresh_tenant;
use serde_json::{Value, json};

use crate::stack::{Stack, admin, config, fresh_name, ok, redacted, refused};

fn p1() -> Value {
    json!({"name": "p1", "path": "/device/x/(.*)", "method": "GET"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_is_created_shown_changed_and_removed() {
    for stack in Stack::both(&config()).await {
        let me = admin();
        assert_eq!(stack.post("/pap/permission", &me, p1()).await, (200, json!({"status": 200, "id": 23})));
        for path in ["/pap/permission/23", "/pap/permission/p1", "/pap/permission/23/", "/pap/permission/p1/"]
        {
            let (status, shown) = stack.get(path, &me).await;
            assert_eq!(status, 200);
            let date = shown["created_date"].as_str().unwrap();
            assert_eq!((date.len(), &date[10..11], &date[19..20]), (26, "T", "."), "{date}");
            let expected = json!({"id": 23, "path": "/device/x/(.*)", "name": "p1", "method": "GET", "permission": "permit",
                                  "type": "api", "created_date": "[date]", "created_by": 1});
            assert_eq!(redacted(shown).to_string(), expected.to_string());
        }
        let change = json!({"name": "p1", "path": "/y", "method": "PUT", "permission": "deny"});
        assert_eq!(stack.put("/pap/permission/p1/", &me, change).await, ok());
        let (_, shown) = stack.get("/pap/permission/23", &me).await;
        let shown = (&shown["path"], &shown["method"], &shown["permission"], &shown["type"]);
        assert_eq!(shown, (&json!("/y"), &json!("PUT"), &json!("deny"), &json!("api")));
        assert_eq!(stack.delete("/pap/permission/p1", &me).await, ok());
        for path in ["/pap/permission/p1", "/pap/permission/23", "/pap/permission/%00"] {
            let unknown = refused(404, "No permission found with this ID");
            assert_eq!(stack.get(path, &me).await, unknown);
            assert_eq!(stack.put(path, &me, p1()).await, unknown);
            let unknown = refused(404, "No permission found with this ID or name");
            assert_eq!(stack.delete(path, &me).await, unknown);
        }
        assert_eq!(stack.post("/pap/permission/", &me, p1()).await.1["id"], 24);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered() {
    for stack in Stack::both(&config()).await {
        let me = admin();
        let mut deny = p1();
        deny["permission"] = json!("deny");
        deny["path"] = json!("/100%/a_b");
        stack.post("/pap/permission", &me, deny).await;
        let names = async |query: &str| {
            let (_, listed) = stack.get(&format!("/pap/permission{query}"), &me).await;
            let listed = listed["permissions"].as_array().cloned().unwrap_or_default();
            listed.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("").await.len(), 23);
        assert_eq!(names("/?path=/template").await, ["all_template", "ro_template"]);
        assert_eq!(names("?path=/template&method=GET").await, ["ro_template"]);
        assert_eq!(names("?permission=deny").await, ["p1"]);
        assert_eq!(names("?type=api").await, ["p1"]);
        assert_eq!(names("?type=system").await.len(), 22);
        assert_eq!(names("?path=%25").await, ["p1"], "a sign like any other");
        assert_eq!(names("?path=a_b").await, ["p1"]);
        let cases = [
            ("?path=nowhere", 404, "No results found with these filters"),
            ("?path=/TEMPLATE", 404, "No results found with these filters"),
            ("?path=%00", 404, "No results found with these filters"),
            ("?permission=notApplicable", 404, "No results found with these filters"),
            ("?permission=maybe", 400, "Invalid filter. Permission can't be maybe"),
            ("?type=other", 400, "Invalid filter. Permission type can't be other"),
        ];
        for (query, status, message) in cases {
            let answer = stack.get(&format!("/pap/permission{query}"), &me).await;
            assert_eq!(answer, refused(status, message), "{query}");
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_of_permissions() {
    for stack in Stack::both(&config()).await {
        let me = admin();
        stack.post("/pap/permission", &me, p1()).await;
        let with = |key: &str, value: Value| {
            let mut body = p1();
            body["name"] = json!("p2");
            body[key] = value;
            body
        };
        let cases = [
            (json!(["x"]), 400, "Missing permission name"),
            (with("path", Value::Null), 400, "Missing permission Path"),
            (with("path", json!("/(")), 400, "GET is not a valid regular expression."),
            (with("path", json!("/(?=x)")), 400, "GET is not a valid regular expression."),
            (
                with("permission", json!("notApplicable")),
                400,
                "An access control rule can not return 'notApplicable'",
            ),
            (with("name", json!("a".repeat(31))), 400, "Permission name too long"),
            (p1(), 409, "Permission name p1 is in use."),
        ];
        for (body, status, message) in cases {
            assert_eq!(stack.post("/pap/permission", &me, body).await, refused(status, message));
        }
        let renamed = stack.put("/pap/permission/p1", &me, with("name", json!("p3"))).await;
        assert_eq!(renamed, refused(400, "permission name can't be changed"));
        for permission in ["all_all", "1", "22"] {
            let path = format!("/pap/permission/{permission}");
            assert_eq!(stack.put(&path, &me, p1()).await, refused(405, "Can't edit a system permission "));
            assert_eq!(stack.delete(&path, &me).await, refused(405, "Can't delete a system permission"));
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_match_as_a_whole_and_paths_from_their_beginning() {
    for stack in Stack::both(&config()).await {
        let (user, password) = stack.user(&fresh_tenant(), &fresh_name(), json!("nope")).await;
        stack.post("/pap/permission", &admin(), json!({"name": "p1", "path": "/tss", "method": "GET"})).await;
        let give = format!("/pap/userpermissions/{}/p1", user.user);
        assert_eq!(stack.post(&give, &admin(), Value::Null).await, ok());
        let token = stack.token(&user.user, &password).await;
        for (action, resource, expected) in [
            ("GET", "/tss/", "permit"),
            ("GET", "/tss/v1/devices/", "permit"),
            ("GET", "/tssx/", "permit"),
            ("GETX", "/tss/", "deny"),
            ("GE", "/tss/", "deny"),
            ("GET", "/a/tss/", "deny"),
        ] {
            let (_, body) = stack.decide(&token, action, resource).await;
            assert_eq!(body["decision"], expected, "{action} {resource}");
        }
        stack.end().await;
    }
}
