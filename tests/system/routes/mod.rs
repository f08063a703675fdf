//! Every endpoint, asked by everybody who should not: nobody, strangers, and users of another tenant.
//!
//! The list of endpoints is read from the routers and from the gateway's table (`src/endpoints.rs`). What is not HTTP is in
//! `isolation.rs`: MQTT topics, tickets of websockets, rooms of socket.io.

pub(crate) mod samples;
pub(crate) mod world;

use std::collections::{BTreeMap, BTreeSet};

use reqwest::StatusCode;
use serde_json::Value;
use system_tests::{
    Api, Stack,
    endpoints::Doors,
    forger::{Forger, claims},
    mqtt::Device,
    stack::Kind,
};

use self::{
    samples::{PUBLIC, SAMPLES, Whose},
    world::{Request, World},
};

#[test]
fn every_endpoint_has_a_sample_and_every_sample_an_endpoint() {
    let requests = Request::all();
    for sample in SAMPLES {
        let used: Vec<_> = requests.iter().filter(|request| std::ptr::eq(request.sample, sample)).collect();
        assert!(!used.is_empty(), "nothing outside leads to {sample:?}");
        let is_public = used.iter().any(|request| request.door.access == "public");
        assert_eq!(is_public, sample.anonymous().is_some(), "public without a reason in PUBLIC: {sample:?}");
    }
    for (service, route, ..) in PUBLIC {
        assert!(SAMPLES.iter().any(|sample| sample.route() == *route), "{service} has no {route}");
    }
    let used: BTreeSet<_> = requests.into_iter().map(|request| request.door.gateway_route).collect();
    assert_eq!(used, Doors::embedded().names(), "a route of the gateway that leads to no endpoint");
}

