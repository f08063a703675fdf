//! What services offer each other, from outside and from within the network, and the header by which they know each other.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr},
};

use common::{
    clock::Clock,
    http::{Caller, InternalKey, caller::CallerKind},
    wire::Tenant,
};
use reqwest::Method;
use system_tests::{
    Api, Stack,
    endpoints::{Doors, Endpoint, endpoints},
    raw::{bearer, request},
    stack::Kind,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// Known to this test, so that it can play whoever has read a header on the way.
const SECRET: &str = "a secret that only this test may know";

/// Endpoints that no route of the gateway leads to, with something in the place of their parameters.
fn hidden(doors: &Doors) -> Vec<Endpoint> {
    let mut all = doors.hidden();
    for endpoint in &mut all {
        endpoint.route = endpoint
            .route
            .replace("{tenant}", "admin")
            .replace("{generation}", "1")
            .replace("{subject}", "device-data");
        endpoint.route = endpoint.route.replace("{fingerprint}", &["AB"; 32].join(":"));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_services_offer_each_other_is_not_there_from_outside() {
    let stack = Stack::start(Kind::Embedded).await;
    let (doors, admin) = (Doors::embedded(), stack.admin().await);
    let mut count = 0;
    for endpoint in hidden(&doors) {
        let mut paths: BTreeSet<String> = doors.guesses(&endpoint);
        let path = &endpoint.route;
        for prefix in [
            "",
            "/auth",
            "/auth/pap",
            "/auth/user",
            "/device",
            "/stream",
            "/history",
            "/x509",
            "/x509/v1",
            "/kafka-ws",
            "/socket.io",
            "/basic-auth",
        ] {
            paths.insert(format!("{prefix}{path}"));
            paths.insert(format!("{prefix}/..{path}"));
            paths.insert(format!("{prefix}/..;{path}"));
            paths.insert(format!("{prefix}/%2e%2e{path}"));
            paths.insert(format!("{prefix}/{path}"));
            paths.insert(format!(
                "{prefix}{}",
                path.replacen("int", "%69nt", 1).replacen("/p", "/%70", 1).replacen("/a", "/%61", 1)
            ));
            paths.insert(format!("{prefix}{}", path.to_uppercase()));
        }
        paths.insert(format!("/{}{path}", endpoint.service));
        for path in paths {
            for token in ["", &admin.token] {
                let (status, body) = request(stack.gateway, &endpoint.method, &path, &bearer(token)).await;
                let allowed = if token.is_empty() { &[400, 401, 404][..] } else { &[400, 403, 404, 405] };
                assert!(allowed.contains(&status), "{} {path}: {status} {body}", endpoint.method);
                count += 1;
            }
        }
    }
    println!("{count} requests");
}

/// A user whom a header names.
fn user(tenant: &str) -> Caller {
    Caller {
        tenant: Tenant::parse(tenant).unwrap(),
        user: "admin".to_owned(),
        user_id: 1,
        kind: CallerKind::User,
        expires_s: i64::MAX,
        generation: 0,
    }
}

fn sign(method: &Method, path: &str, caller: &Caller, clock: &Clock) -> String {
    InternalKey::new(SECRET).unwrap().sign(method, path, caller, clock).to_str().unwrap().to_owned()
}

fn with_caller(header: &str) -> String {
    format!("X-Tatami-Caller: {header}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_header_from_outside_says_nothing() {
    let stack = Stack::start_with(Kind::Embedded, &[("TATAMI_INTERNAL__SECRET", SECRET)]).await;
    let (alice, bob) = (stack.new_tenant().await, stack.new_tenant().await);
    let device = alice.create_device().await;
    let path = format!("/device/{device}");
    // Even one that is genuine: of the victim, for this request.
    let genuine = sign(&Method::GET, &path, &user(&alice.tenant), &Clock::system());
    let as_service = sign(
        &Method::GET,
        &path,
        &Caller::service("persister", &Tenant::parse(&alice.tenant).unwrap()),
        &Clock::system(),
    );
    for header in [&genuine, &as_service] {
        for spelling in [
            "X-Tatami-Caller",
            "x-tatami-caller",
            "X-TATAMI-CALLER",
            "X_Tatami_Caller",
            "X-Tatami-Caller2",
            "X-Tatami_Caller",
        ] {
            let line = format!("{spelling}: {header}\r\n");
            assert_eq!(request(stack.gateway, "GET", &path, &line).await.0, 401, "{spelling}");
            for headers in [
                format!("{line}{}", bearer(&bob.token)),
                format!("{}{line}", bearer(&bob.token)),
                format!("Connection: {spelling}\r\n{line}{}", bearer(&bob.token)),
                format!("{line}{line}{}", bearer(&bob.token)),
                format!(
                    "X-Tatami-Tenant: {}\r\nX-Consumer-Username: admin\r\n{line}{}",
                    alice.tenant,
                    bearer(&bob.token)
                ),
            ] {
                let (status, body) = request(stack.gateway, "GET", &path, &headers).await;
                assert!([404, 400].contains(&status), "{headers}: {status} {body}");
            }
        }
    }
    // On public paths, nobody stays nobody.
    for path in ["/auth/password/update", "/kafka-ws/v1/topics/admin.device-data"] {
        let header = sign(&Method::GET, path, &user("admin"), &Clock::system());
        let (status, body) = request(stack.gateway, "GET", path, &with_caller(&header)).await;
        assert!([401, 404, 405].contains(&status), "{path}: {status} {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn being_inside_the_network_proves_nothing() {
    let stack = Stack::start_with(Kind::Embedded, &[("TATAMI_INTERNAL__SECRET", SECRET)]).await;
    let (alice, bob) = (stack.new_tenant().await, stack.new_tenant().await);
    let device = alice.create_device().await;
    let clock = Clock::system();
    let services = inner_listeners(&stack);
    assert_eq!(services.len(), 6, "one listener of each service with an API: {services:?}");
    let path = format!("/device/{device}");
    let header = sign(&Method::GET, &path, &user(&alice.tenant), &clock);
    let device_manager = who_answers(&services, &path, &with_caller(&header)).await;

    forged_headers_are_refused(&services, &bob).await;

    // Whoever has read a header can do nothing else with it, ...
    let mut parts = header.split('.');
    let (payload, mac) = (parts.next().unwrap(), parts.next().unwrap());
    let bobs = sign(&Method::GET, &path, &user(&bob.tenant), &clock);
    let bobs_payload = bobs.split('.').next().unwrap();
    for (what, method, target, header) in [
        ("another method", "DELETE", path.as_str(), header.as_str()),
        ("another method", "PUT", &path, &header),
        ("another path", "GET", "/device", &header),
        ("another path", "GET", "/template", &header),
        ("another path", "GET", &format!("{path}/"), &header),
        ("a query", "GET", &format!("{path}?attrFormat=single"), &header),
        ("an escape", "GET", &path.replace("device/", "device/%2e/"), &header),
        ("another caller", "GET", &path, &format!("{bobs_payload}.{mac}")),
        ("no signature", "GET", &path, &format!("{payload}.")),
        ("no signature and no dot", "GET", &path, payload),
        ("more behind it", "GET", &path, &format!("{header}.{mac}")),
        ("a part of the signature", "GET", &path, &header[..header.len() - 2]),
        ("nothing", "GET", &path, ""),
    ] {
        let (status, body) = request(device_manager, method, target, &with_caller(header)).await;
        assert!([401, 404, 405].contains(&status), "{what}: {method} {target} {status} {body}");
    }
    // ... nor with one of another key, nor with an old one or one from the future.
    let other_key = InternalKey::new(&"x".repeat(32)).unwrap();
    let other_key = other_key.sign(&Method::GET, &path, &user(&alice.tenant), &clock);
    let old = sign(&Method::GET, &path, &user(&alice.tenant), &Clock::fixed(clock.now_ms() - 61_000));
    let future = sign(&Method::GET, &path, &user(&alice.tenant), &Clock::fixed(clock.now_ms() + 61_000));
    for header in [other_key.to_str().unwrap(), &old, &future] {
        assert_eq!(request(device_manager, "GET", &path, &with_caller(header)).await.0, 401);
    }
    // A user is no service, whoever signed it.
    for endpoint in hidden(&Doors::embedded()) {
        let header = sign(&endpoint.method(), &endpoint.route, &user("admin"), &clock);
        for service in &services {
            let (status, body) =
                request(*service, &endpoint.method, &endpoint.route, &with_caller(&header)).await;
            assert!([401, 403, 404, 405].contains(&status), "{endpoint:?} as a user: {status} {body}");
        }
    }
}

/// No endpoint of any service believes anybody without a signature. The exceptions are those that the gateway lets through.
async fn forged_headers_are_refused(services: &[SocketAddr], stranger: &Api) {
    let doors = Doors::embedded();
    let forged = "eyJ0ZW5hbnQiOiJhZG1pbiIsInVzZXIiOiJhZG1pbiIsInVzZXJfaWQiOjEsImtpbmQiOiJ1c2VyIiwiZXhwaXJlc19zIjowLCJ1bnRpbCI6OTk5OTk5OTk5OTk5OX0.AAAA";
    let is_public = |endpoint: &Endpoint| doors.to(endpoint).iter().any(|door| door.access == "public");
    let public: BTreeSet<_> = endpoints().into_iter().filter(is_public).collect();
    let public: BTreeSet<_> = public.iter().map(|endpoint| (&endpoint.service, endpoint.name())).collect();
    for endpoint in
        endpoints().iter().filter(|endpoint| !public.contains(&(&endpoint.service, endpoint.name())))
    {
        let path = endpoint.route.replace(['{', '}', '*'], "");
        for service in services {
            for headers in [String::new(), with_caller(forged), with_caller(""), bearer(&stranger.token)] {
                let (status, body) = request(*service, &endpoint.method, &path, &headers).await;
                let is_refresh = endpoint.name() == "/refresh" && headers.starts_with("Authorization");
                assert!(
                    [400, 401, 404, 405].contains(&status) || is_refresh,
                    "{endpoint:?} with {headers:?}: {status} {body}"
                );
            }
        }
    }
}

/// The services' own listeners: every listener of the process but those that the stack was given.
fn inner_listeners(stack: &Stack) -> Vec<SocketAddr> {
    let pid = stack.pid("up");
    let sockets: BTreeSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|fd| fs::read_link(fd.path()).ok())
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let known = [stack.gateway, stack.mqtt, stack.mqtt_tls, stack.admin].map(|address| address.port());
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let listening = table.lines().filter_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let is_own = columns.get(3) == Some(&"0A") && sockets.contains(*columns.get(9)?);
        let port = u16::from_str_radix(columns[1].split(':').nth(1)?, 16).ok()?;
        is_own.then_some(port)
    });
    listening.filter(|port| !known.contains(port)).map(|port| (Ipv4Addr::LOCALHOST, port).into()).collect()
}

async fn who_answers(services: &[SocketAddr], path: &str, headers: &str) -> SocketAddr {
    let mut found = Vec::new();
    for service in services {
        if request(*service, "GET", path, headers).await.0 == 200 {
            found.push(*service);
        }
    }
    assert_eq!(found.len(), 1, "a signed header is good for the service that it was signed for");
    found[0]
}

/// A header as it really goes to somebody: caught by a service of the operator's, and shown to others.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_was_caught_is_good_for_nothing_else() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("routes.toml");
    let catcher = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let urls = format!("urls = [\"http://{}\"]", catcher.local_addr().unwrap());
    let route = |name: &str, more: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\n{urls}\nprefixes = [\"/{name}\"]\naccess = \"protected\"\n{more}\n"
        )
    };
    fs::write(&file, route("trusted", "trusted = true") + &route("stranger", "")).unwrap();
    let stack =
        Stack::start_with(Kind::Embedded, &[("TATAMI_GATEWAY__ROUTES_FILE", file.to_str().unwrap())]).await;
    let alice = stack.new_tenant().await;
    let services = inner_listeners(&stack);

    let token = bearer(&alice.token);
    let (caught, _) = tokio::join!(catch(&catcher), request(stack.gateway, "GET", "/stranger/x", &token));
    assert!(!caught.contains("x-tatami-caller"), "strangers get nothing that is signed: {caught}");
    let (caught, _) = tokio::join!(catch(&catcher), request(stack.gateway, "GET", "/trusted/x", &token));
    let header =
        caught.lines().find_map(|line| line.strip_prefix("x-tatami-caller: ")).expect("a signed caller");
    for path in [
        "/device",
        "/template",
        "/user",
        "/pap/group",
        "/socketio",
        "/api/v1/certificates",
        "/kafka-ws/v1/ticket",
        "/notifications/history",
        "/trusted/x",
    ] {
        for service in &services {
            let (status, body) = request(*service, "GET", path, &with_caller(header)).await;
            assert!([401, 404].contains(&status), "{path}: {status} {body}");
        }
        let (status, _) = request(stack.gateway, "GET", path, &with_caller(header)).await;
        assert!([401, 404].contains(&status), "{path} through the gateway: {status}");
    }
}

/// The head of the next request, which is answered.
async fn catch(listener: &TcpListener) -> String {
    // The gateway looks now and then whether somebody is there.
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 16 * 1024];
        let length = stream.read(&mut head).await.unwrap_or(0);
        if length > 0 {
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
            return String::from_utf8_lossy(&head[..length]).into_owned();
        }
    }
}
