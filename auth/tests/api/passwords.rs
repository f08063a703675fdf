//! Passwords (dojot-api.md 2.6).

use auth::{
    Config, Server,
    config::{Encryption, MailConfig},
};
use common::{
    testing::{client, eventually, fresh_tenant},
    wire::{Subject, Tenant, event::AuditEvent},
};
use serde_json::{Value, json};

use crate::{
    mailbox::{LINK_PREFIX, Mailbox},
    stack::{ADMIN_PASSWORD, Stack, admin, answer, config, fresh_name, new_user, ok, refused, tail_of},
};

/// Posts without a caller, as the gateway lets everybody do.
async fn post(base: &str, path: &str, token: Option<&str>, body: &Value) -> (u16, Value) {
    let request = client().post(format!("{base}{path}")).json(body);
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    answer(request.send().await.unwrap()).await
}

async fn update(stack: &Stack, token: &str, old: &str, new: &str) -> (u16, Value) {
    let body = json!({"oldpasswd": old, "newpasswd": new});
    post(&stack.base, "/password/update", Some(token), &body).await
}

async fn set(stack: &Stack, link: &str, password: &str) -> (u16, Value) {
    let path = format!("/password/resetlink?link={link}");
    post(&stack.base, &path, None, &json!({"token": link, "passwd": password})).await
}

/// Asks for a link by mail.
async fn ask(stack: &Stack, user: &str) -> (u16, Value) {
    let request = client().post(format!("{}/password/reset/{user}", stack.base));
    let (status, mut body) = answer(request.send().await.unwrap()).await;
    // Errors of the server have one.
    body.as_object_mut().unwrap().remove("request_id");
    (status, body)
}

/// A service that sends mails, on each set of engines.
async fn with_mail() -> Vec<(Stack, Mailbox, Config)> {
    let mut all = Vec::new();
    for mut stack in Stack::engines().await {
        let mailbox = Mailbox::open(&stack.test.engines, Encryption::None).await;
        let config = Config { mail: mailbox.settings(), ..config() };
        let server = Server::bind(config.clone(), stack.test.engines.clone()).await.unwrap();
        stack.base = stack.run(server).await;
        all.push((stack, mailbox, config));
    }
    all
}

