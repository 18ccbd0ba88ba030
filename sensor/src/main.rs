//! `glasshive-sensor`: parses, runs, prints one line on failure.

use clap::Parser as _;
use glasshive_journal::JournalError;
use std::process::ExitCode;

fn main() -> ExitCode {
    glasshive_journal::build::pretend(option_env!("GLASSHIVE_TEST_STAMP"));
    glasshive_daemon::memory::give_back();
    match glasshive_sensor::run(glasshive_sensor::cli::Cli::parse()) {
        Ok(text) => {
            if !text.is_empty() {
                println!("{text}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("glasshive-sensor: {error:#}");
            match error.downcast_ref::<glasshive_sensor::commands::Exit>() {
                Some(exit) => ExitCode::from(exit.code),
                None => ExitCode::from(error.downcast_ref::<JournalError>().map_or(1, JournalError::exit_code)),
            }
        }
    }
}
