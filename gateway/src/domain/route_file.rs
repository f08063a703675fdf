//! The files that the route table is read from. What is wrong in them is found before anything is served.

use std::{collections::HashSet, ops::Range, sync::Arc};

use anyhow::{Context, bail, ensure};
use axum::http::{Method, StatusCode, Uri, uri::Scheme};
use common::http::client::Service;
use regex::{Regex, RegexSet};
use serde::Deserialize;
use toml::Spanned;

use super::{
    path,
    route::{Access, Account, Others, RateLimit, Route, RouteTable, Target, is_under},
};

/// The table that is part of the program.
const EMBEDDED: &str = include_str!("../../routes.toml");
/// Its name in messages.
const EMBEDDED_NAME: &str = "routes.toml";
/// A longer time-out is a mistake.
const MAX_TIMEOUT_MS: u64 = 86_400_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Whether the embedded routes are there too.
    #[serde(default = "yes")]
    defaults: bool,
    /// Names of embedded routes that are not wanted.
    #[serde(default)]
    remove: Vec<Spanned<String>>,
    #[serde(default)]
    route: Vec<Spanned<Entry>>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    service: Option<Service>,
    #[serde(default)]
    urls: Vec<String>,
    #[serde(default)]
    trusted: bool,
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
    rate_limit: Option<RateLimit>,
    #[serde(default)]
    websocket: bool,
    #[serde(default)]
    socketio: bool,
    timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    status: u16,
    message: String,
}

/// A text that routes are read from.
#[derive(Clone, Copy)]
struct Source<'a> {
    name: &'a str,
    text: &'a str,
}

/// An entry and where it is written.
struct Placed {
    entry: Entry,
    origin: String,
}

impl RouteTable {
    /// The embedded table.
    pub(crate) fn embedded() -> anyhow::Result<Self> {
        Self::build(Source { name: EMBEDDED_NAME, text: EMBEDDED }.read()?.1)
    }

    /// The embedded table, changed by a file. The error names the file, the line and the route that is wrong.
    pub(crate) fn changed_by(name: &str, text: &str) -> anyhow::Result<Self> {
        let source = Source { name, text };
        let (file, mut entries) = source.read()?;
        let mut embedded = Source { name: EMBEDDED_NAME, text: EMBEDDED }.read()?.1;
        for removed in &file.remove {
            let is_there = embedded.iter().any(|placed| placed.entry.name == *removed.get_ref());
            ensure!(
                is_there,
                "{}: there is no embedded route {:?} to remove",
                source.at(&removed.span()),
                removed.get_ref()
            );
        }
        if file.defaults {
            embedded.retain(|placed| file.remove.iter().all(|name| *name.get_ref() != placed.entry.name));
            embedded.retain(|placed| entries.iter().all(|own| own.entry.name != placed.entry.name));
            give_way(&mut embedded, &entries);
            entries.extend(embedded);
        }
        Self::build(entries)
    }

    fn build(entries: Vec<Placed>) -> anyhow::Result<Self> {
        let mut table = Self::default();
        let mut patterns = Vec::new();
        for (index, Placed { entry, origin }) in entries.into_iter().enumerate() {
            let place = format!("{origin}: route {:?}", entry.name);
            table.add(index, entry, origin, &mut patterns).context(place)?;
        }
        table.patterns = RegexSet::new(patterns).context("the patterns together are too large")?;
        table.prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(table)
    }

