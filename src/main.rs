//! Arguments in, exit code out; the rest is the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    streamline::cli::run(std::env::args_os())
}
