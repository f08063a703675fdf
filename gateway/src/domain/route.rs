//! The routes, and which of them a path takes.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use axum::http::{Method, StatusCode};
use common::http::client::Service;
use regex::RegexSet;
use serde::{Deserialize, Serialize};

/// One way in.
#[derive(Debug)]
pub(crate) struct Route {
    /// Its place in the table.
    pub(crate) index: usize,
    /// Its name in logs and metrics.
    pub(crate) name: String,
    /// Where it is written: file and line.
    pub(crate) origin: String,
    /// Who answers.
    pub(crate) target: Target,
    /// What is asked before anything else.
    pub(crate) access: Access,
    /// How failures are counted, if they are.
    pub(crate) rate_limit: Option<RateLimit>,
    /// Whether the connection may become a websocket.
    pub(crate) allows_websocket: bool,
    /// Whether it carries socket.io, whose sessions belong to one instance.
    pub(crate) is_socketio: bool,
    /// Longest time until the service begins to answer, if it has one of its own.
    pub(crate) timeout_ms: Option<u64>,
    /// Allowed methods; all when empty.
    pub(super) methods: Vec<Method>,
    /// Removed from the front of the path; empty for nothing.
    pub(crate) strip: String,
    /// Put in front of what is left of the path.
    pub(crate) upstream: String,
}

/// Who answers the requests of a route.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A service of the platform.
    Service(Service),
    /// Somebody else.
    Urls(Others),
    /// The gateway itself.
    Answer(StatusCode, String),
}

/// Who is no service of the platform.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Others {
    /// Any of them.
    pub(crate) urls: Vec<String>,
    /// Whether they get the signed caller as services of the platform do. Who has it can show it to those, too.
    pub(crate) is_trusted: bool,
}

/// What a route asks for before anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Access {
    /// Nothing.
    Public,
    /// A good token.
    Token,
    /// A good token whose holder the PDP permits the request.
    Protected,
}

/// Which answers of a route are failures, and whose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateLimit {
    /// Where the account is.
    pub(crate) account: Account,
    /// Statuses that are failures. Others are when the service says so.
    pub(crate) failures: Vec<u16>,
    /// Name of the budgets that it takes from, for routes that are ways to the same; by default it has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) budget: Option<String>,
}

/// Where a request says whose account it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Account {
    /// Member `username` of its JSON body, which has to be small.
    Body,
    /// The user name of the login in the GraphQL document of its body, which has to be small.
    Graphql,
    /// Its token, else its path.
    Caller,
}

/// All ways in.
#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    pub(super) routes: Vec<Arc<Route>>,
    pub(super) patterns: RegexSet,
    /// The text and the route of each pattern.
    pub(super) pattern_routes: Vec<(String, usize)>,
    pub(super) exact: HashMap<String, usize>,
    /// The longest first.
    pub(super) prefixes: Vec<(String, usize)>,
}

/// Which of a route's paths matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "text", rename_all = "lowercase")]
pub(crate) enum Matched<'a> {
    Pattern(&'a str),
    Exact(&'a str),
    Prefix(&'a str),
}

impl RouteTable {
    /// All routes, in the order of the table.
    pub(crate) fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// The route of a normalised path.
    pub(crate) fn find(&self, path: &str) -> Option<&Arc<Route>> {
        self.routes.get(self.index_of(path)?)
    }

    fn index_of(&self, path: &str) -> Option<usize> {
        if let Some(first) = self.patterns.matches(path).iter().next() {
            return self.pattern_routes.get(first).map(|(_, index)| *index);
        }
        if let Some(index) = self.exact.get(path) {
            return Some(*index);
        }
        self.prefixes.iter().find(|(prefix, _)| is_under(path, prefix)).map(|(_, index)| *index)
    }

    /// Everything that matches a normalised path, in the order in which it is looked at. The first is the one that
    /// [`RouteTable::find`] finds.
    pub(crate) fn candidates<'a>(&'a self, path: &'a str) -> Vec<(Matched<'a>, &'a Arc<Route>)> {
        let patterns = self.patterns.matches(path).into_iter().filter_map(|place| {
            let (text, index) = self.pattern_routes.get(place)?;
            Some((Matched::Pattern(text), *index))
        });
        let exact = self.exact.get(path).map(|index| (Matched::Exact(path), *index));
        let prefixes = self.prefixes.iter().filter(|(prefix, _)| is_under(path, prefix));
        let prefixes = prefixes.map(|(prefix, index)| (Matched::Prefix(prefix), *index));
        let all = patterns.chain(exact).chain(prefixes);
        all.filter_map(|(matched, index)| Some((matched, self.routes.get(index)?))).collect()
    }

    /// The paths of a route, as they are written: patterns, exact paths, prefixes.
    pub(crate) fn paths_of(&self, route: &Route) -> Vec<Matched<'_>> {
        let patterns = self.pattern_routes.iter().filter(|(_, index)| *index == route.index);
        let mut exact: Vec<_> =
            self.exact.iter().filter(|(_, index)| **index == route.index).map(|(path, _)| path).collect();
        exact.sort();
        let prefixes = self.prefixes.iter().filter(|(_, index)| *index == route.index);
        let patterns = patterns.map(|(text, _)| Matched::Pattern(text));
        let exact = exact.into_iter().map(|path| Matched::Exact(path));
        patterns.chain(exact).chain(prefixes.map(|(prefix, _)| Matched::Prefix(prefix))).collect()
    }
}

