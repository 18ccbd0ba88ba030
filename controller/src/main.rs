//! `glasshive`: the controller's daemon and command line.

fn main() -> std::process::ExitCode {
    glasshive_controller::cli::main()
}
