//! One request for every endpoint that can be reached from outside. The walk fails when one is missing.
//!
//! `<words>` are things of the tenant that is asked for, see `world.rs`.

use system_tests::endpoints::Endpoint;

/// Who may do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The users of the tenant to whom the thing belongs.
    Tenant,
    /// Administrators of the platform.
    Platform,
}
use Whose::{Platform, Tenant};

/// A request that its owner may send.
#[derive(Debug)]
pub(crate) struct Sample {
    service: &'static str,
    /// Method and route of the endpoint, and a query.
    request: &'static str,
    /// JSON; empty for none.
    pub(crate) body: &'static str,
    pub(crate) whose: Whose,
    /// What the owner is answered.
    pub(crate) own: u16,
    /// What an administrator of another tenant is answered.
    pub(crate) other: u16,
}

const fn row(
    service: &'static str,
    request: &'static str,
    body: &'static str,
    whose: Whose,
    own: u16,
    other: u16,
) -> Sample {
    Sample { service, request, body, whose, own, other }
}

/// In the order in which the owner sends them: nothing is used after it was removed.
pub(crate) static SAMPLES: &[Sample] = &[
    // Tokens and passwords.
    row("auth", "POST /", r#"{"username": "<user>"}"#, Tenant, 400, 400),
    row("auth", "GET /.well-known/jwks.json", "", Platform, 200, 200),
    row("auth", "POST /refresh", "", Tenant, 200, 200),
    row(
        "auth",
        "POST /password/update",
        r#"{"oldpasswd": "not the password", "newpasswd": "another password"}"#,
        Tenant,
        400,
        400,
    ),
    row("auth", "POST /password/reset/{user}", "", Tenant, 501, 501),
    row(
        "auth",
        "POST /password/resetlink?link=0123456789abcdef0123456789abcdef",
        r#"{"passwd": "another password"}"#,
        Tenant,
        404,
        404,
    ),
    // Users.
    row("auth", "GET /user", "", Tenant, 200, 200),
    row(
        "auth",
        "POST /user",
        r#"{"username": "<new>", "service": "<tenant>", "email": "<new>@example.com", "name": "N", "profile": "user"}"#,
        Tenant,
        200,
        403,
    ),
    row("auth", "GET /user/{user}", "", Tenant, 200, 404),
    row(
        "auth",
        "PUT /user/{user}",
        r#"{"service": "<tenant>", "email": "<user>@example.org", "name": "M"}"#,
        Tenant,
        200,
        404,
    ),
    row("auth", "GET /pap/user/{user}/directpermissions", "", Tenant, 200, 404),
    row("auth", "GET /pap/user/{user}/allpermissions", "", Tenant, 200, 404),
    row("auth", "GET /pap/user/{user}/groups", "", Tenant, 200, 404),
    row("auth", "POST /pap/usergroup/{user}/{group}", "", Tenant, 200, 404),
    row("auth", "DELETE /pap/usergroup/{user}/{group}", "", Tenant, 200, 404),
    row("auth", "POST /pap/userpermissions/{user}/{permission}", "", Tenant, 200, 404),
    row("auth", "DELETE /pap/userpermissions/{user}/{permission}", "", Tenant, 200, 404),
    // Groups and permissions are the platform's: everybody with the right to `/auth/pap` sees them.
    row("auth", "GET /pap/permission", "", Platform, 200, 200),
    row(
        "auth",
        "POST /pap/permission",
        r#"{"name": "<new>", "path": "/x", "method": "GET"}"#,
        Platform,
        200,
        403,
    ),
    row("auth", "GET /pap/permission/{permission}", "", Platform, 200, 200),
    row("auth", "PUT /pap/permission/{permission}", r#"{"path": "/y", "method": "GET"}"#, Platform, 200, 403),
    row("auth", "GET /pap/group", "", Platform, 200, 200),
    row("auth", "POST /pap/group", r#"{"name": "<new>"}"#, Platform, 200, 403),
    row("auth", "GET /pap/group/{group}", "", Platform, 200, 200),
    row("auth", "PUT /pap/group/{group}", r#"{"name": "<group>", "description": "d"}"#, Platform, 200, 403),
    row("auth", "POST /pap/grouppermissions/{group}/{permission}", "", Platform, 200, 403),
    row("auth", "GET /pap/group/{group}/permissions", "", Platform, 200, 200),
    row("auth", "GET /pap/group/{group}/users", "", Platform, 200, 200),
    row("auth", "DELETE /pap/grouppermissions/{group}/{permission}", "", Platform, 200, 403),
    // The same for dashboards, whose answers have errors in them.
    row("auth", "GET /graphql-auth?query={__typename}", "", Platform, 200, 200),
    row("auth", "POST /graphql-auth", r#"{"query": "mutation { login }"}"#, Platform, 400, 400),
    row("auth", "GET /graphql/permissions?query={permissions{subject}}", "", Platform, 200, 200),
    row(
        "auth",
        "POST /graphql/permissions",
        r#"{"query": "mutation ($p: [PermissionRequest]!) { permissions(group: \"<group>\", permissions: $p) { message } }", "variables": {"p": []}}"#,
        Platform,
        200,
        200,
    ),
    row("auth", "DELETE /pap/permission/{permission}", "", Platform, 200, 403),
    row("auth", "DELETE /pap/group/{group}", "", Platform, 200, 403),
    // Templates and devices.
    row("device-manager", "GET /template", "", Tenant, 200, 200),
    row("device-manager", "POST /template", r#"{"label": "<new>", "attrs": []}"#, Tenant, 200, 200),
    row("device-manager", "GET /template/{id}", "", Tenant, 200, 404),
    row("device-manager", "GET /device", "", Tenant, 200, 200),
    row(
        "device-manager",
        "POST /device",
        r#"{"label": "<new>", "templates": ["<template>"]}"#,
        Tenant,
        200,
        404,
    ),
    row("device-manager", "GET /device/{id}", "", Tenant, 200, 404),
    row("device-manager", "GET /device/template/{template}", "", Tenant, 200, 200),
    row("device-manager", "PUT /device/{id}/actuate", r#"{"attrs": {"fan": 1}}"#, Tenant, 200, 404),
    row(
        "device-manager",
        "PUT /device/{id}",
        r#"{"label": "<new>", "templates": ["<template>"]}"#,
        Tenant,
        200,
        404,
    ),
    row("device-manager", "POST /device/{id}/template/{template}", "", Tenant, 200, 404),
    row("device-manager", "DELETE /device/{id}/template/{template}", "", Tenant, 200, 404),
    row("device-manager", "POST /basic-auth/v1/devices/{id}/basic-credentials", "", Tenant, 200, 400),
    // Readings, live and stored.
    row("history", "GET /device/{id}/history?attr=temperature", "", Tenant, 200, 404),
    row("history", "GET /notifications/history", "", Tenant, 404, 404),
    row("data-broker", "GET /socketio", "", Tenant, 200, 200),
    row("data-broker", "GET /socket.io", "", Tenant, 400, 400),
    row("data-broker", "POST /socket.io", "", Tenant, 400, 400),
    row("data-broker", "GET /socket.io/{*rest}", "", Tenant, 400, 400),
    row("data-broker", "POST /socket.io/{*rest}", "", Tenant, 400, 400),
    row("kafka-ws", "GET /kafka-ws/v1/ticket", "", Tenant, 200, 200),
    row("kafka-ws", "GET /kafka-ws/v1/topics/{topic}", "", Tenant, 401, 401),
    // Certificates.
    row("x509-identity", "GET /api/v1/ca", "", Platform, 200, 200),
    row("x509-identity", "GET /api/v1/ca/crl", "", Platform, 200, 200),
    row("x509-identity", "GET /api/v1/certificates", "", Tenant, 200, 200),
    row(
        "x509-identity",
        "POST /api/v1/certificates",
        r#"{"csr": "<csr>", "belongsTo": {"device": "<device>"}}"#,
        Tenant,
        201,
        400,
    ),
    row("x509-identity", "GET /api/v1/certificates/{fingerprint}", "", Tenant, 200, 404),
    row(
        "x509-identity",
        "PATCH /api/v1/certificates/{fingerprint}",
        r#"{"belongsTo": {"device": null}}"#,
        Tenant,
        204,
        404,
    ),
    row("x509-identity", "DELETE /api/v1/certificates/{fingerprint}/belongsto", "", Tenant, 204, 404),
    row("x509-identity", "DELETE /api/v1/certificates/{fingerprint}", "", Tenant, 204, 404),
    // The end of everything.
    row("device-manager", "DELETE /device/{id}", "", Tenant, 200, 404),
    row("device-manager", "DELETE /device", "", Tenant, 200, 200),
    row("device-manager", "PUT /template/{id}", r#"{"label": "<new>", "attrs": []}"#, Tenant, 200, 404),
    row("device-manager", "DELETE /template/{id}", "", Tenant, 200, 404),
    row("device-manager", "DELETE /template", "", Tenant, 200, 200),
    row("auth", "DELETE /user/{user}", "", Tenant, 200, 404),
    row("auth", "GET /tenants", "", Platform, 200, 200),
    row("auth", "POST /tenants", r#"{"tenant": "<new>"}"#, Platform, 200, 403),
    row("auth", "GET /tenants/{tenant}", "", Platform, 200, 404),
    row("auth", "POST /keys", "", Platform, 200, 403),
    row("auth", "DELETE /tenants/{tenant}?confirm=<tenant>", "", Platform, 202, 404),
];

/// What the gateway lets through without a token: what is answered then, and why that may be.
pub(crate) const PUBLIC: &[(&str, &str, u16, &str)] = &[
    ("auth", "POST /", 400, "a login gives the token"),
    ("auth", "GET /.well-known/jwks.json", 200, "public keys are public"),
    ("auth", "GET /graphql-auth", 200, "a login by GET is refused, and there is nothing else"),
    ("auth", "POST /graphql-auth", 400, "a login gives the token"),
    ("auth", "POST /password/update", 401, "auth asks for the token itself"),
    (
        "auth",
        "POST /password/reset/{user}",
        501,
        "who has forgotten the password has no token; mails are off here",
    ),
    ("auth", "POST /password/resetlink", 404, "the link is the secret"),
    ("data-broker", "GET /socket.io", 400, "opened by a token of its own"),
    ("data-broker", "POST /socket.io", 400, "opened by a token of its own"),
    ("data-broker", "GET /socket.io/{*rest}", 400, "opened by a token of its own"),
    ("data-broker", "POST /socket.io/{*rest}", 400, "opened by a token of its own"),
    ("kafka-ws", "GET /kafka-ws/v1/topics/{topic}", 401, "opened by a ticket"),
];

impl Sample {
    /// Whether this is the sample of an endpoint.
    pub(crate) fn is_of(&self, endpoint: &Endpoint) -> bool {
        self.service == endpoint.service && self.route() == format!("{} {}", endpoint.method, endpoint.name())
    }

    /// Method and route.
    pub(crate) fn route(&self) -> &'static str {
        self.request.split('?').next().unwrap_or_default()
    }

    /// What comes after the path.
    pub(crate) fn query(&self) -> &'static str {
        self.request.find('?').map_or("", |start| &self.request[start..])
    }

    /// What is answered without a good token, if the gateway lets that through.
    pub(crate) fn anonymous(&self) -> Option<u16> {
        let entry =
            PUBLIC.iter().find(|(service, route, ..)| (*service, *route) == (self.service, self.route()));
        entry.map(|(_, _, status, _)| *status)
    }
}
