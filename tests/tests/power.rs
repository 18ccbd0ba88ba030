//! A power cut at the node and at the controller: both keep their state on ext4 on a loop device, and the file under
//! the device is copied in the middle of the load: that is what a power cut leaves. In each copy everything that was
//! acknowledged is there, and it opens clean.
//!
//! `GLASSHIVE_IMAGES` cuts (3; the full number is 100). Needs root and loop devices.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use glasshive_tests::faults::load::{Load, PERSONA};
use glasshive_tests::faults::{Random, copy, number, records};
use glasshive_tests::process::{command, run, run_ok};
use glasshive_tests::world::{Dial, LIMIT, Plan, World};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A file system on a file, mounted; unmounted when dropped.
struct Disk {
    file: PathBuf,
    point: PathBuf,
}

impl Disk {
    fn make(file: &Path, point: &Path) -> Self {
        std::fs::File::create(file).unwrap().set_len(512 << 20).unwrap();
        run_ok(command([Path::new("mkfs.ext4"), Path::new("-q"), Path::new("-F"), file]), None, LIMIT).unwrap();
        Self::mount(file, point)
    }

    fn mount(file: &Path, point: &Path) -> Self {
        std::fs::create_dir_all(point).unwrap();
        let words = ["mount", "-o", "loop", file.to_str().unwrap(), point.to_str().unwrap()];
        run_ok(command(words), None, LIMIT).unwrap();
        Self { file: file.to_owned(), point: point.to_owned() }
    }

    /// The device as it was at one moment: nobody writes to it, but the kernel may just be doing so, and then the
    /// copy is made again.
    fn cut(&self, to: &Path) {
        loop {
            run_ok(command([Path::new("cp"), Path::new("--sparse=always"), self.file.as_path(), to]), None, LIMIT).unwrap();
            if run(command([Path::new("cmp"), Path::new("-s"), self.file.as_path(), to]), None, LIMIT).unwrap().status.success() {
                return;
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A daemon that is just ending may hold it for a moment: then it goes when that has ended.
        let _ = run(command([Path::new("umount"), Path::new("-l"), self.point.as_path()]), None, LIMIT);
    }
}

#[test]
fn what_was_acknowledged_survives_a_power_cut() {
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
        println!("not run: a file system on a loop device needs root and loop devices");
        return;
    }
    let images = number("GLASSHIVE_IMAGES", 3);
    let mut random = Random::new("power");
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (node_state, state) = (at("hive/node1/state"), at("hive/controller/state"));
    let node_disk = Disk::make(&at("node.img"), &node_state);
    let disk = Disk::make(&at("controller.img"), &state);
    // Dropped first, so that nobody is on the disks when they go.
    let hive = at("hive");
    let plan = Plan { dir: &hive, root: false, nets: &[("alpha", Dial::Node)], persona: PERSONA, extra: "" };
    let mut world = World::start(&plan).unwrap();
    let address = SocketAddr::new(world.nodes[0].decoy, world.port(9100));
    let load = Load::default();
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| load.lane(address).unwrap());
        }
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for cut in 0..images {
                load.wait(20 + random.below(600)).unwrap();
                let daemons = [world.nodes[0].daemon.as_ref().unwrap(), world.controller.as_ref().unwrap()];
                daemons.iter().for_each(|daemon| daemon.signal(19));
                daemons.iter().for_each(|daemon| until_stopped(daemon.pid()));
                // What both said so far; the directories as they look to the living, too.
                let (log, acknowledged, durable) = records::promised(&node_state.join("journal")).unwrap();
                copy(&state, &at("live")).unwrap();
                // New names each time: `mount` takes a loop device that is still there for a file of that name, and
                // with it what the kernel remembers of the cut before.
                let (node_cut, controller_cut) = (at(&format!("node-{cut}.cut")), at(&format!("controller-{cut}.cut")));
                node_disk.cut(&node_cut);
                disk.cut(&controller_cut);
                load.hold(true);
                daemons.iter().for_each(|daemon| daemon.signal(18));
                let live = records::marks(&at("live")).unwrap();
                let received = live.get(&log).map_or(0, |mark| mark.0);
                std::fs::remove_dir_all(at("live")).unwrap();

                let mounted = Disk::mount(&node_cut, &at("point"));
                let (found, there, report) = records::journal(&mounted.point.join("journal")).unwrap();
                assert!(report.lost.is_empty() && report.quarantined.is_empty() && report.replaced.is_none(), "{report:?}");
                assert_eq!(found, log);
                let least = durable.max(received);
                assert!(there.last() >= least, "{least} records were durable, {} are in the image", there.last());
                seen.push((log, there.last(), there.head(there.last()).unwrap()));
                drop(mounted);

                let mounted = Disk::mount(&controller_cut, &at("point"));
                let marks = records::marks(&mounted.point).unwrap();
                let stored = marks.get(&log).map_or(0, |mark| mark.0);
                assert!(stored >= acknowledged, "{acknowledged} records were acknowledged, {stored} are in the image");
                println!(
                    "{cut}: after {} visits, node {} (durable {least}), controller {stored} (acknowledged {acknowledged})",
                    load.done(),
                    there.last()
                );
                seen.extend(marks.into_iter().map(|(log, (seq, head))| (log, seq, head)));
                drop(mounted);
                std::fs::remove_file(&node_cut).unwrap();
                std::fs::remove_file(&controller_cut).unwrap();
                load.hold(false);
            }
        }));
        load.end();
        run.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    world.wait_sessions(load.done() as usize, LIMIT).unwrap();
    assert_eq!(world.nodes[0].daemon.take().unwrap().stop(LIMIT), Some(0));
    assert_eq!(world.controller.take().unwrap().stop(LIMIT), Some(0));
    // Everything an image held is what is there now, record for record.
    let mut now = records::store(&state).unwrap();
    let (log, there, _) = records::journal(&node_state.join("journal")).unwrap();
    assert_eq!(now[&log].head(now[&log].last()), there.head(now[&log].last()), "node and controller differ");
    now.insert(log, there);
    for (log, seq, head) in &seen {
        assert_eq!(now[log].head(*seq), Some(*head), "an image held other records, {seq} of log {log}");
    }
    println!("{images} cuts, {} visits, {} records", load.done(), now[&log].last());
}

fn until_stopped(pid: u32) {
    glasshive_tests::process::until("a daemon that stands still", LIMIT, || {
        let mut tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
        let stopped = |path: PathBuf| std::fs::read_to_string(path.join("status")).is_ok_and(|status| status.contains("State:\tT"));
        tasks.all(|task| stopped(task.path())).then_some(())
    })
    .unwrap();
}
