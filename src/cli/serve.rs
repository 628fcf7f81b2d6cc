//! `streamline serve`, or `streamline` without a subcommand: loads the settings and runs the server until it is stopped.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, FromArgMatches};
use tracing::Level;

use super::error::CliError;
use crate::config::{ConfigError, Layers, Loaded, LogFormat, load, settings};
use crate::server::{Server, logging};

/// Maximum number of threads for blocking calls. They are started on demand.
const BLOCKING_THREADS_MAX: usize = 64;

/// Flags of the server: one per setting, and the settings file.
#[derive(Debug, Clone)]
pub struct Serve {
    config: Option<PathBuf>,
    flags: Vec<(String, String)>,
}

impl clap::Args for Serve {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .help("Read settings from this TOML file [env: STREAMLINE_CONFIG]")
            .value_parser(clap::value_parser!(PathBuf));
        settings()
            .iter()
            .fold(command.arg(file), |command, setting| {
                let default = match setting.default {
                    "" => String::new(),
                    default => format!(" [default: {default}]"),
                };
                command.arg(
                    Arg::new(setting.name)
                        .long(setting.flag())
                        .value_name("VALUE")
                        // The last occurrence wins, so that wrapper scripts can append flags.
                        .overrides_with(setting.name)
                        // Values such as -1 are not flags.
                        .allow_hyphen_values(true)
                        .help_heading(setting.group.title())
                        .help(format!("{}{default}", setting.help))
                        .long_help(format!(
                            "{}{default}\nAllowed: {}",
                            setting.help,
                            setting.kind.allowed()
                        )),
                )
            })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Serve {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flags = settings().iter().filter_map(|setting| {
            let value = matches.get_one::<String>(setting.name)?;
            Some((setting.name.to_string(), value.clone()))
        });
        Ok(Serve {
            config: matches.get_one::<PathBuf>("config").cloned(),
            flags: flags.collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Serve {
    /// The first flag that was given, with its dashes.
    pub(super) fn first_flag(&self) -> Option<String> {
        let setting = self.flags.first().map(|(name, _)| name.replace('_', "-"));
        let file = self.config.as_ref().map(|_| "config".to_string());
        setting.or(file).map(|flag| format!("--{flag}"))
    }
}

#[cfg(test)]
impl Serve {
    /// Settings given as flags.
    pub(super) fn flags(&self) -> &[(String, String)] {
        &self.flags
    }
}

/// Loads the effective settings, given these flags.
pub(super) fn load_settings(args: &Serve) -> Result<Loaded, CliError> {
    load(Layers {
        file: file(&args.config),
        environment: environment(),
        flags: args.flags.clone(),
    })
    .map_err(rejected)
}

pub fn run(args: Serve) -> Result<ExitCode, CliError> {
    let loaded = load_settings(&args)?;
    let log_format = loaded.config.log_format;
    let log_filter = logging::init(&loaded.config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("worker")
        .build()
        .map_err(CliError::io("cannot start the async runtime"))?;
    let outcome = runtime.block_on(async {
        let running = Server::start(loaded, log_filter).await?;
        running.until_stopped().await
    });
    // Remaining tasks have no one waiting for them: do not block on them.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // With JSON logs, write the error as a log line, so that log collectors parse it.
        Err(error) if log_format == LogFormat::Json && tracing::enabled!(Level::ERROR) => {
            tracing::error!("{error}");
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error.into()),
    }
}

/// Path of the settings file: the one given, else `STREAMLINE_CONFIG`.
pub(super) fn file(named: &Option<PathBuf>) -> Option<PathBuf> {
    named
        .clone()
        .or_else(|| std::env::var_os("STREAMLINE_CONFIG").map(PathBuf::from))
}

/// Environment variables as text. Invalid UTF-8 is replaced, not dropped, so that a setting with such a value is
/// rejected by name.
pub(super) fn environment() -> Vec<(String, String)> {
    let text = |os: OsString| os.to_string_lossy().into_owned();
    std::env::vars_os()
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

/// Combines all configuration errors into one.
pub(super) fn rejected(errors: Vec<ConfigError>) -> CliError {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    CliError::Usage(match lines.as_slice() {
        [one] => one.clone(),
        many => format!("invalid settings:\n  {}", many.join("\n  ")),
    })
}
