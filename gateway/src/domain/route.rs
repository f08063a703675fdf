//! The route table: parsed, checked, then looked things up in.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use anyhow::{Context, bail, ensure};
use axum::http::{Method, StatusCode};
use common::http::client::Service;
use figment::{
    Figment,
    providers::{Format, Toml},
};
use regex::RegexSet;
use serde::Deserialize;

use super::path;

/// One way in.
#[derive(Debug)]
pub(crate) struct Route {
    /// Its place in the table.
    pub(crate) index: usize,
    /// Its name in logs and metrics.
    pub(crate) name: String,
    /// Who answers.
    pub(crate) target: Target,
    /// Whether token and policy decision are needed.
    pub(crate) is_protected: bool,
    /// Whether the connection may become a websocket.
    pub(crate) allows_websocket: bool,
    /// Longest time until the service begins to answer, if it has one of its own.
    pub(crate) timeout_ms: Option<u64>,
    methods: Vec<Method>,
    /// Removed from the front of the path; empty for nothing.
    pub(crate) strip: String,
    upstream: String,
}

/// Who answers the requests of a route.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A service.
    Service(Service),
    /// The gateway itself.
    Answer(StatusCode, String),
}

/// All ways in.
#[derive(Debug)]
pub(crate) struct RouteTable {
    routes: Vec<Arc<Route>>,
    patterns: RegexSet,
    pattern_routes: Vec<usize>,
    exact: HashMap<String, usize>,
    /// The longest first.
    prefixes: Vec<(String, usize)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    route: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    service: Option<Service>,
    answer: Option<Answer>,
    #[serde(default)]
    prefixes: Vec<String>,
    #[serde(default)]
    exact: Vec<String>,
    #[serde(default)]
    patterns: Vec<String>,
    #[serde(default)]
    methods: Vec<String>,
    #[serde(default)]
    strip: String,
    #[serde(default)]
    upstream: String,
    access: Access,
    #[serde(default)]
    websocket: bool,
    timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    status: u16,
    message: String,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Access {
    Public,
    Protected,
}

impl RouteTable {
    /// Reads a table. The error names the route that is wrong.
    pub(crate) fn parse(toml: &str) -> anyhow::Result<Self> {
        let file: File =
            Figment::from(Toml::string(toml)).extract().context("the route table cannot be read")?;
        let mut table = Self {
            routes: Vec::new(),
            patterns: RegexSet::empty(),
            pattern_routes: Vec::new(),
            exact: HashMap::new(),
            prefixes: Vec::new(),
        };
        let mut patterns = Vec::new();
        for (index, entry) in file.route.into_iter().enumerate() {
            let name = entry.name.clone();
            table.add(index, entry, &mut patterns).with_context(|| format!("route {name:?}"))?;
        }
        table.patterns = RegexSet::new(patterns).context("a pattern cannot be read")?;
        table.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(table)
    }

    /// All routes, in the order of the table.
    pub(crate) fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// The route of a normalised path, if there is one that takes this method.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Option<&Arc<Route>> {
        let route = &self.routes[self.index_of(path)?];
        (route.methods.is_empty() || route.methods.contains(method)).then_some(route)
    }

    fn index_of(&self, path: &str) -> Option<usize> {
        if let Some(first) = self.patterns.matches(path).iter().next() {
            return self.pattern_routes.get(first).copied();
        }
        if let Some(index) = self.exact.get(path) {
            return Some(*index);
        }
        self.prefixes.iter().find(|(prefix, _)| is_under(path, prefix)).map(|(_, index)| *index)
    }

