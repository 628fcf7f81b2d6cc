//! The `streamline` binary: runs the command line of the library and returns its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    streamline::cli::run(std::env::args_os())
}
