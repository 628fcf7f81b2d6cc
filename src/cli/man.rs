//! `streamline man`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::error::CliError;
use super::output::print;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  streamline man --dir /usr/local/share/man/man1    then man streamline-topics-create")]
pub struct Man {
    /// Write one page for the program and one per subcommand to this directory instead
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub fn run(args: Man) -> Result<ExitCode, CliError> {
    match args.dir {
        Some(dir) => clap_mangen::generate_to(super::command(), &dir).map_err(CliError::io(
            format!("cannot write manual pages to {}", dir.display()),
        ))?,
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(super::command())
                .render(&mut page)
                .map_err(CliError::io("cannot render the manual page"))?;
            print(&String::from_utf8_lossy(&page))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
