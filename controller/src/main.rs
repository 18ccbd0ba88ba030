//! `glasshive`: the controller's daemon and command line.

fn main() -> std::process::ExitCode {
    glasshive_journal::build::pretend(option_env!("GLASSHIVE_TEST_STAMP"));
    glasshive_daemon::memory::give_back();
    glasshive_controller::cli::main()
}
