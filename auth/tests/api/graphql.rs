//! GraphQL of dojot's dashboards (dojot-api.md 7.2).

use common::{
    http::Caller,
    testing::{client, fresh_tenant},
    wire::{Subject, event::AuditEvent},
};
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::stack::{ADMIN_PASSWORD, Stack, admin, answer, config, fresh_name, gateway, tail_of};

const LOGIN: &str = "mutation($u: String, $p: String) { login(username: $u, passwd: $p) { jwt user { \
                     username id profile service permissions { subject actions } } } }";
const READ: &str = "query($group: String) { permissions(group: $group) { subject actions } }";
/// As dojot's dashboard writes it.
const SAVE: &str = "\nmutation ($permissions: [PermissionRequest]!, $group: String!) {\n  permissions(group: $group, \
                    permissions: $permissions ) {\n    message\n    status\n    action subject\n  }\n}\n\n";

/// Asks where everybody may; returns status, whether the gateway shall count a failure, and body.
async fn ask(stack: &Stack, body: &Value) -> (u16, bool, Value) {
    let response = client().post(format!("{}/graphql-auth", stack.base)).json(body).send().await.unwrap();
    let is_failure = response.headers().contains_key("x-tatami-failure");
    let (status, body) = answer(response).await;
    (status, is_failure, body)
}

async fn log_in(stack: &Stack, username: &str, password: &str) -> (u16, bool, Value) {
    ask(stack, &json!({ "query": LOGIN, "variables": { "u": username, "p": password } })).await
}

async fn permissions(stack: &Stack, caller: &Caller, query: &str, variables: Value) -> (u16, Value) {
    stack.post("/graphql/permissions", caller, json!({ "query": query, "variables": variables })).await
}

async fn save(stack: &Stack, caller: &Caller, group: &str, wanted: Value) -> (u16, Value) {
    // The dashboard sends the variables as a text.
    let variables = json!({ "group": group, "permissions": wanted }).to_string();
    permissions(stack, caller, SAVE, variables.into()).await
}

/// What saving says about each change, in no order.
fn changes(answer: &Value) -> Vec<String> {
    let rows = answer["data"]["permissions"].as_array().expect("a list");
    let text = |row: &Value, member: &str| row[member].as_str().expect("a text").to_owned();
    let mut changes: Vec<String> = rows
        .iter()
        .map(|row| {
            format!(
                "{} {} {} {}",
                text(row, "subject"),
                text(row, "action"),
                row["status"],
                text(row, "message")
            )
        })
        .collect();
    changes.sort();
    changes
}

fn wants(pairs: &[(&str, &[&str])]) -> Value {
    pairs.iter().map(|(subject, actions)| json!({ "subject": subject, "actions": actions })).collect()
}

