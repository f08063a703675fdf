//! Nothing protected or internal can be reached by writing its path in another way.

use common::http::client::Service;

use crate::support::{Asked, Stack};

/// Ways to write paths that some server somewhere reads as another path.
const TRICKS: &[&str] = &[
    "/auth/%75ser",
    "/auth/%75ser/",
    "/%61uth/user",
    "/auth%2Fuser",
    "/auth%2fuser",
    "/auth/%2575ser",
    "/auth/./user",
    "/auth/password/../user",
    "/auth/password/%2e%2e/user",
    "/auth/password/..%2fuser",
    "/auth/password/..;/user",
    "/auth/password/..;x=y/user",
    "/auth/password/%2e%2e;/user",
    "/auth//user",
    "//auth/user",
    "/auth/\\user",
    "/auth\\user",
    "/auth/%5cuser",
    "/auth/user%00",
    "/auth/user%0a",
    "/auth/user%20",
    "/auth/user;x",
    "/auth/user?x=/auth/",
    "/auth/pdp",
    "/auth/pdp/",
    "/auth/%70dp",
    "/auth/PDP",
    "/auth/password/../pdp",
    "/auth/password/..;/pdp",
    "/auth/password/internal/x",
    "/auth/password/%69nternal/x",
    "/auth/password/Internal/x",
    "/auth/admin/tenants",
    "/auth/admin/dropcache",
    "/auth/%61dmin/tenants",
    "/auth/internal/x",
    "/auth/.well-known/../user",
    "/auth/.well-known/jwks.json/../../user",
    "/auth/.well-known/jwks.json%2f..%2f..%2fuser",
    "/auth/pap",
    "/auth/pap/permission",
    "/auth/%70ap/permission",
    "/authx",
    "/auth/userx",
    "/pdp",
    "/user",
    "/admin/tenants",
    "/internal/device",
    "/device",
    "/device/",
    "/%64evice",
    "/device/%2F..",
    "/device/%2e%2e/",
    "/device/..",
    "/device/..;/",
    "/device//",
    "/./device",
    "/../device",
    "/%2e%2e/device",
    "/%2e/device",
    "/;/device",
    "/device;jsessionid=1",
    "/devices",
    "/socket.io/../device",
    "/socket.io/%2e%2e/device",
    "/socket.io/..%2fdevice",
    "/socket.io/..;/topic/device-data",
    "/socket.io/..%5ctopic",
    "/socket.io/%252e%252e/topic/device-data",
    "/socket.io//../topic/device-data",
    "/socket.iox",
    "/kafka-ws/v1/ticket",
    "/kafka-ws/v1/ticket/",
    "/kafka-ws/v1/%74icket",
    "/kafka-ws/v1/../v1/ticket",
    "/kafka-ws/v1/topics/..%2fticket",
    "/kafka-ws/v1//ticket",
    "/kafka-ws/internal/x",
    "/stream/topic/device-data",
    "/stream/socketio",
    "/stream/socketio/../topic/device-data",
    "/stream/socketio/..;/topic/x",
    "/stream/%73ocketio",
    "/stream",
    "/topic/device-data",
    "/history/device/x/history",
    "/%68istory/device/x/history",
    "/x509/v1/certificates",
    "/x509/../internal/api/v1",
    "/x509/internal/api/v1",
    "/basic-auth/v1/devices/x/basic-credentials",
    "/basic-auth/v1/devices/x%2fy/basic-credentials",
    "/basic-auth/v1/devices/../basic-credentials",
    "/basic-auth/internal/v1/credentials",
    "/auth/revoke",
    "/auth/revoke/",
    "/auth/%72evoke",
    "/",
    "/%c0%ae%c0%ae/device",
    "/%u002e/device",
    "/%",
    "/%2",
    "*",
    "http://test/device",
    "http://auth/auth/user",
    "http://test//device",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_path_reaches_a_service_without_a_token() {
    for stack in Stack::both().await {
        for method in ["GET", "POST", "OPTIONS", "PROPFIND"] {
            for path in TRICKS {
                let (status, body) = stack.plain(method, path, "").await;
                assert!([400, 401, 403, 404].contains(&status), "{method} {path}: {status} {body}");
                assert_eq!(stack.fake.seen().len(), 0, "{method} {path} reached {:?}", stack.fake.seen());
            }
        }
        assert_eq!(stack.fake.asked(), [], "without a token nothing is asked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_path_reaches_what_a_user_may_not_have() {
    for stack in Stack::both().await {
        for path in TRICKS {
            let (status, _) = stack.plain("GET", path, "Authorization: Bearer denied\r\n").await;
            assert!([400, 403, 404].contains(&status), "{path}: {status}");
        }
        assert_eq!(stack.fake.seen().len(), 0, "{:?}", stack.fake.seen());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_services_offer_to_each_other_is_not_reachable_even_with_every_permission() {
    for stack in Stack::both().await {
        for (method, path) in [
            ("POST", "/auth/pdp"),
            ("GET", "/auth/admin/tenants"),
            ("DELETE", "/auth/admin/dropcache"),
            ("GET", "/auth/internal/x"),
            ("GET", "/stream/topic/device-data"),
            ("GET", "/stream/log"),
            ("POST", "/stream/socketio"),
            ("GET", "/flows/v1/flow"),
            ("GET", "/topic/device-data"),
            ("GET", "/internal/device"),
            ("GET", "/device/internal/device"),
            ("GET", "/history/internal/x"),
            ("GET", "/x509/internal/api/v1/throw-away/ca/crl"),
            ("GET", "/basic-auth/internal/v1/credentials"),
        ] {
            let (status, body) = stack.plain(method, path, "Authorization: Bearer good\r\n").await;
            assert_eq!(status, 404, "{method} {path}");
            assert_eq!(body, r#"{"message":"no Route matched with those values"}"#, "{method} {path}");
        }
        assert_eq!(stack.fake.seen().len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn below_a_protected_prefix_the_token_comes_first() {
    for stack in Stack::both().await {
        for (method, path) in [
            ("GET", "/device/no/such/path"),
            ("GET", "/device/internal/x"),
            ("GET", "/template/x/y/z"),
            ("GET", "/x509/internal/api"),
            ("POST", "/stream/socketio"),
            ("GET", "/stream/topic/device-data"),
            ("GET", "/flows/v1/flow"),
            ("POST", "/import"),
        ] {
            let unauthorized = (401, r#"{"message":"Unauthorized"}"#.to_owned());
            assert_eq!(stack.plain(method, path, "").await, unauthorized, "{method} {path}");
            let denied = stack.plain(method, path, "Authorization: Bearer denied\r\n").await;
            assert_eq!(denied.0, 403, "{method} {path}");
        }
        assert_eq!(stack.fake.seen().len(), 0);
        assert_eq!(stack.plain("GET", "/nowhere", "").await.0, 404, "elsewhere there is nothing to protect");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_is_never_allowed() {
    for stack in Stack::both().await {
        for method in ["GET", "POST", "DELETE"] {
            let answer = stack.plain(method, "/auth/revoke", "Authorization: Bearer good\r\n").await;
            assert_eq!(answer, (403, r#"{"message":"Not authorized"}"#.to_owned()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_that_was_decided_is_the_path_that_is_forwarded() {
    for stack in Stack::both().await {
        for (path, resource, service, target) in [
            ("/device", "/device/", Service::DeviceManager, "/device"),
            ("/device/?a=1", "/device/", Service::DeviceManager, "/device/?a=1"),
            (
                "/%64evice/a%20b?x=%2F..&y=a//b",
                "/device/a b/",
                Service::DeviceManager,
                "/device/a%20b?x=%2F..&y=a//b",
            ),
            ("/device/x%3Fy", "/device/x?y/", Service::DeviceManager, "/device/x%3Fy"),
            ("/device/%c3%a4", "/device/ä/", Service::DeviceManager, "/device/%C3%A4"),
            ("/auth/%75ser/7", "/auth/user/7/", Service::Auth, "/user/7"),
            ("/auth/pap/group", "/auth/pap/group/", Service::Auth, "/pap/group"),
            (
                "/history/device/a/history?lastN=1",
                "/history/device/a/history/",
                Service::History,
                "/device/a/history?lastN=1",
            ),
            (
                "/x509/v1/certificates?page=1",
                "/x509/v1/certificates/",
                Service::X509Identity,
                "/api/v1/certificates?page=1",
            ),
            ("/stream/socketio", "/stream/socketio/", Service::DataBroker, "/socketio"),
            ("/kafka-ws/v1/ticket", "/kafka-ws/v1/ticket/", Service::KafkaWs, "/kafka-ws/v1/ticket"),
            ("http://elsewhere/template/1", "/template/1/", Service::DeviceManager, "/template/1"),
        ] {
            assert_eq!(stack.get(path).await, 200, "{path}");
            let asked =
                Asked { jwt: "good".into(), action: "GET".into(), resource: resource.into(), fresh: false };
            assert!(stack.fake.asked().contains(&asked), "{path}: {:?}", stack.fake.asked().last());
            let seen = stack.fake.last();
            assert_eq!((seen.service, seen.target.as_str()), (service, target), "{path}");
            assert_eq!(seen.caller.expect("a signed caller").user_id, 7, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn public_paths_need_no_token_and_name_no_caller() {
    for stack in Stack::both().await {
        for (method, path, service, target) in [
            ("POST", "/auth", Service::Auth, "/"),
            ("POST", "/auth/", Service::Auth, "/"),
            ("POST", "/auth/password/reset/joe", Service::Auth, "/password/reset/joe"),
            ("GET", "/auth/.well-known/jwks.json", Service::Auth, "/.well-known/jwks.json"),
            ("GET", "/socket.io/?EIO=3", Service::DataBroker, "/socket.io/?EIO=3"),
            ("GET", "/kafka-ws/v1/other?ticket=x", Service::KafkaWs, "/kafka-ws/v1/other?ticket=x"),
        ] {
            let (status, _) = stack.plain(method, path, "Authorization: Bearer good\r\n").await;
            if service == Service::DataBroker {
                // The fake wants a websocket there; that it answers is enough.
                assert_eq!(status, 400, "{path}");
                continue;
            }
            assert_eq!(status, 200, "{path}");
            let seen = stack.fake.last();
            assert_eq!((seen.service, seen.target.as_str()), (service, target));
            assert!(!seen.headers.contains_key("x-tatami-caller"), "{path}");
        }
        assert_eq!(stack.fake.asked(), []);
    }
}