/// Creates a user, who gets a mail; returns user name and e-mail address.
async fn mailed_user(stack: &Stack, tenant: &Tenant) -> (String, String) {
    let name = fresh_name();
    let (status, body) = stack.post("/user", &admin(), new_user(tenant, &name, json!("user"))).await;
    assert_eq!((status, body[0].get("initialPassword")), (200, None), "{body}");
    let email = format!("{name}@example.com");
    (name, email)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_changes_the_own_password() {
    let file = std::env::temp_dir().join(format!("{}.blacklist", fresh_name()));
    std::fs::write(&file, "pa55w0rd\n\nanother1\n").unwrap();
    for stack in Stack::both(&Config { password_blacklist: file.clone(), ..config() }).await {
        let (user, first) = stack.user(&fresh_tenant(), &fresh_name(), json!("user")).await;
        let token = stack.token(&user.user, &first).await;
        let cases = [
            (json!({}), "Missing user's oldpasswd"),
            (json!(["x"]), "Missing user's oldpasswd"),
            (json!({"oldpasswd": first}), "Missing user's newpasswd"),
            (json!({"oldpasswd": 1, "newpasswd": "x"}), "Invalid oldpasswd"),
            (json!({"oldpasswd": first, "newpasswd": {"a": 1}}), "Invalid newpasswd"),
            (json!({"oldpasswd": "wrong", "newpasswd": "x"}), "Incorrect password"),
            (json!({"oldpasswd": first, "newpasswd": "short"}), "password must have at least 8 characters"),
            (
                json!({"oldpasswd": first, "newpasswd": "q".repeat(513)}),
                "Calm down! 512 characters is the  maximum password length",
            ),
            (
                json!({"oldpasswd": first, "newpasswd": format!("x{}y", user.user)}),
                "Please, choose a password that is harder to guess. Your user info may give hints on this password",
            ),
            (
                json!({"oldpasswd": first, "newpasswd": "xyzxyzxyz"}),
                "do not use passwords with  easy to guess character sequences",
            ),
            (
                json!({"oldpasswd": first, "newpasswd": "pa55w0rd"}),
                "This password can't be used, as it is  in our blacklist of bad passwords",
            ),
            (json!({"oldpasswd": "wr0ng-pa55", "newpasswd": "pa55w0rd"}), "Incorrect password"),
        ];
        for (body, message) in cases {
            // The gateway counts it, though it is a 400.
            let request = client().post(format!("{}/password/update", stack.base)).json(&body);
            let response = request.bearer_auth(&token).send().await.unwrap();
            let is_failure = response.headers().contains_key("x-tatami-failure");
            assert_eq!(is_failure, message == "Incorrect password", "{body}");
            for path in ["/password/update", "/password/update/"] {
                assert_eq!(post(&stack.base, path, Some(&token), &body).await, refused(400, message));
            }
        }
        let before = "Please, choose a password that was not used before";
        let mut current = "Tr1cky-wOrd-0".to_owned();
        assert_eq!(update(&stack, &token, &first, &current).await, ok());
        // Who knows the token of before knows nothing any more.
        assert_eq!(stack.decide(&token, "GET", "/device/").await.0, 401);
        let gone = update(&stack, &token, &current, "Tr1cky-wOrd-x").await;
        assert_eq!(gone, refused(401, "No credentials found for given 'iss'"));
        assert_eq!(stack.log_in(&json!({"username": user.user, "passwd": first})).await.0, 403);
        for number in 1..=4 {
            let token = stack.token(&user.user, &current).await;
            assert_eq!(update(&stack, &token, &current, &current).await, refused(400, &format!("{before}.")));
            let next = format!("Tr1cky-wOrd-{number}");
            assert_eq!(update(&stack, &token, &current, &next).await, ok());
            current = next;
        }
        let token = stack.token(&user.user, &current).await;
        for number in 0..4 {
            let former = format!("Tr1cky-wOrd-{number}");
            assert_eq!(update(&stack, &token, &current, &former).await, refused(400, before), "{former}");
        }
        let kept = stack.rows("SELECT CAST(COUNT(*) AS TEXT) FROM former_passwords").await;
        assert_eq!(kept, ["4"]);
        stack.end().await;
    }
    std::fs::remove_file(file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_changes_for_who_shows_a_good_token() {
    for stack in Stack::both(&config()).await {
        let token = stack.token("admin", ADMIN_PASSWORD).await;
        let body = json!({"oldpasswd": ADMIN_PASSWORD, "newpasswd": "Tr1cky-wOrd"});
        let parts: Vec<&str> = token.split('.').collect();
        let cases = [
            (None, "AuthenticationError"),
            (Some(String::new()), "Corrupted JWT"),
            (Some("rubbish".to_owned()), "Corrupted JWT"),
            (Some(format!("{}.e30.{}", parts[0], parts[2])), "Invalid JWT payload"),
            (Some(format!("{}.{}.AAAA", parts[0], parts[1])), "Invalid signature"),
        ];
        for (token, message) in cases {
            let answer = post(&stack.base, "/password/update", token.as_deref(), &body).await;
            assert_eq!(answer, refused(401, message));
        }
        let unsigned = stack.post("/password/update", &admin(), body.clone()).await;
        assert_eq!(unsigned, refused(401, "AuthenticationError"), "the gateway vouches for nobody here");
        let plain = client().post(format!("{}/password/update", stack.base)).bearer_auth(&token).body("{}");
        assert_eq!(answer(plain.send().await.unwrap()).await, refused(400, "invalid mimetype"));
        assert_eq!(post(&stack.base, "/password/update/", Some(&token), &body).await, ok());
        stack.token("admin", "Tr1cky-wOrd").await;
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_changes_at_a_time_are_one() {
    for stack in Stack::both(&config()).await {
        let (user, first) = stack.user(&fresh_tenant(), &fresh_name(), json!("user")).await;
        let token = stack.token(&user.user, &first).await;
        let (a, b) = tokio::join!(
            update(&stack, &token, &first, "Tr1cky-wOrd-a"),
            update(&stack, &token, &first, "Tr1cky-wOrd-b")
        );
        let mut statuses = [a.0, b.0];
        statuses.sort_unstable();
        assert!(statuses == [200, 400] || statuses == [200, 401], "{a:?} {b:?}");
        let good = if a.0 == 200 { "Tr1cky-wOrd-a" } else { "Tr1cky-wOrd-b" };
        stack.token(&user.user, good).await;
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mail_server_there_is_no_reset() {
    for stack in Stack::both(&config()).await {
        for user in ["admin", "nobody", "%00"] {
            for user in [user.to_owned(), format!("{user}/")] {
                assert_eq!(ask(&stack, &user).await, refused(501, "Feature not configured"));
            }
        }
        assert_eq!(
            set(&stack, &"0".repeat(32), "Tr1cky-wOrd").await,
            refused(404, "Page not found or expired")
        );
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_user_gets_a_link_by_mail() {
    for (stack, mailbox, _) in with_mail().await {
        let tail = tail_of(&stack.test.engines, &Subject::AUDIT).await;
        let tenant = fresh_tenant();
        let (name, email) = mailed_user(&stack, &tenant).await;
        let inactive = stack.log_in(&json!({"username": name, "passwd": ""})).await;
        assert_eq!(inactive, refused(401, "This user is inactive"));
        let letter = mailbox.wait(&email, 1).await;
        assert!(letter.text.contains("From: Tatami <no-reply@example.com>"), "{}", letter.text);
        assert!(letter.text.contains("@example.com>\nFrom: "), "a Message-ID of the sender: {}", letter.text);
        assert!(letter.text.contains(&name));
        let link = letter.link();
        assert!(link.len() == 32 && link.bytes().all(|byte| byte.is_ascii_hexdigit()), "{link}");

        let expired = refused(404, "Page not found or expired");
        let path = format!("/password/resetlink?link={link}");
        let (base, missing) = (&stack.base, refused(400, "missing password"));
        assert_eq!(post(base, &path, None, &json!({})).await, missing);
        assert_eq!(post(base, &path, None, &json!(["x"])).await, missing);
        assert_eq!(post(base, &path, None, &json!({"passwd": 1})).await, refused(400, "invalid password"));
        for other in ["", "%00", &"0".repeat(32), &link[1..], &link.to_uppercase(), "' OR 1=1 --"] {
            if other != link {
                assert_eq!(set(&stack, other, "Tr1cky-wOrd").await, expired, "{other}");
            }
        }
        let bad = set(&stack, &link, "short").await;
        assert_eq!(bad, refused(400, "password must have at least 8 characters"), "the link stays good");
        let (a, b) = tokio::join!(set(&stack, &link, "Tr1cky-wOrd"), set(&stack, &link, "Tr1cky-wOrd"));
        let mut statuses = [a.0, b.0];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 404], "once: {a:?} {b:?}");
        assert_eq!(set(&stack, &link, "Tr1cky-wOrd-2").await, expired);
        stack.token(&name, "Tr1cky-wOrd").await;

        let mut told = Vec::new();
        while told.len() < 2 {
            let batch = tokio::time::timeout(std::time::Duration::from_secs(30), tail.next_batch(100));
            for record in batch.await.expect("the events come in time").unwrap() {
                let text = String::from_utf8(record.value.to_vec()).unwrap();
                let event: AuditEvent = serde_json::from_str(&text).unwrap();
                if event.subject.user.is_some_and(|user| user.username == name) {
                    assert!(!text.contains(&link) && !text.contains("cky-w"), "{text}");
                    told.push((
                        serde_json::to_value(event.action).unwrap(),
                        event.caller.map(|caller| caller.id),
                    ));
                }
            }
        }
        assert_eq!(told, [(json!("user.create"), Some(1)), (json!("user.set-password"), None)]);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_password_is_replaced_by_a_link() {
    for (stack, mailbox, config) in with_mail().await {
        let second = Server::bind(config, stack.test.engines.clone()).await.unwrap();
        let second = stack.run(second).await;
        let (name, email) = mailed_user(&stack, &fresh_tenant()).await;
        let link = mailbox.wait(&email, 1).await.link();
        assert_eq!(set(&stack, &link, "Tr1cky-wOrd").await, ok());
        let token = stack.token(&name, "Tr1cky-wOrd").await;
        assert_eq!(stack.decide_at(&second, &token, "GET", "/device/").await.0, 200);

        for unknown in ["nobody", "2", "%00", "a%2Fb"] {
            assert_eq!(ask(&stack, unknown).await, refused(404, "User not found"), "{unknown}");
        }
        // The address of the first start belongs to somebody else.
        assert_eq!(ask(&stack, "admin").await, refused(501, "Feature not configured"));
        assert_eq!(ask(&stack, &name.to_uppercase()).await, ok());
        let in_progress = refused(409, "You have a password reset request in progress");
        assert_eq!(ask(&stack, &name).await, in_progress);
        let link = mailbox.wait(&email, 2).await.link();
        assert_eq!(ask(&stack, &format!("{name}/")).await, in_progress);
        // Nothing that the database has opens anything.
        let stored = stack.rows("SELECT link_hash FROM password_links").await;
        assert_eq!(stored.len(), 1);
        assert!(!stored[0].contains(&link));
        assert_eq!(set(&stack, &stored[0], "Tr1cky-wOrd-2").await.0, 404);
        let same = set(&stack, &link, "Tr1cky-wOrd").await;
        assert_eq!(same, refused(400, "Please, choose a password that was not used before."));
        assert_eq!(set(&stack, &link, "Tr1cky-wOrd-2").await, ok());
        let revoked = refused(401, "No credentials found for given 'iss'");
        eventually("the token dies at the other instance", || async {
            (stack.decide_at(&second, &token, "GET", "/device/").await == revoked).then_some(())
        })
        .await;
        stack.token(&name, "Tr1cky-wOrd-2").await;

        // A link ends with its time, and with a password that is changed in another way.
        assert_eq!(ask(&stack, &name).await, ok());
        let link = mailbox.wait(&email, 3).await.link();
        let late = "UPDATE password_links SET expires_ms = expires_ms - 1800000 RETURNING link_hash";
        assert_eq!(stack.rows(late).await.len(), 1);
        assert_eq!(set(&stack, &link, "Tr1cky-wOrd-3").await, refused(404, "Page not found or expired"));
        assert_eq!(ask(&stack, &name).await, ok());
        let link = mailbox.wait(&email, 4).await.link();
        let token = stack.token(&name, "Tr1cky-wOrd-2").await;
        assert_eq!(update(&stack, &token, "Tr1cky-wOrd-2", "Tr1cky-wOrd-3").await, ok());
        assert_eq!(set(&stack, &link, "Tr1cky-wOrd-4").await.0, 404);
        // And with the address that it went to.
        assert_eq!(ask(&stack, &name).await, ok());
        let link = mailbox.wait(&email, 5).await.link();
        let (_, shown) = stack.get(&format!("/user/{name}"), &admin()).await;
        let change = json!({"service": shown["user"]["service"], "email": "other@example.com", "name": "N"});
        assert_eq!(stack.put(&format!("/user/{name}"), &admin(), change).await, ok());
        assert_eq!(set(&stack, &link, "Tr1cky-wOrd-4").await.0, 404);
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_are_tried_again_and_given_up_at_last() {
    for (stack, mailbox, _) in with_mail().await {
        mailbox.refuse(2);
        let (name, email) = mailed_user(&stack, &fresh_tenant()).await;
        let link = mailbox.wait(&email, 1).await.link();
        assert_eq!(mailbox.attempts(), 3);
        assert_eq!(set(&stack, &link, "Tr1cky-wOrd").await, ok());
        mailbox.refuse(usize::MAX);
        assert_eq!(ask(&stack, &name).await.0, 200);
        eventually("it is tried", || async { (mailbox.attempts() > 3).then_some(()) }).await;
        assert_eq!(ask(&stack, &name).await.0, 409);
        // As if it had been tried for a quarter of an hour.
        let tried = "UPDATE mails SET attempts = 9, due_ms = 0 RETURNING kind";
        assert_eq!(stack.rows(tried).await, ["reset"]);
        eventually("it is given up", || async {
            let left = stack.rows("SELECT kind FROM mails").await;
            left.is_empty().then_some(())
        })
        .await;
        mailbox.refuse(0);
        assert_eq!(ask(&stack, &name).await.0, 200, "and may be asked for again");
        mailbox.wait(&email, 2).await;
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_and_logins_go_to_who_proves_to_be_the_server() {
    for (offered, wanted, is_trusted) in [
        (Encryption::Tls, Encryption::Tls, true),
        (Encryption::Starttls, Encryption::Starttls, true),
        (Encryption::Tls, Encryption::Tls, false),
        (Encryption::Starttls, Encryption::Starttls, false),
        (Encryption::None, Encryption::Starttls, true),
    ] {
        for mut stack in Stack::engines().await {
            let mailbox = Mailbox::open(&stack.test.engines, offered).await;
            let file = std::env::temp_dir().join(format!("{}.pem", fresh_name()));
            std::fs::write(&file, &mailbox.authority).unwrap();
            let mail = MailConfig {
                encryption: wanted,
                user: "u".to_owned(),
                password: "p".into(),
                trusted_ca: if is_trusted { file.clone() } else { "".into() },
                ..mailbox.settings()
            };
            let server = Server::bind(Config { mail, ..config() }, stack.test.engines.clone()).await.unwrap();
            stack.base = stack.run(server).await;
            let (_, email) = mailed_user(&stack, &fresh_tenant()).await;
            if is_trusted && offered == wanted {
                assert!(mailbox.wait(&email, 1).await.text.contains(LINK_PREFIX));
                // A NUL, the user, a NUL, the password.
                assert_eq!(mailbox.logins(), ["AUTH PLAIN AHUAcA=="]);
            } else {
                eventually("it is tried and tried again", || async {
                    (!stack.rows("SELECT kind FROM mails WHERE attempts > 1").await.is_empty()).then_some(())
                })
                .await;
                assert_eq!((mailbox.attempts(), mailbox.logins().len()), (0, 0), "{offered:?} {wanted:?}");
            }
            std::fs::remove_file(&file).unwrap();
            stack.end().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dojots_hashes_let_in_and_are_replaced() {
    for stack in Stack::both(&config()).await {
        let (user, _) = stack.user(&fresh_tenant(), &fresh_name(), json!("user")).await;
        stack
            .rows(
                "UPDATE users SET password_hash = '$p5k2$3e8$' || 'a1b2c3d4e5f60718' || '$' ||
                 'PLzh3o8bAhbAffZELU4wjuV.B/Z2vtsH' WHERE username <> 'admin' RETURNING username",
            )
            .await;
        let wrong = stack.log_in(&json!({"username": user.user, "passwd": "S3cret"})).await;
        assert_eq!(wrong, refused(403, "AuthorizationError"));
        stack.token(&user.user, "s3cret").await;
        let stored = stack.rows("SELECT password_hash FROM users WHERE username <> 'admin'").await;
        assert!(stored[0].starts_with("$argon2id$"), "{stored:?}");
        let token = stack.token(&user.user, "s3cret").await;
        assert_eq!(update(&stack, &token, "s3cret", "Tr1cky-wOrd").await, ok());
        stack.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_work_stop_the_start() {
    let stacks = Stack::engines().await;
    let mail = |host: &str, sender: &str, link_prefix: &str| MailConfig {
        host: host.to_owned(),
        sender: sender.to_owned(),
        link_prefix: link_prefix.to_owned(),
        ..config().mail
    };
    let no_ca =
        MailConfig { trusted_ca: "/dev/null".into(), ..mail("localhost", "a@example.com", "http://x/") };
    let cases = [
        (Config { password_blacklist: "/nonexistent/file".into(), ..config() }, "auth.password_blacklist"),
        (Config { password_min_length: 5, ..config() }, "auth.password_min_length"),
        (Config { password_link_lifetime_s: 0, ..config() }, "auth.password_link_lifetime_s"),
        (Config { mail: mail("localhost", "", "http://x/"), ..config() }, "auth.mail.sender"),
        (Config { mail: mail("localhost", "a@example.com", "x"), ..config() }, "auth.mail.link_prefix"),
        (Config { mail: no_ca, ..config() }, "auth.mail.trusted_ca"),
    ];
    for (config, key) in cases {
        let error = Server::bind(config, stacks[0].test.engines.clone()).await.err().expect(key);
        assert!(format!("{error:#}").contains(key), "{error:#}");
    }
    for stack in stacks {
        stack.end().await;
    }
}
