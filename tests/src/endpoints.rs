//! Every endpoint of the platform, read from where it is written: the routers of the services and the route table of the
//! gateway. Whoever adds one cannot forget to tell the tests that look at all of them.

use std::{collections::BTreeSet, fs, path::Path};

use gateway::inspect::Inspection;
use reqwest::Method;
use serde_json::Value;

/// A method and a path that a router knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Folder of the service.
    pub service: String,
    /// `GET`, `POST`, ...
    pub method: String,
    /// As the router has it, with its parameters in braces.
    pub route: String,
}

/// How an endpoint is reached from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// Path at the gateway, with the parameters of the router.
    pub path: String,
    /// `public`, `token` or `protected`.
    pub access: String,
    /// Name of the gateway's route.
    pub gateway_route: String,
}

impl Endpoint {
    /// The method as clients write it.
    ///
    /// # Panics
    /// When the router has something that is no method.
    pub fn method(&self) -> Method {
        Method::from_bytes(self.method.as_bytes()).expect("a method")
    }

    /// The route without the slash that auth and history allow at the end.
    pub fn name(&self) -> &str {
        if self.route == "/" { "/" } else { self.route.trim_end_matches('/') }
    }
}

/// All endpoints of all routers.
pub fn endpoints() -> Vec<Endpoint> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut all = BTreeSet::new();
    for folder in fs::read_dir(root).expect("the workspace").flatten() {
        let service = folder.file_name().to_string_lossy().into_owned();
        let sources = folder.path().join("src");
        let files = sources_below(&sources);
        let code: String = files.iter().map(|(_, source)| source.as_str()).collect();
        for (file, source) in files {
            if file == sources.join("router.rs") {
                all.extend(routes_in(&source, &code).into_iter().map(|(method, route)| Endpoint {
                    service: service.clone(),
                    method: method.to_owned(),
                    route,
                }));
                continue;
            }
            // Health and metrics have a listener of their own; tests and measurements have peers.
            let is_elsewhere = file.ends_with("http/admin.rs")
                || file.components().any(|part| part.as_os_str() == "testing")
                || service == "bench";
            assert!(
                is_elsewhere || !source.contains(".route(\""),
                "{} has routes: they belong into router.rs, where tests find them",
                file.display()
            );
        }
    }
    all.into_iter().collect()
}

fn sources_below(folder: &Path) -> Vec<(std::path::PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).expect("a source file");
            // Tests have routers of their own.
            let source = source.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            found.push((path, source));
        }
    }
    found
}

/// Methods and paths of `.route("...", ...)`, and of auth's `.both("...", ...)`, which adds a slash at the end. `code` is all of
/// the service.
fn routes_in(source: &str, code: &str) -> Vec<(&'static str, String)> {
    for unknown in [".nest(", ".nest_service(", ".route_service("] {
        assert!(!source.contains(unknown), "{unknown} hides routes from the tests");
    }
    let mut routes = Vec::new();
    for (call, endings) in [(".route(", &[""][..]), (".both(", &["", "/"])] {
        for rest in source.split(call).skip(1) {
            let rest = rest.trim_start();
            let Some(rest) = rest.strip_prefix('"') else {
                let is_both_itself = rest.starts_with("path,") || rest.starts_with("&format!(\"{path}/\")");
                assert!(is_both_itself, "a route whose path is not written out: {rest:.60}");
                continue;
            };
            let (path, rest) = rest.split_once('"').expect("the end of a path");
            for method in methods_in(until_closed(rest), code) {
                routes.extend(endings.iter().map(|ending| (method, format!("{path}{ending}"))));
            }
        }
    }
    routes
}

/// The text before the parenthesis that closes the call.
fn until_closed(text: &str) -> &str {
    let mut depth = 1;
    let end = text.find(|letter| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        depth == 0
    });
    &text[..end.expect("a closed call")]
}

