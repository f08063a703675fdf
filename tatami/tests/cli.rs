//! The command line as an operator uses it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use tempfile::TempDir;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tatami"));
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

fn tatami(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    command(arguments).envs(environment.iter().copied()).output().unwrap()
}

/// `tatami up` on ports that are free. It is killed when it is dropped.
struct Platform(Child);

impl Platform {
    /// Waits until it says that it is up.
    fn start(data_dir: &Path) -> Self {
        let data_dir = data_dir.display().to_string();
        let arguments = [&["up", "--data-dir", &data_dir][..], &FREE_PORTS].concat();
        let mut child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let platform = Self(child);
        assert!(lines.any(|line| line.unwrap().contains("Tatami is up")), "it ended before it was up");
        platform
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

const FREE_PORTS: [&str; 8] =
    ["--port", "0", "--mqtt-port", "0", "--mqtt-tls-port", "0", "--admin-port", "0"];

/// All files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Everything that would show that a directory was written to.
fn state(directory: &Path) -> Vec<(PathBuf, u64, i64)> {
    let mut state: Vec<_> = files(directory)
        .into_iter()
        .map(|path| {
            let metadata = fs::metadata(&path).unwrap();
            (path, metadata.len(), metadata.mtime_nsec())
        })
        .collect();
    state.sort();
    state
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_command_has_help() {
    let services = [
        "gateway",
        "auth",
        "device-manager",
        "data-broker",
        "persister",
        "history",
        "kafka-ws",
        "iot-agent-mqtt",
    ];
    for command in [
        &["up"][..],
        &["config"],
        &["config", "show"],
        &["doctor"],
        &["health"],
        &["x509-identity"],
        &["gateway", "routes"],
        &["gateway", "explain"],
        &["gateway", "check"],
        &["auth", "rotate-keys"],
        &["tenant"],
        &["tenant", "add"],
        &["tenant", "list"],
        &["tenant", "remove"],
    ]
    .into_iter()
    .map(<[&str]>::to_vec)
    .chain(services.map(|service| vec![service]))
    {
        let arguments = [command.as_slice(), &["--help"]].concat();
        let output = tatami(&arguments, &[]);
        assert!(output.status.success(), "{arguments:?}");
        assert!(text(&output.stdout).contains("Usage: tatami"), "{arguments:?}");
    }
}

#[test]
fn effective_settings_are_shown_without_secrets() {
    let environment = [
        ("TATAMI_INTERNAL__SECRET", "a secret that nobody should see in any output"),
        ("TATAMI_POSTGRES__URL", "postgres://tatami:hidden@db/tatami"),
        ("TATAMI_AUTH__ADMIN_PASSWORD", "hidden too"),
        ("TATAMI_CACHE", "not a setting"),
    ];
    let output = tatami(&["config", "show", "--port", "8001"], &environment);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(shown.contains(r#"listen = "127.0.0.1:8001""#), "{shown}");
    assert!(shown.contains("postgres://tatami:***@db/tatami"), "{shown}");
    assert!(!shown.contains("hidden") && !shown.contains("nobody should see"), "{shown}");
}

#[test]
fn a_wrong_setting_is_named() {
    for (variable, value, mentioned) in [
        ("TATAMI_HTTP__MAX_BODY_BYTES", "lots", "max_body_bytes"),
        ("TATAMI_KAFKA__BROKER", "localhost:9092", "broker"),
        ("TATAMI_KAFKA_BROKERS", "localhost:9092", "did you mean TATAMI_KAFKA__BROKERS?"),
        ("TATAMI_TELEMETRY__FORMAT", "xml", "format"),
    ] {
        let output = tatami(&["config", "show"], &[(variable, value)]);
        assert!(!output.status.success(), "{variable}={value} was accepted");
        assert!(text(&output.stderr).contains(mentioned), "{variable}: {}", text(&output.stderr));
    }
}

#[test]
fn a_service_alone_says_which_engines_it_needs() {
    let output = tatami(&["persister", "--admin-port", "0"], &[]);
    assert!(!output.status.success());
    for variable in ["TATAMI_KAFKA__BROKERS", "TATAMI_MONGODB__URL", "TATAMI_INTERNAL__SECRET"] {
        assert!(text(&output.stderr).contains(variable), "{}", text(&output.stderr));
    }
}

#[test]
fn the_route_table_is_shown_and_explained() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("routes.toml");
    let route = "[[route]]\nname = \"flows\"\nurls = [\"http://flows:1\", \"http://flows:2\"]\n\
                 prefixes = [\"/flows\"]\nstrip = \"/flows\"\naccess = \"protected\"\n";
    fs::write(&file, route).unwrap();
    let path = file.display().to_string();
    let environment =
        [("TATAMI_GATEWAY__ROUTES_FILE", path.as_str()), ("TATAMI_URLS__HISTORY", "http://h:1,http://h:2")];
    let said = |arguments: &[&str]| {
        let output = tatami(arguments, &environment);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let routes = said(&["gateway", "routes"]);
    let line = routes.lines().find(|line| line.contains("/flows ")).unwrap();
    assert!(line.contains("http://flows:1,http://flows:2") && line.ends_with(&format!("{path}:1")), "{line}");
    assert!(routes.lines().any(|line| line.contains("/cron") && line.contains("absent")), "{routes}");
    let json: serde_json::Value = serde_json::from_str(&said(&["gateway", "routes", "--json"])).unwrap();
    assert_eq!(json["routes"][0]["name"], "flows");

    let told = said(&["gateway", "explain", "GET", "/flows/x"]);
    assert!(told.contains("http://flows:1/x or http://flows:2/x"), "{told}");
    let told = said(&["gateway", "explain", "GET", "/history/device/a/history?lastN=1"]);
    assert!(told.contains("http://h:1/device/a/history or http://h:2/device/a/history"), "{told}");
    let told = said(&["gateway", "explain", "GET", "/device/%2e%2e/x"]);
    assert!(told.contains("400: the path contains a dot segment"), "{told}");
    let json = said(&["gateway", "explain", "GET", "/nowhere", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["outcome"], "404: no route matches");

    assert!(said(&["gateway", "check", &path]).starts_with("ok: "));
    fs::write(
        &file,
        format!("{route}\n[[route]]\nname = \"flows\"\nexact = [\"/x\"]\naccess = \"public\"\n"),
    )
    .unwrap();
    for arguments in
        [&["gateway", "check", &path][..], &["gateway", "routes"], &["gateway", "explain", "GET", "/"]]
    {
        let output = tatami(arguments, &environment);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(error.contains(&format!("{path}:8: route \"flows\": the name is used twice")), "{error}");
    }
    let output = tatami(&["gateway", "check", "/nowhere/routes.toml"], &[]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_gateway_does_not_start_with_a_wrong_route_table() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("routes.toml");
    fs::write(&file, "route = 1").unwrap();
    let path = file.display().to_string();
    let data_dir = directory.path().join("data").display().to_string();
    let arguments = [&["up", "--data-dir", &data_dir][..], &FREE_PORTS].concat();
    let output = tatami(&arguments, &[("TATAMI_GATEWAY__ROUTES_FILE", &path)]);
    let error = text(&output.stderr);
    assert!(!output.status.success());
    assert!(error.contains("gateway.routes_file") && error.contains(&format!("{path}:1:")), "{error}");
}

#[test]
fn addresses_that_are_no_engines_are_refused() {
    for (option, value, variable) in [
        ("--kafka", "kafka://localhost:9092", "TATAMI_KAFKA__BROKERS"),
        ("--postgres", "mysql://u:hidden@h/d", "TATAMI_POSTGRES__URL"),
        ("--mongodb", "u:hidden@h:27017", "TATAMI_MONGODB__URL"),
        ("--redis", "redis://h:port", "TATAMI_REDIS__URL"),
    ] {
        let directory = TempDir::new().unwrap();
        let data_dir = directory.path().join("data");
        let data_dir_text = data_dir.display().to_string();
        let arguments = [&["up", option, value, "--data-dir", &data_dir_text][..], &FREE_PORTS].concat();
        for (arguments, environment) in
            [(arguments.as_slice(), &[][..]), (&["config", "show"], &[(variable, value)])]
        {
            let output = tatami(arguments, environment);
            let error = text(&output.stderr);
            assert!(!output.status.success(), "{option} {value} was accepted");
            assert!(error.contains(option) && error.contains(variable), "{error}");
            assert!(!error.contains("hidden"), "{error}");
        }
        assert!(!data_dir.exists());
    }
}

#[test]
fn a_port_that_is_taken_is_told_before_anything_is_created() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for at in [1, 3, 5, 7] {
        let directory = TempDir::new().unwrap();
        let data_dir = directory.path().join("data");
        let mut ports = FREE_PORTS;
        ports[at] = &port;
        let data_dir_text = data_dir.display().to_string();
        let output = tatami(&[&["up", "--data-dir", &data_dir_text][..], &ports].concat(), &[]);
        let error = text(&output.stderr);
        assert!(!output.status.success());
        assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains(ports[at - 1]), "{error}");
        assert!(!data_dir.exists());
    }
}

#[test]
fn a_service_alone_tells_which_port_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let environment = [
        ("TATAMI_ADMIN__LISTEN", address.as_str()),
        ("TATAMI_KAFKA__BROKERS", "127.0.0.1:1"),
        ("TATAMI_POSTGRES__URL", "postgres://127.0.0.1:1/d"),
        ("TATAMI_MONGODB__URL", "mongodb://127.0.0.1:1"),
        ("TATAMI_REDIS__URL", "redis://127.0.0.1:1"),
        ("TATAMI_INTERNAL__SECRET", "a secret that only these tests know"),
    ];
    let output = tatami(&["history"], &environment);
    let error = text(&output.stderr);
    assert!(!output.status.success());
    assert!(error.contains(&address) && error.contains("--admin-port"), "{error}");
}

#[test]
fn variables_that_mean_nothing_are_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let environment = [("TATAMI_DATADIR", "/tmp"), ("TATAMI_CACHE", "/tmp"), ("TATAMI_TEST_KAFKA", "x")];
    // The taken port ends it soon.
    let output = tatami(&["up", "--admin-port", &port], &environment);
    let told = text(&output.stderr);
    assert!(told.contains("TATAMI_DATADIR"), "{told}");
    assert!(!told.contains("TATAMI_CACHE") && !told.contains("TATAMI_TEST_KAFKA"), "{told}");
}

#[test]
fn files_are_their_users_alone() {
    let directory = TempDir::new().unwrap();
    let data_dir = directory.path().join("data");
    // As somebody makes it who does not think of this.
    fs::DirBuilder::new().mode(0o755).create(&data_dir).unwrap();
    let platform = Platform::start(&data_dir);
    let files = files(&data_dir);
    for name in ["auth.db", "auth.db-wal", "internal-secret", "lock"] {
        assert!(files.iter().any(|file| file.ends_with(name)), "{name} is not among {files:?}");
    }
    for file in files {
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{} has {mode:o}", file.display());
    }
    drop(platform);
}

#[test]
fn the_doctor_changes_nothing() {
    let directory = TempDir::new().unwrap();
    let data_dir = directory.path().join("data");
    let data_dir_text = data_dir.display().to_string();
    let doctor = || {
        let output = tatami(&["doctor", "--data-dir", &data_dir_text], &[]);
        assert!(output.status.success(), "{}", text(&output.stdout));
        text(&output.stdout)
    };
    assert!(doctor().contains("does not exist yet"));
    assert!(!data_dir.exists());
    fs::create_dir(&data_dir).unwrap();
    assert!(doctor().contains("not in use"));
    assert_eq!(state(&data_dir), []);

    let platform = Platform::start(&data_dir);
    assert!(doctor().contains("in use by a running platform"));
    // Its ports are free, and its directory is not.
    let second = tatami(&[&["up", "--data-dir", &data_dir_text][..], &FREE_PORTS].concat(), &[]);
    assert!(text(&second.stderr).contains("another tatami uses"), "{}", text(&second.stderr));
    drop(platform);
    let before = state(&data_dir);
    assert!(doctor().contains("not in use"));
    assert_eq!(state(&data_dir), before);

    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let output = tatami(&["doctor", "--data-dir", &file.display().to_string()], &[]);
    assert!(!output.status.success() && text(&output.stdout).contains("FAIL"), "{}", text(&output.stdout));
}
