//! The real binary: starts, says that it captures nothing, stops on a signal with 0.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

fn sensor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glasshive-sensor"));
    command.env_clear().stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn runs_until_the_signal_and_leaves_cleanly() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("sensor.toml");
    std::fs::write(&config, glasshive_sensor::config::EXAMPLE).unwrap();
    let mut child = sensor().arg("run").arg("--config").arg(&config).spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    assert!(line.contains(glasshive_sensor::NO_CAPTURE), "{line}");
    // The line comes after the handlers are installed.
    assert!(Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    errors.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("SIGTERM"), "{rest}");
}

#[test]
fn faults_are_one_line_and_exit_1() {
    for arguments in [&["run", "--config", "/nonexistent/s.toml"][..], &["check", "--config", "/nonexistent/s.toml"], &["ring"]] {
        let output = sensor().args(arguments).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), errors.lines().count()), (Some(1), 1), "{errors}");
        assert!(errors.starts_with("glasshive-sensor: "), "{errors}");
    }
    assert_eq!(sensor().arg("nonsense").output().unwrap().status.code(), Some(2));
}
