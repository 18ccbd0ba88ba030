//! The file of each benchmark and the table of all.

use super::measure::{Measure, short};
use super::{Bench, Run};
use anyhow::Context as _;
use serde_json::{Value, json};
use std::fmt::{Display, Formatter};
use std::path::Path;

/// Writes `<out>/<name>.json`.
pub(super) fn write(out: &Path, bench: &Bench, run: &Run, machine: &Value, loads: &[Vec<f64>; 2]) -> crate::Result<()> {
    let value = json!({
        "benchmark": bench.name,
        "summary": bench.summary,
        "finished": jiff::Timestamp::now().to_string(),
        "machine": machine,
        "load": {"before": loads[0], "after": loads[1]},
        "size": if run.options.quick { "quick" } else if run.options.full { "full" } else { "usual" },
        "rounds": run.rounds,
        "measures": run.measures.iter().map(Measure::json).collect::<Vec<_>>(),
        "notes": run.notes,
    });
    let path = out.join(format!("{}.json", bench.name));
    std::fs::write(&path, format!("{value:#}\n")).with_context(|| format!("writing {}", path.display()))
}

/// One line about the machine.
pub(super) fn heading(machine: &Value) -> String {
    let text = |key: &str| machine[key].as_str().unwrap_or("unknown").to_owned();
    let profile = if machine["profile"] == "release" { String::new() } else { "; TEST PROFILE: figures say little".to_owned() };
    format!(
        "{}, {} cores, {} MiB, Linux {}, {}, {}{profile}",
        text("cpu"),
        machine["cores"],
        machine["memory_mib"],
        text("kernel"),
        text("rust"),
        text("file_system")
    )
}

const HEADS: [&str; 7] = ["BENCHMARK", "MEASURE", "GLASSHIVE", "BESIDE", "RATIO", "BUDGET", "VERDICT"];

/// The table: a line a measure, more where it has several controls or budgets.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<[String; 7]>,
    notes: Vec<String>,
}

impl Table {
    pub(super) fn add(&mut self, bench: &str, measures: &[Measure]) {
        for measure in measures {
            let value = measure.median().map_or_else(|| "-".to_owned(), |median| format!("{} {}", short(median), measure.unit));
            for line in 0..measure.others.len().max(measure.budgets.len()).max(1) {
                let (beside, ratio) = match measure.others.get(line) {
                    Some(other) => (
                        format!("{} {}", measure.median_of(other.name).map_or_else(|| "-".to_owned(), short), other.name),
                        measure.ratio(other.name).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
                    ),
                    None => (String::new(), String::new()),
                };
                let (budget, verdict) = match measure.budgets.get(line) {
                    Some(budget) => (measure.words(*budget), measure.judge(*budget).text().to_owned()),
                    None => (String::new(), String::new()),
                };
                let first = |text: &str| if line == 0 { text.to_owned() } else { String::new() };
                self.rows.push([first(bench), first(&measure.name), first(&value), beside, ratio, budget, verdict]);
            }
        }
    }

    pub(super) fn notes(&mut self, bench: &str, notes: &[String]) {
        self.notes.extend(notes.iter().map(|note| format!("{bench}: {note}")));
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let heads = HEADS.map(str::to_owned);
        let width = |column: usize| {
            let cells = std::iter::once(&heads).chain(&self.rows).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
        for row in std::iter::once(&heads).chain(&self.rows) {
            let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(f, "{}", line.join("  ").trim_end())?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::measure::Budget;
    use super::*;

    #[test]
    fn a_line_a_measure_and_one_more_a_budget() {
        let mut measure = Measure::new("first bytes, p99", "ms");
        measure.subject(12.0).beside("bare tokio", 6.0);
        measure.budget(Budget::Times(1.5, "bare tokio")).budget(Budget::AtMost(50.0));
        let mut table = Table::default();
        table.add("first-bytes", &[measure, Measure::new("nothing yet", "ms")]);
        table.notes("first-bytes", &["busy".into()]);
        let text = table.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines[1].contains("2.00") && lines[1].ends_with("NOT MET"), "{text}");
        assert!(lines[2].trim_start().starts_with("<= 50 ms") && lines[2].ends_with(" met"), "{text}");
        assert_eq!(lines[4], "note: first-bytes: busy");
    }

    #[test]
    fn what_a_peer_lacks_is_a_dash() {
        let mut measure = Measure::new("ftp", "ms");
        measure.subject(12.0).without("cowrie").without("cowrie");
        let mut table = Table::default();
        table.add("sessions", &[measure]);
        let text = table.to_string();
        let words: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words, ["sessions", "ftp", "12", "ms", "-", "cowrie", "-"], "{text}");
    }
}
