//! What a whole visit costs: sessions a second until the controller has them all, and CPU time of the
//! node for each. The node's figure is that of all its processes, the link included; the controls say
//! the same to the same visitors and record nothing.

use super::clients::{self, OURS, Words};
use super::control::{Control, RUSSH, TOKIO};
use super::load::{Outcome, closed};
use super::measure::Budget;
use super::peers::Running;
use super::subject::Subject;
use super::{Bench, Run, Turn, turns};
use std::net::SocketAddr;
use std::time::Instant;

/// See the module.
pub(super) static BENCH: Bench =
    Bench { name: "sessions", summary: "sessions recorded a second and CPU time for each: SSH, FTP, HTTP, Telnet", run, workers: &[] };

/// Name of the thread that writes the node's journal.
const JOURNAL: &str = "journal";
/// Visitors at once.
const CLIENTS: usize = 32;

struct Case {
    service: &'static str,
    port: u16,
    /// Sessions a round: quick, usual.
    sessions: (usize, usize),
    /// The same with a peer: those that answer a wrong password after a second would take minutes.
    peers: (usize, usize),
    /// Passwords a session.
    logins: usize,
    /// Control: name, worker, argument.
    control: (&'static str, &'static str, &'static str),
    budgets: &'static [Budget],
}

const CASES: [Case; 4] = [
    Case {
        service: "ssh",
        port: 22,
        sessions: (20, 4_000),
        peers: (20, 500),
        logins: 1,
        control: (RUSSH, "russh", "-"),
        budgets: &[Budget::Times(1.25, RUSSH), Budget::Times(1.0 / 2.5, "cowrie")],
    },
    Case {
        service: "ftp",
        port: 21,
        sessions: (100, 4_000),
        peers: (100, 4_000),
        logins: 1,
        control: (TOKIO, "tokio", "ftp"),
        budgets: &[Budget::Times(1.0 / 3.0, "opencanary")],
    },
    Case {
        service: "http",
        port: 80,
        sessions: (100, 4_000),
        peers: (100, 4_000),
        logins: 0,
        control: (TOKIO, "tokio", "http"),
        budgets: &[Budget::Times(1.0 / 4.0, "opencanary")],
    },
    Case {
        service: "telnet",
        port: 23,
        sessions: (100, 4_000),
        peers: (100, 4_000),
        logins: 1,
        control: (TOKIO, "tokio", "telnet"),
        budgets: &[],
    },
];

fn run(run: &mut Run) -> crate::Result<()> {
    let subject = Subject::start(run, "sessions")?;
    let mut peers = run.peers().iter().map(|peer| Running::start(run, peer)).collect::<crate::Result<Vec<_>>>()?;
    for round in 0..run.rounds {
        for case in &CASES {
            for turn in turns(round, peers.len()) {
                match turn {
                    Turn::Subject => of_subject(run, &subject, case)?,
                    Turn::Control => of_control(run, case)?,
                    Turn::Peer(number) => peers.get_mut(number).map_or(Ok(()), |peer| of_peer(run, peer, case))?,
                }
            }
        }
    }
    if !peers.is_empty() {
        run.note("peers refuse every login, an FTP visitor they know leaves then without QUIT; a failed SSH password is answered after a second by both, which holds their rate down and costs no CPU time; OpenCanary's SSH has RSA keys only, Cowrie's no chacha20-poly1305".to_owned());
    }
    run.note(format!("{CLIENTS} visitors at once; SSH is a full key exchange and one password, FTP and Telnet one login, HTTP one page; visitors, node and controller share the machine"));
    Ok(())
}

fn of_subject(run: &mut Run, subject: &Subject, case: &Case) -> crate::Result<()> {
    let total = run.pick(case.sessions.0, case.sessions.1);
    let (before, node) = (subject.recorded()?, subject.node()?);
    let (cpu, link, journal, start) = (node.cpu_ms(), node.below_ms(), node.thread_ms(JOURNAL), Instant::now());
    let outcome = visit(run, case, subject.address(case.port), total, &OURS);
    let made = outcome.latencies_ms.len();
    let recorded = subject.recorded_since(before, made)?;
    let seconds = start.elapsed().as_secs_f64();
    let (spent, link, journal) = (node.cpu_ms() - cpu, node.below_ms() - link, node.thread_ms(JOURNAL) - journal);
    failures(run, case.service, &outcome);
    let (service, whole) = (case.service, made.max(1) as f64);
    run.measure(&format!("{service}, recorded"), "/s").subject(made as f64 / seconds);
    let measure = run.measure(&format!("{service}, CPU a session"), "ms");
    measure.subject(spent / whole);
    for budget in case.budgets {
        measure.budget(*budget);
    }
    run.measure(&format!("{service}, of which the link's process"), "ms").subject(link / whole);
    run.measure(&format!("{service}, of which the journal's thread"), "ms").subject(journal / whole);
    run.measure(&format!("{service}, failed"), "").subject(outcome.failed as f64).budget(Budget::AtMost(0.0));
    let wanted = ((made * case.logins) as u64, made as u64);
    let off = recorded.logins.abs_diff(wanted.0) + recorded.closes.abs_diff(wanted.1);
    run.measure(&format!("{service}, not recorded exactly once"), "").subject(off as f64).budget(Budget::AtMost(0.0));
    run.measure(&recorded_of(service), "%").subject(recorded.closes as f64 / total.max(1) as f64 * 100.0);
    Ok(())
}

fn recorded_of(service: &str) -> String {
    format!("{service}, recorded of attempted")
}

fn of_peer(run: &mut Run, peer: &mut Running, case: &Case) -> crate::Result<()> {
    let (name, service, words) = (peer.peer.name, case.service, &peer.peer.words);
    let measures = [
        (format!("{service}, recorded"), "/s"),
        (format!("{service}, CPU a session"), "ms"),
        (format!("{service}, failed"), ""),
        (format!("{service}, not recorded exactly once"), ""),
        (recorded_of(service), "%"),
    ];
    // One visit alone tells whether it can be served at all: thousands that wait in vain take hours.
    let address = peer.address(case.port).filter(|address| {
        let alone = visit(run, case, *address, 1, words);
        failures(run, &format!("{name}, {service}, one visitor alone"), &alone);
        alone.failed == 0
    });
    let Some(address) = address else {
        for (measure, unit) in measures {
            run.measure(&measure, unit).without(name);
        }
        return Ok(());
    };
    peer.at_rest()?;
    let total = run.pick(case.peers.0, case.peers.1);
    let before = peer.records(case.port)?;
    let (cpu, start) = (peer.tree().cpu_ms(), Instant::now());
    let outcome = visit(run, case, address, total, words);
    let made = outcome.latencies_ms.len();
    let (recorded, last) = peer.recorded_since(case.port, before, made)?;
    let (seconds, spent) = ((last - start).max(outcome.elapsed).as_secs_f64(), peer.tree().cpu_ms() - cpu);
    failures(run, &format!("{name}, {service}"), &outcome);
    if recorded < total {
        run.note(format!("{name}, {service}: {recorded} recorded of {total} attempted, {made} of which went well"));
    }
    let values = [
        recorded as f64 / seconds,
        spent / made.max(1) as f64,
        outcome.failed as f64,
        // A visit that failed may have left its record all the same.
        made.saturating_sub(recorded) as f64,
        recorded as f64 / total.max(1) as f64 * 100.0,
    ];
    for ((measure, unit), value) in measures.into_iter().zip(values) {
        run.measure(&measure, unit).beside(name, value);
    }
    Ok(())
}

fn of_control(run: &mut Run, case: &Case) -> crate::Result<()> {
    let total = run.pick(case.sessions.0, case.sessions.1);
    let (name, worker, argument) = case.control;
    let control = Control::start(worker, argument, &run.dir)?;
    let (cpu, start) = (control.tree().cpu_ms(), Instant::now());
    let outcome = visit(run, case, control.address, total, &OURS);
    let (seconds, spent) = (start.elapsed().as_secs_f64(), control.tree().cpu_ms() - cpu);
    failures(run, name, &outcome);
    let made = outcome.latencies_ms.len();
    run.measure(&format!("{}, recorded", case.service), "/s").beside(name, made as f64 / seconds);
    run.measure(&format!("{}, CPU a session", case.service), "ms").beside(name, spent / made.max(1) as f64);
    Ok(())
}

fn visit(run: &Run, case: &Case, to: SocketAddr, total: usize, words: &'static Words) -> Outcome {
    let service = case.service;
    let ssh = clients::ssh_config();
    let visits = closed(CLIENTS, total, move |n| {
        let ssh = ssh.clone();
        async move {
            let start = Instant::now();
            match service {
                "ssh" => Box::pin(clients::ssh(to, n, ssh)).await?,
                "ftp" => clients::ftp(to, n, words).await?,
                "http" => clients::http(to, n, words).await?,
                _ => clients::telnet(to, n, words).await?,
            }
            Ok(start.elapsed())
        }
    });
    run.runtime.block_on(visits)
}

fn failures(run: &mut Run, who: &str, outcome: &Outcome) {
    if let Some(why) = &outcome.why {
        run.note(format!("{who}: {} visits failed, the first: {why}", outcome.failed));
    }
}
