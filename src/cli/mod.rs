//! The command line: `streamline` runs the server, its subcommands administer one.
//!
//! Each command has its own file with a `run` function; to add one, add a variant of [`Command`] and the line that
//! calls it. Commands print results to standard output, as text or JSON, and errors to standard error.
//! Exit codes: 0 success, 1 failure, 2 usage error or invalid setting.

mod client;
mod completions;
mod config;
mod consume;
mod dump_log;
mod error;
mod groups;
mod health;
mod man;
mod output;
mod partitioner;
mod position;
mod produce;
mod record_view;
mod serve;
mod topics;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use error::CliError;
use output::OutputFormat;

const EXAMPLES: &str = "\
Examples:
  streamline                                     run the server: Kafka on :9092, HTTP on :9094, data in ./data
  streamline --data-dir /var/lib/streamline      use another data directory
  streamline --config streamline.toml            read settings from a file; STREAMLINE_… and flags override it
  streamline config show                         print every setting and its source
  streamline topics create orders --partitions 3
  echo hello | streamline produce orders         write one record per line
  streamline consume orders --from-beginning
  streamline health --ready                      exit with code 0 if the server is ready

Every setting can be given in the file (listen_addr = \":9092\"), in the environment (STREAMLINE_LISTEN_ADDR) or as a flag
(--listen-addr), in order of increasing precedence.";

/// The release and the commit it was built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("BUILT_COMMIT"), ")");

/// A Kafka-compatible streaming server with metrics, health and dashboards built in
#[derive(Parser)]
#[command(
    name = "streamline",
    version = VERSION,
    after_help = EXAMPLES
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    serve: serve::Serve,

    /// Output format of results
    #[arg(long, global = true, value_enum, default_value_t, display_order = 1000)]
    output: OutputFormat,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server (the default without a subcommand)
    Serve(serve::Serve),
    /// Create, list, describe, alter and delete topics
    Topics(topics::Topics),
    /// List, describe and delete consumer groups, show lag, reset offsets
    Groups(groups::Groups),
    /// Write records to a topic
    Produce(produce::Produce),
    /// Read records from a topic
    Consume(consume::Consume),
    /// Check server health (exit code 0 = healthy)
    Health(health::Health),
    /// Print and verify segments offline
    DumpLog(dump_log::DumpLog),
    /// Print the effective settings or the settings reference
    Config(config::Config),
    /// Print shell completions
    Completions(completions::Completions),
    /// Print the manual page, or write one page per subcommand
    Man(man::Man),
}

impl Command {
    fn run(self, output: OutputFormat) -> Result<ExitCode, CliError> {
        match self {
            Command::Serve(args) => serve::run(args),
            Command::Topics(args) => as_client(topics::run(args, output)),
            Command::Groups(args) => as_client(groups::run(args, output)),
            Command::Produce(args) => as_client(produce::run(args, output)),
            Command::Consume(args) => as_client(consume::run(args, output)),
            Command::Health(args) => block_on(health::run(args, output)),
            Command::DumpLog(args) => dump_log::run(args, output),
            Command::Config(args) => config::run(args, output),
            Command::Completions(args) => completions::run(args),
            Command::Man(args) => man::run(args),
        }
    }
}

/// Runs a client command, whose exit code is 0 unless it fails.
fn as_client(work: impl Future<Output = Result<(), CliError>>) -> Result<ExitCode, CliError> {
    block_on(work).map(|()| ExitCode::SUCCESS)
}

/// Runs a client command to completion on a single-threaded runtime.
fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::io("cannot start the async runtime"))?
        .block_on(work)
}

/// Parses the arguments and runs the command they name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match parse(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Standard output or error may be a closed pipe; then there is no reader of the help.
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    let command = cli.command.unwrap_or(Command::Serve(cli.serve));
    match command.run(cli.output) {
        Ok(code) => code,
        Err(error) => {
            // Standard error may be closed or full; the exit code still reports the failure.
            let _ = writeln!(std::io::stderr(), "streamline: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Parses the arguments. Rejects server flags before a subcommand, which would ignore them.
fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let cli = Cli::try_parse_from(arguments)?;
    match (&cli.command, cli.serve.first_flag()) {
        (Some(_), Some(flag)) => Err(command().error(
            ErrorKind::ArgumentConflict,
            format!("{flag} is a flag of the server and cannot be used before a subcommand"),
        )),
        _ => Ok(cli),
    }
}

/// The whole command tree, for completions and the manual page.
fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_accepts_the_command_tree() {
        command().debug_assert();
    }

    #[test]
    fn examples_in_the_help_parse() {
        let lines = EXAMPLES.lines().filter(|line| line.starts_with("  "));
        let examples: Vec<&str> = lines
            .filter_map(|line| line.find("streamline").map(|start| &line[start..]))
            // The description follows after more than one space.
            .map(|line| line.split("  ").next().unwrap_or(line))
            .collect();
        assert!(examples.len() > 5);
        for example in examples {
            let parsed = parse(example.split(' ').map(OsString::from));
            assert!(parsed.is_ok(), "{example}: {}", parsed.err().unwrap());
        }
    }

    #[test]
    fn the_version_names_the_commit() {
        let said = command().render_version();
        assert!(said.contains(env!("BUILT_COMMIT")), "{said}");
    }

    #[test]
    fn output_flag_is_accepted_at_every_level() {
        for words in [
            ["streamline", "--output", "json", "topics", "list"],
            ["streamline", "topics", "--output", "json", "list"],
            ["streamline", "topics", "list", "--output", "json"],
        ] {
            let cli = parse(words.map(OsString::from)).ok().unwrap();
            assert_eq!(cli.output, OutputFormat::Json);
        }
    }

    #[test]
    fn flags_without_a_subcommand_belong_to_serve() {
        let parse = |words: &[&str]| parse(words.iter().map(OsString::from));
        let plain = parse(&["streamline", "--default-partitions", "3"])
            .ok()
            .unwrap();
        assert!(plain.command.is_none());
        assert_eq!(
            plain.serve.flags(),
            [("default_partitions".to_string(), "3".to_string())]
        );
        assert!(parse(&["streamline", "serve", "--metrics", "off"]).is_ok());
        assert!(parse(&["streamline", "serve", "--log-retention-ms", "-1"]).is_ok());
        for flag in [["--metrics", "off"], ["--config", "streamline.toml"]] {
            let refused = parse(&["streamline", flag[0], flag[1], "health"]);
            let said = refused.err().unwrap().to_string();
            assert!(said.contains(flag[0]), "{said}");
        }
        assert!(parse(&["streamline", "--no-such-setting", "1"]).is_err());
    }
}
