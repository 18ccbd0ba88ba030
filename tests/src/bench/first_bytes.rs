//! How soon a visitor hears the first bytes: 500 visitors who come again and again, and 2 000 new ones
//! a second, beside a bare listener that says the same.

use super::clients::first_bytes;
use super::control::{Control, TOKIO};
use super::load::{Outcome, closed, paced};
use super::measure::Budget;
use super::subject::Subject;
use super::{Bench, Run};
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
    for round in 0..run.rounds {
        for (service, port) in SERVICES {
            for load in ["closed", "paced"] {
                let before = subject.recorded()?;
                // Turn about, so that neither always finds the machine as the other left it.
                let order = if round % 2 == 0 { [true, false] } else { [false, true] };
                for is_subject in order {
                    let to = if is_subject { subject.address(port) } else { control.address };
                    let (words, outcome) = visits(run, load, to);
                    take(run, service, &words, load, is_subject, &outcome);
                    if is_subject {
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

fn visits(run: &Run, load: &str, to: SocketAddr) -> (String, Outcome) {
    if load == "closed" {
        let (clients, total) = (run.pick(50, 500), run.pick(200, 10_000));
        (format!("{clients} visitors"), run.runtime.block_on(closed(clients, total, move |n| first_bytes(to, n))))
    } else {
        let rate = run.pick(200, 2_000);
        (format!("{rate} new/s"), run.runtime.block_on(paced(rate, rate * run.pick(1, 5), move |n| first_bytes(to, n))))
    }
}

fn take(run: &mut Run, service: &str, words: &str, load: &str, is_subject: bool, outcome: &Outcome) {
    if let Some(why) = &outcome.why {
        let who = if is_subject { service } else { TOKIO };
        run.note(format!("{who}, {words}: {} failed, the first: {why}", outcome.failed));
    }
    for percent in [50.0, 99.0] {
        let measure = run.measure(&format!("{service}, {words}, p{percent}"), "ms");
        let value = outcome.percentile(percent);
        if !is_subject {
            measure.beside(TOKIO, value);
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
    if is_subject {
        measure.subject(failed).budget(Budget::AtMost(0.0));
    } else {
        measure.beside(TOKIO, failed);
    }
}
