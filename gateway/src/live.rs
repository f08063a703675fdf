//! The route table in use. It follows its file; a table with a mistake never replaces a good one.

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use arc_swap::ArcSwap;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::{domain::route::RouteTable, meter::Meter, upstream::Upstreams};

/// How often the file is looked at. Reading it is surer than asking when it changed: clocks of file systems are coarse, and
/// volumes of containers change by links.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A larger file is no route table.
const MAX_BYTES: u64 = 1 << 20;

/// A table and what is counted for its routes. A request keeps the one it began with.
pub(crate) struct Live {
    pub(crate) table: RouteTable,
    /// By the index of the route.
    pub(crate) meters: Vec<Meter>,
}

impl From<RouteTable> for Live {
    fn from(table: RouteTable) -> Self {
        let meters = table.routes().iter().map(|route| Meter::new(&route.name)).collect();
        Self { table, meters }
    }
}

/// The table in use and where it comes from.
pub(crate) struct Routes {
    current: ArcSwap<Live>,
    file: Option<PathBuf>,
    /// What the file held when it was looked at last, or why it could not be read.
    seen: std::sync::Mutex<Result<String, String>>,
}

impl Routes {
    /// Reads the table for a start: the embedded one, changed by the file if there is one. An empty path is none.
    pub(crate) fn load(file: &str) -> anyhow::Result<Self> {
        let file = (!file.is_empty()).then(|| PathBuf::from(file));
        let (text, table) = match &file {
            None => (String::new(), RouteTable::embedded()?),
            Some(file) => {
                let text = read(file)?;
                let table = parse(file, &text)?;
                (text, table)
            }
        };
        Ok(Self { current: ArcSwap::from_pointee(table.into()), file, seen: std::sync::Mutex::new(Ok(text)) })
    }

    /// The table in use.
    pub(crate) fn current(&self) -> Arc<Live> {
        self.current.load_full()
    }

    /// Follows the file, for ever.
    pub(crate) async fn follow(&self, upstreams: &Upstreams) {
        let Some(file) = &self.file else { return std::future::pending().await };
        let mut every = tokio::time::interval(LOOK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let path = file.clone();
            let Ok(text) = tokio::task::spawn_blocking(move || read(&path)).await else { continue };
            self.look(file, text.map_err(|error| format!("{error:#}")), upstreams);
        }
    }

    /// Takes what the file holds now, if that is news and a table.
    fn look(&self, file: &Path, text: Result<String, String>, upstreams: &Upstreams) {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *seen == text {
            return;
        }
        let parsed = match &text {
            Ok(text) => parse(file, text).map_err(|error| format!("{error:#}")),
            Err(reason) => Err(reason.clone()),
        };
        *seen = text;
        match parsed {
            Ok(table) => {
                let routes = table.routes().len();
                upstreams.keep_only(&table);
                self.current.store(Arc::new(table.into()));
                count("loaded");
                info!(file = %file.display(), routes, "the route table has changed");
            }
            Err(reason) => {
                count("refused");
                warn!(reason, "the route table cannot be used, the one before stays in use");
            }
        }
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("gateway_route_reloads_total", "outcome" => outcome).increment(1);
}

/// Reads a file of routes, changing the embedded table.
pub(crate) fn table_of(file: &Path) -> anyhow::Result<RouteTable> {
    parse(file, &read(file)?)
}

fn read(file: &Path) -> anyhow::Result<String> {
    let context = || format!("the route table {} cannot be read", file.display());
    let opened = std::fs::File::open(file).with_context(context)?;
    let mut text = String::new();
    opened.take(MAX_BYTES + 1).read_to_string(&mut text).with_context(context)?;
    ensure!(text.len() as u64 <= MAX_BYTES, "{}: it is larger than {MAX_BYTES} bytes", context());
    Ok(text)
}

fn parse(file: &Path, text: &str) -> anyhow::Result<RouteTable> {
    RouteTable::changed_by(&file.display().to_string(), text)
}

#[cfg(test)]
mod tests {
    use common::http::client::Urls;

    use super::*;

    #[test]
    fn a_bad_table_never_replaces_a_good_one() {
        let routes = Routes::load("").unwrap();
        let upstreams = Upstreams::new(Urls::default());
        let look = |text: Result<&str, &str>| {
            let text = text.map(str::to_owned).map_err(str::to_owned);
            routes.look(Path::new("my.toml"), text, &upstreams);
            routes.current()
        };
        let good = |name: &str| {
            format!(
                "[[route]]\nname = \"{name}\"\nservice = \"auth\"\nexact = [\"/{name}\"]\naccess = \"public\"\n"
            )
        };
        let first = look(Ok(&good("a")));
        assert!(first.table.find("/a").is_some());
        for bad in [Ok("rubbish"), Ok("[[route]]"), Ok(&*good("b").repeat(2)), Err("it is gone")] {
            assert!(Arc::ptr_eq(&first, &look(bad)), "{bad:?}");
        }
        let second = look(Ok(&good("b")));
        assert!(second.table.find("/a").is_none() && second.table.find("/b").is_some());
        assert!(Arc::ptr_eq(&second, &look(Ok(&good("b")))), "nothing is new");
        assert!(first.table.find("/a").is_some(), "who holds the first table keeps it");
    }

    #[test]
    fn a_start_with_a_bad_table_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("routes.toml");
        let load =
            || Routes::load(&file.display().to_string()).map(drop).map_err(|error| format!("{error:#}"));
        assert!(load().unwrap_err().contains("cannot be read"));
        std::fs::write(&file, "route = 1").unwrap();
        assert!(load().unwrap_err().contains("routes.toml:1: invalid type"));
        std::fs::write(&file, vec![b'#'; MAX_BYTES as usize + 1]).unwrap();
        assert!(load().unwrap_err().contains("larger than"));
        std::fs::write(&file, "").unwrap();
        load().unwrap();
    }
}
