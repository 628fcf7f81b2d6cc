//! Settings from file, environment and flags, as seen on the command line.

use std::process::Output;

use serde_json::Value;

use crate::support::Server;
use crate::support::server::binary;

struct CommandOutput {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for CommandOutput {
    fn from(output: Output) -> Self {
        CommandOutput {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn streamline(arguments: &[&str], environment: &[(&str, &str)]) -> CommandOutput {
    let mut command = binary();
    command.args(arguments).envs(environment.iter().copied());
    command.output().unwrap().into()
}

#[test]
fn config_show_prints_each_value_and_its_source() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("streamline.toml");
    std::fs::write(
        &file,
        "log.retention.ms = 5\nmax_connections = 6\nmetrics = false\n",
    )
    .unwrap();
    let output = streamline(
        &[
            "config",
            "show",
            "--max-connections",
            "8",
            "--output",
            "json",
        ],
        &[
            ("STREAMLINE_CONFIG", file.to_str().unwrap()),
            ("STREAMLINE_MAX_CONNECTIONS", "7"),
            ("STREAMLINE_DURABILITY", "os"),
        ],
    );
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let shown: Value = serde_json::from_str(&output.stdout).unwrap();
    let find = |name: &str| {
        let all = shown.as_array().unwrap();
        let found = all.iter().find(|each| each["name"] == name).unwrap();
        (
            found["value"].as_str().unwrap().to_string(),
            found["source"].as_str().unwrap().to_string(),
        )
    };
    let expected = |value: &str, source: &str| (value.to_string(), source.to_string());
    assert_eq!(find("max_connections"), expected("8", "flag"));
    assert_eq!(find("log_retention_ms"), expected("5", "file"));
    assert_eq!(find("metrics"), expected("false", "file"));
    assert_eq!(find("durability"), expected("os", "env"));
    assert_eq!(find("http_addr"), expected(":9094", "default"));
    let text = streamline(
        &["config", "show"],
        &[("STREAMLINE_CONFIG", file.to_str().unwrap())],
    );
    assert!(
        text.stdout.contains(&format!("{}:2", file.display())),
        "{}",
        text.stdout
    );
}

#[test]
fn an_invalid_setting_fails_the_start_naming_file_key_value_and_allowed_values() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("streamline.toml");
    std::fs::write(&file, "\ndurability = \"paper\"\nlisten_adr = \":1\"\n").unwrap();
    let output = streamline(&["--config", file.to_str().unwrap()], &[]);
    assert_eq!(output.code, Some(2));
    let at = file.display();
    for expected in [
        format!("{at}:2: durability = \"paper\" is not allowed; allowed: acks, os"),
        format!("{at}:3: unknown setting listen_adr; did you mean listen_addr?"),
    ] {
        assert!(output.stderr.contains(&expected), "{}", output.stderr);
    }
}

#[test]
fn settings_for_unsupported_features_are_refused_with_a_reason() {
    for (flag, reason) in [
        (
            ["--log-cleaner-threads", "2"],
            "one log is compacted at a time",
        ),
        (["--min-insync-replicas", "0"], "a whole number from 1"),
    ] {
        let output = streamline(&flag, &[]);
        assert_eq!(output.code, Some(2));
        assert!(output.stderr.contains(reason), "{}", output.stderr);
    }
    let output = streamline(&[], &[("STREAMLINE_SASL_ENABLED_MECHANISMS", "PLAIN")]);
    assert_eq!(output.code, Some(2));
    assert!(
        output.stderr.contains("SASL is not available"),
        "{}",
        output.stderr
    );
}

#[test]
fn settings_are_read_from_file_environment_and_flags() {
    let mut server = Server::stopped(&["--log-format", "json"]);
    let file = server.scratch().join("streamline.toml");
    std::fs::write(&file, "log_level = \"debug\"\nlog_format = \"text\"\n").unwrap();
    server.set_flags(&["--config", file.to_str().unwrap(), "--log-format", "json"]);
    server.restart();
    drop(server.connect());
    crate::support::until("a debug line is logged as JSON", || {
        server.log().lines().any(|line| {
            serde_json::from_str::<Value>(line).is_ok_and(|line| line["level"] == "DEBUG")
        })
    });
}

#[test]
fn help_completions_and_manual_page_cover_the_same_settings_and_commands() {
    let help = streamline(&["--help"], &[]).stdout;
    assert!(
        help.contains("--log-retention-ms") && help.contains("Examples:"),
        "{help}"
    );
    let bash = streamline(&["completions", "bash"], &[]).stdout;
    assert!(bash.contains("--log-retention-ms") && bash.contains("dump-log"));
    let page = streamline(&["man"], &[]).stdout;
    assert!(
        page.starts_with(".ie") && page.contains("streamline"),
        "{page}"
    );
    let reference = streamline(&["config", "reference"], &[]).stdout;
    assert!(
        reference.contains("| `log_retention_ms` | `604800000` |"),
        "{reference}"
    );
}

/// Cargo sets the build script's variables in the environment of the program too, under `cargo run` as in this test.
#[test]
fn variables_set_by_cargo_are_not_taken_for_settings() {
    assert!(
        std::env::var_os("BUILT_COMMIT").is_some(),
        "cargo sets them"
    );
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_streamline"))
        .args(["config", "show"])
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
}
