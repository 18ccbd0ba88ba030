//! What a figure depends on: processor, memory, kernel, compiler, profile, and what else is running.

use serde_json::{Value, json};
use std::path::Path;

/// The machine and the build.
pub(super) fn facts(dir: &Path) -> Value {
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned()));
    let meminfo = read("/proc/meminfo");
    let memory_kib = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    json!({
        "cpu": model,
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "memory_mib": memory_kib.map(|kib| kib / 1024),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "rust": rust(),
        "profile": profile(),
        "file_system": file_system(dir),
    })
}

/// Which of the two builds this is.
pub(super) fn profile() -> &'static str {
    if cfg!(debug_assertions) { "test" } else { "release" }
}

/// Load averages over 1, 5 and 15 minutes.
pub(super) fn load() -> Vec<f64> {
    read("/proc/loadavg").split_whitespace().take(3).filter_map(|word| word.parse().ok()).collect()
}

/// The compiler the repository asks for; what built this binary unless someone meddled.
fn rust() -> Option<String> {
    let output = std::process::Command::new("rustc").arg("--version").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Durable writes cost nothing on tmpfs, so it is said where the state lies.
fn file_system(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = read("/proc/self/mounts");
    let of = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        dir.starts_with(point).then_some((point.len(), kind))
    });
    // The last of equal length lies on top.
    of.max_by_key(|(length, _)| *length).map(|(_, kind)| kind.to_owned())
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_where_it_ran() {
        let facts = facts(Path::new("/"));
        for key in ["cores", "memory_mib"] {
            assert!(facts[key].as_u64().unwrap() > 0, "{facts}");
        }
        for key in ["kernel", "profile", "file_system"] {
            assert!(!facts[key].as_str().unwrap().is_empty(), "{facts}");
        }
        assert_eq!(load().len(), 3);
    }
}
