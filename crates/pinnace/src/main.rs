//! The `pinnace` program: arguments in, one command, an exit code out.
//!
//! This file is its table of contents. Nobody else ends the process.

mod bench;
mod chat;
mod commands;
mod failure;
mod logging;
mod output;
mod payload;
mod settings;
mod signals;

use std::process::ExitCode;

use clap::Parser;

use commands::Arguments;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Clap prints help and usage errors itself: 0 for help, 2 for errors.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(failure::USAGE));
        }
    };
    let output = output::Output::new(&arguments.global);
    match commands::run(arguments, &output) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.code())
        }
    }
}
