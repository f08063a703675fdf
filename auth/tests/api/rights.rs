//! Who may change rights, when that takes effect, and what is told about it.

use std::time::{Duration, Instant};

use auth::{Config, Server};
use common::{
    engine::event_log::Tail,
    http::Caller,
    testing::{client, eventually, fresh_tenant},
    wire::{
        Subject, Tenant,
        event::{AuditEvent, Revocation, audit::AuditAction},
    },
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::stack::{Stack, admin, answer, config, fresh_name, gateway, new_user, ok, refused, tail_of};

/// Every route below `/pap`, about a user; the last member tells what somebody is answered who administers another tenant.
fn routes(user: &str) -> Vec<(Method, String, Value, Elsewhere)> {
    use Elsewhere::{Forbidden, Sees, Unknown};
    let permission = json!({"name": "px", "path": "/x", "method": "GET"});
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    let none = Value::Null;
    vec![
        (get.clone(), "/pap/permission".to_owned(), none.clone(), Sees),
        (post.clone(), "/pap/permission".to_owned(), permission.clone(), Forbidden),
        (get.clone(), "/pap/permission/own".to_owned(), none.clone(), Sees),
        (put.clone(), "/pap/permission/own".to_owned(), permission, Forbidden),
        (delete.clone(), "/pap/permission/own".to_owned(), none.clone(), Forbidden),
        (get.clone(), "/pap/group".to_owned(), none.clone(), Sees),
        (post.clone(), "/pap/group".to_owned(), json!({"name": "gx"}), Forbidden),
        (get.clone(), "/pap/group/user".to_owned(), none.clone(), Sees),
        (put, "/pap/group/user".to_owned(), json!({"name": "gx"}), Forbidden),
        (delete.clone(), "/pap/group/user".to_owned(), none.clone(), Forbidden),
        (post.clone(), format!("/pap/usergroup/{user}/user"), none.clone(), Unknown),
        (delete.clone(), format!("/pap/usergroup/{user}/user"), none.clone(), Unknown),
        (post.clone(), "/pap/grouppermissions/user/own".to_owned(), none.clone(), Forbidden),
        (delete.clone(), "/pap/grouppermissions/user/ro_history".to_owned(), none.clone(), Forbidden),
        (post, format!("/pap/userpermissions/{user}/own"), none.clone(), Unknown),
        (delete, format!("/pap/userpermissions/{user}/own"), none.clone(), Unknown),
        (get.clone(), format!("/pap/user/{user}/directpermissions"), none.clone(), Unknown),
        (get.clone(), format!("/pap/user/{user}/allpermissions"), none.clone(), Unknown),
        (get.clone(), format!("/pap/user/{user}/groups"), none.clone(), Unknown),
        (get.clone(), "/pap/group/user/permissions".to_owned(), none.clone(), Sees),
        (get, "/pap/group/user/users".to_owned(), none, Sees),
    ]
}

#[derive(Clone, Copy, PartialEq)]
enum Elsewhere {
    /// What belongs to the platform is everybody's to read.
    Sees,
    /// And nobody's to change who does not administer the platform.
    Forbidden,
    /// Users of other tenants are not there.
    Unknown,
}

/// Everything that rights consist of.
async fn rights(stack: &Stack) -> Vec<String> {
    let mut rows = Vec::new();
    for query in [
        "SELECT CAST(user_id AS TEXT) || ' in ' || CAST(group_id AS TEXT) AS r FROM user_groups ORDER BY r",
        "SELECT CAST(user_id AS TEXT) || ' has ' || CAST(permission_id AS TEXT) AS r FROM user_permissions ORDER BY r",
        "SELECT CAST(group_id AS TEXT) || ' has ' || CAST(permission_id AS TEXT) AS r FROM group_permissions ORDER BY r",
        "SELECT CAST(id AS TEXT) || name || path || method || permission AS r FROM permissions ORDER BY r",
        "SELECT CAST(id AS TEXT) || name AS r FROM groups ORDER BY r",
    ] {
        rows.extend(stack.rows(query).await);
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_knows_who_may() {
    for stack in Stack::both(&config()).await {
        let (mine, theirs) = (fresh_tenant(), fresh_tenant());
        stack
            .post("/pap/permission", &admin(), json!({"name": "own", "path": "/own", "method": "GET"}))
            .await;
        let (me, _) = stack.user(&mine, &fresh_name(), json!("admin")).await;
        let (plain, _) = stack.user(&theirs, &fresh_name(), json!("user")).await;
        let (them, _) = stack.user(&theirs, &fresh_name(), json!("user")).await;
        stack.post(&format!("/pap/userpermissions/{}/own", them.user), &admin(), Value::Null).await;
        let before = rights(&stack).await;
        for (method, path, body, elsewhere) in routes(&them.user) {
            for header in [None, Some("eyJ9.AAAA"), Some("")] {
                let mut request = client().request(method.clone(), format!("{}{path}", stack.base));
                request = request.bearer_auth("a.b.c").json(&body);
                if let Some(header) = header {
                    request = request.header("x-tatami-caller", header);
                }
                let answer = answer(request.send().await.unwrap()).await;
                assert_eq!(answer, refused(401, "AuthenticationError"), "{method} {path}");
            }
            let expected = match elsewhere {
                Elsewhere::Sees => 200,
                Elsewhere::Forbidden => 403,
                Elsewhere::Unknown => 404,
            };
            let (status, answer) = stack.send(method.clone(), &path, &me, body.clone()).await;
            assert_eq!(status, expected, "{method} {path} by another tenant: {answer}");
            if elsewhere == Elsewhere::Unknown {
                assert_eq!(answer["message"], "Unknown user id");
            }
            if method != Method::GET {
                // The PDP lets nobody get here who has no permission for `/auth/pap`; should it, he still gives nothing
                // that he lacks, and takes nothing that is not his to take.
                let (status, answer) = stack.send(method.clone(), &path, &plain, body).await;
                let gives_own = path.ends_with("/user") && path.contains("usergroup");
                let takes = method == Method::DELETE && elsewhere == Elsewhere::Unknown;
                if !gives_own && !takes {
                    assert_eq!((status, &answer["message"]), (403, &json!("Forbidden")), "{method} {path}");
                }
            }
            if path.contains("/users") {
                assert_eq!(answer["users"], json!([]), "members of other tenants are not shown");
            }
            if method == Method::DELETE && elsewhere == Elsewhere::Unknown {
                // What the plain user may take from his like is given back.
                let back = if path.contains("usergroup") { "usergroup" } else { "userpermissions" };
                let what = if back == "usergroup" { "user" } else { "own" };
                stack.post(&format!("/pap/{back}/{}/{what}", them.user), &admin(), Value::Null).await;
            }
        }
        assert_eq!(rights(&stack).await, before);
        // Those of the own tenant are there.
        let (own, _) = stack.user(&mine, &fresh_name(), json!("user")).await;
        for (method, path, body, elsewhere) in routes(&own.user) {
            if elsewhere == Elsewhere::Unknown && !path.ends_with("/user") {
                let (status, answer) = stack.send(method.clone(), &path, &me, body).await;
                assert_eq!(status, 200, "{method} {path}: {answer}");
            }
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_hands_out_more_than_he_has() {
    for stack in Stack::both(&config()).await {
        let (tenant, root) = (fresh_tenant(), admin());
        for (name, path, effect) in [
            ("own", "/own", "permit"),
            ("others", "/others", "permit"),
            ("no_x509", "/x509", "deny"),
            ("no_flows", "/flows", "deny"),
        ] {
            let body = json!({"name": name, "path": path, "method": "(.*)", "permission": effect});
            assert_eq!(stack.post("/pap/permission", &root, body).await.0, 200);
        }
        for (group, permission) in [("gown", "own"), ("gothers", "others"), ("gno", "no_x509")] {
            stack.post("/pap/group", &root, json!({"name": group})).await;
            let path = format!("/pap/grouppermissions/{group}/{permission}");
            assert_eq!(stack.post(&path, &root, Value::Null).await, ok());
        }
        let user = async |profile: &str| stack.user(&tenant, &fresh_name(), json!(profile)).await.0;
        // A manager of users and rights who is no administrator; one who is; and one who is and is restricted.
        let (manager, chief, bound) = (user("nope").await, user("admin").await, user("admin").await);
        let (victim, plain) = (user("admin").await, user("nope").await);
        let give = async |by: &Caller, kind: &str, to: &Caller, what: &str| {
            stack.post(&format!("/pap/{kind}/{}/{what}", to.user), by, Value::Null).await
        };
        let take = async |by: &Caller, kind: &str, from: &Caller, what: &str| {
            stack.delete(&format!("/pap/{kind}/{}/{what}", from.user), by).await
        };
        let (groups, permissions) = ("usergroup", "userpermissions");
        for what in ["all_pap", "all_user", "own", "all_all"] {
            assert_eq!(give(&root, permissions, &manager, what).await, ok());
        }
        assert_eq!(give(&root, groups, &bound, "gno").await, ok());
        assert_eq!(give(&root, permissions, &plain, "no_flows").await, ok());
        let before = rights(&stack).await;

        let no = refused(403, "Forbidden");
        for to in [&manager, &plain] {
            assert_eq!(give(&manager, groups, to, "admin").await, no, "all_all is not the group admin");
            assert_eq!(give(&manager, groups, to, "gothers").await, no);
            assert_eq!(give(&manager, permissions, to, "others").await, no);
            assert_eq!(give(&manager, permissions, to, "no_x509").await, no);
        }
        assert_eq!(take(&manager, permissions, &plain, "no_flows").await, no, "to take a deny is to give");
        // The members of the group admin are not his.
        for (kind, what) in [(groups, "gown"), (permissions, "own")] {
            assert_eq!(give(&manager, kind, &victim, what).await, no);
        }
        assert_eq!(take(&manager, groups, &victim, "admin").await, no);
        let path = format!("/user/{}", victim.user);
        let change = json!({"service": tenant, "email": "mine@example.com", "name": "N"});
        assert_eq!(stack.put(&path, &manager, change.clone()).await, no);
        assert_eq!(stack.delete(&path, &manager).await, no);
        // One who is restricted gives nothing and does not free himself, nor take over who is not.
        for to in [&bound, &plain] {
            for (kind, what) in
                [(permissions, "all_all"), (groups, "admin"), (groups, "gown"), (permissions, "own")]
            {
                if !(to.user == bound.user && what == "admin") {
                    assert_eq!(give(&bound, kind, to, what).await, no, "{kind} {what}");
                }
            }
        }
        assert_eq!(take(&bound, groups, &bound, "gno").await, no);
        assert_eq!(stack.put(&path, &bound, change).await, no);
        let (_, made) =
            stack.post("/user", &bound, new_user(&tenant, &fresh_name(), json!(["admin", "gown"]))).await;
        assert_eq!(made[0]["could not add"], json!(["admin", "gown"]));
        let (_, made) =
            stack.post("/user", &manager, new_user(&tenant, &fresh_name(), json!(["gothers", "gown"]))).await;
        assert_eq!((&made[0]["groups"], &made[0]["could not add"]), (&json!(["gown"]), &json!(["gothers"])));
        let id = made[0]["user"]["id"].as_str().unwrap().to_owned();
        assert_eq!(stack.delete(&format!("/user/{id}"), &manager).await.0, 200);
        // Nobody but the platform's administrators changes what belongs to the platform.
        for by in [&manager, &chief] {
            assert_eq!(stack.post("/pap/group", by, json!({"name": "mine"})).await, no);
            assert_eq!(stack.post("/pap/grouppermissions/gown/all_all", by, Value::Null).await, no);
            assert_eq!(stack.delete("/pap/grouppermissions/gno/no_x509", by).await, no);
            let body = json!({"path": "/", "method": "(.*)"});
            assert_eq!(stack.put("/pap/permission/own", by, body).await, no);
            assert_eq!(stack.delete("/pap/permission/no_flows", by).await, no);
        }
        assert_eq!(rights(&stack).await, before, "nothing of that has changed anything");

        // What is theirs to give, they give.
        assert_eq!(give(&manager, permissions, &plain, "own").await, ok());
        assert_eq!(give(&manager, groups, &plain, "gown").await, ok());
        assert_eq!(take(&manager, permissions, &plain, "own").await, ok());
        for (kind, what) in
            [(groups, "admin"), (groups, "gothers"), (permissions, "others"), (permissions, "no_x509")]
        {
            assert_eq!(give(&chief, kind, &plain, what).await, ok());
        }
        assert_eq!(take(&chief, permissions, &plain, "no_flows").await, ok());
        assert_eq!(take(&chief, groups, &bound, "gno").await, ok());
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_group_admin_gives_nothing_with_a_request_that_was_on_its_way() {
    for stack in Stack::both(&config()).await {
        let tenant = fresh_tenant();
        let (former, _) = stack.user(&tenant, &fresh_name(), json!("admin")).await;
        let (plain, _) = stack.user(&tenant, &fresh_name(), json!("nope")).await;
        let path = format!("/pap/usergroup/{}/admin", former.user);
        assert_eq!(stack.delete(&path, &admin()).await, ok());
        let path = format!("/pap/usergroup/{}/user", plain.user);
        assert_eq!(stack.post(&path, &former, Value::Null).await, refused(403, "Forbidden"));
        assert_eq!(stack.delete(&format!("/user/{}", former.user), &admin()).await.0, 200);
        assert_eq!(stack.post(&path, &former, Value::Null).await, refused(401, "AuthenticationError"));
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_admin_is_not_locked_out() {
    for stack in Stack::both(&config()).await {
        let me = admin();
        let out = refused(405, "Can't remove the admin user from the admin group");
        for path in ["/pap/usergroup/admin/admin", "/pap/usergroup/1/1"] {
            assert_eq!(stack.delete(path, &me).await, out);
        }
        for method in [Method::POST, Method::DELETE] {
            let answer = stack.send(method, "/pap/grouppermissions/admin/all_all", &me, Value::Null).await;
            assert_eq!(answer, refused(405, "Can't edit admin group"));
        }
        let deny = |path: &str| json!({"name": "no", "path": path, "method": "(.*)", "permission": "deny"});
        let locked = refused(405, "Can't lock the admin user out");
        assert_eq!(stack.post("/pap/permission", &me, deny("/(.*)")).await.0, 200);
        assert_eq!(stack.post("/pap/userpermissions/admin/no", &me, Value::Null).await, locked);
        stack.post("/pap/group", &me, json!({"name": "trap"})).await;
        stack.post("/pap/grouppermissions/trap/no", &me, Value::Null).await;
        assert_eq!(stack.post("/pap/usergroup/admin/trap", &me, Value::Null).await, locked);
        // Nor in two steps.
        assert_eq!(stack.delete("/pap/grouppermissions/trap/no", &me).await, ok());
        assert_eq!(stack.post("/pap/usergroup/admin/trap", &me, Value::Null).await, ok());
        assert_eq!(stack.post("/pap/grouppermissions/trap/no", &me, Value::Null).await, locked);
        assert_eq!(stack.put("/pap/permission/no", &me, deny("/tss")).await, ok());
        assert_eq!(stack.post("/pap/grouppermissions/trap/no", &me, Value::Null).await, ok());
        assert_eq!(stack.put("/pap/permission/no", &me, deny("/auth/pap")).await, locked);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_brings_dojots_way_back() {
    for stack in Stack::both(&Config { users_across_tenants: true, ..config() }).await {
        let (me, _) = stack.user(&fresh_tenant(), &fresh_name(), json!("admin")).await;
        let (them, _) = stack.user(&fresh_tenant(), &fresh_name(), json!("nope")).await;
        assert_eq!(stack.post("/pap/group", &me, json!({"name": "ops"})).await.0, 200);
        for path in
            ["/pap/grouppermissions/ops/ro_tss".to_owned(), format!("/pap/usergroup/{}/ops", them.user)]
        {
            let body = json!({"name": "ro_tss", "path": "/tss", "method": "GET"});
            stack.post("/pap/permission", &me, body).await;
            assert_eq!(stack.post(&path, &me, Value::Null).await, ok());
        }
        let (_, members) = stack.get("/pap/group/ops/users", &me).await;
        assert_eq!(members["users"][0]["username"], them.user);
        // But who is in no group admin still gives no more than he has.
        let path = format!("/pap/usergroup/{}/admin", them.user);
        assert_eq!(stack.post(&path, &them, Value::Null).await, refused(403, "Forbidden"));
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_take_effect_at_every_instance() {
    // So long that only the announcement can be the reason.
    let config = Config { access_cache_s: 3600, ..config() };
    for stack in Stack::both(&config).await {
        let second = Server::bind(config.clone(), stack.test.engines.clone()).await.unwrap();
        let second = stack.run(second).await;
        let (user, password) = stack.user(&fresh_tenant(), &fresh_name(), json!("nope")).await;
        let token = stack.token(&user.user, &password).await;
        let decision = async |base: &str| {
            let (status, body) = stack.decide_at(base, &token, "GET", "/tss/").await;
            if status == 200 { body["decision"].clone() } else { json!(status) }
        };
        let body = |path: &str| json!({"name": "p1", "path": path, "method": "GET"});
        stack.post("/pap/permission", &admin(), body("/other")).await;
        stack.post("/pap/group", &admin(), json!({"name": "ops"})).await;
        let direct = format!("/pap/userpermissions/{}/p1", user.user);
        let membership = format!("/pap/usergroup/{}/ops", user.user);
        let (post, put, delete) = (&Method::POST, &Method::PUT, &Method::DELETE);
        let mut slowest = Duration::ZERO;
        for (method, path, body, expected) in [
            (post, direct.as_str(), Value::Null, json!("deny")),
            (put, "/pap/permission/p1", body("/tss"), json!("permit")),
            (delete, &direct, Value::Null, json!("deny")),
            (post, &direct, Value::Null, json!("permit")),
            (delete, "/pap/permission/p1", Value::Null, json!("deny")),
            (post, "/pap/permission", body("/tss"), json!("deny")),
            (post, &membership, Value::Null, json!(401)),
        ] {
            // The second instance remembers what held until now.
            decision(&second).await;
            assert_eq!(stack.send(method.clone(), path, &admin(), body).await.0, 200, "{method} {path}");
            let changed = Instant::now();
            assert_eq!(decision(&stack.base).await, expected, "at once where it happened: {method} {path}");
            eventually("the other instance hears of it", || async {
                (decision(&second).await == expected).then_some(())
            })
            .await;
            slowest = slowest.max(changed.elapsed());
        }
        println!("{}: {slowest:?}", stack.test.kind);
        // Permissions of groups reach members who have a new token.
        let token = stack.token(&user.user, &password).await;
        for (method, expected) in [(post, "permit"), (delete, "deny")] {
            stack.decide_at(&second, &token, "GET", "/tss/").await;
            let path = "/pap/grouppermissions/ops/p1";
            assert_eq!(stack.send(method.clone(), path, &admin(), Value::Null).await, ok());
            eventually("the other instance hears of it", || async {
                let (status, body) = stack.decide_at(&second, &token, "GET", "/tss/").await;
                assert_eq!(status, 200, "the token stays good");
                (body["decision"] == expected).then_some(())
            })
            .await;
        }
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_membership_ends_tokens_and_sockets() {
    for stack in Stack::both(&config()).await {
        // The topic of the real log is one for all tests, which give the same identifiers.
        if stack.test.kind == "real" {
            stack.end().await;
            continue;
        }
        let tail = tail_of(&stack.test.engines, &Subject::REVOCATION).await;
        stack.user(&fresh_tenant(), &fresh_name(), json!("nope")).await;
        for path in
            ["/pap/userpermissions/2/all_all", "/pap/grouppermissions/user/all_all", "/pap/usergroup/2/user"]
        {
            assert_eq!(stack.post(path, &admin(), Value::Null).await, ok());
        }
        let announced = next(&tail, 3, |_: &Revocation| true).await;
        let announced: Vec<_> = announced.iter().map(|one| (one.user_id, one.keeps_tokens)).collect();
        assert_eq!(announced, [(Some(2), true), (None, true), (Some(2), false)]);
        stack.end().await;
    }
}

/// The next events of a topic that somebody wants.
async fn next<T: serde::de::DeserializeOwned>(
    tail: &Tail,
    count: usize,
    wanted: impl Fn(&T) -> bool,
) -> Vec<T> {
    let mut found = Vec::new();
    while found.len() < count {
        let batch = tokio::time::timeout(Duration::from_secs(30), tail.next_batch(100)).await;
        let batch = batch.expect("the events come in time").unwrap();
        let read = batch.iter().map(|record| serde_json::from_slice(&record.value).unwrap());
        found.extend(read.filter(|event| wanted(event)));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_audited() {
    for stack in Stack::both(&config()).await {
        let tail = tail_of(&stack.test.engines, &Subject::AUDIT).await;
        let (tenant, unique) = (fresh_tenant(), fresh_name());
        let (me, _) = stack.user(&tenant, &fresh_name(), json!("admin")).await;
        let (group, permission) = (unique[1..].to_owned(), format!("p{unique}"));
        // Platform things, whose names are this test's.
        let root = admin();
        let body = json!({"name": permission, "path": "/x", "method": "GET"});
        stack.post("/pap/permission", &root, body.clone()).await;
        stack.put(&format!("/pap/permission/{permission}"), &root, body).await;
        stack.post("/pap/group", &root, json!({"name": group})).await;
        let relation = format!("/pap/grouppermissions/{group}/{permission}");
        stack.post(&relation, &root, Value::Null).await;
        stack.delete(&relation, &root).await;
        stack.put(&format!("/pap/group/{group}"), &root, json!({"description": "d"})).await;
        // Things of the tenant.
        let name = fresh_name();
        let sent = stack.test.request(Method::POST, &stack.base, "/user", &me).header("x-request-id", "r1");
        let (status, made) =
            answer(sent.json(&new_user(&tenant, &name, json!(["user"]))).send().await.unwrap()).await;
        assert_eq!(status, 200, "{made}");
        for (method, path) in [
            (Method::POST, format!("/pap/userpermissions/{name}/{permission}")),
            (Method::DELETE, format!("/pap/userpermissions/{name}/{permission}")),
            (Method::POST, format!("/pap/usergroup/{name}/{group}")),
            (Method::DELETE, format!("/pap/usergroup/{name}/{group}")),
            // What is refused is no change.
            (Method::DELETE, format!("/pap/usergroup/{name}/{group}")),
        ] {
            stack.send(method, &path, &me, Value::Null).await;
        }
        let change = json!({"service": tenant, "email": "new@example.com", "name": "N"});
        assert_eq!(stack.put(&format!("/user/{name}"), &me, change).await, ok());
        assert_eq!(stack.delete(&format!("/user/{name}"), &me).await.0, 200);
        stack.delete(&format!("/pap/group/{group}"), &root).await;
        stack.delete(&format!("/pap/permission/{permission}"), &root).await;

        let ours = |event: &AuditEvent| {
            let subject = &event.subject;
            let tenants = [&event.caller, &subject.user].map(|user| user.as_ref().map(|user| &user.tenant));
            let names =
                [&subject.group, &subject.permission].map(|thing| thing.as_ref().map(|thing| &thing.name));
            tenants.contains(&Some(&tenant))
                || names.contains(&Some(&group))
                || names.contains(&Some(&permission))
        };
        let events = next(&tail, 16, ours).await;
        let actions: Vec<AuditAction> = events.iter().map(|event| event.action).collect();
        let expected = [
            AuditAction::UserCreate,
            AuditAction::PermissionCreate,
            AuditAction::PermissionUpdate,
            AuditAction::GroupCreate,
            AuditAction::GroupGivePermission,
            AuditAction::GroupTakePermission,
            AuditAction::GroupUpdate,
            AuditAction::UserCreate,
            AuditAction::UserGivePermission,
            AuditAction::UserTakePermission,
            AuditAction::UserJoinGroup,
            AuditAction::UserLeaveGroup,
            AuditAction::UserUpdate,
            AuditAction::UserRemove,
            AuditAction::GroupRemove,
            AuditAction::PermissionRemove,
        ];
        assert_eq!(actions, expected);
        let created = serde_json::to_value(&events[7]).unwrap();
        let id = &made[0]["user"]["id"];
        let wanted = json!({
            "timestamp": created["timestamp"],
            "caller": {"id": me.user_id, "username": me.user, "tenant": tenant},
            "action": "user.create",
            "subject": {"user": {"id": id.as_str().unwrap().parse::<i64>().unwrap(), "username": name, "tenant": tenant}},
            "detail": {"groups": ["user"]},
            "request_id": "r1",
        });
        assert_eq!(created, wanted);
        let clock = &stack.test.engines.clock;
        assert!(events.iter().all(|event| (clock.now_ms() - event.timestamp).abs() < 60_000));
        let texts: Vec<String> = events.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
        let password = made[0]["initialPassword"].as_str().unwrap();
        for text in &texts {
            assert!(
                !text.contains(password) && !text.contains("argon2") && !text.contains("credential"),
                "{text}"
            );
        }
        stack.end().await;
    }
}

/// Services have no permissions, so they hand none out.
#[tokio::test(flavor = "multi_thread")]
async fn services_give_nothing() {
    for stack in Stack::both(&config()).await {
        let tenant = fresh_tenant();
        let (user, _) = stack.user(&tenant, &fresh_name(), json!("nope")).await;
        let path = format!("/pap/usergroup/{}/user", user.user);
        assert_eq!(stack.post(&path, &gateway(), Value::Null).await, refused(404, "Unknown user id"));
        let service = Caller::service("gateway", &tenant);
        assert_eq!(stack.post(&path, &service, Value::Null).await, refused(403, "Forbidden"));
        let other = Tenant::parse("admin").unwrap();
        let service = Caller::service("gateway", &other);
        assert_eq!(stack.post("/pap/group", &service, json!({"name": "x"})).await, refused(403, "Forbidden"));
        stack.end().await;
    }
}