impl Route {
    /// Allowed methods; all when empty.
    pub(crate) fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// Whether the route takes this method.
    pub(crate) fn allows(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    /// The path that the service sees, or `None` for what services offer only to each other.
    pub(crate) fn upstream_path<'a>(&self, path: &'a str) -> Option<Cow<'a, str>> {
        let rest = path.strip_prefix(self.strip.as_str()).unwrap_or(path);
        let upstream = match (self.upstream.as_str(), rest) {
            ("", "") => Cow::Borrowed("/"),
            ("", rest) => Cow::Borrowed(rest),
            (upstream, rest) => Cow::Owned(format!("{upstream}{rest}")),
        };
        let is_internal = upstream.split('/').any(|segment| segment.eq_ignore_ascii_case("internal"));
        (!is_internal).then_some(upstream)
    }
}

/// Whether a path is the prefix or goes on with a slash, so that `/devices` is not under `/device`.
pub(super) fn is_under(path: &str, prefix: &str) -> bool {
    if prefix == "/" {
        return path.starts_with('/');
    }
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> RouteTable {
        RouteTable::embedded().unwrap()
    }

    /// Route and upstream path of a request, or what happens instead.
    fn lookup(method: &str, path: &str) -> String {
        let table = table();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let candidates = table.candidates(path);
        let first = candidates.first().map(|(_, route)| &route.name);
        assert_eq!(first, table.find(path).map(|route| &route.name), "{path}");
        match table.find(path) {
            None => "none".to_owned(),
            Some(route) => {
                let access = if route.access == Access::Protected { "protected" } else { "public" };
                if !route.allows(&method) || route.name == "absent" {
                    return format!("none {access}");
                }
                let upstream = route.upstream_path(path).unwrap_or(Cow::Borrowed("internal"));
                format!("{} {access} {upstream}", route.name)
            }
        }
    }

    #[test]
    fn candidates_come_in_the_order_in_which_they_are_looked_at() {
        let table = table();
        let names = |path| {
            let all = table.candidates(path);
            all.iter().map(|(matched, route)| format!("{matched:?} {}", route.name)).collect::<Vec<_>>()
        };
        assert_eq!(
            names("/kafka-ws/v1/ticket"),
            [r#"Pattern("/kafka-ws/v[0-9]+/ticket/?") kafka-ws-ticket"#, r#"Prefix("/kafka-ws") kafka-ws"#]
        );
        assert_eq!(
            names("/stream/socketio"),
            [r#"Exact("/stream/socketio") data-streams"#, r#"Prefix("/stream") absent"#]
        );
        assert!(names("/nowhere").is_empty());
    }

    #[test]
    fn paths_find_their_routes() {
        for (method, path, expected) in [
            ("POST", "/auth", "auth-login public /"),
            ("POST", "/auth/", "auth-login public /"),
            ("POST", "/auth/password/reset/joe", "auth-password public /password/reset/joe"),
            ("GET", "/auth/.well-known/jwks.json", "auth-keys public /.well-known/jwks.json"),
            ("POST", "/graphql-auth", "graphql-auth public /graphql-auth"),
            ("POST", "/graphql-auth/", "graphql-auth public /graphql-auth/"),
            ("POST", "/graphql/permissions", "graphql-permissions protected /graphql/permissions"),
            ("GET", "/graphql/permissions/", "graphql-permissions protected /graphql/permissions/"),
            ("GET", "/auth/user", "auth-user protected /user"),
            ("GET", "/auth/user/", "auth-user protected /user/"),
            ("DELETE", "/auth/user/7", "auth-user protected /user/7"),
            ("POST", "/auth/pap/grouppermissions/1/2", "auth-pap protected /pap/grouppermissions/1/2"),
            ("GET", "/auth/revoke", "auth-revoke public /auth/revoke"),
            ("GET", "/device", "device-manager protected /device"),
            ("OPTIONS", "/device/a1/actuate", "device-manager protected /device/a1/actuate"),
            ("GET", "/template/1", "device-manager protected /template/1"),
            (
                "POST",
                "/basic-auth/v1/devices/a1/basic-credentials",
                "basic-auth protected /basic-auth/v1/devices/a1/basic-credentials",
            ),
            ("GET", "/stream/socketio", "data-streams protected /socketio"),
            ("GET", "/socket.io/", "socket-io public /socket.io/"),
            ("GET", "/history/device/a1/history", "history protected /device/a1/history"),
            ("GET", "/kafka-ws/v1/ticket", "kafka-ws-ticket protected /kafka-ws/v1/ticket"),
            ("GET", "/kafka-ws/v1/ticket/", "kafka-ws-ticket protected /kafka-ws/v1/ticket/"),
            ("GET", "/kafka-ws/v1/topics/a.device-data", "kafka-ws public /kafka-ws/v1/topics/a.device-data"),
            ("GET", "/x509/v1/certificates", "x509-identity protected /api/v1/certificates"),
            ("GET", "/x509", "x509-identity protected /api"),
        ] {
            assert_eq!(lookup(method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn what_services_say_to_each_other_has_no_route() {
        for (method, path) in [
            ("POST", "/auth/pdp"),
            ("POST", "/auth/pdp/"),
            ("GET", "/auth/admin/tenants"),
            ("DELETE", "/auth/admin/dropcache"),
            ("GET", "/auth/internal/x"),
            ("GET", "/auth/users"),
            ("GET", "/auth/passwords"),
            ("GET", "/auth/.well-known/other"),
            ("GET", "/authx"),
            ("POST", "/auth/graphql-auth"),
            ("POST", "/auth/graphql/permissions"),
            ("POST", "/graphql-authx"),
            ("POST", "/graphql-auth/x"),
            ("GET", "/topic/device-data"),
            ("GET", "/devices"),
            ("GET", "/device-secrets"),
            ("GET", "/internal/device"),
            ("GET", "/basic-auth/v1/devices//basic-credentials"),
            ("GET", "/basic-auth/v1/devices/a/b/basic-credentials"),
            ("GET", "/basic-auth/v1/devices/a/basic-credentials/x"),
            ("GET", "/basic-auth/internal/v1/x"),
            ("GET", "/x509x/v1"),
            ("GET", "/socket.iox"),
            ("GET", "/api/v1/certificates"),
            ("GET", "/"),
            ("GET", "/AUTH/user"),
        ] {
            assert_eq!(lookup(method, path), "none", "{method} {path}");
        }
        assert_eq!(lookup("POST", "/auth/.well-known/jwks.json"), "none public");
        for (method, path) in [
            ("GET", "/stream"),
            ("GET", "/stream/"),
            ("GET", "/stream/topic/device-data"),
            ("POST", "/stream/socketio"),
            ("GET", "/stream/socketio/x"),
            ("GET", "/flows/x"),
            ("POST", "/graphql"),
            ("POST", "/graphql/permissionsx"),
            ("POST", "/graphql/permissions/x"),
        ] {
            assert_eq!(lookup(method, path), "none protected", "{method} {path}");
        }
        for path in [
            "/device/internal/x",
            "/history/internal/x",
            "/x509/internal/api",
            "/auth/user/Internal/x",
            "/kafka-ws/internal",
        ] {
            assert!(lookup("GET", path).ends_with(" internal"), "{path}");
        }
    }
}
