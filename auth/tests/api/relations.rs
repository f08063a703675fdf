//! Relations and reports (dojot-api.md 2.5).

use common::testing::fresh_tenant;
use reqwest::Method;
use serde_json::{Value, json};

use crate::stack::{Stack, admin, config, fresh_name, ok, refused};

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_contract() {
    for stack in Stack::both(&config()).await {
        let me = admin();
        let (user, _) = stack.user(&fresh_tenant(), &fresh_name(), json!("nope")).await;
        let name = user.user.as_str();
        stack.post("/pap/group", &me, json!({"name": "ops"})).await;
        let all = ["usergroup", "userpermissions", "grouppermissions"];
        for (kind, [owner, owner_id], [owned, owned_id], already, not_so) in [
            (
                all[0],
                [name, "2"],
                ["ops", "3"],
                "User is already a member of the group",
                "User is not a member of the group",
            ),
            (
                all[1],
                [name, "2"],
                ["ro_device", "5"],
                "User already have this permission",
                "User does not have this permission",
            ),
            (
                all[2],
                ["ops", "3"],
                ["ro_history", "8"],
                "Group already have this permission",
                "Group does not have this permission",
            ),
        ] {
            let (by_name, by_id) =
                (format!("/pap/{kind}/{owner}/{owned}"), format!("/pap/{kind}/{owner_id}/{owned_id}/"));
            assert_eq!(stack.delete(&by_name, &me).await, refused(404, not_so));
            assert_eq!(stack.post(&by_name, &me, Value::Null).await, ok());
            assert_eq!(stack.post(&by_id, &me, Value::Null).await, refused(409, already));
            assert_eq!(stack.delete(&by_id, &me).await, ok());
            assert_eq!(stack.delete(&by_name, &me).await, refused(404, not_so));
            assert_eq!(stack.post(&by_id, &me, Value::Null).await, ok());
        }
        let (post, delete) = (Method::POST, Method::DELETE);
        let unknown = [
            (&post, "usergroup/nobody/ops".to_owned(), "Unknown user id"),
            (&delete, "usergroup/99/ops".to_owned(), "Unknown user id"),
            (&post, format!("usergroup/{name}/nope"), "No group found with this ID or name"),
            (&delete, format!("usergroup/{name}/99"), "No group found with this ID or name"),
            (&post, "usergroup/%00/ops".to_owned(), "Unknown user id"),
            (&post, "userpermissions/nobody/all_all".to_owned(), "Unknown user id"),
            (&post, format!("userpermissions/{name}/nope"), "No permission found with this ID"),
            (&delete, format!("userpermissions/{name}/nope"), "No permission found with this ID"),
            (&post, "grouppermissions/nope/all_all".to_owned(), "No group found with this ID or name"),
            (&post, "grouppermissions/ops/nope".to_owned(), "No permission found with this ID or name"),
            (&delete, "grouppermissions/ops/nope".to_owned(), "No permission found with this ID"),
        ];
        for (method, path, message) in unknown {
            let answer = stack.send(method.clone(), &format!("/pap/{path}"), &me, Value::Null).await;
            assert_eq!(answer, refused(404, message), "{method} {path}");
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_list_what_there_is() {
    for stack in Stack::both(&config()).await {
        let me = admin();
        let tenant = fresh_tenant();
        let (user, _) = stack.user(&tenant, &fresh_name(), json!("nope")).await;
        let name = user.user.as_str();
        stack.post("/pap/group", &me, json!({"name": "ops"})).await;
        let report = async |path: &str| {
            let (status, mut body) = stack.get(&format!("/pap/{path}"), &me).await;
            assert_eq!(status, 200, "{path}: {body}");
            let members = body.as_object_mut().unwrap();
            assert_eq!(members.len(), 1, "{path}");
            let (key, list) = members.iter_mut().next().unwrap();
            let named =
                |one: &Value| one.get("username").unwrap_or(&one["name"]).as_str().unwrap().to_owned();
            (key.clone(), list.as_array().unwrap().iter().map(named).collect::<Vec<_>>())
        };
        let is = |key: &str, names: &[&str]| {
            (key.to_owned(), names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(report(&format!("user/{name}/groups")).await, is("groups", &[]));
        assert_eq!(report(&format!("user/{name}/directpermissions/")).await, is("permissions", &[]));
        assert_eq!(report("user/2/allpermissions").await, is("permissions", &[]));
        assert_eq!(report("group/ops/permissions").await, is("permissions", &[]));
        assert_eq!(report("group/3/users/").await, is("users", &[]));
        for link in [
            format!("usergroup/{name}/ops"),
            format!("userpermissions/{name}/ro_device"),
            format!("userpermissions/{name}/ro_history"),
            "grouppermissions/ops/ro_history".to_owned(),
            "grouppermissions/ops/ro_flows".to_owned(),
        ] {
            assert_eq!(stack.post(&format!("/pap/{link}"), &me, Value::Null).await, ok());
        }
        assert_eq!(report(&format!("user/{name}/groups")).await, is("groups", &["ops"]));
        let direct = is("permissions", &["ro_device", "ro_history"]);
        assert_eq!(report(&format!("user/{name}/directpermissions")).await, direct);
        let all = is("permissions", &["ro_device", "ro_flows", "ro_history"]);
        assert_eq!(report(&format!("user/{name}/allpermissions")).await, all);
        let of_group = is("permissions", &["ro_flows", "ro_history"]);
        assert_eq!(report("group/ops/permissions").await, of_group);
        assert_eq!(report("group/ops/users").await, is("users", &[name]));
        let (_, shown) = stack.get("/pap/group/ops/users", &me).await;
        assert_eq!((&shown["users"][0]["id"], &shown["users"][0]["service"]), (&json!("2"), &json!(tenant)));
        for (path, message) in [
            ("user/nobody/groups", "Unknown user id"),
            ("user/nobody/directpermissions", "Unknown user id"),
            ("user/99/allpermissions", "Unknown user id"),
            ("group/nope/permissions", "No group found with this name or ID"),
            ("group/99/users", "No group found with this name or ID"),
        ] {
            assert_eq!(stack.get(&format!("/pap/{path}"), &me).await, refused(404, message));
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_limits() {
    for stack in Stack::both(&config()).await {
        let (user, _) = stack.user(&fresh_tenant(), &fresh_name(), json!("nope")).await;
        for group in 0..50 {
            let (_, body) = stack.post("/pap/group", &admin(), json!({"name": format!("g{group}")})).await;
            let path = format!("/pap/usergroup/{}/{}", user.user, body["id"]);
            assert_eq!(stack.post(&path, &admin(), Value::Null).await, ok());
        }
        let path = format!("/pap/usergroup/{}/user", user.user);
        assert_eq!(stack.post(&path, &admin(), Value::Null).await, refused(400, "Too many of them"));
        let (_, body) = stack.get(&format!("/pap/user/{}/groups", user.user), &admin()).await;
        assert_eq!(body["groups"].as_array().unwrap().len(), 50);
        stack.end().await;
    }
}
