//! The file that the route table is read from. What is wrong in it is found before anything is served.

use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use axum::http::{Method, StatusCode};
use common::http::client::Service;
use figment::{
    Figment,
    providers::{Format, Toml},
};
use regex::{Regex, RegexSet};
use serde::Deserialize;

use super::{
    path,
    route::{Route, RouteTable, Target, is_under},
};

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
        let mut table = Self::default();
        let mut patterns = Vec::new();
        for (index, entry) in file.route.into_iter().enumerate() {
            let name = entry.name.clone();
            table.add(index, entry, &mut patterns).with_context(|| format!("route {name:?}"))?;
        }
        table.patterns = RegexSet::new(patterns).context("the patterns cannot be read")?;
        table.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(table)
    }

    fn add(&mut self, index: usize, entry: Entry, patterns: &mut Vec<String>) -> anyhow::Result<()> {
        ensure!(!entry.name.is_empty(), "it has no name");
        ensure!(self.routes.iter().all(|route| route.name != entry.name), "the name is used twice");
        for part in [&entry.strip, &entry.upstream] {
            ensure!(
                part.is_empty() || is_clean(part),
                "{part:?} must begin with a slash and not end with one"
            );
        }
        self.add_paths(index, &entry, patterns)?;
        let target = match (entry.service, entry.answer) {
            (Some(service), None) => Target::Service(service),
            (None, Some(answer)) => Target::Answer(StatusCode::from_u16(answer.status)?, answer.message),
            _ => bail!("it needs either a service or an answer"),
        };
        let methods: Result<_, _> =
            entry.methods.iter().map(|method| Method::from_bytes(method.as_bytes())).collect();
        self.routes.push(Arc::new(Route {
            index,
            name: entry.name,
            target,
            is_protected: entry.access == Access::Protected,
            allows_websocket: entry.websocket,
            timeout_ms: entry.timeout_ms,
            methods: methods.context("methods")?,
            strip: entry.strip,
            upstream: entry.upstream,
        }));
        Ok(())
    }

    fn add_paths(&mut self, index: usize, entry: &Entry, patterns: &mut Vec<String>) -> anyhow::Result<()> {
        let Entry { prefixes, exact, patterns: own, strip, .. } = entry;
        ensure!(
            !(prefixes.is_empty() && exact.is_empty() && own.is_empty()),
            "it needs prefixes, exact or patterns"
        );
        for prefix in prefixes {
            ensure!(
                prefix == "/" || is_clean(prefix),
                "prefix {prefix:?} must begin with a slash and not end with one"
            );
            ensure!(can_strip(prefix, strip), "prefix {prefix:?} does not begin with {strip:?}");
            let is_new = self.prefixes.iter().all(|(known, _)| known != prefix);
            ensure!(is_new, "prefix {prefix:?} belongs to another route already");
            self.prefixes.push((prefix.clone(), index));
        }
        for path in exact {
            ensure!(
                path::normalise(path).is_ok_and(|normal| normal == *path),
                "path {path:?} can never match"
            );
            ensure!(can_strip(path, strip), "path {path:?} does not begin with {strip:?}");
            let is_new = self.exact.insert(path.clone(), index).is_none();
            ensure!(is_new, "path {path:?} belongs to another route already");
        }
        for pattern in own {
            ensure!(strip.is_empty(), "a route with patterns cannot strip");
            // By itself first: `a)|(b` would escape from the group that makes it match the whole path.
            Regex::new(pattern).with_context(|| format!("pattern {pattern:?}"))?;
            let whole = format!(r"\A(?:{pattern})\z");
            Regex::new(&whole).with_context(|| format!("pattern {pattern:?}"))?;
            patterns.push(whole);
            self.pattern_routes.push(index);
        }
        Ok(())
    }
}

fn is_clean(prefix: &str) -> bool {
    !prefix.ends_with('/') && path::normalise(prefix).is_ok_and(|normal| normal == prefix)
}

fn can_strip(path: &str, strip: &str) -> bool {
    strip.is_empty() || is_under(path, strip)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (entry("service = \"auth\"\npatterns = [\"/a)|(.*\"]"), "pattern \"/a)|(.*\""),
            (entry("service = \"auth\"\nexact = [\"/a\", \"/a\"]"), "belongs to another route"),
            (entry("service = \"auth\"\nexact = [\"/a\"]").repeat(2), "the name is used twice"),
            (entry("answer = { status = 1000, message = \"x\" }\nexact = [\"/a\"]"), "invalid status code"),
        ] {
            let error = format!("{:#}", RouteTable::parse(&toml).unwrap_err());
            assert!(error.contains(message), "{error}");
        }
    }
}
