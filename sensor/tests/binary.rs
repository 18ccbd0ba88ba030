//! The real binary without an interface: faults are one line, usage is told apart.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Stdio};

fn sensor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glasshive-sensor"));
    command.env_clear().stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn faults_are_one_line_and_exit_1() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("sensor.toml");
    std::fs::write(&config, format!("interface = \"nosuch0\"\nstate_dir = {:?}\n", dir.path().join("state"))).unwrap();
    let config = config.to_str().unwrap();
    for arguments in [
        &["run", "--config", "/nonexistent/s.toml"][..],
        &["check", "--config", "/nonexistent/s.toml"],
        &["ring"],
        &["run", "--config", config],
    ] {
        let output = sensor().args(arguments).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), errors.lines().count()), (Some(1), 1), "{errors}");
        assert!(errors.starts_with("glasshive-sensor: "), "{errors}");
    }
    assert_eq!(sensor().arg("nonsense").output().unwrap().status.code(), Some(2));
    let shown = sensor().args(["identity", "show", "--config", config]).output().unwrap();
    assert!(String::from_utf8(shown.stdout).unwrap().contains("standalone"));
}
