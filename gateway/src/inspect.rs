//! What the route table does, for the people who write it: `tatami gateway routes|explain|check`.

use std::{
    fmt::{self, Display, Formatter},
    path::Path,
};

use anyhow::Context;
use axum::http::{Method, Uri};
use common::http::client::{Service, UrlList};
use serde::Serialize;

use crate::{
    decide::resource,
    domain::{
        path,
        route::{Access, Matched, RateLimit, Route, RouteTable, Target},
    },
    live,
};

/// A route table to look at.
#[derive(Debug)]
pub struct Inspection(RouteTable);

/// All routes.
#[derive(Debug, Serialize)]
pub struct Listing<'a> {
    /// In the order of the table.
    routes: Vec<Row<'a>>,
    /// Every path in the order in which they are looked at.
    #[serde(skip)]
    lines: Vec<[String; 7]>,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    paths: Vec<Matched<'a>>,
    methods: Vec<&'a str>,
    access: Access,
    #[serde(flatten)]
    to: To<'a>,
    strip: &'a str,
    upstream: &'a str,
    websocket: bool,
    socketio: bool,
    rate_limit: Option<&'a RateLimit>,
    timeout_ms: Option<u64>,
    /// File and line.
    origin: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum To<'a> {
    Service { service: Service },
    Urls { urls: &'a [String], trusted: bool },
    Answer { answer: Fixed<'a> },
}

#[derive(Debug, Serialize)]
struct Fixed<'a> {
    status: u16,
    message: &'a str,
}

impl Inspection {
    /// The table that a gateway with this setting `gateway.routes_file` uses.
    pub fn of_setting(routes_file: &str) -> anyhow::Result<Self> {
        if routes_file.is_empty() {
            return Ok(Self(RouteTable::embedded()?));
        }
        Self::of_file(Path::new(routes_file)).context("gateway.routes_file")
    }

    /// The table that a gateway with this file uses. The error says in which line the mistake is.
    pub fn of_file(file: &Path) -> anyhow::Result<Self> {
        live::table_of(file).map(Self)
    }

    /// How many routes there are.
    pub fn count(&self) -> usize {
        self.0.routes().len()
    }

    /// All routes.
    pub fn listing(&self) -> Listing<'_> {
        let routes: Vec<_> = self.0.routes().iter().map(|route| self.row(route)).collect();
        let mut lines: Vec<_> = self.0.routes().iter().flat_map(|route| self.lines(route)).collect();
        lines.sort_by_key(|(matched, _)| match matched {
            Matched::Pattern(_) => (0, 0),
            Matched::Exact(_) => (1, 0),
            Matched::Prefix(prefix) => (2, usize::MAX - prefix.len()),
        });
        Listing { routes, lines: lines.into_iter().map(|(_, line)| line).collect() }
    }

    fn row<'a>(&'a self, route: &'a Route) -> Row<'a> {
        Row {
            name: &route.name,
            paths: self.0.paths_of(route),
            methods: route.methods().iter().map(Method::as_str).collect(),
            access: route.access,
            to: match &route.target {
                Target::Service(service) => To::Service { service: *service },
                Target::Urls(others) => To::Urls { urls: &others.urls, trusted: others.is_trusted },
                Target::Answer(status, message) => {
                    To::Answer { answer: Fixed { status: status.as_u16(), message } }
                }
            },
            strip: &route.strip,
            upstream: &route.upstream,
            websocket: route.allows_websocket,
            socketio: route.is_socketio,
            rate_limit: route.rate_limit.as_ref(),
            timeout_ms: route.timeout_ms,
            origin: &route.origin,
        }
    }

    fn lines<'a>(&'a self, route: &'a Route) -> Vec<(Matched<'a>, [String; 7])> {
        let line = |matched: Matched<'a>| {
            let (kind, text) = parts(matched);
            let columns = [
                kind.to_owned(),
                text.to_owned(),
                route.name.clone(),
                access_name(route.access).to_owned(),
                methods_of(route),
                target_of(route),
                route.origin.clone(),
            ];
            (matched, columns)
        };
        self.0.paths_of(route).into_iter().map(line).collect()
    }

    /// What happens to a request. `target` is a path, or a whole URL; what a query says changes nothing.
    pub fn explain(&self, method: &str, target: &str, urls: impl Fn(Service) -> UrlList) -> Explanation {
        let mut told = Explanation::default();
        told.outcome = self.follow(method, target, urls, &mut told).unwrap_or_else(|refused| refused);
        told
    }

    /// The way of [`crate::proxy`], with what is met on it. Either result says what happens.
    fn follow(
        &self,
        method: &str,
        target: &str,
        urls: impl Fn(Service) -> UrlList,
        told: &mut Explanation,
    ) -> Result<String, String> {
        let method =
            Method::from_bytes(method.as_bytes()).map_err(|_| "400: this is no method".to_owned())?;
        if matches!(method, Method::CONNECT | Method::TRACE) {
            return Err("405: the gateway has no such method".to_owned());
        }
        let raw = raw_path(target);
        let path = path::normalise(&raw).map_err(|ambiguity| format!("400: {ambiguity}"))?;
        told.path = Some(path.clone().into_owned());
        let candidates = self.0.candidates(&path);
        told.candidates = candidates
            .iter()
            .map(|(matched, route)| {
                let (kind, text) = parts(*matched);
                Candidate {
                    route: route.name.clone(),
                    kind,
                    text: text.to_owned(),
                    origin: route.origin.clone(),
                }
            })
            .collect();
        let Some((_, route)) = candidates.first() else { return Err("404: no route matches".to_owned()) };
        told.access = Some(match route.access {
            Access::Public => "public: nothing is asked here".to_owned(),
            Access::Token => "token: 401 without a good token".to_owned(),
            Access::Protected => {
                let resource = resource(&path);
                format!(
                    "protected: 401 without a good token, 403 unless a permission covers {method} {resource}"
                )
            }
        });
        if !route.allows(&method) {
            return Err(format!("404: the route takes {} only", methods_of(route)));
        }
        let upstream = route.upstream_path(&path);
        told.limits = limits_of(route);
        let Some(upstream) = upstream else {
            return Err("404: the upstream path has a segment \"internal\"".to_owned());
        };
        let encoded = path::encode(&upstream);
        match &route.target {
            Target::Answer(status, message) => {
                Ok(format!("{}: the gateway answers {message:?} itself", status.as_u16()))
            }
            Target::Service(service) => Ok(forwarded(service.name(), urls(*service).urls(), &encoded)),
            Target::Urls(others) => Ok(forwarded(&route.name, &others.urls, &encoded)),
        }
    }
}

