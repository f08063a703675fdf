//! The command line as an operator uses it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::process::{Command, Output};

fn tatami(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tatami"));
    command.env_clear().args(arguments).envs(environment.iter().copied());
    command.output().unwrap()
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
    for command in
        [&["up"][..], &["config"], &["config", "show"], &["doctor"], &["health"], &["x509-identity"]]
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