fn methods_in(call: &str, code: &str) -> Vec<&'static str> {
    let words: Vec<_> =
        call.split('(').map(|text| text.rsplit(|c: char| !c.is_alphanumeric() && c != '_')).collect();
    let words: Vec<_> = words.into_iter().filter_map(|mut words| words.next()).collect();
    let mut methods = Vec::new();
    for word in &words[..words.len() - 1] {
        match *word {
            "get" => methods.push("GET"),
            "post" => methods.push("POST"),
            "put" => methods.push("PUT"),
            "patch" => methods.push("PATCH"),
            "delete" => methods.push("DELETE"),
            "any" => methods.extend(["GET", "POST"]),
            // What a method does, or what others are answered.
            "fallback" | "change" => {}
            helper => methods.extend(methods_of(helper, code)),
        }
    }
    assert!(!methods.is_empty(), "a route without a method: {call}");
    methods
}

/// The methods of a function that makes them for a router.
fn methods_of(helper: &str, code: &str) -> Vec<&'static str> {
    let head = format!("fn {helper}(");
    let functions = code.split(&head).skip(1);
    let bodies = functions.filter_map(|rest| {
        let (signature, rest) = rest.split_once('{')?;
        let (body, _) = rest.split_once("\n}")?;
        signature.contains("-> MethodRouter").then_some(body)
    });
    let bodies: Vec<&str> = bodies.collect();
    let [body] = bodies[..] else { panic!("a route with {helper}(, which the tests cannot find") };
    let last = body.trim().lines().last().unwrap_or_default();
    methods_in(&format!(", {last}"), "")
}

/// The gateway's table.
pub struct Doors {
    inspection: Inspection,
    routes: Vec<Value>,
}

impl Doors {
    /// The embedded table.
    pub fn embedded() -> Self {
        let inspection = Inspection::of_setting("").expect("the embedded table");
        let listing = serde_json::to_value(inspection.listing()).expect("a listing");
        let routes = listing["routes"].as_array().expect("routes").clone();
        Self { inspection, routes }
    }

    /// Names of the routes that lead to a service.
    pub fn names(&self) -> BTreeSet<String> {
        let of_services = self.routes.iter().filter(|route| route.get("service").is_some());
        of_services.map(|route| text(&route["name"]).to_owned()).collect()
    }

    /// Every way from outside to an endpoint.
    pub fn to(&self, endpoint: &Endpoint) -> Vec<Door> {
        let mut doors: Vec<Door> = Vec::new();
        for path in self.guesses(endpoint) {
            let Some(door) = self.door(endpoint, path) else { continue };
            if !doors.contains(&door) {
                doors.push(door);
            }
        }
        doors
    }

    /// Endpoints that nothing outside leads to, whether or not a slash is at the end.
    pub fn hidden(&self) -> Vec<Endpoint> {
        let all = endpoints();
        let is_reached = |endpoint: &Endpoint| {
            let same = all
                .iter()
                .filter(|other| other.service == endpoint.service && other.name() == endpoint.name());
            same.into_iter().any(|same| !self.to(same).is_empty())
        };
        all.iter().filter(|endpoint| !is_reached(endpoint)).cloned().collect()
    }

    /// Where an endpoint would be if the routes of its service led to it, whether or not they do.
    pub fn guesses(&self, endpoint: &Endpoint) -> BTreeSet<String> {
        let service = endpoint.service.replace('-', "_");
        let own = self.routes.iter().filter(|route| route["service"] == *service);
        let guesses = own.filter_map(|route| {
            let inner = endpoint.route.strip_prefix(text(&route["upstream"]))?;
            Some(format!("{}{inner}", text(&route["strip"])))
        });
        guesses.collect()
    }

    /// What the gateway itself says about a path.
    fn door(&self, endpoint: &Endpoint, path: String) -> Option<Door> {
        let told = self.inspection.explain(&endpoint.method, &with_any(&path), |_| "http://service".into());
        let told = serde_json::to_value(told).expect("an explanation");
        let target = format!("http://service{}", with_any(&endpoint.route));
        text(&told["outcome"]).ends_with(&target).then(|| Door {
            path,
            access: text(&told["access"]).split(':').next().unwrap_or_default().to_owned(),
            gateway_route: text(&told["candidates"][0]["route"]).to_owned(),
        })
    }
}

/// A path with something in the place of its parameters.
fn with_any(path: &str) -> String {
    let segments = path.split('/').map(|segment| if segment.starts_with('{') { "any" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