/// What happens to a request, and why.
#[derive(Debug, Default, Serialize)]
pub struct Explanation {
    /// What the path means; none when it is refused.
    path: Option<String>,
    /// Routes that match, in the order in which they are looked at; the first decides.
    candidates: Vec<Candidate>,
    access: Option<String>,
    limits: Vec<String>,
    /// What happens to a request that is let through, or the refusal.
    outcome: String,
}

#[derive(Debug, Serialize)]
struct Candidate {
    route: String,
    kind: &'static str,
    text: String,
    origin: String,
}

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            writeln!(f, "path     {path}")?;
        }
        let mut label = "route";
        let lines = self.candidates.iter().enumerate().map(|(place, candidate)| {
            let Candidate { route, kind, text, origin } = candidate;
            let note = if place == 0 { "decides" } else { "comes later" };
            [route.clone(), format!("{kind} {text}"), origin.clone(), note.to_owned()]
        });
        for line in aligned(&lines.collect::<Vec<_>>()) {
            writeln!(f, "{label:<8} {line}")?;
            label = "";
        }
        if let Some(access) = &self.access {
            writeln!(f, "access   {access}")?;
        }
        for limit in &self.limits {
            writeln!(f, "limit    {limit}")?;
        }
        write!(f, "outcome  {}", self.outcome)
    }
}

impl Display for Listing<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let titles = ["KIND", "PATH", "ROUTE", "ACCESS", "METHODS", "TO", "WRITTEN IN"].map(str::to_owned);
        let all: Vec<_> = std::iter::once(titles).chain(self.lines.iter().cloned()).collect();
        write!(f, "{}", aligned(&all).join("\n"))
    }
}

/// Columns of the same width, two spaces in between.
fn aligned<const N: usize>(lines: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |line: &[String; N]| {
        let columns = line.iter().zip(&widths).map(|(text, width)| format!("{text:<width$}"));
        columns.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect()
}

fn parts(matched: Matched<'_>) -> (&'static str, &str) {
    match matched {
        Matched::Pattern(text) => ("pattern", text),
        Matched::Exact(text) => ("exact", text),
        Matched::Prefix(text) => ("prefix", text),
    }
}

fn access_name(access: Access) -> &'static str {
    match access {
        Access::Public => "public",
        Access::Token => "token",
        Access::Protected => "protected",
    }
}

fn methods_of(route: &Route) -> String {
    if route.methods().is_empty() {
        return "all".to_owned();
    }
    route.methods().iter().map(Method::as_str).collect::<Vec<_>>().join(",")
}

