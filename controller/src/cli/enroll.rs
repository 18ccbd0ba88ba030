//! `glasshive enroll`

use super::Shell;
use crate::ask::Request;
use crate::fail::Failure;
use crate::screen::{second, shown};
use serde_json::Value;
use std::path::PathBuf;

/// Let a node in: print a one-time token, or sign a request made offline
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive enroll edge-1 --net dmz --role decoys            a token, good for one hour
  glasshive enroll edge-1 --net dmz --role sensor --ttl 15m
  glasshive enroll --sign edge-1.csr --net dmz --role decoys > edge-1.bundle

A token lets NODE join once; give it on standard input, where no other user of the host sees it.
It holds the pin of this controller's certificate authority, so that the node cannot be tricked
by another. Enrolling a node anew voids what it had.")]
pub(super) struct Args {
    /// Name of the node: a-z, 0-9, - and _
    #[arg(value_name = "NODE", required_unless_present = "sign", conflicts_with = "sign")]
    node: Option<String>,
    /// Net it belongs to, as in controller.toml
    #[arg(long, value_name = "NET")]
    net: String,
    /// Which daemon it is: decoys or sensor
    #[arg(long, value_name = "ROLE")]
    role: String,
    /// How long the token is good for
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = super::filters::seconds)]
    ttl: u64,
    /// Sign this request (made by `<daemon> identity request`) instead; prints the bundle
    #[arg(long, value_name = "CSR")]
    sign: Option<PathBuf>,
}

/// Largest request read.
const MAX_CSR: u64 = 16 * 1024;

pub(super) async fn run(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    if let Some(path) = args.sign {
        let csr = read(&path)?;
        let (items, _) = shell.all(Request::Sign { csr, net: args.net, role: args.role }).await?;
        let item = items.into_iter().next().unwrap_or(Value::Null);
        if shell.out.json {
            return shell.out.object(&item);
        }
        let bundle = item.get("bundle").and_then(Value::as_str).unwrap_or_default().to_owned();
        bundle.lines().try_for_each(|line| shell.out.line(line))?;
        let daemon = daemon(&item);
        return shell.out.note(&format!("signed for node {}; on the node: {daemon} identity install < BUNDLE", shown(&item, "node")));
    }
    let node = args.node.unwrap_or_default();
    let (items, _) = shell.all(Request::Enroll { node, net: args.net, role: args.role, ttl_s: args.ttl }).await?;
    let item = items.into_iter().next().unwrap_or(Value::Null);
    if shell.out.json {
        return shell.out.object(&item);
    }
    let known = item.get("controllers").and_then(Value::as_array).and_then(|list| list.first()).map(crate::screen::wire);
    let port = shown(&item, "listen").rsplit(':').next().unwrap_or("7443").to_owned();
    let address = known.unwrap_or_else(|| format!("THIS-HOST:{port}"));
    let out = &mut shell.out;
    out.heading(&format!("token for node {}, good once, until {}", shown(&item, "node"), second(&item, "expires")))?;
    out.line("")?;
    out.line(&shown(&item, "token"))?;
    out.line("")?;
    out.line("Next, on the node:")?;
    out.line(&format!("  {} identity join --controller {address}    it asks for the token", daemon(&item)))?;
    if item.get("dialled") == Some(&Value::Bool(true)) {
        out.note("this controller dials that node: enrol it offline instead, with <daemon> identity request and glasshive enroll --sign")?;
    }
    out.line("Then here:")?;
    out.line("  glasshive nodes")?;
    out.line("")?;
    out.line(&format!("certificate authority pin  {}", shown(&item, "pin")))
}

fn daemon(item: &Value) -> &'static str {
    if shown(item, "role") == "sensor" { "glasshive-sensor" } else { "glasshive-decoys" }
}

fn read(path: &std::path::Path) -> Result<String, Failure> {
    use std::io::Read as _;
    let fail = |error: std::io::Error| Failure::usage(format!("{}: {error}", path.display()));
    let mut text = String::new();
    if path == std::path::Path::new("-") {
        std::io::stdin().take(MAX_CSR).read_to_string(&mut text).map_err(fail)?;
    } else {
        std::fs::File::open(path).map_err(fail)?.take(MAX_CSR).read_to_string(&mut text).map_err(fail)?;
    }
    Ok(text)
}
