//! The pretended operating system (stand-in until it is merged).

mod api;
pub mod limits;
mod machine;
mod terminal;

pub use api::{
    Account, Client, Download, Executed, Extra, How, Input, Login, MachineSpec, OsProfile, OverlayStats, Ran, Tty, Via, Waiting,
    WrittenFile,
};
pub use machine::{Machine, MachineError, Shell};
pub use terminal::{Action, Completion, Mode, Terminal};
