//! Tests of the pretended system as a whole.

mod against_bash;
mod fidelity;
mod hostile;
mod sessions;

use std::sync::Arc;

use super::*;

/// 2026-01-14 10:20:30.4 UTC.
const NOW: i64 = 1_768_386_030_400_000_000;

fn spec(seed: u8) -> MachineSpec {
    MachineSpec {
        hostname: "mail2".into(),
        domain: "example.org".into(),
        os: OsProfile::Debian12,
        addresses: vec!["192.0.2.17".parse().unwrap(), "2001:db8::17".parse().unwrap()],
        mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
        accounts: vec![Account {
            name: "deploy".into(),
            uid: 1000,
            gid: 1000,
            home: "/home/deploy".into(),
            shell: "/bin/bash".into(),
            gecos: ",,,".into(),
        }],
        seed: [seed; 32],
        files: vec![Extra { path: "/opt/app/config.ini".into(), content: b"[db]\n".to_vec(), mode: 0o640, owner: "deploy".into() }],
        services: vec![(22, "sshd".into()), (80, "nginx".into()), (3306, "mariadbd".into())],
        ssh_version: "OpenSSH_9.2p1 Debian-2+deb12u7".into(),
    }
}

fn login(user: &str, peer: &str, tty: bool) -> Login {
    Login {
        user: user.into(),
        client: Client { peer: peer.parse().unwrap(), local: "192.0.2.17:22".parse().unwrap() },
        via: Via::Ssh,
        tty: tty.then(|| Tty { term: "xterm-256color".into(), columns: 80, rows: 24 }),
        interactive: tty,
        now_ns: NOW,
    }
}

fn machine() -> Arc<Machine> {
    Machine::new(spec(7)).unwrap()
}

const EOF: Input<'static> = Input { bytes: b"", eof: true };

/// One exec channel as root from a fixed source.
fn exec_on(machine: &Arc<Machine>, command: &str) -> Ran {
    machine.login(login("root", "198.51.100.9:40000", false)).run(command.as_bytes(), EOF, NOW)
}

fn exec(command: &str) -> Ran {
    exec_on(&machine(), command)
}

fn out(command: &str) -> String {
    String::from_utf8_lossy(&exec(command).stdout).into_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
