//! `streamline config`: the effective settings with their sources, and the settings reference.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::error::CliError;
use super::output::{OutputFormat, Table, print, print_json};
use super::serve::{self, Serve};
use crate::config::{Effective, Group, Origin, settings};

#[derive(Debug, clap::Args)]
pub struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the effective settings and the source of each; accepts the server's flags
    Show(Box<Serve>),
    /// Print the meaning and allowed values of each setting, as Markdown or JSON
    Reference,
}

pub fn run(args: Config, output: OutputFormat) -> Result<ExitCode, CliError> {
    match args.command {
        Command::Show(flags) => show(&serve::load_settings(&flags)?.effective, output)?,
        Command::Reference => match output {
            OutputFormat::Json => print_json(&reference_json())?,
            OutputFormat::Text => print(&reference())?,
        },
    }
    Ok(ExitCode::SUCCESS)
}

fn show(effective: &[Effective], format: OutputFormat) -> Result<(), CliError> {
    match format {
        OutputFormat::Json => {
            let settings: Vec<_> = effective
                .iter()
                .map(|each| {
                    json!({
                        "name": each.setting.name,
                        "value": each.value,
                        "source": source(&each.origin),
                        // The file and line, the variable or the flag.
                        "origin": each.origin.to_string(),
                    })
                })
                .collect();
            print_json(&json!(settings))
        }
        OutputFormat::Text => {
            let mut table = Table::new(["SETTING", "VALUE", "FROM"]);
            for each in effective {
                table.row([
                    each.setting.name.to_string(),
                    each.value.clone(),
                    each.origin.to_string(),
                ]);
            }
            table.print()
        }
    }
}

fn source(origin: &Origin) -> &'static str {
    match origin {
        Origin::Default | Origin::Topic => "default",
        Origin::File { .. } => "file",
        Origin::Environment(_) => "env",
        Origin::Flag(_) => "flag",
    }
}

/// Settings reference as JSON.
fn reference_json() -> Value {
    let settings = settings().iter().map(|setting| {
        json!({
            "name": setting.name,
            "group": setting.group.title(),
            "default": (!setting.default.is_empty()).then_some(setting.default),
            "allowed": setting.kind.allowed(),
            "meaning": setting.help,
        })
    });
    Value::Array(settings.collect())
}

/// Settings reference as Markdown.
fn reference() -> String {
    let mut text = String::from(
        "# Settings\n\n\
         Each setting can be given in a TOML file (`--config FILE` or `STREAMLINE_CONFIG`), in the environment or as a \
         flag, in order of increasing precedence. `log_retention_ms` is `STREAMLINE_LOG_RETENTION_MS` in the \
         environment and `--log-retention-ms` as a flag; a file also accepts Kafka's spelling, `log.retention.ms`.\n",
    );
    let mut group: Option<Group> = None;
    for setting in settings() {
        if group != Some(setting.group) {
            group = Some(setting.group);
            text.push_str(&format!(
                "\n## {}\n\n| Setting | Default | Allowed | Meaning |\n|---|---|---|---|\n",
                setting.group.title()
            ));
        }
        let default = match setting.default {
            "" => "unset".to_string(),
            default => format!("`{default}`"),
        };
        text.push_str(&format!(
            "| `{}` | {default} | {} | {} |\n",
            setting.name,
            setting.kind.allowed(),
            setting.help
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_names_every_setting() {
        let text = reference();
        for setting in settings() {
            assert!(
                text.contains(&format!("| `{}` |", setting.name)),
                "{}",
                setting.name
            );
        }
        let names = reference_json().as_array().map(Vec::len);
        assert_eq!(names, Some(settings().len()));
    }
}
