//! From act to screen: a visitor closes his connection, and `glasshive sessions` shows it closed. The
//! command is run over and over without a pause, so the figure includes the last run of it; the
//! control is one run of it when there is nothing to wait for.

use super::clients::connect;
use super::measure::{Budget, percentile};
use super::store::timed;
use super::subject::Subject;
use super::{Bench, Run};
use crate::world::LIMIT;
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Instant;
use tokio::io::AsyncReadExt as _;

/// See the module.
pub(super) static BENCH: Bench =
    Bench { name: "end-to-end", summary: "from a visitor's close to `glasshive sessions` showing it", run, workers: &[] };

const LOOK: [&str; 4] = ["sessions", "--json", "--limit", "20"];

fn run(run: &mut Run) -> crate::Result<()> {
    let subject = Subject::start(run, "end-to-end")?;
    let acts = run.pick(5, 60);
    for _ in 0..run.rounds {
        let (mut seen, mut looks) = (Vec::new(), Vec::new());
        for n in 0..acts {
            seen.push(act(run, &subject, n)?);
            looks.push(timed(subject.world.cli_command(&LOOK)?)?);
        }
        for percent in [50.0, 99.0] {
            let of = |samples: &[f64]| percentile(samples, percent).unwrap_or(f64::INFINITY);
            let measure = run.measure(&format!("closed until shown, p{percent}"), "ms");
            measure.subject(of(&seen)).beside("one look", of(&looks));
            if percent > 50.0 {
                measure.budget(Budget::AtMost(1000.0));
            }
        }
    }
    run.note(format!("{acts} visits a round, one after the other; p99 of so few is the slowest"));
    Ok(())
}

/// One visit; milliseconds from its close to the list that shows it.
fn act(run: &Run, subject: &Subject, n: usize) -> crate::Result<f64> {
    let to = subject.address(21);
    let stream = run.runtime.block_on(async {
        let mut stream = connect(to, n).await?;
        let mut bytes = [0; 256];
        ensure!(stream.read(&mut bytes).await? > 0, "closed without a word");
        crate::Result::Ok(stream)
    })?;
    let own = stream.local_addr()?;
    let start = Instant::now();
    // Closes on the runtime it belongs to.
    run.runtime.block_on(async move { drop(stream) });
    while start.elapsed() < LIMIT {
        let output = subject.world.cli_command(&LOOK)?.output()?;
        ensure!(output.status.success(), "glasshive sessions: {}", String::from_utf8_lossy(&output.stderr));
        if shows(&output.stdout, own).context("glasshive sessions")? {
            return Ok(start.elapsed().as_secs_f64() * 1000.0);
        }
    }
    bail!("the visit from {own} is not shown as closed within {LIMIT:?}")
}

fn shows(out: &[u8], visitor: SocketAddr) -> crate::Result<bool> {
    for line in out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let session: Value = serde_json::from_slice(line)?;
        let (ip, port) = (&session["source"]["ip"], &session["source"]["port"]);
        if *ip == visitor.ip().to_string() && *port == visitor.port() && !session["close"].is_null() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_or_foreign_session_is_not_it() {
        let visitor = SocketAddr::from(([127, 0, 1, 1], 4000));
        let line = |ip: &str, port: u16, close: &str| format!("{{\"source\":{{\"ip\":\"{ip}\",\"port\":{port}}}{close}}}\n");
        let closed = ",\"close\":\"2026-01-01T00:00:00Z\"";
        assert!(!shows(line("127.0.1.1", 4000, "").as_bytes(), visitor).unwrap());
        assert!(!shows(line("127.0.1.1", 4001, closed).as_bytes(), visitor).unwrap());
        let both = line("127.0.1.2", 4000, closed) + &line("127.0.1.1", 4000, closed);
        assert!(shows(both.as_bytes(), visitor).unwrap());
        assert!(shows(b"nonsense", visitor).is_err());
    }
}
