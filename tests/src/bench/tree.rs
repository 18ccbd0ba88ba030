//! CPU time and memory of a process and its children, from /proc.

use crate::process::pause;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Milliseconds of a clock tick in /proc/PID/stat: USER_HZ is 100 on every Linux Glasshive runs on.
const TICK_MS: f64 = 10.0;
/// KiB of a page; statm counts pages.
const PAGE_KIB: u64 = 4;

/// A process and all below it.
#[derive(Clone, Copy, Debug)]
pub struct Tree(pub u32);

/// What a tree holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident memory of all processes, shared pages counted in each, KiB.
    pub resident_kib: u64,
    /// The same with shared pages divided among those who share them (PSS), KiB; resident memory
    /// where the kernel does not tell.
    pub proportional_kib: u64,
    /// Processes.
    pub processes: u64,
}

struct Stat {
    parent: u32,
    own_ticks: u64,
    reaped_ticks: u64,
}

impl Tree {
    /// Process ids, the root first.
    fn pids(self) -> Vec<(u32, Stat)> {
        let mut all: HashMap<u32, Stat> = HashMap::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok())
                && let Some(stat) = stat(pid)
            {
                all.insert(pid, stat);
            }
        }
        let mut found: Vec<(u32, Stat)> = all.remove(&self.0).map(|stat| (self.0, stat)).into_iter().collect();
        let mut at = 0;
        while let Some((parent, _)) = found.get(at) {
            let parent = *parent;
            let mut children: Vec<u32> = all.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid).collect();
            children.sort_unstable();
            found.extend(children.into_iter().filter_map(|pid| Some((pid, all.remove(&pid)?))));
            at += 1;
        }
        found
    }

    /// CPU time of all processes, and of children already gone, milliseconds. Counted in ticks of
    /// 10 ms: measure much at once.
    pub fn cpu_ms(self) -> f64 {
        let ticks: u64 = self.pids().iter().map(|(_, stat)| stat.own_ticks + stat.reaped_ticks).sum();
        ticks as f64 * TICK_MS
    }

    /// CPU time of the root's thread of that name (cut to 15 characters by the kernel), milliseconds.
    pub fn thread_ms(self, name: &str) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0)).into_iter().flatten().flatten();
        let named = tasks.filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name));
        let ticks: u64 =
            named.filter_map(|task| parse(&std::fs::read_to_string(task.path().join("stat")).ok()?)).map(|s| s.own_ticks).sum();
        ticks as f64 * TICK_MS
    }

    /// CPU time of each of the root's threads by name, nanoseconds, as the scheduler counts it: finer
    /// than ticks, and without threads that have ended.
    pub fn threads_ns(self) -> Vec<(String, u64)> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0)).into_iter().flatten().flatten();
        tasks
            .filter_map(|task| {
                let name = std::fs::read_to_string(task.path().join("comm")).ok()?.trim_end().to_owned();
                let spent = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
                Some((name, spent.split_whitespace().next()?.parse().ok()?))
            })
            .collect()
    }

    /// Whether a thread of the root has something to do: it runs, waits for its turn, or for the disk.
    pub fn busy(self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0)).into_iter().flatten().flatten();
        tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok()).any(|text| {
            let state = text.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
            matches!(state, Some("R" | "D"))
        })
    }

    /// CPU time of the processes below the root, milliseconds.
    pub fn below_ms(self) -> f64 {
        let ticks: u64 = self.pids().iter().skip(1).map(|(_, stat)| stat.own_ticks + stat.reaped_ticks).sum();
        ticks as f64 * TICK_MS
    }

    /// Memory of all processes.
    pub fn memory(self) -> Memory {
        let mut sum = Memory::default();
        for (pid, _) in self.pids() {
            let one = memory(pid);
            sum.resident_kib += one.resident_kib;
            sum.proportional_kib += one.proportional_kib;
            sum.processes += 1;
        }
        sum
    }

    /// Resident memory of the root alone, KiB.
    pub fn own_kib(self) -> u64 {
        memory(self.0).resident_kib
    }

    /// Open descriptors of the root.
    pub fn descriptors(self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.0)).map_or(0, Iterator::count)
    }

    /// Resident memory of the root, KiB, once it moved by no more than 64 KiB for `quiet`, or after
    /// `limit` whatever it is then.
    pub fn settled_kib(self, quiet: Duration, limit: Duration) -> u64 {
        let deadline = Instant::now() + limit;
        let mut since = Instant::now();
        let mut last = self.own_kib();
        while Instant::now() < deadline && since.elapsed() < quiet {
            pause();
            let now = self.own_kib();
            if now.abs_diff(last) > 64 {
                (last, since) = (now, Instant::now());
            }
        }
        self.own_kib()
    }
}

fn stat(pid: u32) -> Option<Stat> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(text: &str) -> Option<Stat> {
    // The name may hold spaces and parentheses; what follows the last one is regular.
    let (_, rest) = text.rsplit_once(')')?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    Some(Stat { parent: u32::try_from(number(1)?).ok()?, own_ticks: number(11)? + number(12)?, reaped_ticks: number(13)? + number(14)? })
}

fn memory(pid: u32) -> Memory {
    let at = |name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
    let statm = std::fs::read_to_string(at("statm")).unwrap_or_default();
    let resident_kib = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE_KIB;
    let rollup = std::fs::read_to_string(at("smaps_rollup")).unwrap_or_default();
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse().ok());
    Memory { resident_kib, proportional_kib: pss.unwrap_or(resident_kib), processes: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_itself_and_its_children() {
        let own = Tree(std::process::id());
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert!(own.pids().iter().any(|(pid, _)| *pid == child.id()));
        assert_eq!(own.pids()[0].0, std::process::id());
        let memory = own.memory();
        assert!(memory.processes >= 2 && memory.resident_kib > own.own_kib() && memory.proportional_kib > 0, "{memory:?}");
        assert!(own.descriptors() > 2);
        // The thread that looks runs.
        assert!(own.busy());
        assert!(own.threads_ns().iter().any(|(name, spent)| !name.is_empty() && *spent > 0));
        drop(child.stdin.take());
        child.wait().unwrap();
        let (before, of_thread) = (own.cpu_ms(), own.thread_ms("no such thread"));
        assert!(of_thread == 0.0 && own.below_ms() <= own.cpu_ms());
        let mut sum = 0u64;
        while own.cpu_ms() < before + 2.0 * TICK_MS {
            sum = (0..1_000_000u64).fold(sum, |sum, n| sum.wrapping_mul(31).wrapping_add(std::hint::black_box(n)));
        }
        assert!(!own.pids().iter().any(|(pid, _)| *pid == child.id()), "{sum}");
    }
}
