//! Telnet.
use super::ServiceDef;
/// Row.
pub static SERVICE: ServiceDef = ServiceDef { name: "telnet", transports: &[glasshive_event::Transport::Tcp], default_ports: &[23], summary: "x", build: |_| Err("no".into()) };
