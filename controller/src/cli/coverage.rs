//! `glasshive coverage`

use super::Shell;
use crate::fail::Failure;
use crate::screen::{Column, shown};

/// List what is looked for: techniques, detectors, where they run, and what they need
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive coverage             one line a technique and detector
  glasshive coverage --json      with the topology each row needs

Printed from the code, so it is what this build does. SITE wire runs in the sensor, on
packets; fusion runs at the controller, on what all nodes of a net stored.")]
pub(super) struct Args {}

pub(super) async fn run(_: Args, shell: &mut Shell) -> Result<(), Failure> {
    let rows: Result<Vec<_>, _> = glasshive_detect::coverage().iter().map(serde_json::to_value).collect();
    let rows = rows.map_err(Failure::failed)?;
    if shell.out.json {
        return rows.iter().try_for_each(|row| shell.out.object(row));
    }
    shell.out.table(COLUMNS, &rows, "this build looks for nothing")?;
    shell.out.line(&format!("ATT&CK Enterprise v{}", glasshive_event::attack::VERSION))
}

const COLUMNS: &[Column] = &[
    Column::whole("TECHNIQUE", |row| shown(row, "technique")),
    Column::text("NAME", |row| shown(row, "technique_name")),
    Column::whole("DETECTOR", |row| shown(row, "detector")),
    Column::whole("SITE", |row| shown(row, "site")),
    Column::text("USE CASES", |row| shown(row, "use_cases")).from(100),
    Column::text("LOOKS FOR", |row| shown(row, "summary")),
    Column::text("NEEDS", |row| shown(row, "topology")).from(132),
];
