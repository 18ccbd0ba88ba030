//! The pretended machine behind a decoy: built once, when the first visitor gets a shell, and shared by
//! every service of the decoy, so that a file dropped over Telnet is there over SSH. It must never be
//! built twice: two machines would disagree.

use super::Decoy;
use crate::system::{Account, Machine, MachineSpec, OsProfile};
use std::sync::{Arc, OnceLock};

/// SSH software shown when the decoy has no SSH service of its own.
const NO_SSH_SERVICE: &str = "OpenSSH_9.2p1 Debian-2+deb12u7";

/// The process behind a service, where it is not named as the service is.
const PROCESSES: &[(&str, &str)] = &[
    ("ssh", "sshd"),
    ("telnet", "inetutils-inetd"),
    ("dns", "named"),
    ("http", "nginx"),
    ("https", "nginx"),
    ("ftp", "vsftpd"),
    ("smtp", "master"),
];

fn process(service: &str) -> &str {
    PROCESSES.iter().find(|(name, _)| *name == service).map_or(service, |(_, process)| process)
}

/// What the services of a decoy tell its machine before it is built, and the machine.
#[derive(Default)]
pub struct Pretended {
    ssh_version: OnceLock<String>,
    machine: OnceLock<Option<Arc<Machine>>>,
}

impl Pretended {
    /// The software version of the SSH banner, which `ssh -V` and `dpkg -l` repeat. The first one told stands.
    pub fn ssh_version(&self, version: &str) {
        let _ = self.ssh_version.set(version.to_owned());
    }
}

impl Decoy {
    /// The decoy's pretended machine; the first call builds it. `None`: this build's profile is broken, which is
    /// logged once; a visitor gets no shell then.
    pub fn machine(&self) -> Option<Arc<Machine>> {
        let built = self.pretended.machine.get_or_init(|| match Machine::new(self.machine_spec()) {
            Ok(machine) => Some(machine),
            Err(error) => {
                tracing::error!(decoy = %self.name, %error, "cannot build the pretended machine");
                None
            }
        });
        built.clone()
    }

    fn machine_spec(&self) -> MachineSpec {
        let seed = self.seed.derive("machine");
        let [a, b, c, ..] = seed.derive("mac").0;
        let mut uid = 1000;
        let accounts = self.accounts.iter().filter(|account| account.name != "root").map(|account| {
            let id = account.uid.unwrap_or_else(|| {
                uid += 1;
                uid - 1
            });
            Account {
                name: account.name.clone(),
                uid: id,
                gid: id,
                home: format!("/home/{}", account.name),
                shell: "/bin/bash".into(),
                gecos: ",,,".into(),
            }
        });
        MachineSpec {
            hostname: self.hostname.clone(),
            domain: self.domain.clone(),
            os: OsProfile::Debian12,
            addresses: self.addresses.clone(),
            // Locally common virtual machine vendor prefix (QEMU/KVM).
            mac: [0x52, 0x54, 0x00, a, b, c],
            accounts: accounts.collect(),
            seed: seed.0,
            files: Vec::new(),
            services: self.offers.iter().map(|(port, service)| (*port, process(service).to_owned())).collect(),
            ssh_version: self.pretended.ssh_version.get().map_or(NO_SSH_SERVICE, String::as_str).to_owned(),
        }
    }
}
