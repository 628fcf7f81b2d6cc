//! `streamline completions <shell>`.

use std::process::ExitCode;

use clap_complete::Shell;

use super::error::CliError;
use super::output::print;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  streamline completions bash > /etc/bash_completion.d/streamline")]
pub struct Completions {
    /// Shell to generate completions for
    shell: Shell,
}

pub fn run(args: Completions) -> Result<ExitCode, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "streamline", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
