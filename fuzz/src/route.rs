//! A path takes the route that the table names, however it was written, and never a more open one. The input is the path.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::{
    gateway::{
        path::{encode, normalise},
        route::{Access, RouteTable},
    },
    naive::{Reference, generously},
};

static TABLE: LazyLock<RouteTable> = LazyLock::new(|| RouteTable::embedded().unwrap());
static NAIVE: LazyLock<NaiveTable> =
    LazyLock::new(|| toml::from_str(include_str!("../../gateway/routes.toml")).unwrap());

/// Checks one input.
pub fn check(data: &[u8]) {
    let Ok(raw) = str::from_utf8(data) else { return };
    let Ok(path) = normalise(raw) else { return };
    let route = TABLE.find(&path);
    let access = route.map(|route| (route.name.as_str(), route.access));
    assert_eq!(access, NAIVE.find(&path).map(NaiveRoute::access), "{path:?}");
    assert_eq!(access, NAIVE.find(&generously(raw)).map(NaiveRoute::access), "{raw:?} to a generous reader");
    let again = TABLE.find(&normalise(&encode(&path)).unwrap()).map(|route| &route.name);
    assert_eq!(again, route.map(|route| &route.name), "{path:?}, written anew");
    let candidates = TABLE.candidates(&path);
    assert_eq!(candidates.first().map(|(_, route)| &route.name), route.map(|route| &route.name), "{path:?}");

    let Some(route) = route else { return };
    let upstream = route.upstream_path(&path);
    let expected = NAIVE.find(&path).map(|route| route.upstream_path(&path)).unwrap();
    let is_internal = expected.to_ascii_lowercase().split('/').any(|segment| segment == "internal");
    assert_eq!(upstream.is_none(), is_internal, "{path:?} at the service");
    let Some(upstream) = upstream else { return };
    assert_eq!(upstream, expected, "{path:?} at the service");
    assert_eq!(generously(&encode(&upstream)), upstream, "no service sees something else");
}

#[derive(Deserialize)]
struct NaiveTable {
    route: Vec<NaiveRoute>,
}

#[derive(Deserialize)]
#[serde(default)]
struct NaiveRoute {
    name: String,
    access: Access,
    patterns: Vec<String>,
    exact: Vec<String>,
    prefixes: Vec<String>,
    strip: String,
    upstream: String,
}

impl Default for NaiveRoute {
    fn default() -> Self {
        Self {
            name: String::new(),
            access: Access::Public,
            patterns: vec![],
            exact: vec![],
            prefixes: vec![],
            strip: String::new(),
            upstream: String::new(),
        }
    }
}

impl NaiveTable {
    /// As the head of the file says it.
    fn find(&self, path: &str) -> Option<&NaiveRoute> {
        let longest = |route: &&NaiveRoute| route.prefix_of(path).map(str::len);
        self.route
            .iter()
            .find(|route| route.patterns.iter().any(|pattern| is_whole(pattern, path)))
            .or_else(|| self.route.iter().find(|route| route.exact.iter().any(|exact| exact == path)))
            .or_else(|| self.route.iter().filter(|route| longest(route).is_some()).max_by_key(longest))
    }
}

impl NaiveRoute {
    fn access(&self) -> (&str, Access) {
        (&self.name, self.access)
    }

    fn prefix_of(&self, path: &str) -> Option<&str> {
        let is_prefix = |prefix: &&str| path == *prefix || path.starts_with(&format!("{prefix}/"));
        self.prefixes.iter().map(String::as_str).filter(is_prefix).max_by_key(|prefix| prefix.len())
    }

    fn upstream_path(&self, path: &str) -> String {
        let path = format!("{}{}", self.upstream, path.strip_prefix(&self.strip).unwrap_or(path));
        if path.is_empty() { "/".to_owned() } else { path }
    }
}

fn is_whole(pattern: &str, path: &str) -> bool {
    static PATTERNS: LazyLock<Vec<(String, Reference)>> = LazyLock::new(|| {
        let all = NAIVE.route.iter().flat_map(|route| &route.patterns);
        all.map(|pattern| (pattern.clone(), Reference::new(pattern).unwrap())).collect()
    });
    let reference = PATTERNS.iter().find(|(text, _)| text == pattern);
    reference.and_then(|(_, reference)| reference.matches(path)).is_some_and(|(_, whole)| whole)
}