#[test]
fn what_services_offer_each_other_has_no_door() {
    let hidden = Doors::embedded().hidden();
    let hidden: BTreeSet<_> =
        hidden.iter().map(|endpoint| format!("{} {}", endpoint.service, endpoint.name())).collect();
    let expected = [
        "auth /admin/removals/{tenant}/{generation}",
        "auth /admin/tenants",
        "auth /pdp",
        "data-broker /topic/{subject}",
        "device-manager /basic-auth/v1/internal/authentication",
        "x509-identity /internal/api/v1/ca-bundle",
        "x509-identity /internal/api/v1/certificates/{fingerprint}",
        "x509-identity /internal/api/v1/server-certificates",
    ];
    assert_eq!(hidden, expected.map(str::to_owned).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reaches_what_belongs_to_others_on_embedded_engines() {
    let stack = Stack::start(Kind::Embedded).await;
    let admin = stack.admin().await;
    let (alice, bob) = (World::new(&stack, &admin, 9).await, World::new(&stack, &admin, 0).await);
    let requests = Request::all();
    let before = everything(&alice, &admin, &requests).await;

    refused_without_a_good_token(&stack, &alice, &requests).await;
    refused_without_permission(&alice, &requests).await;
    strangers_see_nothing(&alice, &bob, &admin, &requests).await;

    assert_eq!(everything(&alice, &admin, &requests).await, before, "something was changed by who may not");
    let device = Device::with_password(&stack, &alice.credentials);
    let topic = format!("{}:{}/attrs", alice.owner.tenant, alice.thing("device"));
    assert_eq!(device.publish(&topic, 1, r#"{"temperature": 31415}"#).await.code, Some(0), "its password");
    owners_may(&alice, &admin, &requests).await;
}

/// What the owner of a tenant and the administrator of the platform are shown, without what differs each time.
async fn everything(of: &World, admin: &Api, requests: &[Request]) -> BTreeMap<String, Value> {
    let (first, second) = (shown(of, admin, requests).await, shown(of, admin, requests).await);
    let all = first
        .into_iter()
        .filter(|(path, answer)| second.get(path) == Some(answer))
        .collect::<BTreeMap<_, _>>();
    let unsteady = second.len() - all.len();
    assert!(unsteady <= 4, "{unsteady} answers differ each time: tickets, socket.io tokens, revocation list");
    all
}

async fn shown(of: &World, admin: &Api, requests: &[Request]) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for request in requests.iter().filter(|request| request.is_read_only()) {
        let (status, answer) = request.send(of, owner_of(request, of, admin)).await;
        let path = of.path(request);
        check(&path, request.sample.own, status, &answer);
        all.insert(path, answer);
    }
    all
}

fn owner_of<'a>(request: &Request, of: &'a World, admin: &'a Api) -> &'a Api {
    if request.sample.whose == Whose::Platform { admin } else { &of.owner }
}

async fn refused_without_a_good_token(stack: &Stack, of: &World, requests: &[Request]) {
    let key = Forger::of(stack).await;
    let good = claims(&of.owner.token);
    let mut expired = good.clone();
    expired["iat"] = 1_700_000_000.into();
    expired["exp"] = 1_700_000_100.into();
    let good_again = of.owner.with_token(&key.token(&good));
    assert_eq!(good_again.status("/device").await, StatusCode::OK, "the forger knows how tokens are written");
    let nobodies = [
        ("no token", of.owner.with_token("")),
        ("an expired token", of.owner.with_token(&key.token(&expired))),
        ("a token of another signature", of.owner.with_token(&Forger::own(&key.kid).token(&good))),
    ];
    for (who, nobody) in &nobodies {
        for request in requests {
            let (status, answer) = request.send(of, nobody).await;
            let expected =
                if request.door.access == "public" { request.sample.anonymous() } else { Some(401) };
            let what = format!("{} {} with {who}", request.method(), of.path(request));
            check(&what, expected.unwrap(), status, &answer);
            assert_nothing_of(of, request, &what, &answer);
        }
    }
}

async fn refused_without_permission(of: &World, requests: &[Request]) {
    for request in requests {
        let (status, answer) = request.send(of, &of.powerless).await;
        let what = format!("{} {} without a permission", request.method(), of.path(request));
        let expected = if request.door.access == "protected" { 403 } else { request.sample.own };
        check(&what, expected, status, &answer);
        assert_nothing_of(of, request, &what, &answer);
    }
}

/// An administrator of another tenant, and what the administrator of the platform has to do with tenants' things.
async fn strangers_see_nothing(of: &World, stranger: &World, admin: &Api, requests: &[Request]) {
    for request in requests {
        let what = format!("{} {} by a stranger", request.method(), of.path(request));
        let (status, answer) = request.send(of, &stranger.owner).await;
        check(&what, request.sample.other, status, &answer);
        assert_nothing_of(of, request, &what, &answer);
        // Users are the platform's to administer; nothing else of a tenant is.
        if request.sample.whose == Whose::Tenant && request.endpoint.service != "auth" {
            let what = format!("{what}, who administers the platform");
            let (status, answer) = request.send(of, admin).await;
            check(&what, request.sample.other, status, &answer);
            assert_nothing_of(of, request, &what, &answer);
        }
    }
}

/// That it was not the request itself for which everybody was refused.
async fn owners_may(of: &World, admin: &Api, requests: &[Request]) {
    // A route that also has a slash at its end is the same thing, which cannot be removed twice.
    for request in requests.iter().filter(|request| request.endpoint.route == request.endpoint.name()) {
        let (status, answer) = request.send(of, owner_of(request, of, admin)).await;
        check(
            &format!("{} {} by its owner", request.method(), of.path(request)),
            request.sample.own,
            status,
            &answer,
        );
    }
}

/// The status that is expected, JSON, and of errors one of the contract's four forms.
fn check(what: &str, expected: u16, status: StatusCode, answer: &Value) {
    assert_eq!(status.as_u16(), expected, "{what}: {answer}");
    if status.is_client_error() || status.is_server_error() {
        let is_told =
            ["message", "error", "title", "errors"].iter().any(|member| answer.get(member).is_some());
        assert!(is_told, "{what} answered {status} with {answer}");
    } else if status != StatusCode::NO_CONTENT {
        assert!(answer.is_object() || answer.is_array(), "{what} answered {answer}");
    }
}

/// Nothing of a tenant is in an answer but what the request said itself.
fn assert_nothing_of(of: &World, request: &Request, what: &str, answer: &Value) {
    let said = format!("{} {}", of.path(request), of.body(request.sample).unwrap_or_default());
    let answer = answer.to_string();
    for secret in of.secrets() {
        assert!(said.contains(secret) || !answer.contains(secret), "{what} shows {secret}: {answer}");
    }
}
