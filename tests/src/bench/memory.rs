//! Memory of a node: idle with three personas, and for each idle connection by how far it came.

use super::clients::{connect, first_bytes, ssh_kexinit};
use super::control::{Control, RUSSH, TOKIO};
use super::load::closed;
use super::measure::Budget;
use super::peers::{Peer, Running};
use super::subject::Subject;
use super::tree::Tree;
use super::{Bench, Run};
use crate::process::until;
use anyhow::{Context as _, ensure};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// See the module.
pub(super) static BENCH: Bench = Bench {
    name: "memory",
    summary: "resident memory of a node, idle with three personas and for each idle connection",
    run,
    workers: &[],
};

/// How far an idle visitor went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Connected.
    Silent,
    /// Heard the first bytes.
    Greeted,
    /// Sent and got a KEXINIT.
    Kexinit,
}

struct Case {
    name: &'static str,
    port: u16,
    stage: Stage,
    /// KiB a connection.
    budget: f64,
    /// Control: name, worker, argument.
    control: (&'static str, &'static str, &'static str),
}

const BARE: (&str, &str, &str) = (TOKIO, "tokio", "silent");
const CASES: [Case; 6] = [
    Case { name: "generic_tcp, silent", port: 9100, stage: Stage::Silent, budget: 4.0, control: BARE },
    Case { name: "telnet, greeted", port: 23, stage: Stage::Greeted, budget: 4.0, control: BARE },
    Case { name: "ftp, greeted", port: 21, stage: Stage::Greeted, budget: 4.0, control: BARE },
    Case { name: "http, silent", port: 80, stage: Stage::Silent, budget: 4.0, control: BARE },
    Case { name: "ssh, before the visitor's id", port: 22, stage: Stage::Greeted, budget: 4.0, control: BARE },
    Case { name: "ssh, after KEXINIT", port: 22, stage: Stage::Kexinit, budget: 56.0, control: (RUSSH, "russh", "-") },
];

const MIB: f64 = 1024.0;
const FRESH: &str = "a new journal";

fn run(run: &mut Run) -> crate::Result<()> {
    let mut subject = Subject::start(run, "memory")?;
    let (connections, visits) = (run.pick(200, 2_000), run.pick(200, 20_000));
    for _ in 0..run.rounds {
        subject.restart_empty()?;
        idle(run, subject.node()?, FRESH);
        for peer in run.peers() {
            let running = Running::start(run, peer)?;
            settle(run, running.tree());
            let memory = running.tree().memory().proportional_kib as f64 / MIB;
            run.measure(&format!("idle on {FRESH}"), "MiB").beside(peer.name, memory);
        }
        for case in &CASES {
            connections_of(run, &mut subject, case, connections)?;
            for peer in run.peers() {
                connections_of_peer(run, peer, case, connections)?;
            }
        }
        subject.restart_empty()?;
        let (before, to) = (subject.recorded()?, subject.address(21));
        let made = run.runtime.block_on(closed(32, visits, move |n| first_bytes(to, n))).latencies_ms.len();
        subject.recorded_since(before, made)?;
        subject.restart()?;
        idle(run, subject.node()?, &format!("a journal of {} records", 2 * visits));
    }
    run.note(format!("a connection costs the growth of a fresh process by {connections} of them, as peers were measured; `more` is the growth by as many again, without what only the first ones cost"));
    Ok(())
}

/// Memory of a node that has just started and serves nobody.
fn idle(run: &mut Run, node: Tree, on: &str) {
    settle(run, node);
    let memory = node.memory();
    let whole = run.measure(&format!("idle on {on}"), "MiB");
    whole.subject(memory.proportional_kib as f64 / MIB).budget(Budget::AtMost(25.0));
    run.measure(&format!("idle on {on}, the decoys process"), "MiB").subject(node.own_kib() as f64 / MIB);
    run.note(format!("idle counts pages shared by the node's {} processes once (PSS); three personas with 13 services", memory.processes));
}

/// Memory at rest, KiB.
fn settle(run: &Run, tree: Tree) -> f64 {
    tree.settled_kib(Duration::from_millis(run.pick(100, 1_000) as u64), Duration::from_secs(15)) as f64
}

fn connections_of(run: &mut Run, subject: &mut Subject, case: &Case, connections: usize) -> crate::Result<()> {
    let (control_name, worker, argument) = case.control;
    let control = Control::start(worker, argument, &run.dir)?;
    // A bare listener never greets.
    let stage = if worker == "tokio" { Stage::Silent } else { case.stage };
    let (bare, _) = grow(run, control.address, control.tree(), stage, connections, true)?;
    drop(control);
    subject.restart_empty()?;
    let (fresh, more) = grow(run, subject.address(case.port), subject.node()?, case.stage, connections, true)?;
    run.measure(case.name, "KiB").subject(fresh).beside(control_name, bare).budget(Budget::AtMost(case.budget));
    if let Some(more) = more {
        run.measure(&format!("{}, more", case.name), "KiB").subject(more);
    }
    Ok(())
}

fn connections_of_peer(run: &mut Run, peer: &'static Peer, case: &Case, connections: usize) -> crate::Result<()> {
    let running = Running::start(run, peer)?;
    let grown = running.address(case.port).map(|to| grow(run, to, running.tree(), case.stage, connections, false));
    match grown {
        Some(Ok((fresh, _))) => {
            run.measure(case.name, "KiB").beside(peer.name, fresh);
        }
        Some(Err(error)) => {
            run.note(format!("{}, {}: {error:#}", peer.name, case.name));
            run.measure(case.name, "KiB").without(peer.name);
        }
        None => {
            run.measure(case.name, "KiB").without(peer.name);
        }
    }
    Ok(())
}

/// KiB a connection: of the first, and of as many `again`.
fn grow(run: &Run, to: SocketAddr, tree: Tree, stage: Stage, connections: usize, again: bool) -> crate::Result<(f64, Option<f64>)> {
    let empty = settle(run, tree);
    let descriptors = tree.descriptors();
    let mut held = Vec::new();
    let add = |held: &mut Vec<TcpStream>| -> crate::Result<f64> {
        held.extend(run.runtime.block_on(open(to, stage, held.len(), connections))?);
        let wanted = descriptors + held.len();
        until("the connections on the other side", Duration::from_secs(60), || (tree.descriptors() >= wanted).then_some(()))
            .with_context(|| format!("{} descriptors are open there, {wanted} were expected", tree.descriptors()))?;
        Ok(settle(run, tree))
    };
    let some = add(&mut held)?;
    let many = if run.options.quick || !again { None } else { Some(add(&mut held)?) };
    let each = |growth: f64| growth / connections as f64;
    Ok((each(some - empty), many.map(|many| each(many - some))))
}

/// Opens connections, a hundred at a time.
async fn open(to: SocketAddr, stage: Stage, first: usize, count: usize) -> crate::Result<Vec<TcpStream>> {
    let mut held = Vec::with_capacity(count);
    let numbers: Vec<usize> = (first..first + count).collect();
    for some in numbers.chunks(100) {
        let tasks: Vec<_> = some.iter().map(|n| tokio::spawn(one(to, stage, *n))).collect();
        for task in tasks {
            held.push(task.await??);
        }
    }
    Ok(held)
}

async fn one(to: SocketAddr, stage: Stage, n: usize) -> crate::Result<TcpStream> {
    if stage == Stage::Kexinit {
        return ssh_kexinit(to, n).await;
    }
    let mut stream = connect(to, n).await?;
    if stage == Stage::Greeted {
        let mut bytes = [0; 256];
        ensure!(stream.read(&mut bytes).await? > 0, "closed without a word");
    }
    Ok(stream)
}