    fn add(&mut self, index: usize, entry: Entry, patterns: &mut Vec<String>) -> anyhow::Result<()> {
        let Entry { name, service, answer, prefixes, exact, patterns: own, methods, strip, upstream, .. } =
            entry;
        ensure!(!name.is_empty(), "it has no name");
        ensure!(self.routes.iter().all(|route| route.name != name), "the name is used twice");
        ensure!(
            !(prefixes.is_empty() && exact.is_empty() && own.is_empty()),
            "it needs prefixes, exact or patterns"
        );
        let target = match (service, answer) {
            (Some(service), None) => Target::Service(service),
            (None, Some(answer)) => Target::Answer(StatusCode::from_u16(answer.status)?, answer.message),
            _ => bail!("it needs either a service or an answer"),
        };
        for part in [&strip, &upstream] {
            ensure!(
                part.is_empty() || is_clean(part),
                "{part:?} must begin with a slash and not end with one"
            );
        }
        for prefix in &prefixes {
            ensure!(
                prefix == "/" || is_clean(prefix),
                "prefix {prefix:?} must begin with a slash and not end with one"
            );
            ensure!(
                strip.is_empty() || is_under(prefix, &strip),
                "prefix {prefix:?} does not begin with {strip:?}"
            );
            let is_new = self.prefixes.iter().all(|(known, _)| known != prefix);
            ensure!(is_new, "prefix {prefix:?} belongs to another route already");
            self.prefixes.push((prefix.clone(), index));
        }
        for path in exact {
            ensure!(
                path::normalise(&path).is_ok_and(|normal| normal == path),
                "path {path:?} can never match"
            );
            ensure!(
                strip.is_empty() || is_under(&path, &strip),
                "path {path:?} does not begin with {strip:?}"
            );
            let is_new = self.exact.insert(path.clone(), index).is_none();
            ensure!(is_new, "path {path:?} belongs to another route already");
        }
        for pattern in own {
            ensure!(strip.is_empty(), "a route with patterns cannot strip");
            let whole = format!(r"\A(?:{pattern})\z");
            regex::Regex::new(&whole).with_context(|| format!("pattern {pattern:?}"))?;
            patterns.push(whole);
            self.pattern_routes.push(index);
        }
        let methods: Result<_, _> =
            methods.iter().map(|method| Method::from_bytes(method.as_bytes())).collect();
        self.routes.push(Arc::new(Route {
            index,
            name,
            target,
            is_protected: entry.access == Access::Protected,
            allows_websocket: entry.websocket,
            timeout_ms: entry.timeout_ms,
            methods: methods.context("methods")?,
            strip,
            upstream,
        }));
        Ok(())
    }
}

impl Route {
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
fn is_under(path: &str, prefix: &str) -> bool {
    if prefix == "/" {
        return path.starts_with('/');
    }
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_clean(prefix: &str) -> bool {
    !prefix.ends_with('/') && path::normalise(prefix).is_ok_and(|normal| normal == prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ROUTES;

    fn table() -> RouteTable {
        RouteTable::parse(ROUTES).unwrap()
    }

    /// Route and upstream path of a request, or what happens instead.
    fn lookup(method: &str, path: &str) -> String {
        let table = table();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        match table.find(&method, path) {
            None => "none".to_owned(),
            Some(route) => {
                let access = if route.is_protected { "protected" } else { "public" };
                let upstream = route.upstream_path(path).unwrap_or(Cow::Borrowed("internal"));
                format!("{} {access} {upstream}", route.name)
            }
        }
    }

    #[test]
    fn paths_find_their_routes() {
        for (method, path, expected) in [
            ("POST", "/auth", "auth-login public /"),
            ("POST", "/auth/", "auth-login public /"),
            ("POST", "/auth/password/reset/joe", "auth-password public /password/reset/joe"),
            ("GET", "/auth/.well-known/jwks.json", "auth-keys public /.well-known/jwks.json"),
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
            ("POST", "/auth/.well-known/jwks.json"),
            ("GET", "/auth/.well-known/other"),
            ("GET", "/authx"),
            ("GET", "/stream"),
            ("GET", "/stream/"),
            ("GET", "/stream/topic/device-data"),
            ("POST", "/stream/socketio"),
            ("GET", "/stream/socketio/x"),
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

    #[test]
    fn mistakes_in_a_table_are_named() {
        let entry = |rest: &str| format!("[[route]]\nname = \"a\"\naccess = \"public\"\n{rest}\n");
        for (toml, message) in [
            ("route = 3".to_owned(), "the route table cannot be read"),
            (entry("service = \"nobody\"\nexact = [\"/a\"]"), "the route table cannot be read"),
            (entry("service = \"auth\"\nexact = [\"/a\"]\nextra = 1"), "the route table cannot be read"),
            (entry("service = \"auth\""), "it needs prefixes, exact or patterns"),
            (entry("exact = [\"/a\"]"), "it needs either a service or an answer"),
            (entry("service = \"auth\"\nprefixes = [\"a\"]"), "prefix \"a\" must begin with a slash"),
            (entry("service = \"auth\"\nprefixes = [\"/a/\"]"), "prefix \"/a/\" must begin with a slash"),
            (entry("service = \"auth\"\nprefixes = [\"/ab\"]\nstrip = \"/a\""), "does not begin with"),
            (entry("service = \"auth\"\nexact = [\"/%61\"]"), "can never match"),
            (entry("service = \"auth\"\npatterns = [\"/(\"]"), "pattern \"/(\""),
            (entry("service = \"auth\"\nexact = [\"/a\", \"/a\"]"), "belongs to another route"),
            (entry("service = \"auth\"\nexact = [\"/a\"]").repeat(2), "the name is used twice"),
            (entry("answer = { status = 1000, message = \"x\" }\nexact = [\"/a\"]"), "invalid status code"),
        ] {
            let error = format!("{:#}", RouteTable::parse(&toml).unwrap_err());
            assert!(error.contains(message), "{error}");
        }
    }
}
