//! The pretended operating system that the SSH and Telnet decoys show: a file system, a process
//! table, accounts and a bash-like shell with the usual commands.
//!
//! It is pure: no file, socket, clock or random source of the host is ever touched, nothing is
//! executed and nothing is fetched. Wall time is a parameter of each call, everything else is drawn
//! from [`MachineSpec::seed`], so one decoy never changes its mind and no two decoys look alike.
//! Every byte typed is hostile: work, output, memory and nesting are bounded per call ([`limits`]).
//!
//! How a service uses it: one [`Machine`] per decoy; [`Machine::login`] per session gives a
//! [`Shell`]; on a pty the bytes go through a [`Terminal`], whose lines go to [`Shell::run`]; on an
//! exec channel the command goes to [`Shell::run`] at once and later bytes to [`Shell::input`].

mod api;
mod binary;
mod builtins;
mod commands;
mod facts;
mod fs;
pub mod limits;
mod machine;
mod proc;
mod profile_debian12;
mod prompt;
mod regex;
mod shell;
mod terminal;
mod time;

pub use api::{
    Account, Client, Download, Executed, Extra, How, Input, Login, MachineSpec, OsProfile, OverlayStats, Ran, Tty, Via, Waiting,
    WrittenFile,
};
pub use machine::{Machine, MachineError, Shell};
pub use terminal::{Action, Completion, Mode, Terminal};

#[cfg(test)]
mod tests;