async fn group(stack: &Stack) -> String {
    let name = fresh_name();
    stack.post("/pap/group", &admin(), json!({ "name": name })).await;
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_logs_in_and_learns_what_to_be_shown() {
    for stack in Stack::both(&config()).await {
        let (tenant, name) = (fresh_tenant(), fresh_name());
        let (user, password) = stack.user(&tenant, &name, json!("user")).await;
        let (status, is_failure, answer) = log_in(&stack, &name.to_uppercase(), &password).await;
        assert_eq!((status, is_failure), (200, false), "{answer}");
        let login = &answer["data"]["login"];
        let shown = json!({
            "username": name, "id": user.user_id.to_string(), "profile": "user", "service": tenant,
            "permissions": [
                { "subject": "template", "actions": ["modifier"] },
                { "subject": "device", "actions": ["modifier"] },
                { "subject": "flows", "actions": ["modifier"] },
                { "subject": "history", "actions": ["viewer"] },
                { "subject": "ca", "actions": ["modifier", "viewer"] },
                { "subject": "ca-sign", "actions": ["modifier", "viewer"] },
                { "subject": "socketio", "actions": ["viewer"] },
                { "subject": "import", "actions": ["modifier"] },
                { "subject": "export", "actions": ["viewer"] },
                { "subject": "fw-image", "actions": ["modifier"] },
                { "subject": "backstage-graphql", "actions": ["modifier"] },
            ],
        });
        assert_eq!(login["user"], shown);
        let token = login["jwt"].as_str().unwrap();
        assert_eq!(stack.decide(token, "GET", "/device/").await.1["decision"], "permit");

        // An administrator is shown everything; as the dashboard writes it.
        let query = format!(
            "mutation {{ login(username: \"admin\", passwd: \"{ADMIN_PASSWORD}\") {{ jwt user {{ profile permissions {{ subject actions }} }} }} }}"
        );
        let (status, _, answer) = ask(&stack, &json!({ "query": query })).await;
        let subjects = answer["data"]["login"]["user"]["permissions"].as_array().unwrap();
        assert_eq!((status, subjects.len()), (200, 13), "{answer}");
        assert!(subjects.contains(&json!({ "subject": "permission", "actions": ["modifier", "viewer"] })));
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_fails_is_null_and_counted() {
    for stack in Stack::both(&config()).await {
        let null = json!({ "data": { "login": null } });
        for (username, password) in [
            ("admin", "wrong"),
            ("admin", ""),
            ("nobody", ADMIN_PASSWORD),
            ("", ""),
            ("admin' OR 1=1 --", "x"),
        ] {
            let expected = (200, true, null.clone());
            assert_eq!(log_in(&stack, username, password).await, expected, "{username} {password}");
        }
        // What is no login is no failure.
        for variables in [json!({ "u": "admin" }), json!({ "u": "a\u{0}b", "p": "x" })] {
            let expected = (200, false, null.clone());
            assert_eq!(ask(&stack, &json!({ "query": LOGIN, "variables": variables })).await, expected);
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_tries_more_than_one_password_at_a_time_or_in_anothers_name() {
    for stack in Stack::both(&config()).await {
        let login =
            |name: &str| format!("login(username: \"{name}\", passwd: \"{ADMIN_PASSWORD}\") {{ jwt }}");
        let good = login("admin");
        for query in [
            format!("mutation {{ a: {good} b: {good} }}"),
            format!("mutation {{ a: {} b: {good} }}", login("nobody")),
            format!("mutation {{ {good} ...F }} fragment F on LoginMutation {{ b: {good} }}"),
            format!("mutation {{ ...F ...F }} fragment F on LoginMutation {{ {good} }}"),
            format!("mutation {{ ... on LoginMutation {{ {good} }} }}"),
            format!("mutation {{ {} ... @skip(if: true) {{ a: {good} }} }}", login("nobody")),
            format!("mutation A {{ {good} }} mutation B {{ b: {good} }}"),
            "mutation($a: [String] = [\"admin\"]) { login(username: $a, passwd: \"x\") { jwt } }".to_owned(),
        ] {
            let (status, _, answer) = ask(&stack, &json!({ "query": query, "operationName": "A" })).await;
            assert_eq!(status, 400, "{query}: {answer}");
            assert!(!answer.to_string().contains("jwt\":") && answer.get("data").is_none(), "{answer}");
        }
        let skipped = format!("mutation {{ {} __typename }}", good.replace(") {", ") @skip(if: true) {"));
        let (status, is_failure, answer) = ask(&stack, &json!({ "query": skipped })).await;
        assert_eq!((status, is_failure), (200, false), "{answer}");
        assert_eq!(answer, json!({ "data": { "__typename": "LoginMutation" } }));
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_in_graphqls_words() {
    for stack in Stack::both(&config()).await {
        let me = admin();
        let deep = format!("{{\"query\": {}", "[".repeat(50_000));
        let long =
            json!({ "query": format!("{{ permissions(group: \"{}\") {{ subject }} }}", "x".repeat(9_000)) });
        let large = json!({ "query": "{ __typename }", "variables": { "x": "x".repeat(70_000) } });
        let many = json!({ "query": format!("{{ {} }}", "a: __typename ".repeat(11)) });
        let query = |query: &str| json!({ "query": query }).to_string();
        for (body, status) in [
            (String::new(), 400),
            ("{".to_owned(), 400),
            ("null".to_owned(), 400),
            ("[]".to_owned(), 400),
            (format!("[{}]", query("{ __typename }")), 400),
            ("{}".to_owned(), 400),
            (r#"{"query": 7}"#.to_owned(), 400),
            (r#"{"query": "{ __typename }", "variables": "["}"#.to_owned(), 400),
            (deep, 400),
            (long.to_string(), 400),
            (many.to_string(), 400),
            (large.to_string(), 413),
            (query("{"), 400),
            (query(&"{a".repeat(1_000)), 400),
            (query("{ nothing }"), 400),
            (query("subscription { x }"), 400),
            (query("{ __typename } query B { __typename }"), 400),
            (query("{ ...F } fragment F on PermissionsRootQuery { ...F }"), 400),
            (
                query(
                    "{ ...F ...F } fragment F on LoginRootQuery { ...G ...G } fragment G on LoginRootQuery { ...F }",
                ),
                400,
            ),
            (query("{ __typename }"), 200),
        ] {
            for path in ["/graphql-auth", "/graphql-auth/", "/graphql/permissions", "/graphql/permissions/"] {
                let request = stack.test.request(Method::POST, &stack.base, path, &me);
                let request =
                    request.header(CONTENT_TYPE, "application/json; charset=utf-8").body(body.clone());
                let (answered, shown) = answer(request.send().await.unwrap()).await;
                let sent: String = body.chars().take(80).collect();
                assert_eq!(answered, status, "{path} {sent}: {shown}");
                assert!(status == 200 || shown["errors"][0]["message"].is_string(), "{path} {sent}: {shown}");
            }
        }
        for mimetype in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
            let request = client().post(format!("{}/graphql-auth", stack.base)).body(query("{ __typename }"));
            let request = match mimetype {
                Some(mimetype) => request.header(CONTENT_TYPE, mimetype),
                None => request,
            };
            let expected = json!({ "errors": [{ "message": "Must provide query string." }] });
            assert_eq!(answer(request.send().await.unwrap()).await, (400, expected), "{mimetype:?}");
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_asks_and_changes_nothing() {
    for stack in Stack::both(&config()).await {
        let get = async |path: &str, query: &[(&str, &str)]| {
            // The signature is for the query too.
            let url = reqwest::Url::parse_with_params(&format!("http://auth{path}"), query).unwrap();
            let target = url.as_str().trim_start_matches("http://auth");
            let request = stack.test.request(Method::GET, &stack.base, target, &admin());
            answer(request.send().await.unwrap()).await
        };
        let (status, shown) =
            get("/graphql/permissions", &[("query", READ), ("variables", r#"{"group": "user"}"#)]).await;
        assert_eq!(
            (status, shown["data"]["permissions"].as_array().map(Vec::len)),
            (200, Some(11)),
            "{shown}"
        );
        let login =
            format!("mutation {{ login(username: \"admin\", passwd: \"{ADMIN_PASSWORD}\") {{ jwt }} }}");
        for (path, query) in [("/graphql-auth", login.as_str()), ("/graphql/permissions", SAVE)] {
            let (status, shown) = get(path, &[("query", query)]).await;
            assert_eq!(status, 405, "{shown}");
            assert_eq!(
                shown["errors"][0]["message"],
                "Can only perform a mutation operation from a POST request."
            );
            assert_eq!(get(path, &[]).await.0, 400);
            let (status, shown) = stack.send(Method::PUT, path, &admin(), json!({})).await;
            assert_eq!((status, shown["errors"][0]["message"].is_string()), (405, true), "{shown}");
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_is_permitted_is_told_what_can_be_asked() {
    const INTROSPECTION: &str = include_str!("introspection.graphql");
    for stack in Stack::both(&config()).await {
        let (status, answer) = permissions(&stack, &admin(), INTROSPECTION, Value::Null).await;
        assert_eq!(status, 200, "{answer}");
        assert!(answer["errors"].is_null(), "{answer}");
        let types = answer["data"]["__schema"]["types"].as_array().unwrap();
        for name in ["PermissionRequest", "PermissionResponse", "Response"] {
            assert!(types.iter().any(|known| known["name"] == name), "{name}");
        }
        let (_, _, answer) = ask(&stack, &json!({ "query": INTROSPECTION })).await;
        assert!(!answer.to_string().contains("LoginMutation"), "{answer}");
        let (status, _, answer) = ask(&stack, &json!({ "query": "{ nono }" })).await;
        assert!(status == 400 && !answer.to_string().contains("none"), "no hints: {answer}");
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_of_groups_are_read() {
    for stack in Stack::both(&config()).await {
        let me = admin();
        let read = async |group: Value| {
            let (status, answer) = permissions(&stack, &me, READ, json!({ "group": group })).await;
            assert_eq!(status, 200, "{answer}");
            answer
        };
        for everything in [Value::Null, json!(""), json!("admin"), json!("1")] {
            let shown = read(everything.clone()).await;
            assert_eq!(
                shown["data"]["permissions"].as_array().map(Vec::len),
                Some(13),
                "{everything}: {shown}"
            );
        }
        let ops = group(&stack).await;
        assert_eq!(read(json!(ops)).await, json!({ "data": { "permissions": [] } }));
        for permission in ["ro_device", "all_device", "all_all"] {
            stack.post(&format!("/pap/grouppermissions/{ops}/{permission}"), &me, Value::Null).await;
        }
        let shown = json!([{ "subject": "device", "actions": ["modifier", "viewer"] }]);
        assert_eq!(read(json!(ops)).await["data"]["permissions"], shown);
        for unknown in ["nobodys", "999", "a\u{0}b", "../user"] {
            let shown = read(json!(unknown)).await;
            assert_eq!(shown["data"], json!({ "permissions": null }));
            let error = (&shown["errors"][0]["message"], &shown["errors"][0]["extensions"]["status"]);
            assert_eq!(error, (&json!("No group found with this name or ID"), &json!(404)), "{unknown}");
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_of_groups_are_saved_recorded_and_effective_at_once() {
    for stack in Stack::both(&config()).await {
        let tail = tail_of(&stack.test.engines, &Subject::AUDIT).await;
        let (me, ops, tenant, name) = (admin(), group(&stack).await, fresh_tenant(), fresh_name());
        let (_, password) = stack.user(&tenant, &name, json!(ops)).await;
        let token = stack.token(&name, &password).await;
        let decides = async |method: &str, path: &str| {
            stack.decide(&token, method, path).await.1["decision"].as_str().unwrap().to_owned()
        };
        assert_eq!(decides("GET", "/device/").await, "deny");
        stack.post(&format!("/pap/grouppermissions/{ops}/ro_history"), &me, Value::Null).await;
        // Something that dashboards do not know stays whatever they save.
        stack.post("/pap/permission", &me, json!({ "name": "cron", "path": "/cron", "method": "GET" })).await;
        stack.post(&format!("/pap/grouppermissions/{ops}/cron"), &me, Value::Null).await;

        let wanted = wants(&[("device", &["viewer", "modifier"]), ("import", &["modifier"])]);
        let (status, answer) = save(&stack, &me, &ops, wanted.clone()).await;
        assert_eq!(status, 200, "{answer}");
        let expected = [
            "device modifier 200 ok",
            "device viewer 200 ok",
            "history viewer 200 ok",
            "import modifier 200 ok",
        ];
        assert_eq!(changes(&answer), expected);
        for (method, path, expected) in [
            ("PUT", "/device/x/", "permit"),
            ("POST", "/import/", "permit"),
            ("GET", "/history/", "deny"),
            ("GET", "/cron/", "permit"),
        ] {
            assert_eq!(decides(method, path).await, expected, "{method} {path}");
        }
        assert_eq!(save(&stack, &me, &ops, wanted).await.1, json!({ "data": { "permissions": [] } }));

        // Nonsense is told about, and does not keep the rest from being done.
        let odd = json!([null, {}, { "subject": "device" }, { "subject": "device", "actions": ["viewer", null, "owner"] },
                         { "subject": "x", "actions": ["viewer"] }]);
        let (_, answer) = save(&stack, &me, &ops, odd).await;
        let unknown = "404 No permission found with this ID or name";
        let expected = [
            "device modifier 200 ok".to_owned(),
            format!("device owner {unknown}"),
            "import modifier 200 ok".to_owned(),
            format!("x viewer {unknown}"),
        ];
        assert_eq!(changes(&answer), expected);
        assert_eq!(
            (decides("GET", "/device/").await, decides("PUT", "/device/").await),
            ("permit".into(), "deny".into())
        );

        let mut recorded = Vec::new();
        while recorded.len() < 8 {
            let batch = tokio::time::timeout(std::time::Duration::from_secs(30), tail.next_batch(100)).await;
            for record in batch.expect("records in time").unwrap() {
                let text = String::from_utf8(record.value.to_vec()).unwrap();
                let event: AuditEvent = serde_json::from_str(&text).unwrap();
                let group = event.subject.group.as_ref().map(|group| group.name.clone());
                if let (Some(permission), true) = (&event.subject.permission, group.as_ref() == Some(&ops)) {
                    recorded.push(format!("{:?} {}", event.action, permission.name));
                }
            }
        }
        let expected = [
            "GroupGivePermission ro_history",
            "GroupGivePermission cron",
            "GroupGivePermission all_device",
            "GroupGivePermission ro_device",
            "GroupGivePermission wo_import",
            "GroupTakePermission ro_history",
            "GroupTakePermission all_device",
            "GroupTakePermission wo_import",
        ];
        assert_eq!(recorded, expected);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_are_those_of_the_way_they_stand_for() {
    for stack in Stack::both(&config()).await {
        let (me, ops, tenant) = (admin(), group(&stack).await, fresh_tenant());
        let wanted = wants(&[("device", &["viewer"])]);
        let everything = || json!({ "query": READ });

        // An ordinary user has the permission for GraphQL and none for groups.
        let (user, _) = stack.user(&tenant, &fresh_name(), json!("user")).await;
        let forbidden = |answer: &Value| {
            assert_eq!(answer["data"], json!({ "permissions": null }), "{answer}");
            assert_eq!(answer["errors"][0]["message"], "Forbidden", "{answer}");
        };
        forbidden(&stack.post("/graphql/permissions", &user, everything()).await.1);
        forbidden(&permissions(&stack, &user, READ, json!({ "group": ops })).await.1);
        forbidden(&permissions(&stack, &user, READ, json!({ "group": "nobodys" })).await.1);
        forbidden(&save(&stack, &user, &ops, wanted.clone()).await.1);

        // Who may read them, and an administrator of a tenant, change nothing.
        stack.post(&format!("/pap/userpermissions/{}/ro_pap", user.user), &me, Value::Null).await;
        let (tenant_admin, _) = stack.user(&tenant, &fresh_name(), json!("admin")).await;
        for caller in [&user, &tenant_admin] {
            let (_, answer) = permissions(&stack, caller, READ, json!({ "group": ops })).await;
            assert_eq!(answer, json!({ "data": { "permissions": [] } }));
            let (status, answer) = save(&stack, caller, &ops, wanted.clone()).await;
            assert_eq!((status, changes(&answer)), (200, vec!["device viewer 403 Forbidden".to_owned()]));
            let (_, answer) = save(&stack, caller, "user", json!([])).await;
            assert!(changes(&answer).iter().all(|change| change.ends_with("403 Forbidden")), "{answer}");
        }

        // What is forbidden to an administrator of the platform there is forbidden here.
        let (root, _) = stack.user(&me.tenant, &fresh_name(), json!("admin")).await;
        let deny = json!({ "name": "hands_off", "path": "/auth/pap/grouppermissions", "method": "POST", "permission": "deny" });
        stack.post("/pap/permission", &me, deny).await;
        stack.post(&format!("/pap/userpermissions/{}/hands_off", root.user), &me, Value::Null).await;
        let (_, answer) = save(&stack, &root, &ops, wanted.clone()).await;
        assert_eq!(changes(&answer), ["device viewer 403 Forbidden"]);

        // The group of the administrators stays as it is.
        let (_, answer) = save(&stack, &me, "admin", wanted).await;
        assert_eq!(changes(&answer), ["device viewer 405 Can't edit admin group"]);
        // A service is nobody who has permissions, and without a caller nothing is said.
        forbidden(&stack.post("/graphql/permissions", &gateway(), everything()).await.1);
        let request = client().post(format!("{}/graphql/permissions", stack.base)).json(&everything());
        assert_eq!(answer_status(request).await, 401);
        let (_, answer) = permissions(&stack, &me, READ, json!({ "group": ops })).await;
        assert_eq!(answer["data"]["permissions"], json!([]), "nothing was changed");
        stack.end().await;
    }
}

async fn answer_status(request: reqwest::RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_changes_one_group() {
    for stack in Stack::both(&config()).await {
        let query = "mutation { a: permissions(group: \"user\", permissions: []) { status } \
                     b: permissions(group: \"user\", permissions: []) { status } }";
        let (status, answer) = permissions(&stack, &admin(), query, Value::Null).await;
        assert_eq!((status, answer.get("data")), (400, None), "{answer}");
        let (_, shown) = permissions(&stack, &admin(), READ, json!({ "group": "user" })).await;
        assert_eq!(shown["data"]["permissions"].as_array().map(Vec::len), Some(11), "nothing was taken away");
        stack.end().await;
    }
}
