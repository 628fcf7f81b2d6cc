//! `streamline man`.

use std::process::ExitCode;

use super::error::CliError;
use super::output::print;

pub fn run() -> Result<ExitCode, CliError> {
    let mut page = Vec::new();
    clap_mangen::Man::new(super::command())
        .render(&mut page)
        .map_err(CliError::io("the manual page cannot be made"))?;
    print(&String::from_utf8_lossy(&page))?;
    Ok(ExitCode::SUCCESS)
}
