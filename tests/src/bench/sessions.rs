//! What a whole visit costs: sessions a second until the controller has them all, and CPU time of the
//! node for each. The node's figure is that of all its processes, the link included; the controls say
//! the same to the same visitors and record nothing.

use super::clients;
use super::control::{Control, RUSSH, TOKIO};
use super::load::{Outcome, closed};
use super::measure::Budget;
use super::subject::Subject;
use super::{Bench, Run};
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
        sessions: (20, 500),
        logins: 1,
        control: (RUSSH, "russh", "-"),
        budgets: &[Budget::Times(1.25, RUSSH), Budget::Times(1.0 / 2.5, "cowrie")],
    },
    Case {
        service: "ftp",
        port: 21,
        sessions: (100, 4_000),
        logins: 1,
        control: (TOKIO, "tokio", "ftp"),
        budgets: &[Budget::Times(1.0 / 3.0, "opencanary")],
    },
    Case {
        service: "http",
        port: 80,
        sessions: (100, 4_000),
        logins: 0,
        control: (TOKIO, "tokio", "http"),
        budgets: &[Budget::Times(1.0 / 4.0, "opencanary")],
    },
    Case { service: "telnet", port: 23, sessions: (100, 4_000), logins: 1, control: (TOKIO, "tokio", "telnet"), budgets: &[] },
];

fn run(run: &mut Run) -> crate::Result<()> {
    let subject = Subject::start(run, "sessions")?;
    for round in 0..run.rounds {
        for case in &CASES {
            let order = if round % 2 == 0 { [true, false] } else { [false, true] };
            for is_subject in order {
                if is_subject {
                    of_subject(run, &subject, case)?;
                } else {
                    of_control(run, case)?;
                }
            }
        }
    }
    run.note(format!("{CLIENTS} visitors at once; SSH is a full key exchange and one password, FTP and Telnet one login, HTTP one page; visitors, node and controller share the machine"));
    Ok(())
}

fn of_subject(run: &mut Run, subject: &Subject, case: &Case) -> crate::Result<()> {
    let total = run.pick(case.sessions.0, case.sessions.1);
    let (before, node) = (subject.recorded()?, subject.node()?);
    let (cpu, link, journal, start) = (node.cpu_ms(), node.below_ms(), node.thread_ms(JOURNAL), Instant::now());
    let outcome = visit(run, case, subject.address(case.port), total);
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
    Ok(())
}

fn of_control(run: &mut Run, case: &Case) -> crate::Result<()> {
    let total = run.pick(case.sessions.0, case.sessions.1);
    let (name, worker, argument) = case.control;
    let control = Control::start(worker, argument, &run.dir)?;
    let (cpu, start) = (control.tree().cpu_ms(), Instant::now());
    let outcome = visit(run, case, control.address, total);
    let (seconds, spent) = (start.elapsed().as_secs_f64(), control.tree().cpu_ms() - cpu);
    failures(run, name, &outcome);
    let made = outcome.latencies_ms.len();
    run.measure(&format!("{}, recorded", case.service), "/s").beside(name, made as f64 / seconds);
    run.measure(&format!("{}, CPU a session", case.service), "ms").beside(name, spent / made.max(1) as f64);
    Ok(())
}

fn visit(run: &Run, case: &Case, to: SocketAddr, total: usize) -> Outcome {
    let service = case.service;
    let ssh = clients::ssh_config();
    let visits = closed(CLIENTS, total, move |n| {
        let ssh = ssh.clone();
        async move {
            let start = Instant::now();
            match service {
                "ssh" => Box::pin(clients::ssh(to, n, ssh)).await?,
                "ftp" => clients::ftp(to, n).await?,
                "http" => clients::http(to, n).await?,
                _ => clients::telnet(to, n).await?,
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