fn target_of(route: &Route) -> String {
    let path = match (route.strip.as_str(), route.upstream.as_str()) {
        ("", "") => String::new(),
        (strip, upstream) => {
            format!(" ({} -> {})", or_slash(strip), or_slash(upstream))
        }
    };
    match &route.target {
        Target::Service(service) => format!("{}{path}", service.name()),
        Target::Urls(others) => format!("{}{path}", others.urls.join(",")),
        Target::Answer(status, message) => format!("{} {message:?}", status.as_u16()),
    }
}

fn or_slash(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

fn limits_of(route: &Route) -> Vec<String> {
    let mut limits = Vec::new();
    if let Some(RateLimit { failures, .. }) = &route.rate_limit {
        let failures: Vec<_> = failures.iter().map(ToString::to_string).collect();
        let answers = match &failures[..] {
            [] => "that the service calls failures".to_owned(),
            failures => format!("{} or that the service calls failures", failures.join(", ")),
        };
        limits.push(format!("429 after too many answers {answers} (gateway.rate_limit)"));
    }
    if let Some(timeout) = route.timeout_ms {
        limits.push(format!("504 after {timeout} ms without an answer"));
    }
    if route.allows_websocket {
        limits.push("may become a websocket (gateway.max_websockets)".to_owned());
    }
    limits
}

fn forwarded(name: &str, urls: &[String], path: &str) -> String {
    let all: Vec<_> = urls.iter().map(|url| format!("{}{path}", url.trim_end_matches('/'))).collect();
    if all.is_empty() {
        return format!("goes to {name} as {path}");
    }
    format!("goes to {name}: {}", all.join(" or "))
}

/// The path as it is written, without the query.
fn raw_path(target: &str) -> String {
    let path = match target.split_once("://") {
        Some(_) => target.parse().map_or_else(|_| target.to_owned(), |uri: Uri| uri.path().to_owned()),
        None => target.to_owned(),
    };
    path.split(['?', '#']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(method: &str, target: &str) -> String {
        let inspection = Inspection::of_setting("").unwrap();
        inspection.explain(method, target, |_| "http://a:1,http://b:2".into()).to_string()
    }

    #[test]
    fn a_route_is_explained() {
        let told = explain("GET", "/history/device/x?lastN=1");
        for part in [
            "path     /history/device/x\n",
            "history",
            "prefix /history",
            "decides",
            "403 unless a permission covers GET /history/device/x/",
            "goes to history: http://a:1/device/x or http://b:2/device/x",
        ] {
            assert!(told.contains(part), "{part}\n{told}");
        }
        let told = explain("GET", "/stream/socketio");
        assert!(told.contains("exact /stream/socketio") && told.contains("comes later"), "{told}");
    }

    #[test]
    fn refusals_are_explained() {
        for (method, target, expected) in [
            ("GET", "/auth/%2575ser", "400: the path is encoded twice"),
            ("GET", "/device/../auth/user", "400: the path contains a dot segment"),
            ("GET", "http://host/device//x", "400: the path contains an empty segment"),
            ("GET", "/nowhere", "404: no route matches"),
            ("POST", "/stream/socketio", "404: the route takes GET only"),
            ("GET", "/device/internal/x", "404: the upstream path has a segment \"internal\""),
            ("TRACE", "/device", "405: the gateway has no such method"),
            ("G T", "/device", "400: this is no method"),
            ("GET", "/auth/revoke", "403: the gateway answers \"Not authorized\" itself"),
        ] {
            let told = explain(method, target);
            assert!(told.ends_with(&format!("outcome  {expected}")), "{method} {target}\n{told}");
        }
        assert!(explain("POST", "/auth").contains("429 after too many answers 401, 403"));
    }

    #[test]
    fn the_listing_has_every_path_in_the_order_of_the_search() {
        let inspection = Inspection::of_setting("").unwrap();
        let listing = inspection.listing();
        let shown = listing.to_string();
        let place = |text: &str| shown.find(text).unwrap_or_else(|| panic!("{text} is not in\n{shown}"));
        assert!(place("/kafka-ws/v[0-9]+/ticket/?") < place("exact    /auth "));
        assert!(place("exact    /stream/socketio") < place("prefix   /stream "));
        assert!(shown.lines().all(|line| line.trim_end() == line));
        let json = serde_json::to_value(&listing).unwrap();
        let login = &json["routes"][0];
        assert_eq!(login["name"], "auth-login");
        assert_eq!(login["service"], "auth");
        assert_eq!(login["paths"][0], serde_json::json!({ "kind": "exact", "text": "/auth" }));
    }
}
