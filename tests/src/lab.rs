//! A network of namespaces: bridges in a switch namespace, hosts with legs on them. Names carry this
//! process's id; everything is removed on drop.

use crate::process::{command, run_ok};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// The lab.
pub struct Lab {
    prefix: String,
    names: Vec<String>,
    legs: usize,
}

impl Lab {
    /// Whether namespaces can be made here: root, and the tools are there.
    pub fn possible() -> bool {
        rustix::process::geteuid().is_root() && crate::process::installed("ip") && crate::process::installed("nft")
    }

    /// An empty lab with its switch.
    pub fn new() -> crate::Result<Self> {
        let serial = SERIAL.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut lab = Self { prefix: format!("gh{}-{serial}", std::process::id()), names: Vec::new(), legs: 0 };
        lab.host("sw")?;
        Ok(lab)
    }

    /// Name of a host's namespace.
    pub fn netns(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// Adds a host with loopback up.
    pub fn host(&mut self, host: &str) -> crate::Result<()> {
        let name = self.netns(host);
        ip(&["netns", "add", &name])?;
        self.names.push(name.clone());
        ip(&["-n", &name, "link", "set", "lo", "up"])
    }

    /// Adds a bridge to the switch.
    pub fn bridge(&mut self, bridge: &str) -> crate::Result<()> {
        let sw = self.netns("sw");
        ip(&["-n", &sw, "link", "add", bridge, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0"])?;
        ip(&["-n", &sw, "link", "set", bridge, "up"])
    }

    /// Gives `host` an interface on `bridge` with addresses (`10.0.0.1/24`).
    pub fn leg(&mut self, host: &str, interface: &str, bridge: &str, addresses: &[&str]) -> crate::Result<()> {
        self.legs += 1;
        let port = format!("p{}", self.legs);
        let (sw, name) = (self.netns("sw"), self.netns(host));
        ip(&["-n", &sw, "link", "add", &port, "type", "veth", "peer", "name", interface, "netns", &name])?;
        ip(&["-n", &sw, "link", "set", &port, "master", bridge, "up"])?;
        for address in addresses {
            let mut words = vec!["-n", &name, "addr", "add", address, "dev", interface];
            if address.contains(':') {
                words.push("nodad");
            }
            ip(&words)?;
        }
        ip(&["-n", &name, "link", "set", interface, "up"])
    }

    /// Runs `ip -n HOST …`.
    pub fn ip(&self, host: &str, words: &[&str]) -> crate::Result<()> {
        let name = self.netns(host);
        let mut all = vec!["-n", name.as_str()];
        all.extend(words);
        ip(&all)
    }

    /// Runs `work` on a thread of its own inside a host: sockets made there are that host's.
    pub fn enter<T: Send>(&self, host: &str, work: impl FnOnce() -> crate::Result<T> + Send) -> crate::Result<T> {
        within(&self.netns(host), work)
    }

    /// A command inside a host.
    pub fn inside(&self, host: &str, program: &Path) -> Command {
        let mut inside = command(["ip", "netns", "exec"]);
        inside.arg(self.netns(host)).arg(program);
        inside
    }
}

/// Runs `work` on a thread of its own inside a namespace.
pub fn within<T: Send>(netns: &str, work: impl FnOnce() -> crate::Result<T> + Send) -> crate::Result<T> {
    let namespace = std::fs::File::open(format!("/run/netns/{netns}"))?;
    std::thread::scope(|scope| {
        let inside = scope.spawn(move || {
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(kind))?;
            work()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

static SERIAL: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

impl Drop for Lab {
    fn drop(&mut self) {
        for name in self.names.iter().rev() {
            let _ = ip(&["netns", "del", name]);
        }
    }
}

fn ip(words: &[&str]) -> crate::Result<()> {
    let mut all = vec!["ip"];
    all.extend(words);
    run_ok(command(all), None, LIMIT).map(|_| ())
}
