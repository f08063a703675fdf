//! What services see of a request, and clients of an answer.

use common::http::{Caller, caller::CallerKind, client::Service};
use common::wire::Tenant;

use crate::support::Stack;

#[tokio::test(flavor = "multi_thread")]
async fn what_services_trust_comes_from_the_gateway_only() {
    for stack in Stack::both().await {
        let forged = stack.test.engines.client.key().sign(
            &reqwest::Method::GET,
            "/device",
            &Caller::service("persister", &Tenant::parse("victim").unwrap()),
            &stack.test.engines.clock,
        );
        let forged = forged.to_str().unwrap();
        let headers = format!(
            "Authorization: Bearer good\r\nX-Tatami-Caller: {forged}\r\nX_Tatami_Caller: {forged}\r\n\
             X-Tatami-Other: 1\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Prefix: /evil\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n\
             X-Consumer-Username: admin\r\nX-Custom: stays\r\n"
        );
        let (status, _) = stack.plain("GET", "/device", &headers).await;
        assert_eq!(status, 200);
        let seen = stack.fake.last();
        let header = |name: &str| {
            let values: Vec<_> = seen.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect();
            assert!(values.len() <= 1, "{name}: {values:?}");
            values.first().copied()
        };
        let caller = seen.caller.as_ref().expect("a signed caller");
        assert_eq!((caller.kind, caller.user_id, caller.tenant.as_str()), (CallerKind::User, 7, "admin"));
        assert_eq!(header("x-tatami-other"), None);
        assert_eq!(header("x_tatami_caller"), None);
        assert_eq!(header("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(header("x-forwarded-host"), Some("test"));
        assert_eq!(header("x-forwarded-proto"), Some("http"));
        assert_eq!(header("x-forwarded-prefix"), None);
        assert_eq!(header("forwarded"), None);
        assert_eq!(header("x-real-ip"), None);
        assert_eq!(header("x-consumer-username"), None);
        assert_eq!(header("x-custom"), Some("stays"));
        assert_eq!(header("authorization"), Some("Bearer good"), "services may read the token");
        let device_manager = stack.test.engines.client.urls().get(Service::DeviceManager).unwrap();
        assert_eq!(header("host").map(|host| format!("http://{host}")), Some(device_manager));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_header_on_a_public_path_does_not_arrive() {
    for stack in Stack::both().await {
        let (status, _) =
            stack.plain("POST", "/auth", "X-Tatami-Caller: forged\r\nContent-Length: 0\r\n").await;
        assert_eq!(status, 200);
        assert!(!stack.fake.last().headers.contains_key("x-tatami-caller"));
        // Not even by naming what the gateway sets as belonging to the connection.
        let headers =
            "Authorization: Bearer good\r\nConnection: x-tatami-caller, x-forwarded-for, authorization\r\n";
        let (status, _) = stack.plain("GET", "/device", headers).await;
        assert_eq!(status, 200);
        let seen = stack.fake.last();
        assert!(seen.caller.is_some());
        assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_one_connection_stay_on_it() {
    for stack in Stack::both().await {
        let headers = "Authorization: Bearer good\r\nConnection: X-Secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\n\
                       TE: trailers\r\nProxy-Authorization: Basic x\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\
                       Expect: 100-continue\r\n";
        let request = format!("GET /device HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n");
        let answer = stack.raw(request).await;
        assert!(answer.contains("200 OK"), "{answer}");
        let seen = stack.fake.last();
        for name in [
            "connection",
            "x-secret",
            "keep-alive",
            "te",
            "proxy-authorization",
            "upgrade",
            "http2-settings",
            "expect",
        ] {
            assert!(!seen.headers.contains_key(name), "{name}");
        }
        let answer = answer.to_ascii_lowercase();
        assert!(!answer.contains("x-hop") && !answer.contains("x-tatami"), "{answer}");
        assert!(answer.contains("x-stays: 1"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_identified() {
    for stack in Stack::both().await {
        let id = |answer: &str| {
            let lines = answer.lines().filter_map(|line| line.split_once(": "));
            lines
                .filter(|(name, _)| name.eq_ignore_ascii_case("x-request-id"))
                .map(|(_, id)| id.to_owned())
                .collect::<Vec<_>>()
        };
        let request =
            "GET /device HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Bearer good\r\n";
        let answer = stack.raw(format!("{request}X-Request-Id: mine\r\n\r\n")).await;
        assert_eq!(id(&answer), ["mine"]);
        assert_eq!(stack.fake.last().headers["x-request-id"], "mine");
        let answer = stack.raw(format!("{request}\r\n")).await;
        assert_eq!(id(&answer), [stack.fake.last().headers["x-request-id"].to_str().unwrap()]);
        let answer = stack.raw("GET /nowhere HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").await;
        assert_eq!(id(&answer).len(), 1, "refusals too");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prefix_that_was_removed_is_told() {
    for stack in Stack::both().await {
        assert_eq!(stack.get("/history/device/a/history").await, 200);
        assert_eq!(stack.fake.last().headers["x-forwarded-prefix"], "/history");
    }
}
