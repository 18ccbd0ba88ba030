//! `glasshive-sensor`: parses, runs, prints one line on failure.

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
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
                None => ExitCode::FAILURE,
            }
        }
    }
}