    fn add(
        &mut self,
        index: usize,
        entry: Entry,
        origin: String,
        patterns: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        ensure!(!entry.name.is_empty(), "it has no name");
        ensure!(self.routes.iter().all(|route| route.name != entry.name), "the name is used twice");
        for part in [&entry.strip, &entry.upstream] {
            ensure!(
                part.is_empty() || is_clean(part),
                "{part:?} must begin with a slash and not end with one"
            );
        }
        self.add_paths(index, &entry, patterns)?;
        let target = match (entry.service, entry.urls, entry.answer) {
            (Some(service), urls, None) if urls.is_empty() => Target::Service(service),
            (None, urls, None) if !urls.is_empty() => {
                Target::Urls(Others { urls: checked(urls)?, is_trusted: entry.trusted })
            }
            (None, urls, Some(answer)) if urls.is_empty() => {
                Target::Answer(StatusCode::from_u16(answer.status)?, answer.message)
            }
            _ => bail!("it needs either a service or urls or an answer"),
        };
        ensure!(!entry.trusted || matches!(target, Target::Urls(_)), "only urls can be trusted");
        if let Some(limit) = &entry.rate_limit {
            ensure!(!matches!(target, Target::Answer(..)), "a fixed answer has no failures to limit");
            ensure!(
                (!limit.failures.is_empty() || limit.account == Account::Graphql)
                    && limit.failures.iter().all(|status| (400..500).contains(status)),
                "rate_limit.failures must name statuses from 400 to 499"
            );
        }
        ensure!(
            entry.timeout_ms.is_none_or(|timeout| (1..=MAX_TIMEOUT_MS).contains(&timeout)),
            "timeout_ms must be from 1 to {MAX_TIMEOUT_MS}"
        );
        let methods: Result<_, _> =
            entry.methods.iter().map(|method| Method::from_bytes(method.as_bytes())).collect();
        self.routes.push(Arc::new(Route {
            index,
            name: entry.name,
            origin,
            target,
            access: entry.access,
            rate_limit: entry.rate_limit,
            allows_websocket: entry.websocket,
            is_socketio: entry.socketio,
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
            self.pattern_routes.push((pattern.clone(), index));
        }
        Ok(())
    }
}

impl Source<'_> {
    fn read(self) -> anyhow::Result<(File, Vec<Placed>)> {
        let mut file: File = toml::from_str(self.text).map_err(|error| {
            let place = self.at(&error.span().unwrap_or_default());
            anyhow::anyhow!("{place}: {}", error.message())
        })?;
        let entries = std::mem::take(&mut file.route).into_iter().map(|entry| {
            let origin = self.at(&entry.span());
            Placed { entry: entry.into_inner(), origin }
        });
        let entries = entries.collect();
        Ok((file, entries))
    }

    /// File and line of a part of the text.
    fn at(&self, span: &Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or_default();
        format!("{}:{}", self.name, before.matches('\n').count() + 1)
    }
}

/// Takes from the embedded routes the paths that the others have, and drops those that have none left.
fn give_way(embedded: &mut Vec<Placed>, others: &[Placed]) {
    let taken = |paths: fn(&Entry) -> &Vec<String>| -> HashSet<&String> {
        others.iter().flat_map(|placed| paths(&placed.entry)).collect()
    };
    let (prefixes, exact) = (taken(|entry| &entry.prefixes), taken(|entry| &entry.exact));
    embedded.retain_mut(|Placed { entry, .. }| {
        entry.prefixes.retain(|prefix| !prefixes.contains(prefix));
        entry.exact.retain(|path| !exact.contains(path));
        !(entry.prefixes.is_empty() && entry.exact.is_empty() && entry.patterns.is_empty())
    });
}

fn checked(urls: Vec<String>) -> anyhow::Result<Vec<String>> {
    for url in &urls {
        let parsed: Result<Uri, _> = url.parse();
        let is_good = parsed.is_ok_and(|uri| {
            uri.scheme() == Some(&Scheme::HTTP) && uri.host().is_some() && uri.query().is_none()
        });
        ensure!(is_good, "url {url:?} must be like http://host:port");
    }
    Ok(urls)
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

    fn own(toml: &str) -> anyhow::Result<RouteTable> {
        RouteTable::changed_by("my.toml", toml)
    }

    #[test]
    fn mistakes_in_a_table_are_named_with_their_place() {
        let entry = |rest: &str| format!("[[route]]\nname = \"a\"\naccess = \"public\"\n{rest}\n");
        for (toml, message) in [
            ("route = 3".to_owned(), "my.toml:1: invalid type"),
            ("\n[[route]\nname = 1".to_owned(), "my.toml:2: "),
            ("\n\nremove = [\"nobody\"]".to_owned(), "my.toml:3: there is no embedded route \"nobody\""),
            (entry("service = \"nobody\"\nexact = [\"/a\"]"), "my.toml:4: unknown variant `nobody`"),
            (entry("service = \"auth\"\nexact = [\"/a\"]\nextra = 1"), "my.toml:6: unknown field `extra`"),
            (entry("service = \"auth\""), "my.toml:1: route \"a\": it needs prefixes, exact or patterns"),
            (entry("exact = [\"/a\"]"), "it needs either a service or urls or an answer"),
            (entry("service = \"auth\"\nurls = [\"http://a\"]\nexact = [\"/a\"]"), "it needs either"),
            (entry("urls = [\"https://a\"]\nexact = [\"/a\"]"), "url \"https://a\" must be like"),
            (entry("service = \"auth\"\ntrusted = true\nexact = [\"/a\"]"), "only urls can be trusted"),
            (entry("urls = [\"a:80\"]\nexact = [\"/a\"]"), "url \"a:80\" must be like"),
            (entry("service = \"auth\"\nprefixes = [\"a\"]"), "prefix \"a\" must begin with a slash"),
            (entry("service = \"auth\"\nprefixes = [\"/a/\"]"), "prefix \"/a/\" must begin with a slash"),
            (entry("service = \"auth\"\nprefixes = [\"/ab\"]\nstrip = \"/a\""), "does not begin with"),
            (entry("service = \"auth\"\nexact = [\"/%61\"]"), "can never match"),
            (entry("service = \"auth\"\npatterns = [\"/(\"]"), "pattern \"/(\""),
            (entry("service = \"auth\"\npatterns = [\"/a)|(.*\"]"), "pattern \"/a)|(.*\""),
            (entry("service = \"auth\"\nexact = [\"/a\", \"/a\"]"), "belongs to another route"),
            (
                entry("service = \"auth\"\nexact = [\"/a\"]").repeat(2),
                "my.toml:6: route \"a\": the name is used",
            ),
            (entry("answer = { status = 1000, message = \"x\" }\nexact = [\"/a\"]"), "invalid status code"),
            (entry("service = \"auth\"\nexact = [\"/a\"]\ntimeout_ms = 0"), "timeout_ms must be from 1"),
            (
                entry(
                    "service = \"auth\"\nexact = [\"/a\"]\nrate_limit = { account = \"body\", failures = [] }",
                ),
                "rate_limit.failures must name",
            ),
        ] {
            let error = format!("{:#}", own(&toml).unwrap_err());
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn a_file_adds_replaces_and_removes() {
        let table = own(r#"
            remove = ["auth-pap"]
            [[route]]
            name = "flows"
            urls = ["http://flowbroker:80"]
            prefixes = ["/flows"]
            strip = "/flows"
            access = "protected"
            [[route]]
            name = "history"
            service = "history"
            prefixes = ["/tss"]
            access = "token"
            "#)
        .unwrap();
        let name = |path: &str| table.find(path).map(|route| route.name.as_str());
        assert_eq!(name("/flows/x"), Some("flows"), "the absent route has given way");
        assert_eq!(name("/cron"), Some("absent"), "and kept the rest");
        assert_eq!(name("/auth/pap/x"), None);
        assert_eq!(name("/tss/x"), Some("history"));
        assert_eq!(name("/history/x"), None, "replaced as a whole");
        assert_eq!(name("/device/x"), Some("device-manager"));
        assert_eq!(table.find("/flows").unwrap().origin, "my.toml:3");
        assert!(table.find("/device").unwrap().origin.starts_with("routes.toml:"));
    }

    #[test]
    fn a_file_can_be_the_whole_table() {
        let table = own(
            "defaults = false\n[[route]]\nname = \"a\"\nservice = \"auth\"\nexact = [\"/a\"]\naccess = \"public\"\n",
        )
        .unwrap();
        assert_eq!(table.routes().len(), 1);
        assert!(own("defaults = false").unwrap().routes().is_empty());
    }

    #[test]
    fn patterns_of_a_file_come_before_the_embedded_ones() {
        let table = own(
            "[[route]]\nname = \"a\"\nservice = \"auth\"\npatterns = [\"/kafka-ws/v2/.*\"]\naccess = \"public\"\n",
        )
        .unwrap();
        assert_eq!(table.find("/kafka-ws/v2/ticket").unwrap().name, "a");
        assert_eq!(table.find("/kafka-ws/v1/ticket").unwrap().name, "kafka-ws-ticket");
    }

    #[test]
    fn no_file_changes_nothing() {
        let (own, embedded) = (own("").unwrap(), RouteTable::embedded().unwrap());
        assert_eq!(own.routes().len(), embedded.routes().len());
        assert_eq!(own.find("/device").unwrap().name, embedded.find("/device").unwrap().name);
    }
}
