//! How soon a visitor hears the first bytes: 500 visitors who come again and again, and 2 000 new ones
//! a second, beside a bare listener that says the same.

use super::clients::first_bytes;
use super::control::{Control, TOKIO};
use super::load::{Outcome, closed, paced};
use super::measure::Budget;
use super::peers::Running;
use super::subject::Subject;
use super::{Bench, Run, Turn, turns};
use std::net::SocketAddr;

/// See the module.
pub(super) static BENCH: Bench = Bench {
    name: "first-bytes",
    summary: "time to a banner under 500 closed-loop visitors and at 2 000 new connections a second",
    run,
    workers: &[],
};

const SERVICES: [(&str, u16); 2] = [("ftp", 21), ("ssh", 22)];

fn run(run: &mut Run) -> crate::Result<()> {
    let subject = Subject::start(run, "first-bytes")?;
    let control = Control::start("tokio", "banner", &run.dir)?;
    let peers = run.peers().iter().map(|peer| Running::start(run, peer)).collect::<crate::Result<Vec<_>>>()?;
    for round in 0..run.rounds {
        for (service, port) in SERVICES {
            for load in ["closed", "paced"] {
                let before = subject.recorded()?;
                // So many new ones a second are more than peers bear.
                for turn in turns(round, if load == "closed" { peers.len() } else { 0 }) {
                    let (beside, to) = match turn {
                        Turn::Subject => (None, Some(subject.address(port))),
                        Turn::Control => (Some(TOKIO), Some(control.address)),
                        Turn::Peer(number) => peers.get(number).map_or((None, None), |peer| (Some(peer.peer.name), peer.address(port))),
                    };
                    let Some(to) = to else {
                        lacks(run, service, beside);
                        continue;
                    };
                    let (words, outcome) = visits(run, load, to);
                    take(run, service, &words, load, beside, &outcome);
                    if beside.is_none() {
                        // All is recorded, and the node is at rest, before anything else is measured.
                        let made = outcome.latencies_ms.len();
                        let came = subject.recorded_since(before, made)?.closes;
                        let lost = (made as f64 - came as f64).max(0.0);
                        run.measure("connections heard and not recorded", "").subject(lost).budget(Budget::AtMost(0.0));
                    }
                }
            }
        }
    }
    Ok(())
}

fn closed_size(run: &Run) -> (usize, usize) {
    (run.pick(50, 500), run.pick(200, 10_000))
}

/// The peer does not offer it.
fn lacks(run: &mut Run, service: &str, peer: Option<&'static str>) {
    let (clients, _) = closed_size(run);
    for (what, unit) in [("p50", "ms"), ("p99", "ms"), ("failed", "")] {
        if let Some(peer) = peer {
            run.measure(&format!("{service}, {clients} visitors, {what}"), unit).without(peer);
        }
    }
}

fn visits(run: &Run, load: &str, to: SocketAddr) -> (String, Outcome) {
    if load == "closed" {
        let (clients, total) = closed_size(run);
        (format!("{clients} visitors"), run.runtime.block_on(closed(clients, total, move |n| first_bytes(to, n))))
    } else {
        let rate = run.pick(200, 2_000);
        (format!("{rate} new/s"), run.runtime.block_on(paced(rate, rate * run.pick(1, 5), move |n| first_bytes(to, n))))
    }
}

fn take(run: &mut Run, service: &str, words: &str, load: &str, beside: Option<&'static str>, outcome: &Outcome) {
    if let Some(why) = &outcome.why {
        let who = beside.map_or_else(|| service.to_owned(), |name| format!("{name}, {service}"));
        run.note(format!("{who}, {words}: {} failed, the first: {why}; percentiles are of the others", outcome.failed));
    }
    for percent in [50.0, 99.0] {
        let measure = run.measure(&format!("{service}, {words}, p{percent}"), "ms");
        let value = outcome.percentile(percent);
        if let Some(name) = beside {
            measure.beside(name, value);
            continue;
        }
        measure.subject(value);
        if percent > 50.0 {
            measure.budget(Budget::Times(1.5, TOKIO));
            if load == "paced" {
                measure.budget(Budget::AtMost(50.0));
            }
        }
    }
    let measure = run.measure(&format!("{service}, {words}, failed"), "");
    let failed = outcome.failed as f64;
    match beside {
        None => measure.subject(failed).budget(Budget::AtMost(0.0)),
        Some(name) => measure.beside(name, failed),
    };
}
